"""Speaking to people and programs: data on stdout, everything else on stderr, exit codes as in CONTRACT 6."""

import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.failures import FAILED, INTERRUPTED, OK, USAGE, Details, Stop, is_configuration, told
from worker.cli.streams import OutputError, give_up_stdout
from worker.visible import visible, visible_json

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "OK",
    "USAGE",
    "AsJson",
    "ConfigFile",
    "Stop",
    "complain",
    "emit",
    "ended",
    "examples",
    "guarded",
    "note",
    "perform",
    "say",
    "table",
    "write_line",
]

GUIDE = "README.md#when-something-is-wrong"
"""Where people read on; said on a terminal only, since programs count on one line for each problem."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; else FOLLOWERS_CONFIG, else ./followers.toml.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]


def examples(*pairs: tuple[str, str]) -> str:
    """Return a help text's last block: each pair is a command line and what it does."""
    blocks = [f"  [cyan]{_escaped(line)}[/cyan]\n      [dim]{_escaped(what)}[/dim]" for line, what in pairs]
    return "\n".join(["[bold]Examples[/bold]", *blocks])


def perform(work: Callable[[], Coroutine[Any, Any, int]], *, fast_loop: bool = False) -> None:
    """Run `work` to its end and leave with its exit code; whatever it raises is told on stderr."""
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
    raise typer.Exit(ended(work))


def ended(work: Callable[[], int]) -> int:
    """Run `work`; return its exit code. Whatever it raises is told on stderr."""
    code: int = OK
    said: Sequence[str]
    try:
        code = work()
        sys.stdout.flush()
    except OutputError as error:
        give_up_stdout()
        if error.has_no_reader:
            return code
        complain(f"stdout can't be written: {error.reason}; make room there, or send it elsewhere")
        code = FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        said, code = told(error)
        complain(*said)
        Details.show(error, complain)
        if is_configuration(error) and sys.stderr.isatty():
            complain(f"see {GUIDE}")
    return code


def say(text: str, *, lead: str = "") -> None:
    """Print a line of text on stdout, for people; `lead` is ours, and may be coloured."""
    print(f"{lead}{visible(text)}")


def complain(*lines: str) -> None:
    """Print `lines` on stderr."""
    for line in lines:
        print(visible(line), file=sys.stderr)


def note(line: str) -> None:
    """Print a line of progress on stderr, at once."""
    print(visible(line), file=sys.stderr, flush=True)


def emit(document: Any) -> None:
    """Print `document` (structs allowed) as one line of JSON on stdout."""
    import msgspec

    write_line(msgspec.json.encode(document))


def write_line(line: bytes) -> None:
    """Print a line of JSON on stdout, byte for byte; on a terminal one that means the same and steers nothing."""
    sys.stdout.buffer.write((visible_json(line) if sys.stdout.isatty() else line) + b"\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: fitted to the terminal, or plain columns of full width when piped."""
    if not sys.stdout.isatty():
        lines: list[Sequence[str]] = [[visible(cell) for cell in row] for row in (columns, *rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for row in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    from worker.cli.terminal import Terminal

    drawn = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    Terminal().print(drawn)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
