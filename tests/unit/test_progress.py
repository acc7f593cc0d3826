"""When a job is said to end."""

from datetime import timedelta

import pytest

from tests.fakes import EPOCH
from tests.simulation.living import JOB
from worker.core.progress import LONGEST_ETA, Standing, status

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("followers", "total", "seconds"),
    [
        (50, 200, 180.0),
        (50, 50, 0.0),
        (50, 40, 0.0),
        (0, 200, None),
        (50, None, None),
        (50, 0, None),
        (60, 60 + int(LONGEST_ETA), LONGEST_ETA),
        (60, 61 + int(LONGEST_ETA), None),
        (50, 10**17, None),
        (50, 10**400, None),
    ],
)
def test_a_job_is_said_to_end_when_its_list_would_at_this_pace(
    followers: int, total: int | None, seconds: float | None
) -> None:
    standing = Standing(started_at=EPOCH, followers=followers, total=total)

    told = status(JOB, "a", standing, "running", EPOCH + MINUTE)

    assert told.eta == (None if seconds is None else EPOCH + MINUTE + timedelta(seconds=seconds))
    assert LONGEST_ETA == 366 * 86_400
