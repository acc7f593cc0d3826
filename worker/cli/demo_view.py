"""What the demo shows: bars and pages on a terminal, a line a page when piped, and a table at the end."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from schemas.events import TERMINAL, FollowerPage, JobCompleted, JobEvent
from schemas.subjects import PROVIDERS
from worker.cli.follow import Terminal as End
from worker.cli.follow import summary
from worker.cli.terminal import Terminal
from worker.visible import visible

if TYPE_CHECKING:
    from worker.settings import Settings

_TITLE = 18


class DemoView:
    """Lines on stdout; on a terminal also a bar for each of the demo's jobs."""

    def __init__(self, console: Terminal) -> None:
        """Write to `console`."""
        self.console = console
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def introduce(self, nats: str, program: str, etelecom: str, esms: str, http_port: int) -> None:
        """Say what was started and where."""
        self.console.print(f"nats-server          {nats}")
        self.console.print(f"                     {program}", soft_wrap=True)
        self.console.print(f"eTelecom (simulated) {etelecom}")
        self.console.print(f"eSMS (simulated)     {esms}")
        self.console.print(f"worker               http://127.0.0.1:{http_port}/readyz  …/metrics\n")

    @contextlib.contextmanager
    def playing(self, titles: dict[str, str]) -> Iterator[None]:
        """Draw bars for the jobs with these titles, if this is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        self._bars = Progress(
            TextColumn(f"{{task.description:{_TITLE}}}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:>8,.0f} followers", markup=False),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._tasks = {title: self._bars.add_task(title, total=None) for title in titles.values()}
        try:
            with self._bars:
                yield
        finally:
            self._bars = None

    def show(self, title: str, event: FollowerPage | JobEvent) -> None:
        """Show an event of the job called `title`."""
        if isinstance(event, FollowerPage):
            self._print(title, _page_line(event))
            self._move(title, event)
        elif isinstance(event, TERMINAL):
            self._print(title, summary(event), style="green" if isinstance(event, JobCompleted) else "red")

    def tell_more(self, settings: "Settings") -> None:
        """Say what can be tried while the demo stays."""
        from worker.providers.simulators import OA_ID

        nats = settings.nats.servers[0]
        self.console.print("\nStill running. From another terminal:\n")
        self.console.print(f"  export FOLLOWERS_NATS__SERVERS='[\"{nats}\"]'", soft_wrap=True)
        for provider in PROVIDERS:
            names = [name for name, account in settings.accounts.items() if account.provider == provider]
            self.console.print(f"  followers fetch {provider} {OA_ID} --account {names[0]}", soft_wrap=True)
        self.console.print("  followers jobs")
        self.console.print("  followers pages demo-shop\n\nCtrl-C ends it all.")

    def _print(self, title: str, text: str, style: str | None = None) -> None:
        line = visible(f"{title:{_TITLE}} {text}")
        self.console.print(line, style=style, overflow="ellipsis", no_wrap=True)

    def _move(self, title: str, page: FollowerPage) -> None:
        if self._bars is not None and title in self._tasks:
            done = page.progress.followers
            total = done if page.last else max(page.total or 0, done) or None
            self._bars.update(self._tasks[title], completed=done, total=total)


def make_view(*, color: bool, quiet: bool) -> DemoView:
    """Return a view on stdout; a `quiet` one shows nothing."""
    console = Terminal(no_color=not color or None, quiet=quiet)
    if not console.is_terminal:
        console = Terminal(width=160, quiet=quiet)
    return DemoView(console)


def summarize(ends: Sequence[tuple[str, End]], console: Terminal) -> None:
    """Print the table of how the jobs ended."""
    table = Table("JOB", "PROVIDER", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("PAGES", "FOLLOWERS"):
        table.add_column(name, justify="right")
    table.add_column("VERDICT")
    table.add_column("TIME", justify="right")
    for title, end in ends:
        table.add_row(*map(Text, (end.job_id, title, *_figures(end))))
    console.print()
    console.print(table)


def _figures(end: End) -> tuple[str, ...]:
    if not isinstance(end, JobCompleted):
        return "", "", summary(end), ""
    seconds = (end.finished_at - end.started_at).total_seconds()
    verdict = f"{end.verdict} ({end.reason})" if end.reason else end.verdict
    return f"{end.pages:,}", f"{end.followers:,}", verdict, f"{seconds:.1f} s"


def _page_line(page: FollowerPage) -> str:
    of = f" of {page.total:,}" if page.total is not None else ""
    line = f"page {page.page:>3}  {page.progress.followers:>7,}{of} followers"
    if page.followers:
        first = page.followers[0]
        line += f"  {first.user_id} {first.display_name or ''}"
    return line.rstrip()
