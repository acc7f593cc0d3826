"""Reading a provider's pages in order, some of them ahead of time."""

import asyncio
from collections.abc import Awaitable, Callable

from worker.core.errors import BadResponseError
from worker.core.ports import ProviderPage

FetchPage = Callable[[str | None], Awaitable[ProviderPage]]
ReadAhead = Callable[[ProviderPage, int], list[str]]


class Reader:
    """Hands out pages in order while the next ones are already on their way."""

    def __init__(self, fetch: FetchPage, read_ahead: ReadAhead) -> None:
        """Take how to fetch one page (with its retries) and which cursors are known after a page."""
        self._fetch = fetch
        self._read_ahead = read_ahead
        self._awaited: asyncio.Task[ProviderPage] | None = None
        self._under_way: dict[str | None, asyncio.Task[ProviderPage]] = {}
        self._seen: set[int] = set()
        self._rows: set[int] = set()

    async def read(self, cursor: str | None, ahead: int) -> ProviderPage:
        """Return the page at `cursor`; before that, start up to `ahead` of the pages after it.

        Raises what fetching raises, and BadResponseError when the provider's paging runs in a circle: a cursor that
        was read before, or a steady page with the very rows of another one under ever new cursors.
        """
        task = self._awaited = self._under_way.pop(cursor, None) or self._start(cursor)
        try:
            page = await task
        except asyncio.CancelledError:
            task.cancel()
            raise
        self._guard(cursor, page.next_cursor)
        self._guard_rows(page)
        self._go_ahead(page, ahead)
        return page

    def abort(self) -> None:
        """End all requests, also the one that `read` waits for: it raises CancelledError."""
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

    def _go_ahead(self, page: ProviderPage, ahead: int) -> None:
        wanted = self._read_ahead(page, ahead) if ahead > 0 and page.next_cursor is not None else []
        for cursor in [cursor for cursor in self._under_way if cursor not in wanted]:
            self._under_way.pop(cursor).cancel()
        for cursor in wanted:
            if cursor not in self._under_way:
                self._under_way[cursor] = self._start(cursor)

    def _start(self, cursor: str | None) -> asyncio.Task[ProviderPage]:
        async def run() -> ProviderPage:
            return await self._fetch(cursor)

        task = asyncio.create_task(run())
        # A page read ahead may fail and never be asked for; its error is then nobody's, and not a warning.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
