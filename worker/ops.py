"""What an operator asks of a running replica: is it alive, is it ready, what has it done."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from schemas.subjects import PROVIDERS
from schemas.types import JobState, Provider, WaitReason
from worker.core.breaker import Circuit


class Readiness:
    """Whether this replica can take commands, and if not, why."""

    def __init__(self) -> None:
        """Start unready."""
        self.why: str | None = "starting"

    @property
    def ready(self) -> bool:
        """True while nothing stands in the way."""
        return self.why is None


class PrometheusMeter:
    """The core's `Meter`, counted for Prometheus. Labels are bounded: no job, OA or account is one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics in `registry`."""
        self._pages = Counter("followers_pages", "Follower pages published.", ["provider"], registry=registry)
        self._followers = Counter("followers_followers", "Followers published.", ["provider"], registry=registry)
        self._failures = Counter(
            "followers_request_failures", "Provider requests that failed.", ["provider", "code"], registry=registry
        )
        self._jobs = Counter("followers_jobs", "Jobs by how they ended here.", ["provider", "state"], registry=registry)
        self._waits = Counter(
            "followers_request_wait_seconds",
            "Seconds that requests waited before they could start.",
            ["provider", "reason"],
            registry=registry,
        )
        self._circuits = Gauge(
            "followers_circuits", "Accounts whose circuit isn't closed.", ["provider", "state"], registry=registry
        )
        self._alone = Gauge(
            "followers_limits_not_shared",
            "Accounts whose limit can't be shared with other replicas now.",
            ["provider"],
            registry=registry,
        )
        self._circuit_of: dict[tuple[Provider, str], Circuit] = {}
        for provider in PROVIDERS:
            self._alone.labels(provider)
            for state in ("open", "half_open"):
                self._circuits.labels(provider, state)
        self.in_flight = Gauge("followers_jobs_in_flight", "Commands in hand.", ["provider"], registry=registry)
        tasks = Gauge("followers_tasks", "Tasks of the event loop; a steady rise is a leak.", registry=registry)
        tasks.set_function(_tasks)

    def page_published(self, provider: Provider, followers: int) -> None:
        """Count a page, with its number of followers."""
        self._pages.labels(provider).inc()
        self._followers.labels(provider).inc(followers)

    def request_failed(self, provider: Provider, code: str) -> None:
        """Count a request that gave an error with the contract's `code`."""
        self._failures.labels(provider, code).inc()

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """Count a job that came to `state` in this replica."""
        self._jobs.labels(provider, state).inc()

    def request_waited(self, provider: Provider, reason: WaitReason, seconds: float) -> None:
        """Add up the seconds that a request waited before it could start."""
        self._waits.labels(provider, reason).inc(seconds)

    def circuit_changed(self, provider: Provider, account: str, state: Circuit) -> None:
        """Count the account under its new state."""
        before = self._circuit_of.get((provider, account), "closed")
        self._circuit_of[provider, account] = state
        for circuit, change in ((before, -1), (state, 1)):
            if circuit != "closed":
                self._circuits.labels(provider, circuit).inc(change)

    def limit_shared(self, provider: Provider, account: str, *, shared: bool) -> None:
        """Count the accounts that are on their own."""
        self._alone.labels(provider).inc(-1 if shared else 1)


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # read outside of the loop
        return 0


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
            return web.Response(text="ready\n")
        return web.Response(text=f"{self._readiness.why}\n", status=503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
