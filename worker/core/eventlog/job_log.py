"""A job's two chains in the event log: its pages and its job events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypedDict

import msgspec

from schemas.digest import START, next_digest
from schemas.events import TERMINAL, FollowerPage, JobEvent, Progress
from schemas.follower import Follower
from schemas.subjects import EVENTS_STREAM, job_subject, page_subject
from schemas.types import Provider
from schemas.wire import encode, event_message
from worker.core.backoff import Pause
from worker.core.eventlog.appender import Chain, FencedError
from worker.core.eventlog.split import split
from worker.core.eventlog.unreadable import EventDecoder, UnreadableEventError
from worker.core.holdups import Failed, Holdups
from worker.core.job import Address
from worker.core.ports.event_log import COMMAND_HEADER, Entry, LogUnavailableError, PayloadTooLargeError
from worker.core.ports.tracing import Span
from worker.core.services import World

FIRST_PART_HEADER = "Followers-Page-First-Sequence"
_HEADER_ROOM = 2048
"""Bytes of a message kept for headers and the protocol line, above what ours come to."""


class Common(TypedDict):
    """The fields that every event of a job has."""

    job_id: str
    provider: Provider
    account: str | None
    oa_id: str
    labels: dict[str, str]


class JobLog:
    """Reads where a job stands, and appends to it on condition that nobody else has."""

    def __init__(
        self,
        address: Address,
        account: str | None,
        sequence: int,
        world: World,
        span: Span,
        holdups: Holdups | None = None,
    ) -> None:
        """Take the job's address, its account's name, its command's sequence, the world, and what events belong to.

        `holdups`: what is told when the log doesn't answer for long.
        """
        self._holdups = holdups or Holdups(world.now)
        self.common = Common(
            job_id=address.job_id,
            provider=address.provider,
            account=account,
            oa_id=address.oa_id,
            labels=dict(address.labels),
        )
        self._world = world
        self._sequence = sequence
        self._span = span
        parts = (address.provider, address.oa_id, address.job_id)
        self._subject, self._event_subject = page_subject(*parts), job_subject(*parts)
        self._of_pages = EventDecoder(self._subject, *parts)
        self._of_events = EventDecoder(self._event_subject, *parts)
        self._pages = Chain(world.log, self._subject, sequence, world.token, self._holdups)
        self._events = Chain(world.log, self._event_subject, sequence, world.token, self._holdups)
        self._first_part = self._whole = 0
        self.digest: str | None = START
        """That of the newest page; None in a job that a version without digests began."""
        self.generation = 1
        """That of the newest job event; every event that is appended bears it."""
        self.told_for = 0
        """The sequence of the command for which the newest job event was written."""

    @property
    def end_sequence(self) -> int:
        """The stream sequence of the newest job event, as far as this worker knows."""
        return self._events.sequence

    async def last_page(self) -> FollowerPage | None:
        """Return the newest page event, None when there is none. Raises UnreadableEventError."""
        entry = await self._pages.load()
        if entry is None:
            return None
        page = self._of_pages.page(entry)
        self._first_part = self._of_pages.number(entry, FIRST_PART_HEADER, entry.sequence)
        self.digest = page.digest
        self._whole = entry.sequence if page.part == page.parts else self._first_part - 1
        return page

    async def last_event(self) -> JobEvent | None:
        """Return the newest job event, None when there is none.

        Raises UnreadableEventError when it can't be read, unless the newest one before that ended the job.
        """
        entry = await self._events.load()
        if entry is None:
            return None
        try:
            return self._take_event(entry)
        except UnreadableEventError as obstacle:
            before = await self._last_readable(entry.sequence - 1)
            if isinstance(before, TERMINAL):
                return before  # whoever wrote behind it ended nothing, and begins nothing
            raise UnreadableEventError(obstacle.subject, obstacle.sequence, obstacle.why, before) from None

    def _take_event(self, entry: Entry) -> JobEvent:
        event, told_for = self._of_events.event(entry), self._of_events.number(entry, COMMAND_HEADER, 0)
        self.generation, self.told_for = event.generation, told_for
        return event

    async def _last_readable(self, last: int) -> JobEvent | None:
        """Return the newest job event up to `last` that can be read; a job has few of them."""
        found: JobEvent | None = None
        async for entry in self._read(self._event_subject, 1, last):
            with contextlib.suppress(UnreadableEventError):
                found = self._take_event(entry)
        return found

    def reopen(self) -> None:
        """Begin another generation of a job that failed, with the next event that is told."""
        self.generation += 1

    async def read_ids(self, *, parts: bool, between: Callable[[], None]) -> AsyncIterator[list[str]]:
        """Yield the user ids that are published, message by message: of whole pages, or of the `parts` of another one.

        Calls `between` after each message, and raises what that raises. Raises UnreadableEventError.
        """
        first, last = (self._first_part, self._pages.sequence) if parts else (1, self._whole)
        if last:
            async for entry in self._read(self._subject, first, last):
                yield [follower.user_id for follower in self._of_pages.page(entry).followers]
                between()

    async def first_page(self) -> list[Follower]:
        """Return the followers of page 1 in order; none when it isn't in the log. Raises UnreadableEventError."""
        found: list[Follower] = []
        async for entry in self._read(self._subject, 1, self._pages.sequence):
            page = self._of_pages.page(entry)
            if page.page > 1:
                break
            found += page.followers
        return found

    async def tell(self, event: JobEvent, id: str) -> None:
        """Append an event that ends nothing. Raises FencedError when the job is another worker's."""
        append = asyncio.ensure_future(self._events.append(*self._encoded(self._stamped(event), id)))
        append.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Given up half-way, it would leave the chain without knowing whether its own event is the tail.
        await asyncio.shield(append)

    async def end(self, event: JobEvent, *, anyone: bool) -> JobEvent:
        """Append the terminal `event` unless there is one; return the one that is in the log.

        `anyone`: the event follows from the pages alone, so it doesn't matter who writes it; otherwise raises
        FencedError when the job is another worker's.
        """
        while True:
            event = self._stamped(event)
            id = "end" if event.generation == 1 else f"end.{event.generation}"
            try:
                await self._events.append(*self._encoded(event, id))
            except FencedError:
                ended = await self.last_event()
                if isinstance(ended, TERMINAL):
                    return ended
                if not anyone:
                    raise
            else:
                return event

    async def append_page(self, page: FollowerPage, before: Progress, *, done: int, parts: int) -> None:
        """Append `page`, in parts where the server would not take it whole.

        `done` parts of it are in the log already and announced `parts`. Raises FencedError, BadResponseError when
        one follower alone is too big.
        """
        count = len(page.followers)
        with self._span.child("publish page", "producer", job_id=page.job_id, page=page.page, followers=count) as span:
            await self._append_page(page, before, done, parts, span)

    async def _append_page(self, page: FollowerPage, before: Progress, done: int, parts: int, span: Span) -> None:
        limit = self._world.log.max_payload - _HEADER_ROOM
        page = self._chained(page)
        if not done:
            data, headers = self._encoded(page, f"{page.page}.1", span)
            if len(data) <= limit:
                try:
                    await self._pages.append(data, headers)
                except PayloadTooLargeError:  # the server's limit was lowered since we connected
                    limit = min(limit, len(data)) // 2
                else:
                    self.digest = page.digest
                    return
            del data, headers  # large, and not needed any more
        for part in split(page, before, limit, self._size, done=done, parts=parts):
            await self._append_part(part, span)

    async def seal(self, part: FollowerPage) -> None:
        """Append a part of a page, without followers and not its last: whoever is about to append is fenced.

        Raises FencedError when another worker has appended.
        """
        await self._append_part(part, self._span)

    async def still_ours(self) -> None:
        """Raise FencedError when somebody else has appended a page or an event since."""
        for chain in (self._pages, self._events):
            await chain.confirm()

    def _chained(self, page: FollowerPage) -> FollowerPage:
        """Return `page` with what shows that nobody was taken out of it, or put in."""
        digest = None if self.digest is None else next_digest(self.digest, page.followers)
        return msgspec.structs.replace(page, count=len(page.followers), digest=digest)

    async def _append_part(self, part: FollowerPage, span: Span) -> None:
        part = self._chained(part)
        data, headers = self._encoded(part, f"{part.page}.{part.part}", span)
        if part.part > 1:
            headers[FIRST_PART_HEADER] = str(self._first_part)
        await self._pages.append(data, headers)
        self.digest = part.digest
        if part.part == 1:
            self._first_part = self._pages.sequence

    def _stamped(self, event: JobEvent) -> JobEvent:
        return msgspec.structs.replace(event, generation=self.generation)

    def _encoded(
        self, event: FollowerPage | JobEvent, id: str, span: Span | None = None
    ) -> tuple[bytes, dict[str, str]]:
        return event_message(
            event,
            id=id,
            time=self._world.now(),
            encoding=self._world.encoding,
            mode=self._world.cloudevents,
            traceparent=(span or self._span).traceparent,
        )

    def _size(self, message: object) -> int:
        if isinstance(message, FollowerPage):
            return len(self._encoded(message, f"{message.page}.{message.part}")[0])
        size = len(encode(message, self._world.encoding))
        in_base64 = self._world.cloudevents == "structured" and self._world.encoding != "json"
        return size * 4 // 3 + 4 if in_base64 else size

    async def _read(self, subject: str, first: int, last: int) -> AsyncIterator[Entry]:
        pause = Pause()
        with contextlib.ExitStack() as trying:
            failed: Failed | None = None
            while True:
                try:
                    async for entry in self._world.log.read(subject, first, last):
                        trying.close()
                        failed, first = None, entry.sequence + 1
                        yield entry
                except LogUnavailableError as error:
                    failed = failed or trying.enter_context(self._holdups.trying(EVENTS_STREAM, writes=False))
                    failed(error.code, error.words)
                    await pause()
                else:
                    return
