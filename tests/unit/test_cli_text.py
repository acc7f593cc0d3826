"""All text of the command line goes through one place: whoever writes past it fails here."""

import ast
import io
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import worker.cli
from worker.cli.console import say, table
from worker.cli.terminal import Terminal

EVIL = "a\x1b]0;t\x07\u202e[red]b[/red]:smile:"
SHOWN = r"a\x1b]0;t\x07\u202e[red]b[/red]:smile:"
FILES = sorted(Path(worker.cli.__file__).parent.glob("*.py"))


def _written_past(path: Path) -> list[str]:
    called = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    found = []
    for name in map(ast.unparse, called):
        if name in ("print", "Console", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"):
            found.append(f"{path.name}: {name}")
    return found


def test_nobody_writes_past_the_console() -> None:
    assert len(FILES) > 25
    assert [line for path in FILES if path.name != "console.py" for line in _written_past(path)] == []


def test_a_line_is_shown_and_its_lead_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL, lead="\x1b[32mok\x1b[0m ")
    assert capsys.readouterr().out == f"\x1b[32mok\x1b[0m {SHOWN}\n"


def test_a_table_in_a_pipe_is_shown_in_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table(("A", "B"), [(EVIL, "1"), ("x", "2")])

    width = len(SHOWN) + 2
    assert capsys.readouterr().out == f"{'A':{width}}B\n{SHOWN:{width}}1\n{'x':{width}}2\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_rich_shows_text_as_it_is_wherever_it_stands(terminal: bool) -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=100, force_terminal=terminal, color_system=None)
    grid = Table(EVIL, caption=EVIL, title=EVIL)
    grid.add_row(EVIL)
    grid.add_row(Text(EVIL, style="red"))

    console.print(EVIL)
    console.print(Text(EVIL))
    console.print(grid)
    console.print("two\nlines")

    drawn = out.getvalue()
    assert drawn.splitlines()[:2] == [SHOWN.replace(r"\x07", "")] * 2  # rich itself drops a bell
    assert drawn.count(r"a\x1b]0;t") == 7
    assert drawn.endswith("two\nlines\n")
    assert "\x1b]" not in drawn
    assert "\u202e" not in drawn
