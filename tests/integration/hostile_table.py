"""HOSTILE.md: made of the rows, compared with them; the figures are those of the last run that wrote it.

`WRITE_HOSTILE_TABLE=1 pytest tests/integration/test_hostile_jobs.py tests/integration/test_hostile_process.py`
writes it anew.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tests.integration.hostile_outcomes import REQUEST_TIMEOUT, RETRY_FOR, ProcessRow, Row
from tests.integration.hostile_rows import PROCESS_ROWS, ROWS

PATH = Path(__file__).parent / "HOSTILE.md"
_HEAD = f"""# Hostile providers: what comes of a job

A real worker, a real nats-server, jobs of four pages of three followers. Where the row doesn't say otherwise the
provider misbehaves on page 2, in two ways: it *passes* (after the times it takes below) or it *lasts* (for ever).
After each, the next good job of the same account completes with all its pages. `test_hostile_jobs.py` runs each row
for the providers named, `test_hostile_process.py` those at the end; both compare this table with what they check.

Settings: `request_timeout` {REQUEST_TIMEOUT:g} s, `retry_for` {RETRY_FOR:g} s (60 s and 15 minutes by default), the
rest as it comes; backoff with full jitter, 0.5 s doubling. A bound counts the requests for the page in question and
the seconds from the command to its terminal event; it leaves room for a busy machine. Measured: the worst of the last
recorded run.

| behaviour | provider | outcome | bound | measured |
| --- | --- | --- | --- | --- |
"""


class Measured:
    """The worst figures of each row in this run."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._figures: dict[str, float] = {}
        self._worst: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))

    def add(self, row: Row, lasting: bool, asked: int, seconds: float) -> None:
        """Take one trial's figures."""
        key = _key(row, lasting)
        most, longest = self._worst[key]
        self._worst[key] = most, longest = max(most, asked), max(longest, seconds)
        self.texts[key] = f"{most} request{'s' * (most != 1)}, {longest:.1f} s"

    def say_worst(self, row: ProcessRow, figure: float, text: Callable[[float], str]) -> None:
        """Take one trial's figure, and how the worst is shown."""
        worst = max(self._figures.get(row.key, 0.0), figure)
        self._figures[row.key], self.texts[row.key] = worst, text(worst)


MEASURED = Measured()


def lines() -> dict[str, list[str]]:
    """The table's lines by key, without the measured cell."""
    made: dict[str, list[str]] = {}
    for row in ROWS:
        for lasting, outcome in ((False, row.passing), (True, row.lasting)):
            if outcome is None:
                continue
            how = ", *lasts*" if lasting and row.passing else f", *passes* ({row.times}×)" if not lasting else ""
            provider = "both" if len(row.providers) == 2 else row.providers[0]
            made[_key(row, lasting)] = [row.behaviour + how, provider, outcome.text, outcome.bound]
    for process in PROCESS_ROWS:
        made[process.key] = [process.behaviour, "both", process.outcome, process.bound]
    return made


def check() -> None:
    """Compare the file with the rows, or write it with this run's figures. Raises AssertionError."""
    expected, recorded = lines(), _recorded()
    if os.environ.get("WRITE_HOSTILE_TABLE"):
        recorded = {key: MEASURED.texts.get(key) or recorded.get(_name(cells), "") for key, cells in expected.items()}
        text = "".join(f"| {' | '.join([*cells, recorded[key]])} |\n" for key, cells in expected.items())
        PATH.write_text(_HEAD + text, encoding="utf-8")
        return
    text = PATH.read_text(encoding="utf-8")
    assert text.startswith(_HEAD), "HOSTILE.md's introduction is not the one in hostile_table.py: write it anew"
    found = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in text.removeprefix(_HEAD).splitlines()]
    assert [cells[:4] for cells in found] == list(expected.values())
    assert all(len(cells) == 5 and re.search(r"\d", cells[4]) for cells in found), "a row was never measured"


def _recorded() -> dict[str, str]:
    if not PATH.exists():
        return {}
    rows = [line.split(" | ") for line in PATH.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {_name([cells[0].removeprefix("| "), cells[1]]): cells[4].rstrip("| ") for cells in rows if len(cells) == 5}


def _name(cells: list[str]) -> str:
    return f"{cells[0]} {cells[1]}"


def _key(row: Row, lasting: bool) -> str:
    return f"{row.key} {' '.join(row.providers)} {'lasting' if lasting else 'passing'}"
