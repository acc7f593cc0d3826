"""What both simulators share: a real HTTP server, the faults, the journal and the control endpoints."""

import abc
import asyncio
import random
from typing import Any, ClassVar, Self

import msgspec
from aiohttp import web

from worker.simulators import control
from worker.simulators.changes import Changes, ListChange
from worker.simulators.config import Config
from worker.simulators.delivery import deliver, replaced, reset, without_list
from worker.simulators.exchange import Answer, Call
from worker.simulators.faults import BEFORE_ANSWER, Fault, FaultPlan
from worker.simulators.journal import Entry, Journal
from worker.simulators.listing import Listing


class Server(abc.ABC):
    """A simulated provider on 127.0.0.1. Start and stop it with `async with`, or with `start` and `stop`."""

    list_path: ClassVar[tuple[str, ...]]
    """Where the list of followers stands in an answer."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.faults = FaultPlan()
        self.journal = Journal(config.log_size)
        self.listings: dict[str, Listing] = {}
        self.changes = Changes(self.listing)
        self._dice = random.Random(config.seed)
        self._calls = 0
        self._served: dict[tuple[str, str], Answer] = {}
        self._runner: web.ServerRunner | None = None
        self._stopping = asyncio.Event()
        self._url = ""
        self.reset()

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end. Raises RuntimeError before the start."""
        if not self._url:
            raise RuntimeError("the simulator is not running: use `async with` or `await start()` first")
        return self._url

    async def start(self) -> Self:
        """Listen. Raises OSError when the port is taken."""
        self._stopping.clear()
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.config.host, self.config.port).start()
        except OSError:
            await self.stop()
            raise
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}"
        return self

    async def stop(self) -> None:
        """Stop listening and break what hangs. Safe to repeat."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner, self._url = None, ""

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def reset(self) -> None:
        """Back to the seeded lists, with no faults, no scripted changes and an empty journal."""
        self.listings.clear()
        self.listings.update((oa, self.make_listing(oa, n)) for oa, n in self.config.followers.items())
        self.changes.clear()
        self.faults.clear()
        self.journal.clear()
        self._served.clear()

    def inject(self, *faults: Fault) -> None:
        """Append faults to the plan."""
        self.faults.add(*faults)

    def change(self, change: ListChange) -> control.Changed:
        """Change a list now, or script it. Raises KeyError for an unknown OA or follower."""
        return self.changes.apply(change)

    def listing(self, oa_id: str) -> Listing:
        """The live list of an Official Account. Raises KeyError."""
        try:
            return self.listings[oa_id]
        except KeyError:
            raise KeyError(f"no Official Account {oa_id}; there are {', '.join(self.listings)}") from None

    @property
    def requests(self) -> list[Entry]:
        """The requests remembered, oldest first; those to `/_control` are not among them."""
        return list(self.journal.entries)

    @abc.abstractmethod
    def ids(self, oa_id: str, *, state: str | None = None) -> list[str]:
        """User ids in the order served by default. Raises KeyError."""

    @abc.abstractmethod
    def rows(self, oa_id: str, *, state: str | None = None) -> list[dict[str, Any]]:
        """Rows as sent, in the order served by default. Raises KeyError."""

    @abc.abstractmethod
    def make_listing(self, oa_id: str, count: int) -> Listing:
        """The list of an Official Account as it is at the start."""

    @abc.abstractmethod
    def identify(self, call: Call) -> None:
        """Name the call's endpoint and OA, as far as they can be told."""

    @abc.abstractmethod
    def is_list(self, call: Call) -> bool:
        """Whether the call reads a follower list."""

    @abc.abstractmethod
    def failure(self, code: str, message: str) -> Answer:
        """The provider's own error."""

    @abc.abstractmethod
    async def answer(self, call: Call) -> Answer:
        """What the provider says when nothing goes wrong on the way."""

    @abc.abstractmethod
    async def looped(self, call: Call, answer: Answer) -> Answer:
        """The answer, so that whoever follows its paging comes round again."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.content.read()
        if request.path.startswith("/_control/"):
            return control.handle(self, request, raw)
        self._calls += 1
        call = Call(
            number=self._calls,
            method=request.method,
            path=request.path,
            content_type=request.headers.get("Content-Type", ""),
            authorization=request.headers.get("Authorization", ""),
            raw=raw,
            cookie="Cookie" in request.headers,
            body=_decoded(raw),
        )
        self.identify(call)
        entry = self.journal.opened(call)
        try:
            return await self._exchange(request, call, entry)
        finally:
            entry.auth = call.auth
            self.journal.closed(entry)

    async def _exchange(self, request: web.BaseRequest, call: Call, entry: Entry) -> web.StreamResponse:
        if self.is_list(call):
            self.changes.before_request(call.oa_id)
        faults = self.faults.take(call)
        entry.faults = [fault.kind for fault in faults]
        await self._wait(self._draw(self.config.latency))
        for slow in faults:
            if slow.kind == "latency":
                await self._wait(self._draw((slow.seconds, max(slow.seconds, slow.seconds_max))))
        fault = next((fault for fault in faults if fault.kind != "latency"), None)
        if fault and fault.kind in ("hang", "reset"):
            if fault.kind == "hang":
                await self._wait(fault.seconds or None)
            reset(request)
            return web.Response()  # goes nowhere: the connection is gone
        answer = await self._answer(call, fault)
        response = await deliver(request, answer, fault)
        entry.status, entry.code, entry.rows = answer.status, answer.code, answer.rows
        return response

    async def _answer(self, call: Call, fault: Fault | None) -> Answer:
        if fault and fault.kind in BEFORE_ANSWER:
            return replaced(fault, self.failure)
        answer = await self.answer(call)
        if not self.is_list(call) or answer.status != 200:
            return answer
        key = (call.endpoint, call.oa_id)
        if fault and fault.kind == "duplicate_page":
            return self._served.get(key, answer)
        if answer.rows:
            self._served[key] = answer
        if fault and fault.kind in ("null_list", "missing_list"):
            return without_list(answer, self.list_path_of(call), null=fault.kind == "null_list")
        return await self.looped(call, answer) if fault and fault.kind == "cursor_loop" else answer

    def list_path_of(self, call: Call) -> tuple[str, ...]:
        """Where this endpoint's answers hold the followers."""
        return self.list_path

    def _draw(self, latency: float | tuple[float, float]) -> float:
        return latency if isinstance(latency, (int, float)) else self._dice.uniform(*latency)

    async def _wait(self, seconds: float | None) -> None:
        if seconds is None or seconds > 0:
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                return


def _decoded(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
