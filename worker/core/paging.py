"""Reading a provider's pages in order, some of them ahead of time: where each page names the next one.

Lists that are read by row numbers are `core/sweep.py`'s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from worker.core.errors import BadResponseError
from worker.core.ports import ProviderPage

FetchPage = Callable[[str | None], Awaitable[ProviderPage]]
EMPTY_PAGES = 16
"""So many pages without anybody in a row, each with a new cursor, before the provider's paging counts as broken."""


class Ahead:
    """Requests on their way before anybody waits for them."""

    def __init__(self, fetch: FetchPage) -> None:
        """Take how to fetch one page, with its retries."""
        self._fetch = fetch
        self._awaited: asyncio.Task[ProviderPage] | None = None
        self._under_way: dict[str | None, asyncio.Task[ProviderPage]] = {}

    async def get(self, cursor: str | None) -> ProviderPage:
        """Return the page at `cursor`, asked for earlier or now. Raises what fetching raises."""
        task = self._awaited = self._under_way.pop(cursor, None) or self._start(cursor)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    def want(self, cursors: Sequence[str | None]) -> None:
        """Ask for the pages at `cursors`, and end the requests for all others."""
        for cursor in [cursor for cursor in self._under_way if cursor not in cursors]:
            self._under_way.pop(cursor).cancel()
        for cursor in cursors:
            if cursor not in self._under_way:
                self._under_way[cursor] = self._start(cursor)

    def abort(self) -> None:
        """End all requests, also the one that is waited for: that wait raises CancelledError."""
        for task in (self._awaited, *self._under_way.values()):
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """End the requests that nobody will wait for."""
        tasks = list(self._under_way.values())
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, cursor: str | None) -> asyncio.Task[ProviderPage]:
        async def run() -> ProviderPage:
            return await self._fetch(cursor)

        task = asyncio.create_task(run())
        # A page read ahead may fail and never be asked for; its error is then nobody's, and not a warning.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


class Reader(Ahead):
    """Hands out pages in order while the next one is already on its way."""

    def __init__(self, fetch: FetchPage) -> None:
        """Take how to fetch one page, with its retries."""
        super().__init__(fetch)
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
        rows = hash(tuple(follower.user_id for follower in page.followers))
        if rows in self._rows:
            raise BadResponseError(
                "the provider's paging runs in a circle: a page has the very rows of one that was read before in this "
                "job; publish the command again under a new id, and tell the provider if it happens again"
            )
        self._rows.add(rows)
