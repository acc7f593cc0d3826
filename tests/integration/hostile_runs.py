"""Jobs against hostile providers: one worker in this process, one nats-server, all the jobs at once.

Nearly all of their time is waiting (time-outs, backoff), so they wait together.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.events import TERMINAL, FollowerPage, JobEvent, JobFailed
from schemas.subjects import command_subject
from schemas.types import Provider
from schemas.wire import decode, encode
from tests.integration import hostile_acts
from tests.integration.hostile_outcomes import BOTH, REQUEST_TIMEOUT, RETRY_FOR, Outcome, Row
from tests.integration.hostile_server import OA_ID, SIZE, HostileServer, Trial, serving
from worker.app import Worker
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.settings import Settings

KEY = "1150000000000000777:hostilecanarykey"
NEW_KEY = "1150000000000000777:hostilecanarynewkey"
SECRET = "HOSTILECANARYSECRET"
PATIENCE = 60.0
"""Seconds until a job that does not end is a failure of the test."""
APART = 0.02
"""Seconds between two starts, so that no request times out for the sake of the others."""


@dataclass(frozen=True)
class Plan:
    """One trial of one row."""

    row: Row
    provider: Provider
    lasting: bool

    @property
    def name(self) -> str:
        return f"{self.row.key}-{'lasting' if self.lasting else 'passing'}-{self.provider}"

    @property
    def outcome(self) -> Outcome:
        outcome = self.row.lasting if self.lasting else self.row.passing
        assert outcome is not None
        return outcome


def plans(rows: Iterable[Row]) -> list[Plan]:
    """Every trial of these rows."""
    return [
        Plan(row, provider, lasting)
        for row in rows
        for provider in row.providers
        for lasting in (False, True)
        if (row.lasting if lasting else row.passing) is not None
    ]


@dataclass
class Run:
    """What a job published."""

    published: float
    pages: list[FollowerPage] = field(default_factory=list)
    events: list[JobEvent] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    finished: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def seconds(self) -> float:
        return self.finished - self.published

    @property
    def user_ids(self) -> list[str]:
        return [follower.user_id for page in self.pages for follower in page.followers]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A trial, looked at after its end."""

    trial: Trial
    run: Run
    asked: int
    """Requests for the page in question, by the server's count."""
    next_run: Run
    """The good job after it."""


class Jobs:
    """Publishes commands and collects what comes of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._runs: dict[str, Run] = {}

    async def listen(self) -> None:
        """Collect all events from now on."""
        for subject in ("followers.page.>", "followers.job.>"):
            await self._client.subscribe(subject, cb=self._take)
        await self._client.flush()

    async def run(self, provider: Provider, account: str, *, not_after: float | None = None, **command: Any) -> Run:
        """Publish a command and wait for its end. Raises TimeoutError."""
        job_id = f"hostile-{uuid.uuid4().hex}"
        run = self._runs[job_id] = Run(time.monotonic())
        body = {"provider": provider, "id": job_id, "account": account, "oa_id": OA_ID, "page_size": SIZE} | command
        if not_after is not None:
            body["not_after"] = (run.at + timedelta(seconds=not_after)).isoformat()
        await self._client.jetstream().publish(command_subject(provider), encode(body))
        async with asyncio.timeout(PATIENCE):
            await run.ended.wait()
        return run

    async def _take(self, message: Msg) -> None:
        run = self._runs[message.subject.rpartition(".")[2]]
        run.raw.append(message.data)
        if message.subject.startswith("followers.page."):
            run.pages.append(decode(message.data, FollowerPage))
            return
        event: JobEvent = decode(message.data, JobEvent)
        run.events.append(event)
        if isinstance(event, TERMINAL):
            run.finished = time.monotonic()
            run.ended.set()


class World:
    """The worker and the provider that all trials share."""

    def __init__(self, server: HostileServer, stranger: HostileServer, jobs: Jobs, client: Client) -> None:
        self.server, self.stranger, self.jobs, self.client = server, stranger, jobs, client
        self.results: dict[str, asyncio.Task[Result]] = {}
        self.met_circuit = 0
        """Jobs after an outage that gave up while the circuit was still open."""

    def begin(self, started: Iterable[Plan]) -> None:
        """Start these trials."""
        for number, plan in enumerate(started):
            self.results[plan.name] = asyncio.create_task(self._run(plan, number * APART))

    async def _run(self, plan: Plan, delay: float) -> Result:
        await asyncio.sleep(delay)
        row, outcome, trial = plan.row, plan.outcome, self.server.trials[plan.name]
        size = {"page_size": row.page_size} if row.page_size else {}
        run = await self.jobs.run(plan.provider, plan.name, not_after=outcome.not_after, **size)
        # The pages that were read ahead end with their job.
        asked = len(trial.asked(min(row.pages - {1}, default=2)))
        trial.healed = True
        account = plan.name if row.next_job == "same" else f"calm-{plan.provider}"
        return Result(trial=trial, run=run, asked=asked, next_run=await self._next(plan.provider, account))

    async def _next(self, provider: Provider, account: str) -> Run:
        """Run the job after, and one more for each that met only the open circuit, as when RETRY_FOR is this short."""
        circuit = "only a probe now and then is tried"
        while True:
            run = await self.jobs.run(provider, account)
            ended = run.events[-1]
            if not (isinstance(ended, JobFailed) and circuit in ended.error.message):
                return run
            self.met_circuit += 1


@asynccontextmanager
async def hostile_world(nats_url: str, folder: Path, chosen: list[Plan]) -> AsyncIterator[World]:
    """A worker with an account for each trial, against a server that misbehaves. The streams have to be there."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving())
        stranger = await stack.enter_async_context(serving())
        accounts: dict[str, Any] = {}
        for plan in chosen:
            path = folder / plan.name
            path.write_text(KEY)
            trial = server.trials[plan.name] = _trial(plan)
            trial.memory = {
                "elsewhere": stranger.url,
                "here": trial.base_url(server.url),
                "rotate": _rotation(trial, path),
            }
            accounts[plan.name] = account(trial, server.url, key_file=path)
        for provider in BOTH:
            calm = Trial(f"calm-{provider}", provider, hostile_acts.hang, frozenset(), 0, KEY)
            server.trials[calm.name] = calm
            accounts[calm.name] = account(calm, server.url)
        settings = Settings.model_validate(
            {
                "nats": {"servers": (nats_url,)},
                "worker": {
                    "http_port": 0,
                    "request_timeout": REQUEST_TIMEOUT,
                    "retry_for": RETRY_FOR,
                    "max_jobs": 256,
                },
                "accounts": accounts,
            }
        )
        client = await nats.connect(nats_url, allow_reconnect=False)
        stack.push_async_callback(client.close)
        jobs = Jobs(client)
        await jobs.listen()
        await stack.enter_async_context(Worker(settings))
        world = World(server, stranger, jobs, client)
        world.begin(chosen)
        stack.push_async_callback(_stop, world)
        yield world


@asynccontextmanager
async def fresh_streams(nats_url: str) -> AsyncIterator[None]:
    """The product's streams on a server that has none before and after."""
    client = await nats.connect(nats_url, allow_reconnect=False)
    await _delete_streams(client)
    await reconcile(client, TopologyConfig())
    yield
    await _delete_streams(client)
    await client.close()


async def _delete_streams(client: Client) -> None:
    for stream in await client.jetstream().streams_info():
        await client.jetstream().delete_stream(str(stream.config.name))


def account(trial: Trial, url: str, key_file: Path | None = None) -> dict[str, Any]:
    """The settings of the trial's account, without a limit of our own."""
    key = {"api_key": KEY} if key_file is None else {"api_key_file": str(key_file)}
    common = {"provider": trial.provider, "base_url": trial.base_url(url), "rate_limit": 0.0, **key}
    return common if trial.provider == "etelecom" else common | {"secret_key": SECRET, "endpoint": "GetFollowers"}


def _trial(plan: Plan) -> Trial:
    row = plan.row
    return Trial(plan.name, plan.provider, row.act, row.pages, None if plan.lasting else row.times, KEY)


def _rotation(trial: Trial, path: Path) -> Any:
    def rotate() -> None:
        path.write_text(NEW_KEY)
        trial.key = NEW_KEY

    return rotate


async def _stop(world: World) -> None:
    for task in world.results.values():
        task.cancel()
    await asyncio.gather(*world.results.values(), return_exceptions=True)
