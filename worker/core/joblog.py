"""A job's two chains in the event log: its pages and its job events."""

from collections.abc import AsyncIterator
from typing import TypedDict

from schemas.events import TERMINAL, FollowerPage, JobEvent
from schemas.subjects import job_subject, page_subject
from schemas.types import Provider
from schemas.wire import content_type, decode, encode, event_headers
from worker.core.chain import Chain, FencedError, Pause
from worker.core.commands import Address
from worker.core.parts import split
from worker.core.ports import Entry, LogUnavailableError, PayloadTooLargeError
from worker.core.world import World

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
        self, address: Address, account: str | None, sequence: int, world: World, traceparent: str | None
    ) -> None:
        """Take the job's address, its account's name, its command's sequence and trace context, and the world."""
        self.common = Common(
            job_id=address.job_id,
            provider=address.provider,
            account=account,
            oa_id=address.oa_id,
            labels=dict(address.labels),
        )
        self._world = world
        self._sequence = sequence
        self._traceparent = traceparent
        parts = (address.provider, address.oa_id, address.job_id)
        self._subject = page_subject(*parts)
        self._pages = Chain(world.log, self._subject, sequence, world.token)
        self._events = Chain(world.log, job_subject(*parts), sequence, world.token)
        self._first_part = 0

    async def last_page(self) -> FollowerPage | None:
        """Return the newest page event, None when there is none."""
        entry = await self._pages.load()
        if entry is None:
            return None
        page = _page(entry)
        self._first_part = int(entry.headers.get(FIRST_PART_HEADER, entry.sequence))
        return page

    async def last_event(self) -> JobEvent | None:
        """Return the newest job event, None when there is none."""
        entry = await self._events.load()
        return None if entry is None else _event(entry)

    async def read_ids(self, *, this_page_only: bool) -> set[str]:
        """Return the user ids that are published: of the page that lacks parts, or of the whole job."""
        first = self._first_part if this_page_only else 1
        return {
            follower.user_id
            async for entry in self._read(first, self._pages.sequence)
            for follower in _page(entry).followers
        }

    async def tell(self, event: JobEvent, id: str) -> None:
        """Append an event that ends nothing. Raises FencedError when the job is another worker's."""
        await self._events.append(*self._encoded(event, id))

    async def end(self, event: JobEvent, *, anyone: bool) -> JobEvent:
        """Append the terminal `event` unless there is one; return the one that is in the log.

        `anyone`: the event follows from the pages alone, so it doesn't matter who writes it; otherwise raises
        FencedError when the job is another worker's.
        """
        while True:
            try:
                await self._events.append(*self._encoded(event, "end"))
            except FencedError:
                ended = await self.last_event()
                if isinstance(ended, TERMINAL):
                    return ended
                if not anyone:
                    raise
            else:
                return event

    async def append_page(self, page: FollowerPage, *, done: int, parts: int) -> None:
        """Append `page`, in parts where the server would not take it whole.

        `done` parts of it are in the log already and announced `parts`. Raises FencedError, BadResponseError when
        one follower alone is too big.
        """
        limit = self._world.log.max_payload - _HEADER_ROOM
        if not done:
            data, headers = self._encoded(page, f"{page.page}.1")
            if len(data) <= limit:
                try:
                    await self._pages.append(data, headers)
                except PayloadTooLargeError:  # the server's limit was lowered since we connected
                    limit = min(limit, len(data)) // 2
                else:
                    return
        for part in split(page, limit, self._size, done=done, parts=parts):
            data, headers = self._encoded(part, f"{part.page}.{part.part}")
            if part.part > 1:
                headers[FIRST_PART_HEADER] = str(self._first_part)
            await self._pages.append(data, headers)
            if part.part == 1:
                self._first_part = self._pages.sequence

    async def still_ours(self) -> None:
        """Raise FencedError when somebody else has appended a page or an event since."""
        for chain in (self._pages, self._events):
            expected = chain.sequence
            tail = await chain.load()
            if chain.sequence != expected:
                raise FencedError(tail, self._sequence)

    def _encoded(self, event: FollowerPage | JobEvent, id: str) -> tuple[bytes, dict[str, str]]:
        encoding = self._world.encoding
        headers = event_headers(event, id=id, time=self._world.now(), encoding=encoding, traceparent=self._traceparent)
        return encode(event, encoding), headers

    def _size(self, message: object) -> int:
        return len(encode(message, self._world.encoding))

    async def _read(self, first: int, last: int) -> AsyncIterator[Entry]:
        pause = Pause()
        while True:
            try:
                async for entry in self._world.log.read(self._subject, first, last):
                    first = entry.sequence + 1
                    yield entry
            except LogUnavailableError:
                await pause()
            else:
                return


def _page(entry: Entry) -> FollowerPage:
    return decode(entry.data, FollowerPage, content_type(entry.headers))


def _event(entry: Entry) -> JobEvent:
    event: JobEvent = decode(entry.data, JobEvent, content_type(entry.headers))
    return event
