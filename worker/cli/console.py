"""Speaking to people and programs: data on stdout, everything else on stderr, exit codes as in CONTRACT 6."""

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
GUIDE = "README.md#when-something-is-wrong"
"""Where people read on; said on a terminal only, since programs count on one line for each problem."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; else FOLLOWERS_CONFIG, else ./followers.toml.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]


class Stop(Exception):
    """End the command with `lines` on stderr and the exit code `code`."""

    def __init__(self, *lines: str, code: int = FAILED) -> None:
        """Keep what to say and how to end."""
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code


def examples(*pairs: tuple[str, str]) -> str:
    """Return a help text's last block: each pair is a command line and what it does."""
    blocks = [f"  [cyan]{_escaped(line)}[/cyan]\n      [dim]{_escaped(what)}[/dim]" for line, what in pairs]
    return "\n".join(["[bold]Examples[/bold]", *blocks])


def perform(work: Callable[[], Coroutine[Any, Any, int]], *, fast_loop: bool = False) -> None:
    """Run `work` to its end and leave with its exit code; every error that we know ends as its lines on stderr."""
    import asyncio

    def run() -> int:
        factory = None
        if fast_loop and sys.platform != "win32":
            import uvloop

            factory = uvloop.new_event_loop
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                return runner.run(work())
        except asyncio.CancelledError:
            return INTERRUPTED

    guarded(run)


def guarded(work: Callable[[], int]) -> None:
    """As `perform`, for work without an event loop."""
    try:
        code = work()
        sys.stdout.flush()
    except Stop as stop:
        complain(*stop.lines)
        code = stop.code
    except BrokenPipeError:
        # The reader has what it wanted (`| head`); without this Python complains once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    except Exception as error:
        if not _is_configuration(error):
            raise
        complain(*_lines(error))
        if sys.stderr.isatty():
            complain(f"see {GUIDE}")
        code = USAGE
    raise typer.Exit(code)


def complain(*lines: str) -> None:
    """Print `lines` on stderr."""
    for line in lines:
        print(line, file=sys.stderr)


def note(line: str) -> None:
    """Print a line of progress on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def emit(document: Any) -> None:
    """Print `document` (structs allowed) as one line of JSON on stdout."""
    import msgspec

    write_line(msgspec.json.encode(document))


def write_line(line: bytes) -> None:
    """Print bytes of UTF-8 and a newline on stdout."""
    sys.stdout.buffer.write(line + b"\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: fitted to the terminal, or plain columns of full width when piped."""
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        drawn.add_row(*map(Text, row))
    Console(highlight=False).print(drawn)


def stderr_console() -> "Console":
    """Return the console for progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _is_configuration(error: Exception) -> bool:
    from worker.jetstream.connection import ConnectError
    from worker.jetstream.topology import TopologyError
    from worker.settings import SettingsError

    return isinstance(error, ConnectError | TopologyError | SettingsError)


def _lines(error: Exception) -> Sequence[str]:
    lines = getattr(error, "problems", None)
    return tuple(lines) if lines else tuple(str(error).splitlines())


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
