"""What a job has counted: where it goes on, what people see of it, and how it ends."""

from datetime import timedelta
from typing import Any

import pytest

from schemas import Follower, FollowerPage, JobCompleted, JobStatus
from schemas.commands import FetchEtelecomFollowers
from schemas.events import Progress
from tests.fakes import EPOCH
from tests.simulation.living import JOB
from worker.core.job import Address, Job
from worker.core.jobs.checkpoint import LONGEST_ETA, Standing, completed, status
from worker.core.paging.position import Position
from worker.core.status.wait_reasons import handed_back

MINUTE = timedelta(minutes=1)
OURS = Job(
    command=FetchEtelecomFollowers(oa_id="1"),
    address=Address(provider="etelecom", oa_id="1", job_id="j1", labels={"a": "b"}),
    sequence=5,
)


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


COUNTED = Progress(
    followers=12,
    duplicates_dropped=3,
    total_first=50,
    requests=9,
    started_at=EPOCH,
    truncated=None,
    moved=True,
    missed_at_most=4,
    window="2026-01-01",
)


def tail(**changes: Any) -> FollowerPage:
    fields: dict[str, Any] = {
        "job_id": "j1", "provider": "etelecom", "account": "a", "oa_id": "1", "page": 3, "followers": [], "total": 51,
        "cursor": "c2", "next_cursor": "c3", "last": False, "fetched_at": EPOCH, "progress": COUNTED,
    } | changes  # fmt: skip
    return FollowerPage(**fields)


@pytest.mark.parametrize(
    ("given", "stands"),
    [
        ({}, (3, "c3", 0, 1, False)),
        ({"part": 2, "parts": 2}, (3, "c3", 0, 1, False)),
        ({"part": 1, "parts": 2}, (2, "c2", 1, 2, False)),
        ({"part": 4, "parts": 7}, (2, "c2", 4, 7, False)),
        ({"next_cursor": None, "last": True}, (3, None, 0, 1, True)),
    ],
)
def test_a_job_stands_where_its_newest_page_or_part_left_off(given: dict[str, Any], stands: tuple[Any, ...]) -> None:
    standing = Standing(started_at=EPOCH + MINUTE)

    standing.restore(tail(**given))

    assert (standing.page, standing.cursor, standing.done_parts, standing.parts, standing.last) == stands
    assert standing.progress() == COUNTED
    assert standing.total == 51
    assert standing.attempt == 1


def test_a_job_begins_with_nothing_and_nobody_missed() -> None:
    standing = Standing(started_at=EPOCH)

    assert standing.progress() == Progress(
        followers=0, duplicates_dropped=0, total_first=None, requests=0, started_at=EPOCH, missed_at_most=0
    )
    assert (standing.page, standing.done_parts, standing.parts, standing.attempt, standing.barren) == (0, 0, 1, 1, 0)
    assert (standing.moved, standing.missed_at_most, standing.last) == (False, 0, False)


def test_nobody_is_published_twice_and_who_was_already_on_this_page_is_no_duplicate() -> None:
    standing = Standing(started_at=EPOCH)
    rows = [Follower(user_id=id) for id in "1234"]

    assert standing.unseen(rows[:2], set()) == rows[:2]
    assert standing.unseen([*rows[1:3], rows[2]], set()) == rows[2:3]
    assert standing.duplicates_dropped == 2
    assert standing.unseen(rows, {"1", "2"}) == rows[3:]
    assert standing.duplicates_dropped == 3
    assert [id in standing.seen for id in "12345"] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "complete"),
        ({"total_first": None, "total": None}, "complete"),
        ({"truncated": "max_pages"}, "truncated"),
        ({"truncated": "provider_cap", "missed_at_most": None}, "truncated"),
        ({"missed_at_most": 1}, "drifted"),
        ({"missed_at_most": None}, "drifted"),
        ({"moved": True}, "drifted"),
        ({"duplicates_dropped": 1}, "drifted"),
        ({"total_first": 8}, "drifted"),
        ({"total_first": None}, "drifted"),
        ({"total_first": 8, "total": 8}, "drifted"),
        ({"followers": 8}, "drifted"),
    ],
)
def test_only_what_is_shown_to_be_whole_is_complete(fields: dict[str, Any], verdict: str) -> None:
    common: dict[str, Any] = {"followers": 7, "total_first": 7, "total": 7}
    standing = Standing(started_at=EPOCH, **(common | fields))

    ended = completed(OURS, "shop", standing, EPOCH + MINUTE)

    assert ended.verdict == verdict
    assert ended.reason == standing.truncated


@pytest.mark.parametrize(
    ("truncated", "missed"), [(None, 4), ("provider_cap", 4), ("max_pages", None), ("max_followers", None)]
)
def test_the_end_of_a_job_says_all_that_was_counted(truncated: Any, missed: int | None) -> None:
    standing = Standing(started_at=EPOCH)
    standing.restore(tail())
    standing.attempt, standing.truncated = 2, truncated

    assert completed(OURS, "shop", standing, EPOCH + MINUTE, digest="d") == JobCompleted(
        job_id="j1",
        provider="etelecom",
        account="shop",
        oa_id="1",
        labels={"a": "b"},
        attempt=2,
        pages=3,
        followers=12,
        distinct=12,
        duplicates_dropped=3,
        total_first=50,
        total_last=51,
        requests=9,
        started_at=EPOCH,
        finished_at=EPOCH + MINUTE,
        verdict="truncated" if truncated else "drifted",
        reason=truncated,
        digest="d",
        missed_at_most=missed,
        window="2026-01-01",
    )


def test_a_status_says_all_that_is_counted() -> None:
    standing = Standing(started_at=EPOCH, worker="w1")
    standing.restore(tail())
    until = EPOCH + 3 * MINUTE
    wait = handed_back(EPOCH)

    told = status(OURS, "shop", standing, "waiting", EPOCH + 2 * MINUTE, reason="nats", until=until, wait=wait)

    # 12 in two minutes: the 39 that are left take 6.5, and it stands still for another one.
    assert told == JobStatus(
        job_id="j1",
        provider="etelecom",
        account="shop",
        oa_id="1",
        state="waiting",
        page=3,
        followers=12,
        total=51,
        percent=23.5,
        attempt=1,
        reason="nats",
        until=until,
        eta=EPOCH + 9.5 * MINUTE,
        worker="w1",
        started_at=EPOCH,
        updated_at=EPOCH + 2 * MINUTE,
        labels={"a": "b"},
        wait=wait,
        command_sequence=5,
    )


@pytest.mark.parametrize(
    ("state", "until", "eta"),
    [
        ("running", None, 3.0),
        ("running", 9.0, 3.0),
        ("waiting", 2.5, 4.5),
        ("waiting", 0.5, 3.0),
        ("waiting", None, None),
        ("queued", 2.5, None),
        ("completed", None, None),
        ("failed", None, None),
    ],
)
def test_the_end_is_estimated_of_a_job_that_moves_or_knows_when_it_will(
    state: Any, until: float | None, eta: float | None
) -> None:
    standing = Standing(started_at=EPOCH, followers=10, total=30)
    standing.worker = ""

    told = status(OURS, None, standing, state, EPOCH + MINUTE, until=None if until is None else EPOCH + until * MINUTE)

    assert told.eta == (None if eta is None else EPOCH + eta * MINUTE)
    assert (told.worker, told.account) == (None, None)
    assert told.percent == (100.0 if state == "completed" else 33.3)


@pytest.mark.parametrize(
    ("ceilings", "total", "percent"),
    [
        ({}, 40, 25.0),
        ({}, None, None),
        ({}, 0, None),
        ({}, 9, 100.0),
        ({"max_followers": 20}, 40, 50.0),
        ({"max_followers": 50}, 40, 25.0),
        ({"max_pages": 3, "page_size": 4}, 40, 83.3),
        ({"max_pages": 3, "page_size": 4, "max_followers": 11}, 40, 90.9),
        ({"max_followers": 20}, None, None),
    ],
)
def test_ceilings_count_as_the_whole_where_a_total_is_known(
    ceilings: dict[str, Any], total: int | None, percent: float | None
) -> None:
    job = Job(command=FetchEtelecomFollowers(oa_id="1", **ceilings), address=OURS.address, sequence=5)
    standing = Standing(started_at=EPOCH, followers=10, total=total)

    assert status(job, "a", standing, "running", EPOCH).percent == percent
    assert status(job, "a", standing, "running", EPOCH).eta is None, "no time has passed"


def test_a_list_by_row_numbers_goes_on_with_what_is_known_of_it() -> None:
    standing = Standing(started_at=EPOCH)
    assert standing.position() == Position()
    standing.restore(tail(cursor=None, next_cursor=None))
    known = Position(settled=4, moved=True, dropped=3, day="2026-01-01")
    assert standing.position() == known

    standing.cursor = "49"
    assert standing.position() == known.resumed("49")
    standing.arrive(Position(dropped=8, moved=False, gap=2, settled=5, day="2026-02-01"))
    assert (standing.duplicates_dropped, standing.moved, standing.missed_at_most, standing.window) == (
        8, False, 7, "2026-02-01",
    )  # fmt: skip
