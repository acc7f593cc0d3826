"""Waits are told in whole seconds, never too short."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas import JobStatus, JobWaiting
from schemas.wire import next_second
from worker.cli.follow import show
from worker.cli.watch import line

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("micros", "second"), [(0, 0), (1, 1), (500_000, 1), (999_999, 1), (1_000_000, 1), (59_000_001, 60)]
)
def test_a_moment_is_told_at_the_next_whole_second(micros: int, second: int) -> None:
    assert next_second(NOON + timedelta(microseconds=micros)) == NOON + timedelta(seconds=second)


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_people_are_told_the_next_whole_second() -> None:
    until, heard = NOON + timedelta(seconds=0.5), Heard()
    common = {"job_id": "j", "provider": "esms", "account": "a", "oa_id": "1"}

    show(JobWaiting(**common, reason="rate_limited", until=until), heard)  # type: ignore[arg-type]
    status = JobStatus(**common, state="waiting", reason="rate_limited", until=until, updated_at=NOON)  # type: ignore[arg-type]

    assert heard.lines == ["waiting until 12:00:01 UTC: rate limited"]
    assert line(status).endswith(", rate limited until 12:00:01 UTC")
