"""What becomes of a delivered command: fetched, refused, left to another worker, or handed back."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from schemas.events import JobCompleted, JobEvent, JobFailed
from schemas.jobs import JobStatus
from schemas.subjects import DEAD_STREAM, provider_of
from schemas.types import JobState, Provider
from worker.core.cancellation import CancelledJobError, DrainingError, Signals
from worker.core.changes.feeds import ChangeFeeds
from worker.core.changes.pointer import EndedJob
from worker.core.changes.ports import FeedsAwayError, FeedsMissingError
from worker.core.errors import (
    FetchFailure,
    InternalError,
    UnknownAccountError,
)
from worker.core.eventlog.appender import FencedError
from worker.core.eventlog.unreadable import UnreadableEventError
from worker.core.job import Job
from worker.core.jobs.dead_letter import bury, bury_rejected
from worker.core.jobs.identity import take_id
from worker.core.jobs.parse import RejectedError, read_job, traceparent
from worker.core.jobs.run import Fetch
from worker.core.ports.delivery import Delivery
from worker.core.ports.provider import ProviderClient
from worker.core.ports.tracing import Span
from worker.core.ratelimit.admission import Gate, open_gate
from worker.core.services import World
from worker.core.status.wait_reasons import faulted
from worker.core.tasks import begin_lasting

HAND_BACK_DELAY = 1.0
"""Seconds before a command that this replica hands back is delivered again: not at once to itself."""
AGAIN_DELAY = 5.0
"""Seconds, at most, before a command that can't be worked on now is looked at again."""
FIRST_LOOK = 0.5
"""Seconds after its start until a job is looked up again among those to be cancelled."""
FINISH_WITHIN = 2.0
"""Seconds that a replica told to stop still gives to publishing a list's changes."""
ENDED_LATELY = 20
"""Times `ack_wait` after its end in which a job's command may still be in somebody's hands."""
FAULTS_ALLOWED = 3
"""A command that makes us fail unexpectedly is a dead letter after this many times, in whichever replicas."""

_TERMINAL_STATES = ("completed", "failed", "cancelled")
_LEVELS: dict[JobState, int] = {
    "completed": logging.INFO,
    "queued": logging.INFO,
    "cancelled": logging.INFO,
    "failed": logging.WARNING,
}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """A configured account with its client."""

    name: str
    provider: Provider
    client: ProviderClient
    gate: Gate | None = None
    """What its requests pass; None: one without a rate limit."""


class CommandHandler:
    """Takes deliveries to their end. One a replica."""

    def __init__(self, accounts: Mapping[str, OpenAccount], world: World, draining: asyncio.Event) -> None:
        """Take the accounts by name, the world, and the event that says that this replica is to stop."""
        self.running: dict[str, Fetch] = {}
        """The jobs in hand, by job id."""
        self.changes: ChangeFeeds | None = None
        """Publishes what a completed job has changed; None: that is off."""
        self.on_waiting: Callable[[Provider], None] = lambda provider: None
        """Called when a job of that provider begins to stand still."""
        self._gates = {
            name: account.gate or open_gate(name, account.provider, world, None) for name, account in accounts.items()
        }
        self._accounts = accounts
        self._world = world
        self._draining = draining
        self._faults: Counter[int] = Counter()
        self._told_to_stop_at: float | None = None

    def cancel(self, job_id: str) -> None:
        """Cancel the job if it is in hand here; that it is noted durably is another's business."""
        fetch = self.running.get(job_id)
        if fetch is not None:
            fetch.signals.cancel()

    def waiting(self, provider: Provider) -> int:
        """Return how many of `provider`'s jobs in hand stand still, for a limit or a provider that is away."""
        return sum(fetch.waiting and fetch.job.address.provider == provider for fetch in self.running.values())

    def account_of(self, delivery: Delivery) -> str | None:
        """Return the name of the account that `delivery` is for, None where there is none."""
        asked = _read(delivery)
        if not isinstance(asked, Job):
            return None
        try:
            return self._account(asked).name
        except RejectedError:
            return None

    async def handle_exhausted(self, delivery: Delivery) -> None:
        """As `handle`, for a command that NATS won't deliver again: it fails, unless its job has ended."""
        _log.error("command.exhausted", sequence=delivery.sequence, advice="run `followers setup`")
        await self.handle(
            delivery,
            InternalError(
                "NATS gave up on delivering this command: the consumer has a max_deliver, which must be -1; "
                "run `followers setup`, then retry the dead letter"
            ),
        )

    async def handle_stranded(self, delivery: Delivery) -> None:
        """As `handle`, for a command that NATS seems to have forgotten; none of ours while its job moves."""
        if not await self._moves(delivery):
            _log.warning("command.stranded", sequence=delivery.sequence, advice="upgrade nats-server")
            await self.handle(delivery)

    async def handle(self, delivery: Delivery, doom: InternalError | None = None) -> None:
        """Work on `delivery` and settle it, with heartbeats until then. Raises nothing but CancelledError.

        When cancelled, the command is handed back. `doom`: why it must fail, unless its job has ended.
        """
        asked = _read(delivery)
        # Every line that is logged on behalf of this command then says which job it is about.
        with bound_contextvars(job_id=_job_id(asked)), self._begin(delivery, asked) as span:
            await self._handle_safely(delivery, asked, doom, span)

    def _begin(self, delivery: Delivery, asked: "_Asked") -> AbstractContextManager[Span]:
        return self._world.tracer.begin(
            f"process {delivery.subject}",
            traceparent(delivery),
            system="nats",
            subject=delivery.subject,
            job_id=_job_id(asked),
            sequence=delivery.sequence,
            deliveries=delivery.deliveries,
        )

    async def _handle_safely(self, delivery: Delivery, asked: "_Asked", doom: InternalError | None, span: Span) -> None:
        async with _heartbeat(delivery, self._world.ack_wait / 3) as heart:
            try:
                await self._handle(delivery, asked, heart, doom, span)
            except asyncio.CancelledError:
                _log.info("command.handed_back", sequence=delivery.sequence, reason="stopped")
                await delivery.nak(HAND_BACK_DELAY)
                raise
            except FencedError as fenced:
                _log.info("command.fenced", sequence=delivery.sequence, same_command=fenced.same_command)
                # The delivery is the winner's, and whatever we said of it would hit the winner. A duplicate command
                # is another message: that one is ours, and must come back until its job has ended.
                if not fenced.same_command:
                    await delivery.nak(self._world.ack_wait)
            except Exception as error:
                self._faults[delivery.sequence] += 1
                self._world.meter.faulted(provider_of(delivery.subject))
                # What can't be read says all there is to say, and where we met it is of no use to anybody.
                how: dict[str, Any] = {"exc_info": True}
                if isinstance(error, UnreadableEventError):
                    how = {"reason": str(error)}
                _log.error("command.fault", sequence=delivery.sequence, deliveries=delivery.deliveries, **how)
                await delivery.nak(min(self._world.ack_wait, AGAIN_DELAY))

    async def _handle(
        self, delivery: Delivery, asked: "_Asked", heart: "_Heart", doom: InternalError | None, span: Span
    ) -> None:
        if self._draining.is_set():
            _log.info("command.handed_back", sequence=delivery.sequence, reason="draining")
            await delivery.nak(HAND_BACK_DELAY)
            return
        try:
            job = _job(asked)
            known, is_cancelled = await asyncio.gather(
                self._world.status.get(job.address.job_id), self._is_cancelled(job, delivery)
            )
            account = self._account(job)
            await take_id(job, account.name, known, self._world)
            if known is not None:  # else it came, was sent back for others of its account, and came again
                self._count_redelivery(delivery)
        except RejectedError as rejected:
            self._count_redelivery(delivery)
            await self._reject(delivery, rejected, span)
            return
        job_id = job.address.job_id
        if job_id in self.running or self._is_worked_on(job, known):
            _log.info("command.duplicate", job_id=job_id, sequence=job.sequence)
            await delivery.nak(min(self._world.ack_wait, AGAIN_DELAY))
            return
        gate = self._gates[account.name]
        span.note(account=account.name, oa_id=job.address.oa_id)
        with span.child("fetch followers", job_id=job_id) as span_of_fetch:
            signals = Signals(self._draining)
            fetch = Fetch(job, account.name, account.client, gate, self._world, signals, span_of_fetch)
            fetch.on_waiting = lambda: self.on_waiting(account.provider)
            self.running[job_id] = fetch
            heart.on_beat = fetch.post
            if is_cancelled:
                fetch.signals.cancel()
            watch = begin_lasting(lambda: self._watch(delivery, fetch), "job.watch")
            try:
                await self._fetch(delivery, fetch, known, doom or self._doom(delivery, known), span)
            finally:
                watch.cancel()
                self._release(fetch)

    def _count_redelivery(self, delivery: Delivery) -> None:
        if delivery.deliveries > 1:
            self._world.meter.redelivered(provider_of(delivery.subject))

    def _release(self, fetch: Fetch) -> None:
        # The heart beats on until the command is settled, which may take long; what it says must not outlive the end.
        fetch.close()
        job_id = fetch.job.address.job_id
        if self.running.get(job_id) is fetch:
            del self.running[job_id]
            self._world.status.drop(job_id)

    async def _watch(self, delivery: Delivery, fetch: Fetch) -> None:
        """Look again whether the job is to be cancelled: the news may have been lost, or crossed our first look."""
        pause = FIRST_LOOK
        while not fetch.signals.cancelled.is_set():
            await asyncio.sleep(pause)
            if await self._is_cancelled(fetch.job, delivery):
                fetch.signals.cancel()
            pause = self._world.ack_wait / 3

    async def _is_cancelled(self, job: Job, delivery: Delivery) -> bool:
        requested_us = await self._world.cancellations.requested_us(job.address.job_id)
        # A retry is a wish of its own: what was cancelled before it came doesn't stop it.
        return requested_us is not None and (job.retry_of is None or delivery.timestamp_us <= requested_us)

    async def _fetch(
        self, delivery: Delivery, fetch: Fetch, known: JobStatus | None, doom: InternalError | None, span: Span
    ) -> None:
        try:
            ended = await self._run(delivery, fetch, known, doom)
        except DrainingError:
            await self._settle(fetch, "queued", None, span)
            await delivery.nak(HAND_BACK_DELAY)
            return
        except CancelledJobError:
            await fetch.claim()
            ended = await fetch.cancel()
        except FetchFailure as error:
            # A zombie's failure is not the job's: look before a dead letter says so.
            await fetch.claim()
            job_id, generation = fetch.job.address.job_id, fetch.log.generation
            with fetch.holdups.trying(DEAD_STREAM, writes=True) as failed:
                await bury(
                    self._world, delivery, error, job_id,
                    generation=generation, attempts=fetch.attempts, failed=failed,
                )  # fmt: skip
            ended = await fetch.fail(error)
        if fetch.was_over and _tells_end(known, fetch):
            _log.info("command.already_done", job_id=fetch.job.address.job_id, sequence=delivery.sequence)
        else:
            await self._settle(fetch, _state_of(ended), ended, span, known)
        # Before the command is acknowledged: a crash brings it back, and the rest of the changes are published then.
        if isinstance(ended, JobCompleted) and not await self._follow(delivery, fetch, ended, span):
            return
        # Over before it is acknowledged: a command for the same job that comes meanwhile need not wait.
        self._release(fetch)
        await delivery.ack()
        self._faults.pop(delivery.sequence, None)

    async def _run(
        self, delivery: Delivery, fetch: Fetch, known: JobStatus | None, doom: InternalError | None
    ) -> JobEvent:
        """As `Fetch.run`; what nobody foresaw is noted where the next replica sees it, and in the end it is a failure.

        Raises what nobody foresaw, too.
        """
        try:
            return await fetch.run(doom)
        except (FetchFailure, FencedError, DrainingError, CancelledJobError):
            raise
        except Exception as error:
            obstructed = isinstance(error, UnreadableEventError)
            if obstructed and fetch.signals.cancelled.is_set():
                raise CancelledJobError from None
            if obstructed and doom is not None:
                raise InternalError(str(error)) from None
            await self._tell_fault(fetch, known, self._faults_of(delivery, known) + 1)
            raise

    async def _tell_fault(self, fetch: Fetch, known: JobStatus | None, faults: int) -> None:
        now = self._world.now()
        until = now + timedelta(seconds=min(self._world.ack_wait, AGAIN_DELAY))
        wait = faulted(faults, FAULTS_ALLOWED, now, until)
        status = msgspec.structs.replace(fetch.final_status("queued", None), wait=wait, faults=faults)
        await self._world.status.settle(_no_less(status, known))

    def _faults_of(self, delivery: Delivery, known: JobStatus | None) -> int:
        """Return how often the command made a worker fail: this one, or as the status says, any."""
        told = known.faults if known is not None and known.command_sequence == delivery.sequence else 0
        # Each fault has led to a delivery: whatever somebody writes into the bucket, no more than that is believed.
        return max(self._faults[delivery.sequence], min(told, delivery.deliveries - 1))

    async def _follow(self, delivery: Delivery, fetch: Fetch, ended: JobCompleted, span: Span) -> bool:
        """Publish what the job has changed; return False when the command was handed back before that was done."""
        # Another command's end is that command's to follow: this one may ask for the same job with another filter.
        if self.changes is None or (fetch.was_over and fetch.log.told_for not in (0, fetch.job.sequence)):
            return True
        if self._faults[delivery.sequence] >= FAULTS_ALLOWED:
            # Nothing is lost: the next complete list is compared with the same one as this one would have been.
            _log.error("changes.given_up", job_id=ended.job_id, advice="look for `command.fault` in this log")
            return True
        job = EndedJob(
            command=fetch.job.command,
            account=ended.account or fetch.account,
            ended=ended,
            sequence=fetch.log.end_sequence,
            traceparent=span.traceparent,
        )
        try:
            await self.changes.follow(job, self._stop_soon())
        except DrainingError:
            _log.info("changes.handed_back", job_id=ended.job_id, sequence=delivery.sequence)
            await delivery.nak(HAND_BACK_DELAY)
            return False
        except FeedsMissingError as error:
            _log.error("changes.off", job_id=ended.job_id, missing=str(error), advice="run `followers setup`")
        except FeedsAwayError as error:
            _log.error("changes.given_up", job_id=ended.job_id, reason=str(error), advice="look at NATS: is it full?")
        return True

    def _stop_soon(self) -> Callable[[], None]:
        """Return what raises DrainingError some time after this replica was told to stop: most lists need less."""

        def check() -> None:
            if self._draining.is_set():
                now = asyncio.get_running_loop().time()
                # Of all lists: those that wait for each other would else take their time one after the other.
                self._told_to_stop_at = now if self._told_to_stop_at is None else self._told_to_stop_at
                if now - self._told_to_stop_at >= FINISH_WITHIN:
                    raise DrainingError

        return check

    def _doom(self, delivery: Delivery, known: JobStatus | None) -> InternalError | None:
        if self._faults_of(delivery, known) < FAULTS_ALLOWED:
            return None
        return InternalError(
            "the worker failed unexpectedly at this command several times: its log has `command.fault` with the "
            "reason; retry the dead letter after an upgrade"
        )

    async def _settle(
        self, fetch: Fetch, state: JobState, ended: JobEvent | None, span: Span, known: JobStatus | None = None
    ) -> None:
        span.note(state=state, pages=fetch.standing.page, followers=fetch.standing.followers)
        if isinstance(ended, JobFailed):
            span.failed(ended.error.code)
        await self._world.status.settle(_no_less(fetch.final_status(state, ended), known))
        self._world.meter.job_ended(fetch.job.address.provider, state)
        _log.log(
            _LEVELS[state],
            f"job.{state}",
            job_id=fetch.job.address.job_id,
            provider=fetch.job.address.provider,
            account=fetch.account,
            oa_id=fetch.job.address.oa_id,
            pages=fetch.standing.page,
            followers=fetch.standing.followers,
            attempt=fetch.standing.attempt,
            **_outcome(ended),
            **_trace(span),
        )

    async def _reject(self, delivery: Delivery, rejected: RejectedError, span: Span) -> None:
        await bury_rejected(self._world, delivery, rejected, span)
        span.failed(rejected.error.code)
        _log.warning(
            "command.rejected",
            sequence=delivery.sequence,
            job_id=rejected.job_id,
            code=rejected.error.code,
            reason=rejected.error.message,
        )
        await delivery.ack()

    def _account(self, job: Job) -> OpenAccount:
        address = job.address
        names = sorted(name for name, account in self._accounts.items() if account.provider == address.provider)
        if address.account is None and len(names) == 1:
            return self._accounts[names[0]]
        if address.account in names:
            return self._accounts[address.account]
        configured = f"one of {', '.join(names)}" if names else "none is configured: add [accounts.NAME] to the worker"
        asked = f"account {address.account!r} is not known" if address.account else "the command names no account"
        raise RejectedError(
            UnknownAccountError(f"{asked}; for {address.provider} name {configured}"), address.job_id, address
        )

    async def _moves(self, delivery: Delivery) -> bool:
        """Say whether a worker has the job of `delivery` in hand, as far as the status tells: see `_is_worked_on`."""
        asked = _read(delivery)
        if not isinstance(asked, Job):
            return False
        job_id = asked.address.job_id
        if job_id in self.running:
            return True
        known = await self._world.status.get(job_id)
        if job_id not in self.running:
            self._world.status.drop(job_id)
        if known is None or known.state == "queued":
            return False
        # Posted with each heartbeat, a third of `ack_wait` apart, unless the bucket is away for a moment. Once the job
        # has ended nothing is posted, but its changes may still be published by whoever has the command.
        patience = 2 if known.state in ("running", "waiting") else ENDED_LATELY
        return self._is_recent(known, patience * self._world.ack_wait)

    def _is_worked_on(self, job: Job, known: JobStatus | None) -> bool:
        """Say whether another message of the same job is in another replica's hands, as far as the status tells.

        Only spares requests: were it wrong, the log would still let one of them win each page.
        """
        if known is None or known.state not in ("running", "waiting") or known.command_sequence == job.sequence:
            return False
        return self._is_recent(known, self._world.ack_wait)

    def _is_recent(self, known: JobStatus, seconds: float) -> bool:
        """Say whether a status was written in the last `seconds`, by the wall clocks of its writer and of this worker.

        They have no other clock in common. While one is ahead of the other, a writer seems to be there for longer, or
        to be gone earlier, by so much: the log lets one of two win each page all the same.
        """
        return self._world.now() - known.updated_at < timedelta(seconds=seconds)


_Asked = Job | Exception


def _read(delivery: Delivery) -> _Asked:
    """Return the job, or why there is none: raised again where the delivery is held and can be settled."""
    try:
        return read_job(delivery)
    except Exception as error:
        return error


def _job(asked: _Asked) -> Job:
    if isinstance(asked, Exception):
        raise asked
    return asked


def _job_id(asked: _Asked) -> str | None:
    if isinstance(asked, Job):
        return asked.address.job_id
    return asked.job_id if isinstance(asked, RejectedError) else None


def _state_of(ended: JobEvent) -> JobState:
    if isinstance(ended, JobCompleted):
        return "completed"
    return "failed" if isinstance(ended, JobFailed) else "cancelled"


def _tells_end(known: JobStatus | None, fetch: Fetch) -> bool:
    """Say whether the bucket has the end that the log has: who wrote that may have died before its status was there.

    A status of the end before that, of another generation or of events that are gone, is not it.
    """
    if known is None or known.state not in _TERMINAL_STATES or known.generation < fetch.log.generation:
        return False
    return known.event_sequence == 0 or known.event_sequence >= fetch.log.end_sequence  # 0: of an older version


def _no_less(status: JobStatus, known: JobStatus | None) -> JobStatus:
    """Return `status` with what was told before of the pages, where the log couldn't be read that far."""
    if known is None or known.page <= status.page:
        return status
    return msgspec.structs.replace(
        status, page=known.page, followers=known.followers, total=known.total, percent=known.percent
    )


def _outcome(ended: JobEvent | None) -> dict[str, Any]:
    if isinstance(ended, JobCompleted):
        return {"verdict": ended.verdict, "requests": ended.requests}
    if isinstance(ended, JobFailed):
        return {"code": ended.error.code, "reason": ended.error.message}
    return {}


def _trace(span: Span) -> dict[str, str]:
    """Return what leads from a line to its trace."""
    return {"trace_id": span.traceparent.split("-")[1]} if span.traceparent else {}


class _Heart:
    """Beats for one delivery."""

    def __init__(self) -> None:
        self.on_beat: Callable[[], None] = lambda: None

    async def beat(self, delivery: Delivery, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await delivery.in_progress()
            self.on_beat()


@contextlib.asynccontextmanager
async def _heartbeat(delivery: Delivery, every: float) -> AsyncIterator[_Heart]:
    heart = _Heart()
    task = begin_lasting(lambda: heart.beat(delivery, every), "command.heartbeat")
    try:
        yield heart
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
