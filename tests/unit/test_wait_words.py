"""Why a job doesn't move: each wait word for word, with all of its numbers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import JobStatus
from schemas.wait import Wait
from worker.core.errors import ProviderUnavailableError, RateLimitedError
from worker.core.holdups import Holdup
from worker.core.ports.job_store import QueuedCommand
from worker.core.ratelimit.admission import Outlook
from worker.core.status.wait_reasons import (
    between_tries,
    cancelling,
    faulted,
    handed_back,
    held_up,
    in_line,
    in_queue,
    queued_status,
    silent,
)

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNTIL = SINCE + timedelta(seconds=29.5)
TRIED_AGAIN = "2026-03-01T12:00:30Z"
DOWN = ProviderUnavailableError("a private word", http_status=503)
SILENT = ProviderUnavailableError("a private word")


def wait(owner: Any, reason: Any, text: str, **fields: Any) -> Wait:
    return Wait(owner=owner, reason=reason, since=SINCE, text=text, **fields)


def queued(**changes: Any) -> QueuedCommand:
    fields: dict[str, Any] = {
        "job_id": "j", "provider": "esms", "account": "main", "oa_id": "1", "labels": {"a": "b"}, "sequence": 9,
        "stored_at": SINCE, "ahead": 3, "in_hand": 64, "asking": 0,
    } | changes  # fmt: skip
    return QueuedCommand(**fields)


@pytest.mark.parametrize(
    ("outlook", "said", "numbers"),
    [
        (
            Outlook(0.0, "rate_limited", False, 5.0, 2, failure=RateLimitedError("x", retry_after=9.0)),
            "",
            {"rate": 5.0, "ahead": 2},
        ),
        (
            Outlook(0.0, "rate_limited", False, 5.0, 0, asked=1_200.2),
            " (it asked for 1,201 s, more than worker.rate_limited_for leaves)",
            {"rate": 5.0, "ahead": 0},
        ),
    ],
)
def test_a_provider_that_wants_patience(outlook: Outlook, said: str, numbers: dict[str, Any]) -> None:
    assert in_line(outlook)(SINCE, UNTIL) == wait(
        "limit",
        "rate_limited",
        f"the provider answered that there are too many requests: this account's go on at {TRIED_AGAIN}{said}; "
        "lower its rate_limit if this comes often",
        until=UNTIL,
        blocked_until=UNTIL,
        **numbers,
    )


def test_a_provider_that_wants_patience_of_one_job() -> None:
    told = between_tries(RateLimitedError("x", http_status=429), 3, 86_401.0)(SINCE, None)

    assert told == wait(
        "limit",
        "rate_limited",
        "the provider answered that there are too many requests: this account's go on soon (it asked for 86,401 s, "
        "more than worker.rate_limited_for leaves); lower its rate_limit if this comes often",
    )


@pytest.mark.parametrize(
    ("failure", "failures", "said", "numbers"),
    [
        (
            DOWN,
            5,
            "5 requests of this account failed in a row, the last one with provider_unavailable, HTTP 503",
            {"code": "provider_unavailable", "http_status": 503},
        ),
        (
            SILENT,
            1,
            "1 request of this account failed in a row, the last one with provider_unavailable",
            {"code": "provider_unavailable"},
        ),
        (None, 6, "6 requests of this account failed in a row, the last one with no answer", {}),
    ],
)
def test_an_open_circuit(failure: Any, failures: int, said: str, numbers: dict[str, Any]) -> None:
    outlook = Outlook(0.0, "circuit_open", False, failures=failures, failure=failure)

    assert in_line(outlook)(SINCE, UNTIL) == wait(
        "breaker",
        "circuit_open",
        f"the provider is away: {said}; at {TRIED_AGAIN} one request finds out whether it is back",
        until=UNTIL,
        failures=failures,
        **numbers,
    )


@pytest.mark.parametrize(
    ("ahead", "rate", "shared", "text"),
    [
        (0, None, True, "its request is the next in line: raise the account's rate_limit if the provider allows more"),
        (
            1,
            None,
            True,
            "1 request is in line before its own: raise the account's rate_limit if the provider allows more",
        ),
        (
            7,
            2.5,
            False,
            "7 requests are in line before its own, at the account's limit of 2.5 requests a second over all workers; "
            "the shared limit can't be reached, so that a fifth of it holds: see `followers doctor`",
        ),
    ],
)
def test_our_own_limit(ahead: int, rate: float | None, shared: bool, text: str) -> None:
    told = in_line(Outlook(0.0, "rate_limited", True, rate, ahead, shared))(SINCE, UNTIL)

    assert told == wait("limit", "rate_limited", text, until=UNTIL, rate=rate, ahead=ahead)


@pytest.mark.parametrize(
    ("asked", "said"), [(None, ""), (600.0, " (it asked for 600 s, more than worker.retry_for leaves)")]
)
def test_a_request_that_failed(asked: float | None, said: str) -> None:
    assert between_tries(DOWN, 2, asked)(SINCE, UNTIL) == wait(
        "provider",
        "provider_unavailable",
        "request 2 for its next page failed (provider_unavailable, HTTP 503): it is tried again "
        f"at {TRIED_AGAIN}{said}",
        until=UNTIL,
        code="provider_unavailable",
        http_status=503,
        attempt=2,
    )


@pytest.mark.parametrize(
    ("holdup", "said", "numbers"),
    [
        (
            Holdup(SINCE, "S", True, 10077, "maximum bytes exceeded"),
            "takes nothing for S (error 10077: maximum bytes exceeded), and it is tried again: make room in S, or "
            "raise its max_bytes",
            {"nats_code": 10077},
        ),
        (
            Holdup(SINCE, "S", False, None, "not connected"),
            "gives nothing of S (not connected), and it is tried again: it goes on when NATS is back",
            {},
        ),
    ],
)
def test_nats(holdup: Holdup, said: str, numbers: dict[str, Any]) -> None:
    assert held_up(holdup) == wait("nats", "nats", f"NATS {said}", nats_error=holdup.words, **numbers)


def test_a_job_that_was_handed_back() -> None:
    text = "its worker stopped and handed it back: another one takes it, where one runs"

    assert handed_back(SINCE) == wait("queue", "queued", text)


def test_a_job_that_was_asked_to_end() -> None:
    assert cancelling(SINCE) == wait(
        "cancelled",
        "cancelled",
        "it was asked to end, and ends when its worker hears of it, or with its next delivery when no worker has it;"
        " `followers doctor` says whether workers run",
    )


def test_a_job_at_which_workers_fail() -> None:
    assert faulted(2, 3, SINCE, UNTIL) == wait(
        "queue",
        "queued",
        "a worker failed unexpectedly at it (2 of 3 times, then it is a dead letter) and it is tried again at "
        f"{TRIED_AGAIN}: the worker's log has `command.fault` with the reason",
        until=UNTIL,
    )


NO_WORKER = (
    "no worker takes esms commands: start one by `followers worker`, or see why those that run don't by "
    "`followers doctor`"
)
BUSY = "none asks for the next one, so all are busy, or none runs: start more, or raise worker.max_jobs"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            queued(in_hand=0),
            wait("no_worker", "no_worker", NO_WORKER, ahead=3, position=4, in_hand=0, asking=0),
        ),
        (queued(in_hand=0, ahead=None), wait("no_worker", "no_worker", NO_WORKER, in_hand=0, asking=0)),
        (
            queued(ahead=1_233),
            wait(
                "queue",
                "queued",
                f"its command is number 1,234 in the queue; workers have 64 commands in hand: {BUSY}",
                ahead=1_233,
                position=1_234,
                in_hand=64,
                asking=0,
            ),
        ),
        (
            queued(in_hand=0, asking=2, ahead=0),
            wait(
                "queue",
                "queued",
                "its command is number 1 in the queue; workers have 0 commands in hand: a worker asks for the next one",
                ahead=0,
                position=1,
                in_hand=0,
                asking=2,
            ),
        ),
        (
            queued(in_hand=1, ahead=None),
            wait(
                "queue",
                "queued",
                "its command was delivered, and is with a worker or comes again: its account may have as many in hand "
                f"as one may have; workers have 1 command in hand: {BUSY}",
                in_hand=1,
                asking=0,
            ),
        ),
        (
            queued(paused_until=UNTIL),
            wait(
                "nats",
                "nats",
                "the consumer worker-esms is paused until 2026-03-01T12:00:29Z: resume it by `nats consumer resume "
                "FOLLOWERS_COMMANDS worker-esms`",
                until=UNTIL,
                nats_error="consumer paused",
            ),
        ),
    ],
)
def test_a_command_in_the_queue(command: QueuedCommand, told: Wait) -> None:
    assert in_queue(command) == told
    assert queued_status(command) == JobStatus(
        job_id="j",
        provider="esms",
        account="main",
        oa_id="1",
        state="queued",
        updated_at=SINCE,
        labels={"a": "b"},
        wait=told,
        command_sequence=9,
    )


@pytest.mark.parametrize(
    ("worker", "asking", "told"),
    [
        (
            "w1",
            2,
            wait(
                "queue",
                "queued",
                "its worker w1 was last heard of at 2026-03-01T12:00:00Z: another one goes on behind page 1,007 as "
                "soon as the server gives that one up",
                in_hand=64,
                asking=2,
            ),
        ),
        (
            None,
            0,
            wait(
                "no_worker",
                "no_worker",
                "its worker was last heard of at 2026-03-01T12:00:00Z, and no worker asks for esms commands: start one "
                "by `followers worker`, it goes on behind page 1,007; `followers doctor` says whether some run",
                in_hand=64,
                asking=0,
            ),
        ),
    ],
)
def test_a_job_whose_worker_fell_silent(worker: str | None, asking: int, told: Wait) -> None:
    known = JobStatus(
        job_id="j", provider="esms", account="a", oa_id="1", state="running", updated_at=SINCE, page=1_007,
        worker=worker,
    )  # fmt: skip

    assert silent(known, queued(asking=asking)) == told
