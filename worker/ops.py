"""What an operator asks of a running replica: is it alive, is it ready, what has it done."""

from collections.abc import Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


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

    def __init__(self, readiness: Readiness, registry: CollectorRegistry, routes: Sequence[web.RouteDef] = ()) -> None:
        """Take what to report; nothing listens before `start`."""
        self._routes = routes
        self._readiness = readiness
        self._registry = registry
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on `host`:`port`. Raises OSError when that can't be had."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_WITHIN)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Stop listening."""
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
