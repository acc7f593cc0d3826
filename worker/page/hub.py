"""One watch for all who look: begun with the first viewer, ended after the last, and one picture made for all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from schemas.jobs import JobStatus
from schemas.types import JobState, Provider
from worker.core.tasks import begin, begin_lasting
from worker.page import view
from worker.page.accounts import account_rows
from worker.page.board import Board
from worker.page.ports import Sources, SourceUnavailableError

EVERY = 0.5
"""Seconds between two pictures, at least."""
BESIDE = 2.0
"""Seconds between two looks at what is queued and at the dead letters."""
LINGER = 5.0
"""Seconds that the watch goes on without a viewer: a page that is loaded again costs nothing then."""
ROWS = 50
"""Jobs in one picture."""
VIEWERS = 100
"""Open pages at the same time, in this replica: those of one address make room for those of another."""
RESERVED = 10
"""One place in so many is kept for whoever looks from the replica's own machine, as `kubectl port-forward` does."""

_log = structlog.get_logger(__name__)


class FullError(Exception):
    """So many look already."""


@dataclass(eq=False, kw_only=True, slots=True)
class Viewer:
    """Somebody who looks."""

    address: str
    is_near: bool = False
    """On the replica's own machine: has the places that are kept free."""
    bears: bool = False
    """The token: gets a place of others who don't, and gives none away to them."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once somebody else has the place."""


class Hub:
    """The picture that all viewers see. Belongs to one event loop."""

    def __init__(self, sources: Sources, worker: str = "", places: int = VIEWERS) -> None:
        """Take where to look, this replica's name and how many may; nothing is looked at before the first viewer."""
        self._places = min(places, VIEWERS)
        self._viewers: dict[str, list[Viewer]] = {}
        """Who looks, by address, in the order in which they came."""
        self.trouble: str | None = None
        """Why nothing new is told."""
        self._sources, self._worker = sources, worker
        self._board = Board()
        self._reading = True
        self._queued: dict[Provider, int] = {}
        self._letters: tuple[int, list[dict[str, Any]]] = (0, [])
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.TimerHandle | None = None
        self._ticked = asyncio.Event()
        self._pictures: dict[tuple[JobState | None, int], dict[str, Any]] = {}

    @property
    def watching(self) -> bool:
        """Whether anything is being looked at now."""
        return bool(self._tasks)

    @property
    def viewers(self) -> int:
        """How many look."""
        return sum(map(len, self._viewers.values()))

    @contextlib.asynccontextmanager
    async def viewer(self, viewer: Viewer) -> AsyncIterator[None]:
        """Let `viewer` look, until `ended` is set: others have their place then. Raises FullError."""
        kept = 0 if viewer.is_near or viewer.bears else -(-self._places // RESERVED)
        if self.viewers >= max(1, self._places - kept):
            self._make_room(viewer)
        self._viewers.setdefault(viewer.address, []).append(viewer)
        self._begin()
        try:
            yield
        finally:
            self._forget(viewer)
            if not self._viewers:
                self._ending = asyncio.get_running_loop().call_later(LINGER, self._end)

    def _make_room(self, viewer: Viewer) -> None:
        others = {
            address: without for address, line in self._viewers.items() if (without := [v for v in line if not v.bears])
        }
        largest = max(others, key=lambda one: len(others[one]), default=None)
        if largest is None:
            raise FullError
        # Not one that has just one more: they would take the place from each other, again and again.
        if not viewer.bears and len(others[largest]) <= len(self._viewers.get(viewer.address, ())) + 1:
            raise FullError
        newest = others[largest][-1]
        self._forget(newest)
        newest.ended.set()

    def _forget(self, viewer: Viewer) -> None:
        line = self._viewers.get(viewer.address, [])
        if viewer in line:
            line.remove(viewer)
        if not line:
            self._viewers.pop(viewer.address, None)

    async def tick(self) -> None:
        """Wait for the next picture."""
        await self._ticked.wait()

    def job(self, job_id: str) -> JobStatus | None:
        """Return a job's status as far as the watch has told it."""
        return self._board.get(job_id)

    def picture(self, state: JobState | None, page: int) -> dict[str, Any]:
        """Return the jobs of `state` (None: all), the `page`th `ROWS` of them, and what is beside them."""
        key = state, page
        if key not in self._pictures:
            self._pictures[key] = self._picture(state, page)
        return self._pictures[key]

    async def close(self) -> None:
        """Look at nothing any more."""
        if self._ending is not None:
            self._ending.cancel()
        tasks = self._tasks
        self._end()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _picture(self, state: JobState | None, page: int) -> dict[str, Any]:
        jobs = self._board.jobs(state)
        counts = self._board.counts
        last = max(1, -(-len(jobs) // ROWS))
        page = min(max(1, page), last)
        return {
            "trouble": self.trouble,
            "reading": self._reading,
            "counts": counts | {"all": sum(counts.values())},
            "state": state,
            "page": page,
            "pages": last,
            "hidden": (sum(counts.values()) if state is None else counts[state]) - len(jobs),
            "jobs": view.rows(view.job_row, jobs[(page - 1) * ROWS : page * ROWS]),
            "accounts": self._accounts(),
            "queued": self._queued,
            "dead": self._letters[0],
            "letters": self._letters[1],
        }

    def _accounts(self) -> list[dict[str, Any]]:
        return account_rows(self._sources.accounts(), self._board.jobs("waiting"), self._worker, datetime.now(UTC))

    def _begin(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if not self._tasks:
            self._board, self._reading = Board(), True
            self._pictures.clear()
            self._tasks = [
                begin(self._keep(self._watch), "page.watch"),
                begin(self._keep(self._look_beside), "page.look_beside"),
                begin_lasting(self._beat, "page.beat"),
            ]
            _log.debug("page.watch_started")

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _log.debug("page.watch_stopped")
        self._tasks = []
        self._board = Board()

    async def _keep(self, work: Any) -> None:
        """Do `work` for as long as somebody looks, whatever becomes of it."""
        while True:
            try:
                await work()
            except SourceUnavailableError as error:
                self.trouble = str(error)
            except Exception:
                # A fault of the page must be seen, and must not end it.
                _log.exception("page.fault")
            await asyncio.sleep(BESIDE)

    async def _watch(self) -> None:
        async with self._sources.watch() as watch:
            self._board, self._reading = Board(), True
            while True:
                news = await watch.next()
                self.trouble = None if news is not None else "NATS does not answer"
                if news is not None:
                    self._board.apply(news)
                    self._reading = news.more

    async def _look_beside(self) -> None:
        self._queued = {**await self._sources.queued()}
        number, letters = await self._sources.letters()
        self._letters = number, view.rows(view.letter_row, letters)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            self._pictures.clear()
            self._ticked.set()
            self._ticked = asyncio.Event()
