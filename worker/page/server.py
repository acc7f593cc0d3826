"""HTTP of the live page: its files, its server-sent events, cancel and retry, and the AsyncAPI document."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import structlog
from aiohttp import web

from schemas.jobs import ControlError, JobStatus
from schemas.subjects import is_token
from schemas.types import JobState
from worker.connections import address_of, is_near
from worker.core.account import Secret
from worker.core.tasks import begin
from worker.page import guard, view
from worker.page.guard import Guard
from worker.page.hub import VIEWERS, FullError, Hub, Viewer
from worker.page.ports import Sources, SourceUnavailableError, Steering
from worker.page.reference import asyncapi_html, asyncapi_json
from worker.page.search import Search, is_silent
from worker.seldom import Seldom

HEARTBEAT = 10.0
"""Seconds after which a comment is sent when there is nothing else: proxies close what is silent."""
STALLED_AFTER = 20.0
"""Seconds after which a viewer who reads nothing of what is sent is let go."""
GOES_WITHIN = 1.0
"""Seconds in which a viewer whose place somebody else has must have taken what was sent."""
TIMELINE = 200
"""Job events that a page shows at most; a job that waits often has more."""
ASSETS = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
Pictures = AsyncGenerator[dict[str, Any] | None, None]
"""None: nothing to show yet."""
_STATIC = Path(__file__).parent / "static"
_log = structlog.get_logger(__name__)


class Page:
    """The live page of one replica. Routes exist before there is anything to show."""

    def __init__(
        self, worker: str, why: Callable[[], str | None], token: Secret | None, *, places: int = VIEWERS
    ) -> None:
        """`worker`: this replica's name. `why`: what stands in the way of its work. `token`: for cancel and retry.

        `places`: how many may look at the same time.
        """
        self._worker, self._why, self._token, self._places = worker, why, token, places
        self._guard = Guard(token)
        self._refused = Seldom("page.refused", "refused")
        self._searching = asyncio.Lock()
        self._sources: Sources | None = None
        self._steering: Steering | None = None
        self._hub: Hub | None = None
        self._closing = asyncio.Event()
        self._assets = {path: ((_STATIC / name).read_bytes(), kind) for path, (name, kind) in ASSETS.items()}

    @property
    def watching(self) -> bool:
        """Whether job status is being watched now."""
        return self._hub is not None and self._hub.watching

    def open(self, sources: Sources, steering: Steering) -> None:
        """There is something to show from now on."""
        self._sources, self._steering, self._hub = sources, steering, Hub(sources, self._worker, self._places)

    async def close(self) -> None:
        """End all streams, and the watch."""
        self._closing.set()
        if self._hub is not None:
            await self._hub.close()

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to an application."""
        steering = (
            web.post("/jobs/{job}/cancel", self._guarded(self._cancel)),
            web.post("/jobs/{job}/retry", self._guarded(self._retry_job)),
            web.post("/letters/{number}/retry", self._guarded(self._retry_letter)),
        )
        return [
            *(web.get(path, self._asset) for path in ASSETS),
            web.get("/stream", self._overview, allow_head=False),
            web.get("/stream/jobs/{job}", self._job, allow_head=False),
            web.get("/asyncapi", self._reference),
            web.get("/asyncapi.json", self._document),
            *(steering if self._token is not None else ()),
        ]

    async def _asset(self, request: web.Request) -> web.Response:
        body, kind = self._assets[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=guard.HEADERS)

    async def _reference(self, request: web.Request) -> web.Response:
        return web.Response(text=asyncapi_html(), content_type="text/html", headers=guard.HEADERS)

    async def _document(self, request: web.Request) -> web.Response:
        return web.Response(body=asyncapi_json(), content_type="application/json", headers=guard.HEADERS)

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        asked = request.query.get("state", "")
        state: JobState | None = asked if asked in get_args(JobState) else None  # type: ignore[assignment]
        number = request.query.get("page", "")
        page = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 1

        async def look(hub: Hub) -> Pictures:
            while True:
                yield hub.picture(state, page)

        return await self._stream(request, "overview", look)

    async def _job(self, request: web.Request) -> web.StreamResponse:
        job_id = request.match_info["job"]
        if not is_token(job_id):
            return _said(404, "this can't be a job's id")
        sources = self._sources

        async def look(hub: Hub) -> Pictures:
            assert sources is not None
            search = Search(self._searching, sources, job_id)
            shown, told, events, after, more = None, None, list[dict[str, Any]](), 0, False
            while True:
                with contextlib.suppress(SourceUnavailableError):
                    # What this replica knows of its own jobs, the bucket may not take.
                    status = sources.in_hand(job_id) or hub.job(job_id)
                    if status is None or is_silent(status):
                        status = await search.look(status)
                    told = status or told  # whether or not the log says what happened before
                    if status is not None and status != shown:
                        async for entry in sources.timeline(status, after):
                            more = len(events) >= TIMELINE
                            if more and len(events) > TIMELINE // 2:
                                del events[TIMELINE // 2]  # the beginning and the end tell most
                            events.append(view.timeline_row(entry))
                            after = entry.sequence
                        shown = status
                if told is None and not search.done:
                    yield None  # others are searching: not known yet is not unknown
                    continue
                job = told and view.job_row(told)
                yield {"trouble": hub.trouble, "id": job_id, "job": job, "events": events, "more": more}

        return await self._stream(request, "job", look)

    async def _stream(self, request: web.Request, event: str, look: Callable[[Hub], Pictures]) -> web.StreamResponse:
        hub = self._hub
        if hub is None:
            return _said(503, self._why() or "starting")
        response = web.StreamResponse(headers=guard.HEADERS | {"Content-Type": "text/event-stream; charset=utf-8"})
        about = {"worker": self._worker, "steer": self._token is not None}
        address = address_of(_peer(request))
        viewer = Viewer(address=address, is_near=is_near(address), bears=await self._guard.allows(request))
        try:
            async with hub.viewer(viewer), _cut_after(viewer.ended, request):
                await response.prepare(request)
                with contextlib.suppress(ConnectionError):
                    await self._send(request, response, event, look(hub), hub, about, viewer.ended)
        except FullError:
            return _said(503, "too many pages are open: close some")
        return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        event: str,
        pictures: Pictures,
        hub: Hub,
        about: dict[str, Any],
        ended: asyncio.Event,
    ) -> None:
        loop = asyncio.get_running_loop()
        last, said_at = b"", loop.time()
        # The browser's clock may be wrong; what the page says of times is reckoned from this.
        await _write(request, response, view.frame("clock", {"now": datetime.now(UTC)}))
        over = [asyncio.create_task(event.wait()) for event in (self._closing, ended)]
        try:
            async with contextlib.aclosing(pictures):
                async for picture in pictures:
                    frame = last if picture is None else view.frame(event, about | {"why": self._why()} | picture)
                    if frame != last:
                        await _write(request, response, frame)
                        last, said_at = frame, loop.time()
                    elif loop.time() - said_at >= HEARTBEAT:
                        await _write(request, response, b": still here\n\n")
                        said_at = loop.time()
                    tick = asyncio.create_task(hub.tick())
                    await asyncio.wait({tick, *over}, return_when=asyncio.FIRST_COMPLETED)
                    tick.cancel()
                    gone = request.transport is None or request.transport.is_closing()
                    if gone or any(task.done() for task in over):
                        return
        finally:
            for task in over:
                task.cancel()

    def _guarded(
        self, act: Callable[[Steering, web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            if not await self._guard.allows(request):
                self._refused.tell(path=request.path[:100])
                return _said(403, "the token is missing or wrong: it is worker.page_token of this replica")
            if self._steering is None:
                return _said(503, self._why() or "starting")
            try:
                return await act(self._steering, request)
            except SourceUnavailableError as error:
                return _said(503, str(error))

        return handle

    async def _cancel(self, steering: Steering, request: web.Request) -> web.Response:
        job_id = request.match_info["job"]
        answer = await steering.cancel(job_id)
        _log.info("page.cancelled", job_id=job_id)
        return _answer(answer)

    async def _retry_job(self, steering: Steering, request: web.Request) -> web.Response:
        job_id = request.match_info["job"]
        if not is_token(job_id):
            return _said(404, "this can't be a job's id")
        sequence = await steering.retry_job(job_id)
        _log.info("page.retried", job_id=job_id, sequence=sequence)
        return web.json_response({"sequence": sequence}, headers=guard.HEADERS)

    async def _retry_letter(self, steering: Steering, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            return _said(404, "this can't be a dead letter's number")
        sequence = await steering.retry(int(number))
        _log.info("page.retried", letter=int(number), sequence=sequence)
        return web.json_response({"sequence": sequence}, headers=guard.HEADERS)


def _peer(request: web.Request) -> Any:
    return request.transport and request.transport.get_extra_info("peername")


@contextlib.asynccontextmanager
async def _cut_after(ended: asyncio.Event, request: web.Request) -> AsyncIterator[None]:
    """Close the connection soon after `ended`: who reads nothing would have it for longer than the place."""

    async def cut() -> None:
        await ended.wait()
        await asyncio.sleep(GOES_WITHIN)
        if request.transport is not None:
            request.transport.abort()

    task = begin(cut(), "page.cut")
    try:
        yield
    finally:
        task.cancel()


async def _write(request: web.Request, response: web.StreamResponse, frame: bytes) -> None:
    """Send `frame`. Raises ConnectionError, also where nobody reads: that holds a viewer's place, and memory."""
    try:
        async with asyncio.timeout(STALLED_AFTER):
            await response.write(frame)
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError from error


def _answer(answer: JobStatus | ControlError) -> web.Response:
    if isinstance(answer, ControlError):
        # Noted all the same where the job isn't known yet.
        return _said(202 if answer.error.code == "not_found" else 503, answer.error.message)
    body = msgspec.json.encode(view.job_row(answer))
    return web.Response(body=body, content_type="application/json", headers=guard.HEADERS)


def _said(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status, headers=guard.HEADERS)
