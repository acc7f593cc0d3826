"""One command from its first page to its terminal event, resumable at any point.

The log is the checkpoint. The newest page event says where to go on, and a page is appended only on condition that
the tail is still the one that was read: so each page is there exactly once, in order, whoever crashed meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import msgspec

from schemas.events import (
    TERMINAL,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    JobWaiting,
)
from schemas.follower import Follower
from schemas.jobs import JobStatus
from schemas.types import JobState, TruncatedReason, WaitOwner, WaitReason
from worker.core.cancellation import CancelledJobError, Signals
from worker.core.errors import BadResponseError, FetchFailure
from worker.core.eventlog.job_log import JobLog
from worker.core.eventlog.unreadable import UnreadableEventError
from worker.core.holdups import Holdups
from worker.core.job import Job
from worker.core.jobs.checkpoint import Standing, completed, status
from worker.core.jobs.fetcher import LOOK_EVERY, PageRequests
from worker.core.jobs.head_check import look_back
from worker.core.paging.cursor_reader import Ahead, Reader
from worker.core.paging.offset_reader import Sweep
from worker.core.paging.row_buffer import Swept
from worker.core.ports.provider import ProviderClient, ProviderPage
from worker.core.ports.tracing import Span
from worker.core.ratelimit.admission import Gate
from worker.core.services import World
from worker.core.status.wait_reasons import Describe, cancelling, handed_back, held_up, no_room

Read = Callable[[], Awaitable[ProviderPage]]

TELL_WAITS_FROM = 1.0
"""Seconds: shorter waits are not worth an event, unless the provider asked for them."""
TELL_AGAIN_FROM = 60.0
"""Seconds by which a provider must put off what was told before that is worth another event."""
MOVES_AGAIN_AFTER = 10.0
"""Seconds that a job must have gone on without such a wait before the next one is news."""
BARREN_PAGES = 8
"""So many pages may bring nobody new, beside one for each that did: whoever is updated meanwhile comes again."""


@dataclass(slots=True)
class _Told:
    """What people were told of a wait. Times are seconds of the event loop's clock."""

    why: tuple[WaitOwner, WaitReason, bool]
    ends: float
    """By the status."""
    ends_by_event: float


class Fetch:
    """One attempt at a job by one worker.

    A wait is told in an event once until its reason changes, or a provider puts its end off by a minute; the status has
    each new end. A job that its account's own limit holds up stays `waiting` from page to page, until it has gone on
    for ten seconds without waiting a second; other waits are over with the next page.
    """

    def __init__(
        self, job: Job, account: str, client: ProviderClient, gate: Gate, world: World, signals: Signals, span: Span
    ) -> None:
        """Take a valid job, the name of its account, that account's client and gate, the world and the signals.

        `span`: what all of it belongs to.
        """
        self.job = job
        self.account = account
        self.signals = signals
        self.standing = Standing(started_at=world.now(), worker=world.worker)
        self.holdups = Holdups(world.now, self.post)
        """What NATS doesn't take or give."""
        self.log = JobLog(job.address, account, job.sequence, world, span, self.holdups)
        self._tells = True
        """Its status may be posted: it isn't over, as far as we know."""
        self._contested = False
        """A worker that had the job before us may still publish a page, for all we know."""
        self._started = False
        self._owes_start = False
        """A retry has reopened the job, and nobody has been told."""
        self._starting: asyncio.Task[None] | None = None
        """Tells the start while the first page is asked for."""
        self._restored = self.standing.progress()
        self.was_over = False
        """The job had ended before this attempt."""
        self.on_waiting: Callable[[], None] = lambda: None
        """Called when the job begins to stand still."""
        self._client = client
        self._world = world
        self._open_hold = partial(world.budget.open, self._tell_no_room)
        self._requests = PageRequests(
            job, account, client, gate, world, signals, self.standing, span, tell_waiting=self._tell_waiting
        )
        self._published: set[str] = set()
        self._state: JobState = "running"
        self._reason: WaitReason | None = None
        self._until: datetime | None = None
        self._since: datetime | None = None
        """Since when it stands still."""
        self._describe: Describe | None = None
        """Why, in detail."""
        self._cancelled_at: datetime | None = None
        self._told: _Told | None = None
        self._stands_still = False
        self._stood_until = 0.0
        """When it last waited for a second or more, by the event loop's clock; the future while it does."""

    @property
    def attempts(self) -> int:
        """Requests made for the page that failed last."""
        return self._requests.attempts

    @property
    def waiting(self) -> bool:
        """The job stands still for its account: people have been told why, and no page has come since."""
        return self._stands_still

    async def run(self, doom: FetchFailure | None = None) -> JobEvent:
        """Do what is left of the job and return its terminal event, which is in the log then.

        `doom`: why the job must not be tried again, unless it has ended. Raises FetchFailure when it can't be done
        (`fail` ends it), UnreadableEventError when a message of the job can't be read (as well), FencedError when
        another worker has it, DrainingError, CancelledJobError.
        """
        self._tells = False
        tail, event, obstacle = await self._look()
        if tail is not None:
            self.standing.restore(tail)
            self._restored = tail.progress
        reopened = isinstance(event, JobFailed) and self._supersedes_failure()
        if isinstance(event, TERMINAL) and not reopened:
            self.was_over = True
            self.standing.attempt = event.attempt
            return event
        self._tells = True
        if event is not None:
            self.standing.attempt = event.attempt + 1
        if reopened:
            self.log.reopen()
        # Whoever comes after a terminal event has to start, which that event prevents: nobody else is left.
        self._contested = not reopened and (event is not None or tail is not None)
        if obstacle is not None:
            self._owes_start = reopened
            # A page that can't be read keeps our predecessors from appending as a seal would; that needs its numbers.
            self._contested = self._contested and tail is not None
            raise obstacle
        if reopened:
            await self._start()
        if doom is not None:
            await self._name_obstacle(tail)
            raise doom
        if not self.standing.last:
            self.signals.check()
            self._client.check(self.job.command)
            await self._recall(tail)
            await self._read()
        done = completed(self.job, self.account, self.standing, self._world.now(), digest=self.log.digest)
        return await self.log.end(done, anyone=True)

    async def _look(self) -> tuple[FollowerPage | None, JobEvent | None, UnreadableEventError | None]:
        """Return the newest page and the newest job event, as far as they can be read, and what is in the way."""
        found = await asyncio.gather(self.log.last_page(), self.log.last_event(), return_exceptions=True)
        obstacle: UnreadableEventError | None = None
        for one in reversed(found):
            if isinstance(one, UnreadableEventError):
                obstacle = one
            elif isinstance(one, BaseException):
                raise one
        page, event = found
        tail = page if isinstance(page, FollowerPage) else None
        if isinstance(event, UnreadableEventError):
            event = event.before
        assert not isinstance(event, BaseException)
        return tail, event, obstacle

    async def _name_obstacle(self, tail: FollowerPage | None) -> None:
        """Raise UnreadableEventError when the job was doomed by a message among its earlier pages, and nothing else."""
        try:
            await self._recall(tail)
        except UnreadableEventError:
            raise
        except Exception:
            return  # what dooms it may be this

    async def claim(self) -> None:
        """Make sure that nobody else can publish a page of this job any more; to be done before its end.

        Raises FencedError when the job is another worker's.
        """
        if self._owes_start and not self._started:
            await self._start()
        if self._contested and not self.standing.last:
            # Our attempt has not published anything, so a page of our predecessor, stopped or lost on its way, would
            # still be accepted: after the terminal event. And nobody appends to the pages who hasn't started, or that
            # event wouldn't keep out who comes after.
            if not self._started:
                await self._start()
            await self.log.seal(self._seal())
            self._contested = False
        await self.log.still_ours()

    async def fail(self, error: FetchFailure) -> JobEvent:
        """Append the terminal `failed` event, after `claim`; return the terminal event that is in the log.

        Raises FencedError when the job is another worker's.
        """
        event = JobFailed(
            **self.log.common,
            attempt=self.standing.attempt,
            error=error.to_event(self.attempts),
            finished_at=self._world.now(),
        )
        return await self.log.end(event, anyone=False)

    async def cancel(self) -> JobEvent:
        """Append the terminal `cancelled` event, after `claim`; return the terminal event that is in the log.

        Raises FencedError when the job is another worker's.
        """
        event = JobCancelled(**self.log.common, attempt=self.standing.attempt, finished_at=self._world.now())
        return await self.log.end(event, anyone=False)

    def post(self) -> None:
        """Post the job's status as it is now; nothing before it is known that the job isn't over, and after its end."""
        if self._tells:
            self._world.status.post(self._status(self._state, self._reason, self._until))

    def _post_page(self) -> None:
        """As `post`, after each page: of most pages nobody ever sees it."""
        if self._state != "running" or self.holdups.current is not None or self.signals.cancelled.is_set():
            self.post()
        elif self._tells:
            make = partial(self._status, "running", None, None, self._world.now())
            self._world.status.post_later(self.job.address.job_id, "running", make)

    def close(self) -> None:
        """Post nothing more: the job has ended, or is another's."""
        self._tells = False
        self.standing.seen.clear()  # not only when somebody collects this

    def final_status(self, state: JobState, ended: JobEvent | None) -> JobStatus:
        """Return the status of a job that came to `state` by the terminal event `ended` (None: handed back)."""
        now = self._world.now()
        if isinstance(ended, JobCompleted):
            return msgspec.structs.replace(
                self._status(state, ended.reason, None), verdict=ended.verdict, finished_at=ended.finished_at
            )
        if isinstance(ended, JobFailed):
            return msgspec.structs.replace(self._status(state, None, None), error=ended.error, finished_at=now)
        return msgspec.structs.replace(self._status(state, None, None), finished_at=now if ended else None)

    def _seal(self) -> FollowerPage:
        standing = self.standing
        part = standing.done_parts + 1
        return FollowerPage(
            **self.log.common,
            page=standing.page + 1,
            part=part,
            parts=max(standing.parts, part + 1),
            followers=[],
            total=standing.total,
            cursor=standing.cursor,
            next_cursor=None,
            last=False,
            fetched_at=self._world.now(),
            progress=msgspec.structs.replace(self._restored, requests=standing.requests),
        )

    def _status(
        self, state: JobState, reason: str | None, until: datetime | None, at: datetime | None = None
    ) -> JobStatus:
        now, wait, holdup = at or self._world.now(), None, self.holdups.current
        if state in ("running", "waiting") and holdup is not None:
            state, reason, until, wait = "waiting", "nats", None, held_up(holdup)
        elif state in ("running", "waiting") and self.signals.cancelled.is_set():
            self._cancelled_at = self._cancelled_at or now
            wait = cancelling(self._cancelled_at)
        elif state == "waiting" and self._describe is not None:
            wait = self._describe(self._since or now, until)
        elif state == "queued":
            wait = handed_back(now)
        return status(
            self.job, self.account, self.standing, state, now, reason=reason, until=until, wait=wait,
            generation=self.log.generation, event_sequence=self.log.end_sequence,
        )  # fmt: skip

    async def _recall(self, tail: FollowerPage | None) -> None:
        command = self.job.command
        by_numbers = self._client.offsets(command) is not None
        if self.standing.done_parts:
            async for ids in self.log.read_ids(parts=True, between=self.signals.check):
                self._published.update(ids)
                if not by_numbers:
                    self.standing.seen.add(ids)  # read again, the page may have others: who is left out comes later
        if not by_numbers:
            # Each page starts where the one before ended; only who moves to the list's head can be missed.
            self.standing.missed_at_most = 0 if self._client.order(command) in ("still", "rises") else None
        if tail is not None:
            async for ids in self.log.read_ids(parts=False, between=self.signals.check):
                self.standing.seen.add(ids)

    async def _start(self) -> None:
        started = JobStarted(
            **self.log.common,
            attempt=self.standing.attempt,
            resumed_at_page=self.standing.page + 1,
            started_at=self._world.now(),
        )
        await self.log.tell(started, f"started.{started.attempt}")
        self._started = True
        self.post()

    async def _read(self) -> None:
        reader, read = self._reader()
        self.signals.on_cancel = reader.abort
        try:
            page = await self._first(reader, read)
            while True:
                await self._publish(page)
                del page  # it is let go of, and not only when the next one is here
                reader.published()
                if self.standing.last:
                    return
                self.signals.check()
                page = await self._page(reader, read)
        finally:
            await reader.close()

    def _reader(self) -> tuple[Ahead, Read]:
        command, standing = self.job.command, self.standing
        plan = self._client.offsets(command)
        if plan is None:
            reader = Reader(self._requests.fetch, self._open_hold)
            return reader, lambda: reader.read(standing.cursor, ahead=self._reads_on())
        sweep = Sweep(
            self._requests.fetch,
            plan,
            standing.position(),
            standing.seen,
            published=self._published,
            total=standing.total,
            open_hold=self._open_hold,
        )
        return sweep, lambda: sweep.read(command.page_size - len(self._published), self._wanted(), self._ahead())

    async def _first(self, reader: Ahead, read: Read) -> ProviderPage:
        """Ask for the first page and tell the start meanwhile: no page, and no other event, is appended before that."""
        if self._started:
            return await self._page(reader, read)
        self._starting = asyncio.create_task(self._start())
        # Fenced, it needs no page: the wait for one would outlast the job.
        self._starting.add_done_callback(lambda start: None if _went_well(start) else reader.abort())
        try:
            return await self._page(reader, read)
        except asyncio.CancelledError:
            self._starting.cancel()
            raise
        finally:
            # Whatever became of the page: a start under way must not be told a second time, and who is fenced is that.
            await self._starting

    async def _page(self, reader: Ahead, read: Read) -> ProviderPage:
        page = await self._next(read)
        if page.next_cursor is None and isinstance(reader, Reader):
            await self._look_back(reader, page)
        return page

    async def _look_back(self, reader: Reader, page: ProviderPage) -> None:
        """Note what may have been missed, before `page`, the list's last one, is published."""
        begins = self.standing.page == 0

        async def first_page() -> Sequence[Follower]:
            return page.followers if begins else await self.log.first_page()

        # Through the reader, whose requests end when the job is cancelled.
        head = partial(self._next, partial(reader.get, None))
        order, job_id = self._client.order(self.job.command), self.job.address.job_id
        await look_back(order, self.standing, job_id, head, first_page, alone=begins and reader.answers == 1)

    async def _next(self, read: Read) -> ProviderPage:
        try:
            return await read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.signals.cancelled.is_set() and not (task and task.cancelling()):
                raise CancelledJobError from None  # the request was ended, not this worker's task
            raise

    def _supersedes_failure(self) -> bool:
        """Say whether this command retries the failure of the job's present generation, and not its own one.

        Each generation ends once, so a retry does this once, however often it is delivered or repeated.
        """
        failure = self.job.retry_of
        if failure is None or self.signals.cancelled.is_set():
            return False
        return failure.generation == self.log.generation and failure.sequence >= self.log.told_for

    def _ahead(self) -> int:
        """Return how many requests to have under way."""
        return 0 if self.signals.draining.is_set() else self._world.prefetch

    def _reads_on(self) -> bool:
        """Say whether the page after the next one is surely wanted: a ceiling is never read past."""
        wanted = self._wanted()
        return self._ahead() > 0 and (wanted is None or wanted > self.job.command.page_size)

    def _wanted(self) -> int | None:
        """Return how many followers the ceilings let through from here on, with the next page; None: all."""
        command, standing = self.job.command, self.standing
        left = []
        if command.max_pages is not None:
            left.append((command.max_pages - standing.page) * command.page_size - len(self._published))
        if command.max_followers is not None:
            left.append(command.max_followers - standing.followers)
        return max(0, min(left)) if left else None

    async def _publish(self, page: ProviderPage) -> None:
        standing = self.standing
        before = standing.progress()
        event = self._event(page)
        await self.log.append_page(event, before, done=standing.done_parts, parts=standing.parts)
        self._contested = False
        standing.page = event.page
        standing.cursor = event.next_cursor
        standing.last = event.last
        standing.done_parts, standing.parts = 0, 1
        self._published = set()
        self._note_move()
        self._world.meter.page_published(event.provider, len(event.followers))
        self._post_page()

    def _note_move(self) -> None:
        """A page was published: the job moves, but its next pages may wait already, or soon again."""
        now = asyncio.get_running_loop().time()
        self._stands_still = False
        self._stood_until = min(self._stood_until, now)
        moves_again = now - self._stood_until >= MOVES_AGAIN_AFTER
        _, _, firm = self._told.why if self._told is not None else (None, None, True)
        if moves_again:
            self._told = None
        if moves_again or (firm and not self._requests.waiting):
            self._state, self._reason, self._until = "running", None, None
            self._since = self._describe = None

    def _event(self, page: ProviderPage) -> FollowerPage:
        standing, command = self.standing, self.job.command
        if standing.page == 0 and standing.total_first is None:
            standing.total_first = page.total
        standing.total = page.total if page.total is not None else standing.total
        if isinstance(page, Swept):
            fresh = list(page.followers)
            standing.arrive(page.position)
        else:
            fresh = standing.unseen(page.followers, self._published)
            self._note_twice(page, fresh)
        left = len(fresh) if command.max_followers is None else command.max_followers - standing.followers
        cut = len(fresh) > left
        if cut:
            fresh = fresh[:left]
        standing.followers += len(fresh)
        standing.truncated = self._truncated(page, cut)
        last = page.next_cursor is None or standing.truncated is not None
        return FollowerPage(
            **self.log.common,
            page=standing.page + 1,
            followers=fresh,
            total=page.total,
            cursor=standing.cursor,
            next_cursor=None if last else page.next_cursor,
            last=last,
            fetched_at=self._world.now(),
            progress=standing.progress(),
        )

    def _note_twice(self, page: ProviderPage, fresh: Sequence[Follower]) -> None:
        """Draw the conclusions from people who came a second time in a list whose pages name the next one."""
        standing = self.standing
        if standing.duplicates_dropped and self._client.order(self.job.command) == "still":
            # Its rows do move, so somebody may have moved past the reading.
            standing.moved, standing.missed_at_most = True, None
        standing.barren += bool(page.followers) and not fresh and not self._published
        if 2 * standing.barren > standing.page + 1 + BARREN_PAGES:
            raise BadResponseError(
                f"the provider's paging runs in a circle: {standing.barren} pages brought nobody new; publish the "
                "command again under a new id, and tell the provider if it happens again"
            )

    def _truncated(self, page: ProviderPage, cut: bool) -> TruncatedReason | None:
        command, more = self.job.command, page.next_cursor is not None
        if cut or (more and self.standing.followers == command.max_followers):
            return "max_followers"
        if more and self.standing.page + 1 == command.max_pages:
            return "max_pages"
        return "provider_cap" if page.capped else None

    async def _tell_waiting(self, reason: WaitReason, seconds: float, firm: bool, describe: Describe) -> None:
        """Let people see that the job stands still for `seconds`, as far as that is news: see the class.

        An end that isn't firm is told anew only once the one told before is over.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        if self._starting is not None:
            await asyncio.shield(self._starting)
        left = ends - loop.time()
        # What a provider asks for is told however short it is.
        asked = firm and reason == "rate_limited"
        if left < TELL_WAITS_FROM and not asked:
            return
        # An estimate is looked at again within the second; so long it certainly stands still.
        self._stood_until = max(self._stood_until, ends if firm else loop.time() + min(left, LOOK_EVERY))
        now = self._world.now()
        until = now + timedelta(seconds=left)
        if not self._stands_still:
            self._stands_still = True
            self.on_waiting()
        if self._state != "waiting" or self._reason is None:
            self._state, self._reason, self._until = "waiting", reason, until
            self._since, self._describe = now, describe
            self.post()
        wait, told = describe(self._since or now, until), self._told
        why = wait.owner, reason, firm
        if told is not None and told.why == why:
            if ends <= told.ends or (told.ends > loop.time() and not firm):
                return
            self._until, self._describe, told.ends = until, describe, ends
            if not firm or ends - told.ends_by_event < TELL_AGAIN_FROM:
                self.post()
                return
        self._told = _Told(why, ends, ends)
        self._until, self._reason, self._describe = until, reason, describe
        attempt = self.standing.attempt
        waiting = JobWaiting(**self.log.common, attempt=attempt, reason=reason, until=until, wait=wait)
        await self.log.tell(waiting, f"waiting.{self._world.token()}")
        self.post()

    def _tell_no_room(self) -> None:
        """Let people see that the job waits for this worker's memory: no other job could go on in its place."""
        if self._state != "waiting":
            now = self._world.now()
            self._state, self._reason, self._until = "waiting", None, None
            self._since, self._describe = now, no_room(self._world.budget)
            self.post()


def _went_well(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is None
