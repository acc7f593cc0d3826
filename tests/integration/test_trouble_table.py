"""Each trouble is told everywhere: no place says "running" of a job that stands still (worker/TROUBLE.md)."""

import json
import os
from pathlib import Path

import pytest

from schemas.subjects import EVENTS_STREAM
from tests.integration.stage import until
from tests.integration.trouble import COLUMNS, JOB, Trouble, scene, told
from tests.integration.trouble_rows import TROUBLES
from worker.providers.simulators import OA_ID

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
        SEEN[trouble.name] = seen = await told(trouble, made, lambda cells: line(trouble, cells) in recorded())

    assert all(seen[column] for column in COLUMNS), seen
    if not os.environ.get("WRITE_TROUBLE_TABLE"):
        (row,) = (row for row in recorded() if row.startswith(f"| {trouble.name}: "))
        assert line(trouble, seen) == row, "write worker/TROUBLE.md anew"


def test_the_table_has_each_trouble_and_no_empty_cell() -> None:
    if os.environ.get("WRITE_TROUBLE_TABLE"):
        PATH.write_text(HEAD + "\n".join(table()) + "\n", encoding="utf-8")
    text = PATH.read_text("utf-8")

    assert text.startswith(HEAD)
    rows = [row.strip("|").split(" | ") for row in text.removeprefix(HEAD).splitlines()[2:]]
    assert [row[0].strip() for row in rows] == [f"{trouble.name}: {trouble.how}" for trouble in TROUBLES]
    assert all(len(row) == len(COLUMNS) + 1 and all(cell.strip() for cell in row) for row in rows)


def recorded() -> list[str]:
    """The lines of the table as it is kept."""
    return PATH.read_text("utf-8").splitlines() if PATH.exists() else []


def table() -> list[str]:
    """The lines, with what an earlier run saw of troubles that this one left out."""
    kept = {row.split(":")[0].removeprefix("| "): row for row in recorded() if row.startswith("| ")}
    rows = [line(one, SEEN[one.name]) if one.name in SEEN else kept.get(one.name, "") for one in TROUBLES]
    return [f"| trouble | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|", *rows]


def line(trouble: Trouble, seen: dict[str, str]) -> str:
    """One row."""
    return f"| {trouble.name}: {trouble.how} | {' | '.join(seen[column] for column in COLUMNS)} |"


async def test_a_job_goes_on_and_waits_for_nothing_once_there_is_room(tmp_path: Path) -> None:
    async with scene(TROUBLES[0], tmp_path) as made:
        await told(TROUBLES[0], made)
        waited = await made.status()
        assert waited is not None

        config = (await made.js.stream_info(EVENTS_STREAM)).config
        await made.js.update_stream(config, max_bytes=-1)

        async def moves() -> bool:
            status = await made.status() or waited
            return status["page"] > waited["page"] and status["state"] == "running" and status["wait"] is None

        await until(moves, 10, lambda: made.replica.log[-2000:])
        await made.replica.answers("/readyz", 200)
        newest = await made.js.get_last_msg(EVENTS_STREAM, f"followers.page.etelecom.{OA_ID}.{JOB}")
        assert json.loads(newest.data or b"")["page"] > waited["page"]


async def test_the_worker_that_has_the_job_answers_for_it_though_another_one_is_asked(tmp_path: Path) -> None:
    trouble = next(one for one in TROUBLES if "takes nothing" in one.name)
    async with scene(trouble, tmp_path) as made, made.another(tmp_path):
        await told(trouble, made)
        pages = []
        for _ in range(10):
            status = await made.status()
            assert status is not None
            pages.append(status["page"])

        in_bucket = await made.js.get_last_msg("KV_FOLLOWERS_JOBS", f"$KV.FOLLOWERS_JOBS.{JOB}")
        assert min(pages) > json.loads(in_bucket.data or b"")["page"]
        assert pages == sorted(pages)
