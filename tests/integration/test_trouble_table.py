"""Each trouble is told everywhere: no place says "running" of a job that stands still (worker/TROUBLE.md)."""

import os
from pathlib import Path

import pytest

from tests.integration.trouble import COLUMNS, Trouble, scene, told
from tests.integration.trouble_rows import TROUBLES

PATH = Path(__file__).parents[2] / "worker" / "TROUBLE.md"
HEAD = """# Troubles, and where each is told

Made by a test run: each trouble was planted around a real worker, a real nats-server 2.15 and a job in its middle, and
each cell is what was said there (`TIME` and `N` stand for what differs from run to run).
`WRITE_TROUBLE_TABLE=1 pytest tests/integration/test_trouble_table.py` writes it anew.

"status" and "wait" are the answer of `followers.status.<job>`, which the worker that has the job gives from memory;
"live page" is the job's own view with the line at its top; "doctor" shows what fails since the trouble came.
A write that can't succeed is refused for its condition before nats-server looks for room: `doctor` therefore reads
limits, and asks workers about the commands in hand; only they have tried to write.

"""
SEEN: dict[str, dict[str, str]] = {}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_a_trouble_is_told_everywhere(trouble: Trouble, tmp_path: Path) -> None:
    async with scene(trouble, tmp_path) as made:
        SEEN[trouble.name] = seen = await told(trouble, made)

    assert all(seen[column] for column in COLUMNS), seen
    if not os.environ.get("WRITE_TROUBLE_TABLE"):
        assert line(trouble, seen) in PATH.read_text("utf-8").splitlines(), "write worker/TROUBLE.md anew"


def test_the_table_has_each_trouble_and_no_empty_cell() -> None:
    if os.environ.get("WRITE_TROUBLE_TABLE"):
        PATH.write_text(HEAD + "\n".join(table()) + "\n", encoding="utf-8")
    text = PATH.read_text("utf-8")

    assert text.startswith(HEAD)
    rows = [row.strip("|").split(" | ") for row in text.removeprefix(HEAD).splitlines()[2:]]
    assert [row[0].strip() for row in rows] == [f"{trouble.name}: {trouble.how}" for trouble in TROUBLES]
    assert all(len(row) == len(COLUMNS) + 1 and all(cell.strip() for cell in row) for row in rows)


def table() -> list[str]:
    """The lines, with what an earlier run saw of troubles that this one left out."""
    recorded = PATH.read_text("utf-8").splitlines() if PATH.exists() else []
    kept = {row.split(":")[0].removeprefix("| "): row for row in recorded if row.startswith("| ")}
    rows = [line(one, SEEN[one.name]) if one.name in SEEN else kept.get(one.name, "") for one in TROUBLES]
    return [f"| trouble | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|", *rows]


def line(trouble: Trouble, seen: dict[str, str]) -> str:
    """One row."""
    return f"| {trouble.name}: {trouble.how} | {' | '.join(seen[column] for column in COLUMNS)} |"
