"""Reading a provider's pages in order, some of them ahead of time: where each page names the next one.

Lists that are read by row numbers are `core/paging/offset_reader.py`'s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from worker.core.errors import BadResponseError
from worker.core.memory import HOLD, Budget, Hold
from worker.core.ports.provider import ProviderPage

FetchPage = Callable[[str | None], Awaitable[ProviderPage]]
EMPTY_PAGES = 16
"""So many pages without anybody in a row, each with a new cursor, before the provider's paging counts as broken."""


OpenHold = Callable[[], Hold]
_UNBOUNDED = Budget(None)


@dataclass(frozen=True, slots=True)
class _Request:
    task: asyncio.Task[ProviderPage]
    hold: Hold

    def end(self) -> None:
        self.task.cancel()
        self.hold.drop()


class Ahead:
    """Requests on their way before anybody waits for them."""

    def __init__(self, fetch: FetchPage, open_hold: OpenHold | None = None) -> None:
        """Take how to fetch one page, with its retries, and what its bytes are counted by."""
        self._fetch = fetch
        self._open_hold = open_hold or (lambda: _UNBOUNDED.open(lambda: None))
        self._awaited: _Request | None = None
        self._under_way: dict[str | None, _Request] = {}
        self._taken: list[Hold] = []
        """Of pages that were handed out and are not published."""

    async def get(self, cursor: str | None) -> ProviderPage:
        """Return the page at `cursor`, asked for earlier or now. Raises what fetching raises."""
        parked = 0
        for hold in self._taken:
            parked += hold.size
            hold.park()
        request = self._awaited = self._under_way.pop(cursor, None) or self._start(cursor)
        request.hold.urge(parked)
        self._taken.append(request.hold)
        try:
            return await request.task
        except asyncio.CancelledError:
            request.end()
            raise
        finally:
            self._awaited = None  # it has the page, which is to be let go of once it is published

    def want(self, cursors: Sequence[str | None]) -> None:
        """Ask for the pages at `cursors`, and end the requests for all others."""
        for cursor in [cursor for cursor in self._under_way if cursor not in cursors]:
            self._under_way.pop(cursor).end()
        for cursor in cursors:
            if cursor not in self._under_way:
                self._under_way[cursor] = self._start(cursor)

    def published(self, left: int = 0) -> None:
        """Let go of what was handed out and is published by now, but for `left` rows."""
        for hold in self._taken[1:] if left else self._taken:
            hold.drop()
        del self._taken[1 if left else 0 :]
        for hold in self._taken:
            hold.settle(0, left)

    def abort(self) -> None:
        """End all requests, also the one that is waited for: that wait raises CancelledError."""
        for request in (self._awaited, *self._under_way.values()):
            if request is not None:
                request.task.cancel()

    async def close(self) -> None:
        """End the requests that nobody will wait for."""
        requests = list(self._under_way.values())
        self._under_way.clear()
        for request in requests:
            request.end()
        self.published()
        await asyncio.gather(*(request.task for request in requests), return_exceptions=True)

    def _start(self, cursor: str | None) -> _Request:
        hold = self._open_hold()

        async def run() -> ProviderPage:
            HOLD.set(hold)
            try:
                return await self._fetch(cursor)
            except BaseException:
                hold.drop()
                raise

        task = asyncio.create_task(run())
        # A page read ahead may fail and never be asked for; its error is then nobody's, and not a warning.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return _Request(task, hold)


class Reader(Ahead):
    """Hands out pages in order while the next one is already on its way."""

    def __init__(self, fetch: FetchPage, open_hold: OpenHold | None = None) -> None:
        """Take how to fetch one page, with its retries, and what its bytes are counted by."""
        super().__init__(fetch, open_hold)
        self._seen: set[int] = set()
        self._rows: set[int] = set()
        self.answers = 0
        """So many answers were read."""

    async def read(self, cursor: str | None, *, ahead: bool) -> ProviderPage:
        """Return the page at `cursor`, or behind it where pages without anybody stand in between.

        A page of nobody that another one has named, and that names none, is asked for once more: the list's end looks
        the same as an empty answer by mistake. With `ahead`, the page after it is started before that.

        Raises what fetching raises, and BadResponseError when the provider's paging runs in a circle: a cursor that
        was read before, a steady page with the very rows of another one under ever new cursors, or empty pages without
        an end.
        """
        page = await self._step(cursor)
        empty = 0
        while not page.followers and page.next_cursor is not None:
            empty += 1
            if empty == EMPTY_PAGES:
                raise BadResponseError(
                    f"the provider gave {EMPTY_PAGES} pages in a row without followers, each with another one to "
                    "follow: nobody knows where the list ends; publish the command again under a new id, and tell the "
                    "provider if it happens again"
                )
            page = await self._step(page.next_cursor)
        self.want([page.next_cursor] if ahead and page.next_cursor is not None else [])
        return page

    async def _step(self, cursor: str | None) -> ProviderPage:
        page = await self._answer(cursor)
        if cursor is not None and not page.followers and page.next_cursor is None:
            page = await self._answer(cursor)
        return page

    async def _answer(self, cursor: str | None) -> ProviderPage:
        page = await self.get(cursor)
        self.answers += 1
        self._guard(cursor, page.next_cursor)
        self._guard_rows(page)
        return page

    def _guard(self, cursor: str | None, next_cursor: str | None) -> None:
        self._seen.add(hash(cursor))
        if next_cursor is not None and hash(next_cursor) in self._seen:
            raise BadResponseError(
                "the provider's paging runs in a circle: it named a cursor that was read before in this job; "
                "publish the command again under a new id, and tell the provider if it happens again"
            )

    def _guard_rows(self, page: ProviderPage) -> None:
        if not page.steady or not page.followers:
            return
        rows = hash(tuple([follower.user_id for follower in page.followers]))
        if rows in self._rows:
            raise BadResponseError(
                "the provider's paging runs in a circle: a page has the very rows of one that was read before in this "
                "job; publish the command again under a new id, and tell the provider if it happens again"
            )
        self._rows.add(rows)
