"""Which of two statuses of a job is told."""

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.jobs import JobStatus
from worker.core.status.precedence import outranks

ENDS = ("completed", "failed", "cancelled")
GOES_ON = ("queued", "running", "waiting")


def status(state: Any, sequence: int, generation: int = 1) -> JobStatus:
    return JobStatus(
        job_id="j", provider="esms", account="shop", oa_id="1", state=state,
        updated_at=datetime(2026, 3, 1, tzinfo=UTC), event_sequence=sequence, generation=generation,
    )  # fmt: skip


@pytest.mark.parametrize("ours", [*ENDS, *GOES_ON])
@pytest.mark.parametrize("there", [*ENDS, *GOES_ON])
def test_only_what_rests_on_a_newer_event_follows_an_end(there: str, ours: str) -> None:
    over, ends = there in ENDS, ours in ENDS

    assert outranks(status(ours, 0), None)
    assert outranks(status(ours, 8), status(there, 7))
    assert outranks(status(ours, 7), status(there, 7)) is not over
    # A worker that fails before it has read the log names no event, and its word still counts among those that go on.
    assert outranks(status(ours, 6), status(there, 7)) is (not over and not ends)
    assert outranks(status(ours, 7, 2), status(there, 7))
    assert outranks(status(ours, 8, 1), status(there, 7, 2)), "the events are gone, and it began anew"
