"""A short run of what `make soak` does for half an hour, and whether it would notice."""

import os
from pathlib import Path

import pytest

from tests.chaos import soak

pytestmark = pytest.mark.timeout(300)


async def test_steady_work_leaves_nothing_behind_in_the_workers() -> None:
    named = os.environ.get("NATS_SERVER_BIN")

    report = await soak.soak(20, 3, nats_server=Path(named) if named else None, every=0.5)

    grown = [text for text in report.broken if "memory_mb" not in text]  # in so short a time it's still warming up
    assert grown == [], f"\n{report}"
    assert int(report.figures["jobs"]) >= 20, f"too little was done to prove anything:\n{report}"


def test_growth_is_seen_and_a_swing_is_not() -> None:
    leaking = [50 + index * 0.1 for index in range(400)]
    swinging = [50 + (index % 7) for index in range(400)]

    first, last, _ = soak.judge(leaking)
    assert last - first > soak.GROWTH["memory_mb"]

    first, last, most = soak.judge(swinging)
    assert abs(last - first) <= 1
    assert most == 56
