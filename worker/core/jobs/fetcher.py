"""The requests for one page: through the gate, again after a failure, until there is an answer or no more hope."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from schemas.types import WaitReason
from schemas.wire import rfc3339
from worker.core.cancellation import Signals
from worker.core.errors import DeadlineExceededError, FetchFailure, ProviderUnavailableError, RateLimitedError
from worker.core.job import Job
from worker.core.jobs.checkpoint import Standing
from worker.core.memory import HOLD, Hold, NoRoomError
from worker.core.ports.metrics import Outcome
from worker.core.ports.provider import ProviderClient, ProviderPage
from worker.core.ports.tracing import Span
from worker.core.ratelimit.admission import Admission, Gate, Outlook
from worker.core.retry import GiveUp, Retry, decide
from worker.core.services import World
from worker.core.status.wait_reasons import Describe, between_tries, in_line

LOOK_EVERY = 1.0
"""Seconds between two looks at why a request still waits."""
EARLY = 0.001
"""Seconds: what timers are exact to."""
STEP = 1.0
"""Seconds by which the wall clock may be off after a sleep; by more, somebody has set it."""

_log = structlog.get_logger(__name__)

TellWaiting = Callable[[WaitReason, float, bool, Describe], Awaitable[None]]


@dataclass(slots=True)
class _Trial:
    """The way of one page so far."""

    attempt: int = 0
    failing_since: float | None = None
    """By the event loop's clock: the wall clock may be set while the provider is away."""
    ours: float = 0.0
    """Seconds since then spent waiting for our own limit, which are not the provider's failure."""
    body: int = 0
    """Bytes for which there was no room when the answer came."""


class PageRequests:
    """Fetches the pages of one job. Safe to use for several pages at once."""

    def __init__(
        self,
        job: Job,
        account: str,
        client: ProviderClient,
        gate: Gate,
        world: World,
        signals: Signals,
        standing: Standing,
        span: Span,
        *,
        tell_waiting: TellWaiting,
    ) -> None:
        """Take the job, its account's name, client and gate, the world and the signals.

        `standing`: where requests are counted. `span`: what they belong to. `tell_waiting`: tells people why the job
        stands still, for how many seconds, whether that is firm or an estimate, and in detail.
        """
        self.attempts = 0
        """Requests made for the page that failed last."""
        self.waiting = 0
        """Pages that wait in line, or before the next try."""
        self._expected = 0
        """Bytes of the last answer: the next one is likely to be as long."""
        self._job, self._account = job, account
        self._name = f"request {job.address.provider}"
        self._client, self._gate = client, gate
        self._world, self._signals = world, signals
        self._standing = standing
        self._span = span
        self._tell_waiting = tell_waiting

    async def fetch(self, cursor: str | None) -> ProviderPage:
        """Return the page at `cursor`, however many requests that takes.

        Raises FetchFailure when it can't be had, DrainingError, CancelledJobError, FencedError.
        """
        trial = _Trial()
        while True:
            trial.attempt += 1
            try:
                page = await self._fetch_once(cursor, trial)
            except NoRoomError as error:
                if hold := HOLD.get():
                    hold.refused = True
                trial.attempt -= 1
                trial.body = error.body
                self._standing.requests += 1
            except FetchFailure as error:
                self.attempts = trial.attempt
                failing_for = self._failing_for(trial)
                dice, policy = self._world.dice(), self._world.policy
                decision = decide(error, attempt=trial.attempt, failing_for=failing_for, dice=dice, policy=policy)
                if isinstance(decision, GiveUp):
                    raise decision.error from error.__cause__
                await self._wait(decision, error)
            else:
                self._standing.requests += page.requests
                return page

    async def _fetch_once(self, cursor: str | None, trial: _Trial) -> ProviderPage:
        self._check_deadline()
        hold, expected = HOLD.get(), trial.body or self._expected
        if hold is not None:
            hold.drop()
            if not hold.take(expected):
                await self._find_room(hold)
        admission = self._gate.enter()
        if admission is None:
            if hold is not None:
                hold.drop()  # that may take hours
            with self._span.child("wait in line", account=self._account) as span:
                admission = await self._admitted(trial, span)
            if hold is not None:
                hold.take(expected)  # if there is no room, it waits for that when its answer comes
        began = asyncio.get_running_loop().time()
        try:
            page = await self._ask(cursor, trial)
        except FetchFailure as error:
            if hold is not None:
                hold.drop()
            self._gate.failed(admission, error)
            self._standing.requests += error.requests
            if error.requests:
                self._count(error.code, began)
            raise
        except TimeoutError as error:
            self._gate.left(admission)
            self._standing.requests += 1
            self._count("deadline_exceeded", began)
            raise self._too_late() from error
        except BaseException:
            self._gate.left(admission)
            self._count("cancelled", began)
            raise
        self._gate.answered(admission, page.requests)
        self._count("ok", began)
        if hold is not None:
            self._expected = hold.body
            hold.settle(0 if page.ids_alone else hold.body, len(page.followers))
        return page

    async def _find_room(self, hold: Hold) -> None:
        """Wait until there is room for the answer that is expected, before it is asked for."""
        granted = hold.line_up()
        while not granted.done():
            await self._sleep(LOOK_EVERY, granted)
            if not granted.done():
                hold.tell()

    async def _ask(self, cursor: str | None, trial: _Trial) -> ProviderPage:
        job_id = self._job.address.job_id
        with self._span.child(self._name, "client", job_id=job_id, attempt=trial.attempt) as span:
            try:
                if self._job.command.not_after is None:
                    page = await self._client.fetch(self._job.command, cursor)
                else:
                    async with asyncio.timeout(self._until_deadline()):
                        page = await self._client.fetch(self._job.command, cursor)
            except TimeoutError:
                span.failed("deadline_exceeded")
                raise
            span.note(followers=len(page.followers), requests=page.requests)
            return page

    def _count(self, outcome: Outcome, began: float) -> None:
        seconds = asyncio.get_running_loop().time() - began
        self._world.meter.request_ended(self._job.address.provider, outcome, seconds)

    async def _admitted(self, trial: _Trial, span: Span) -> Admission:
        """Wait in line until a request may start."""
        loop = asyncio.get_running_loop()
        place, joined = self._gate.queue(self._job.address.job_id), loop.time()
        self.waiting += 1
        try:
            while (admission := self._gate.claim(place)) is None:
                began = loop.time()
                outlook = self._gate.outlook(place)
                left = max(0.0, outlook.until - began)
                if outlook.ours and began - joined >= LOOK_EVERY - EARLY:
                    # However near the end is expected, a wait of a second is one that people are told of.
                    left = max(left, LOOK_EVERY)
                span.note(reason=outlook.reason)
                await self._tell_waiting(outlook.reason, left, not outlook.ours, in_line(outlook))
                if not outlook.ours:
                    self._check_patience(trial, outlook)
                await self._sleep(LOOK_EVERY, place.granted)
                waited = loop.time() - began
                trial.ours += waited if outlook.ours else 0.0
                self._world.meter.request_waited(self._job.address.provider, outlook.reason, waited)
            return admission
        finally:
            self.waiting -= 1
            self._gate.leave(place)

    def _check_patience(self, trial: _Trial, outlook: Outlook) -> None:
        """Raise the failure that holds this page up when it has waited for too long for the end of that."""
        failing_for, last = self._failing_for(trial), outlook.failure
        if outlook.reason == "circuit_open":
            if last is not None and failing_for >= self._world.policy.retry_for:
                raise ProviderUnavailableError(
                    f"no page for {failing_for:.0f} s (worker.retry_for), and only a probe now and then is tried; "
                    f"last: {last.message}",
                    provider_code=last.provider_code,
                    http_status=last.http_status,
                    requests=0,
                )
        elif failing_for >= self._world.policy.rate_limited_for:
            raise RateLimitedError(
                f"the account's requests were held up for {failing_for:.0f} s (worker.rate_limited_for), as the "
                f"provider asked for; last: {last.message if last else 'told to another worker'}",
                provider_code=last.provider_code if last else None,
                http_status=last.http_status if last else None,
                requests=0,
            )

    def _failing_for(self, trial: _Trial) -> float:
        """Return the seconds since the page's first failure, without those that we chose to wait."""
        now = asyncio.get_running_loop().time()
        if trial.failing_since is None:
            trial.failing_since, trial.ours = now, 0.0
        return now - trial.failing_since - trial.ours

    async def _wait(self, retry: Retry, error: FetchFailure) -> None:
        _log.warning(
            "fetch.retrying",
            job_id=self._job.address.job_id,
            account=self._account,
            code=error.code,
            http_status=error.http_status,
            provider_code=error.provider_code,
            delay=round(retry.delay, 3),
            attempt=self.attempts,
        )
        loop = asyncio.get_running_loop()
        until = loop.time() + retry.delay
        describe = between_tries(error, self.attempts, retry.asked)
        self.waiting += 1
        try:
            with self._span.child("wait to try again", reason=retry.reason, delay=retry.delay):
                await self._tell_waiting(retry.reason, retry.delay, True, describe)
                while True:
                    await self._sleep(until - loop.time())
                    if until - loop.time() <= EARLY:
                        break  # else the wall clock was set back, and the deadline with it
        finally:
            self.waiting -= 1

    async def _sleep(self, seconds: float, granted: asyncio.Future[None] | None = None) -> None:
        """Sleep until something is `granted`, `seconds` are over, or the deadline or a signal comes."""
        left = self._until_deadline()
        to_the_deadline = left is not None and left <= seconds
        seconds = max(0.0, seconds if left is None else min(seconds, left))
        await self._signals.sleep(seconds, granted)
        left = self._until_deadline()
        # A timer may fire a hair early: another request must not slip in between that and the deadline.
        near = 0.0 if not to_the_deadline or (granted is not None and granted.done()) else STEP
        if left is not None and left <= near:
            raise self._too_late()

    def _check_deadline(self) -> None:
        left = self._until_deadline()
        if left is not None and left <= 0:
            raise self._too_late()

    def _until_deadline(self) -> float | None:
        not_after = self._job.command.not_after
        return None if not_after is None else (not_after - self._world.now()).total_seconds()

    def _deadline(self) -> str:
        not_after = self._job.command.not_after
        return "" if not_after is None else rfc3339(not_after)

    def _too_late(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the command's `not_after` ({self._deadline()}) passed after page {self._standing.page}: "
            "publish it again under a new id with a later deadline, or without one",
            requests=0,
        )
