"""What an operator asks of a running replica: is it alive, is it ready, what has it done."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from worker.connections import Connections
from worker.hosts import Hosts


class Readiness:
    """Whether this replica can take commands, and if not, why."""

    def __init__(self) -> None:
        """Start unready."""
        self.why: str | None = "starting"
        self.notes: Sequence[str] = ()
        """What stands in nobody's way here, and still keeps jobs from moving."""

    @property
    def ready(self) -> bool:
        """True while nothing stands in the way."""
        return self.why is None


CLOSE_WITHIN = 2.0
"""Seconds that open requests have to end once the server stops."""


class OpsServer:
    """The HTTP server beside the subscribers: `/healthz`, `/readyz`, `/metrics`, and whatever routes it is given."""

    def __init__(
        self,
        readiness: Readiness,
        registry: CollectorRegistry,
        routes: Sequence[web.RouteDef] = (),
        *,
        descriptors: int = 1024,
        hosts: Iterable[str] = (),
    ) -> None:
        """Take what to report; nothing listens before `start`.

        `descriptors`: how many the process may have. `hosts`: names by which it may be asked, besides its own.
        """
        self._routes = routes
        self._connections = Connections(descriptors)
        self._hosts = Hosts(hosts)
        self._readiness = readiness
        self._registry = registry
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def most_connections(self) -> int:
        """How many connections it takes at the same time."""
        return self._connections.most

    async def start(self, host: str, port: int) -> None:
        """Listen on `host`:`port`. Raises OSError when that can't be had."""
        app = web.Application(middlewares=[self._connections.middleware, self._hosts.middleware])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_WITHIN)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(partial(self._connections.open, server), host, port)

    async def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        # That the event loop answers is what liveness means: a broker outage must not restart anybody.
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._readiness.ready:
            return web.Response(text="".join(f"{line}\n" for line in ("ready", *self._readiness.notes)))
        return web.Response(text=f"{self._readiness.why}\n", status=503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
