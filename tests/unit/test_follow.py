"""The line that says how a job ended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import JobCompleted
from worker.cli.follow import summary

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"verdict": "complete", "missed_at_most": 0}, "complete"),
        ({"verdict": "drifted", "missed_at_most": 0}, "drifted, nobody missed"),
        ({"verdict": "drifted", "missed_at_most": None}, "drifted"),
        (
            {"verdict": "truncated", "reason": "provider_cap", "missed_at_most": 2_000, "window": "2026-01-31"},
            "truncated (provider_cap), 2,000 missed at most",
        ),
    ],
)
def test_a_completed_job_says_what_its_verdict_proves(end: dict[str, Any], words: str) -> None:
    event = JobCompleted(
        job_id="j", provider="esms", account="a", oa_id="oa", pages=2, followers=90, distinct=90, duplicates_dropped=0,
        total_first=90, total_last=90, requests=2, started_at=NOW, finished_at=NOW + timedelta(seconds=3), **end,
    )  # fmt: skip

    assert summary(event) == f"completed: 90 followers in 2 pages, {words}, 3.0 s"
