"""What the live page says of an account whose circuit is each worker's own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.jobs import JobStatus
from schemas.wait import Wait
from worker.page.accounts import account_rows
from worker.page.board import Board
from worker.page.ports import AccountView

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def account(**fields: Any) -> AccountView:
    known: dict[str, Any] = {"name": "shop", "provider": "etelecom", "rate": 5.0, "shared": True, "circuit": "closed"}
    known |= {"circuit_until": None, "blocked_until": None, "waiting": 0}
    return AccountView(**(known | fields))


def waiting(
    *, owner: Any = "breaker", worker: str = "other", account: str = "shop", until: float | None = 12, told: float = 0,
    blocked: float | None = None,
) -> JobStatus:  # fmt: skip
    wait = Wait(
        owner=owner,
        reason="circuit_open" if owner == "breaker" else "rate_limited",
        since=NOW,
        until=None if until is None else after(until),
        text="why",
        blocked_until=None if blocked is None else after(blocked),
    )
    return JobStatus(
        job_id="j", provider="etelecom", account=account, oa_id="1", state="waiting", updated_at=after(told),
        worker=worker, wait=wait,
    )  # fmt: skip


def shown(one: AccountView, *jobs: JobStatus) -> tuple[Any, ...]:
    (row,) = account_rows([one], jobs, "here", NOW)
    return row["circuit"], row["circuitIn"], row["circuitUntil"]


def test_a_circuit_that_is_open_in_another_worker_is_not_shown_as_closed() -> None:
    assert shown(account(), waiting()) == ("open", "elsewhere", "2026-11-23T12:00:12Z")
    assert shown(account(), waiting(until=None)) == ("open", "elsewhere", None)
    assert shown(account(), waiting(until=3), waiting(until=40))[2] == "2026-11-23T12:00:40Z"
    assert shown(account(heard=False), waiting()) == ("open", "elsewhere", "2026-11-23T12:00:12Z")


@pytest.mark.parametrize("circuit", ["open", "half_open"])
def test_this_workers_own_trouble_is_its_own(circuit: Any) -> None:
    own = account(circuit=circuit, circuit_until=after(5))

    assert shown(own, waiting()) == (circuit, "here", "2026-11-23T12:00:05Z")


def test_closed_is_what_the_provider_has_answered_to_else_nothing_is_known() -> None:
    assert shown(account(heard=True))[0] == "closed"
    assert shown(account(heard=False))[0] == "unknown"


@pytest.mark.parametrize(
    "job",
    [
        waiting(worker="here"),
        waiting(account="another"),
        waiting(owner="limit"),
        waiting(until=-15, told=-60),
        waiting(until=None, told=-15),
    ],
    ids=[
        "this worker's",
        "another account's",
        "our own limit",
        "long over",
        "long unheard of",
    ],
)
def test_what_says_nothing_of_the_circuit_now_changes_nothing(job: JobStatus) -> None:
    assert shown(account(), job)[:2] == ("closed", "here")


@pytest.mark.parametrize(
    "job", [waiting(until=-14.9, told=-60), waiting(until=None, told=-14.9), waiting(until=600, told=-60)]
)
def test_a_wait_counts_until_a_little_after_its_end(job: JobStatus) -> None:
    assert shown(account(), job)[0] == "open"


def test_the_patience_that_a_provider_asks_of_any_worker_is_shown() -> None:
    jobs = [waiting(owner="limit", until=30, blocked=30), waiting(owner="limit", until=20, blocked=20)]

    def blocked(one: AccountView, *jobs: JobStatus) -> Any:
        return account_rows([one], jobs, "here", NOW)[0]["blockedUntil"]

    assert blocked(account(), *jobs) == "2026-11-23T12:00:30Z"
    assert blocked(account(blocked_until=after(60)), *jobs) == "2026-11-23T12:01:00Z"
    assert blocked(account()) is None


class News:
    more, first, anew = False, None, False

    def __init__(self, *changes: Any) -> None:
        self.changes = changes


class Change:
    def __init__(self, revision: int, status: JobStatus) -> None:
        import msgspec

        self.revision, self.job_id, self.data = revision, status.job_id, msgspec.json.encode(status)


def job(job_id: str, state: Any, started: float, updated: float = 0) -> JobStatus:
    return JobStatus(
        job_id=job_id, provider="etelecom", account="shop", oa_id="1", state=state, started_at=after(started),
        updated_at=after(updated), finished_at=after(updated) if state == "completed" else None,
    )  # fmt: skip


def test_rows_keep_their_places_while_jobs_run_and_wait_by_turns() -> None:
    board = Board()
    looks = []
    for turn, states in enumerate((("running", "waiting"), ("waiting", "running"), ("waiting", "waiting"))):
        first, second = (job(name, state, at, turn) for name, state, at in zip("ab", states, (1, 2), strict=True))
        extra = [job("queued", "queued", 9), job("done", "completed", 0, 50), job("twin", "running", 2, -turn)]
        board.apply(News(*(Change(10 * turn + n, one) for n, one in enumerate([first, *extra, second]))))
        looks.append([one.job_id for one in board.jobs(None)])

    assert looks == [["twin", "b", "a", "queued", "done"]] * 3
    assert [one.job_id for one in board.jobs("waiting")] == ["b", "a"]
