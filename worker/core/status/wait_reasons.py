"""Why a job doesn't move, in a sentence and in numbers: one answer for status, events, command line and page.

Each function returns the description of a wait for somebody who knows since when and until when it lasts. Of a
provider's failure only its code and HTTP status are told: its own words may hold anything.
"""

import math
from collections.abc import Callable
from datetime import datetime

from schemas.counted import counted
from schemas.jobs import JobStatus
from schemas.types import WaitOwner
from schemas.wait import Wait
from schemas.wire import next_second, rfc3339
from worker.core.cures import cure, paused_text, resume
from worker.core.errors import FetchFailure, RateLimitedError
from worker.core.holdups import Holdup
from worker.core.memory import Budget
from worker.core.ports.job_store import QueuedCommand
from worker.core.ratelimit.admission import Outlook

Describe = Callable[[datetime, datetime | None], Wait]
"""From since when and until when to the wait."""


def in_line(outlook: Outlook) -> Describe:
    """Describe the wait of a request for its turn at the account's gate."""
    if outlook.reason == "circuit_open":
        return lambda since, until: _breaker(outlook, since, until)
    if outlook.ours:
        return lambda since, until: _own_limit(outlook, since, until)
    return lambda since, until: _blocked(since, until, outlook.rate, outlook.ahead, outlook.asked)


def between_tries(error: FetchFailure, attempt: int, asked: float | None = None) -> Describe:
    """Describe the wait after `error`, the answer to request number `attempt` for a page, until the next one.

    `asked`: the seconds that the provider asked for, where the job has less patience left.
    """
    if isinstance(error, RateLimitedError):
        return lambda since, until: _blocked(since, until, None, None, asked)
    return lambda since, until: Wait(
        owner="provider",
        reason="provider_unavailable",
        since=since,
        until=until,
        text=f"request {attempt} for its next page failed ({_failure(error)}): it is tried again {_at(until)}"
        + _cut(asked, "retry_for"),
        code=error.code,
        http_status=error.http_status,
        attempt=attempt,
    )


def held_up(holdup: Holdup) -> Wait:
    """Describe the wait of a job for NATS, which doesn't take or give what it needs."""
    act = "takes nothing for" if holdup.writes else "gives nothing of"
    error = f"error {holdup.code}: {holdup.words}" if holdup.code else holdup.words
    return Wait(
        owner="nats",
        reason="nats",
        since=holdup.since,
        text=f"NATS {act} {holdup.stream} ({error}), and it is tried again:"
        f" {cure(holdup.code, holdup.words, holdup.stream)}",
        nats_code=holdup.code,
        nats_error=holdup.words,
    )


def waits_for_nats(status: JobStatus) -> bool:
    """Say whether a status tells that NATS doesn't take or give what the job, or who asks about it, needs."""
    return status.wait is not None and status.wait.owner == "nats"


def unread(since: datetime) -> Wait:
    """Describe what is not known of a job whose events can't be read now."""
    return Wait(
        owner="nats",
        reason="nats",
        since=since,
        text="NATS gave no answer about its events, so whether it has gone on or ended since its status was written"
        " isn't known: ask again, and look after NATS if it stays so",
        nats_error="no answer",
    )


def no_room(budget: Budget) -> Describe:
    """Describe the wait of an answer for room in this worker's memory."""
    return lambda since, until: Wait(
        owner="memory",
        reason="memory",
        since=since,
        until=until,
        text="its worker holds as many bytes of answers as it may;"
        f" {counted(budget.waiting, 'request waits', 'requests wait')} until pages are published: raise"
        " worker.max_bytes_in_flight if the worker has more memory, or lower worker.max_jobs",
    )


def handed_back(since: datetime) -> Wait:
    """Describe the wait of a job whose worker stopped, for another one."""
    text = "its worker stopped and handed it back: another one takes it, where one runs"
    return Wait(owner="queue", reason="queued", since=since, text=text)


def cancelling(since: datetime) -> Wait:
    """Describe the wait of a job that was asked to end, for its end."""
    text = (
        "it was asked to end, and ends when its worker hears of it, or with its next delivery when no worker has it;"
        " `followers doctor` says whether workers run"
    )
    return Wait(owner="cancelled", reason="cancelled", since=since, text=text)


def in_queue(command: QueuedCommand) -> Wait:
    """Describe the wait of a command that is in the work queue, for a worker."""
    if command.paused_until is not None:
        return paused(command.provider, command.stored_at, command.paused_until)
    if not command.asking and not command.in_hand:
        return Wait(
            owner="no_worker",
            reason="no_worker",
            since=command.stored_at,
            text=f"no worker takes {command.provider} commands: start one by `followers worker`, or see why those that"
            " run don't by `followers doctor`",
            ahead=command.ahead,
            position=None if command.ahead is None else command.ahead + 1,
            in_hand=0,
            asking=0,
        )
    if command.ahead is None:
        where = (
            "its command was delivered, and is with a worker or comes again: its account may have as many in hand as"
            " one may have"
        )
    else:
        where = f"its command is number {command.ahead + 1:,} in the queue"
    where += f"; workers have {counted(command.in_hand, 'command')} in hand"
    if command.asking:
        hint = "a worker asks for the next one"
    else:
        hint = "none asks for the next one, so all are busy, or none runs: start more, or raise worker.max_jobs"
    return Wait(
        owner="queue",
        reason="queued",
        since=command.stored_at,
        text=f"{where}: {hint}",
        ahead=command.ahead,
        position=None if command.ahead is None else command.ahead + 1,
        in_hand=command.in_hand,
        asking=command.asking,
    )


def paused(provider: str, since: datetime, until: datetime) -> Wait:
    """Describe the wait of a command whose consumer somebody has paused."""
    return Wait(
        owner="nats",
        reason="nats",
        since=since,
        until=until,
        text=f"{paused_text(provider, until)}: {resume(provider)}",
        nats_error="consumer paused",
    )


def silent(known: JobStatus, command: QueuedCommand) -> Wait:
    """Describe the wait of a job whose worker was last heard of too long ago, for another one."""
    heard_at = rfc3339(known.updated_at.replace(microsecond=0))
    heard = f"its worker {known.worker or ''} was last heard of at {heard_at}".replace("  ", " ")
    owner: WaitOwner = "queue" if command.asking else "no_worker"
    if command.asking:
        text = f"{heard}: another one goes on behind page {known.page:,} as soon as the server gives that one up"
    else:
        text = (
            f"{heard}, and no worker asks for {known.provider} commands: start one by `followers worker`, it goes on"
            f" behind page {known.page:,}; `followers doctor` says whether some run"
        )
    return Wait(
        owner=owner,
        reason="queued" if command.asking else "no_worker",
        since=known.updated_at,
        text=text,
        in_hand=command.in_hand,
        asking=command.asking,
    )


def faulted(faults: int, allowed: int, now: datetime, until: datetime) -> Wait:
    """Return what a job waits for at which a worker failed unexpectedly for the `faults`th time."""
    return Wait(
        owner="queue",
        reason="queued",
        since=now,
        until=until,
        text=f"a worker failed unexpectedly at it ({faults} of {allowed} times, then it is a dead letter) and it is"
        f" tried again {_at(until)}: the worker's log has `command.fault` with the reason",
    )


def queued_status(command: QueuedCommand) -> JobStatus:
    """Return the status of a job that no worker has written yet. For people: nothing else may follow from it."""
    return JobStatus(
        job_id=command.job_id,
        provider=command.provider,
        account=command.account,
        oa_id=command.oa_id,
        state="queued",
        updated_at=command.stored_at,
        labels=dict(command.labels),
        wait=in_queue(command),
        command_sequence=command.sequence,
    )


def _breaker(outlook: Outlook, since: datetime, until: datetime | None) -> Wait:
    last = outlook.failure
    text = (
        f"the provider is away: {counted(outlook.failures, 'request')} of this account failed in a row, the last one"
        f" with {_failure(last)}; {_at(until)} one request finds out whether it is back"
    )
    return Wait(
        owner="breaker",
        reason="circuit_open",
        since=since,
        until=until,
        text=text,
        failures=outlook.failures,
        code=None if last is None else last.code,
        http_status=None if last is None else last.http_status,
    )


def _own_limit(outlook: Outlook, since: datetime, until: datetime | None) -> Wait:
    text = f"{counted(outlook.ahead, 'request is', 'requests are')} in line before its own"
    if not outlook.ahead:
        text = "its request is the next in line"
    if outlook.rate is not None:
        text += f", at the account's limit of {outlook.rate:g} requests a second over all workers"
    if not outlook.shared:
        text += "; the shared limit can't be reached, so that a fifth of it holds: see `followers doctor`"
    else:
        text += ": raise the account's rate_limit if the provider allows more"
    return Wait(
        owner="limit",
        reason="rate_limited",
        since=since,
        until=until,
        text=text,
        rate=outlook.rate,
        ahead=outlook.ahead,
    )


def _blocked(
    since: datetime, until: datetime | None, rate: float | None, ahead: int | None, asked: float | None
) -> Wait:
    text = (
        f"the provider answered that there are too many requests: this account's go on {_at(until)}"
        f"{_cut(asked, 'rate_limited_for')}; lower its rate_limit if this comes often"
    )
    return Wait(
        owner="limit",
        reason="rate_limited",
        since=since,
        until=until,
        text=text,
        rate=rate,
        ahead=ahead,
        blocked_until=until,
    )


def _failure(error: FetchFailure | None) -> str:
    if error is None:
        return "no answer"
    return error.code if error.http_status is None else f"{error.code}, HTTP {error.http_status}"


def _cut(asked: float | None, setting: str) -> str:
    if asked is None:
        return ""
    return f" (it asked for {math.ceil(asked):,} s, more than worker.{setting} leaves)"


def _at(until: datetime | None) -> str:
    return "soon" if until is None else f"at {rfc3339(next_second(until))}"
