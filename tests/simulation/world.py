"""One simulated run: commands, workers that die and freeze, and what must be true in the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import FollowerPage, JobCancelled, JobCompleted, JobFailed, deadletters
from schemas.events import TERMINAL
from schemas.jobs import JobStatus
from schemas.subjects import command_subject
from schemas.types import Provider
from tests.limits_kit import FakeSharedLimit, SharedState
from tests.simulation import verdict
from tests.simulation.loop import run
from tests.simulation.model import (
    Faults,
    Letters,
    ModelCancellations,
    ModelClient,
    ModelDeadLetters,
    ModelDelivery,
    ModelLog,
    ModelStatusBoard,
    NoMeter,
    Process,
    Queue,
    Stream,
)
from tests.simulation.steering import Steering
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.ports.delivery import Delivery
from worker.core.ratelimit.admission import Gate, open_gate
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import Share
from worker.core.services import World

Handle = Callable[[CommandHandler, Delivery], Awaitable[None]]
START = datetime(2026, 1, 1, tzinfo=UTC)
ACK_WAIT = 3.0
PROVIDERS: tuple[Provider, ...] = ("etelecom", "esms")


async def honest(handler: CommandHandler, delivery: Delivery) -> None:
    """Handle a delivery as the product does."""
    await handler.handle(delivery)


@dataclass
class Breakage:
    """What is wrong on purpose, to see that the simulation notices."""

    fence: bool = True
    trust_duplicates: bool = False
    handle: Handle = honest
    window: float | None = None
    keep_ids: bool = True


@dataclass
class Ledger:
    """What happened in a run."""

    jobs: int = 0
    pages: int = 0
    kills: int = 0
    pauses: int = 0
    drains: int = 0
    duplicates: int = 0
    cancelled: int = 0
    failed: int = 0
    reopened: int = 0
    virtual_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    """Promises that were broken."""
    unforeseen: list[str] = field(default_factory=list)
    """Exceptions that no seed decided on, whatever became of the jobs."""


@dataclass(frozen=True)
class ExpectedJob:
    provider: Provider
    id: str
    ids: list[str]


class Simulation:
    """A seed's world. `run()` once."""

    def __init__(self, seed: int, breakage: Breakage | None = None) -> None:
        self.rng = random.Random(seed)
        self.breakage = breakage or Breakage()
        self.faults = Faults() if self.rng.random() < 0.8 else Faults(0.12, 0.12, 0.12, 0.1, 0.2)
        window = self.breakage.window or self.rng.choice([1.0, 5.0, 120.0])
        self.stream = Stream(self.rng, self.rng.random() < 0.5, window, fence=self.breakage.fence)
        if self.rng.random() < 0.3:
            self.stream.max_payload = 3_600
        self.notes = 300 if self.stream.max_payload < 10_000 else 0
        self.queue = Queue(ACK_WAIT)
        self.statuses: dict[str, JobStatus] = {}
        self.rate = self.rng.choice([0.0, 0.0, 3.0, 40.0])
        self.gates: list[Gate] = []
        self.limits = {provider: SharedState() for provider in PROVIDERS}
        self.letters = Letters()
        self.tasks: list[asyncio.Task[Any]] = []
        self.steering = Steering(self, seed)
        self.ledger = Ledger()
        self.jobs: list[ExpectedJob] = []
        self.replicas: list[Replica] = []
        self.processes: list[Process] = []

    def run(self) -> Ledger:
        """Run to the end and check; the ledger has the problems found."""
        run(self.rng, self._main(), unforeseen=self.ledger.unforeseen)
        return self.ledger

    async def _main(self) -> None:
        self._publish()
        self.replicas = [Replica(self, index) for index in range(self.rng.randint(1, 3))]
        chaos = asyncio.create_task(self._chaos())
        steering = asyncio.create_task(self.steering.act())
        loop = asyncio.get_running_loop()
        while self.queue.left and loop.time() < 3_000:
            await asyncio.sleep(0.5)
            if not self.queue.left and not steering.done():
                await asyncio.wait([steering], timeout=5)  # a finished job may still be cancelled or retried
        chaos.cancel()
        steering.cancel()
        self.ledger.virtual_seconds = loop.time()
        # What landed late or was still under way must not spoil what is finished.
        await asyncio.sleep(30)
        self._check()
        for process in self.processes:
            process.over = True
        for gate in self.gates:
            gate.close()

    def _publish(self) -> None:
        for number in range(self.rng.randint(1, 4)):
            provider = self.rng.choice(PROVIDERS)
            ids = [str(1000 * (number + 1) + index) for index in range(self.rng.choice([0, 1, 5, 12, 37, 80]))]
            job = ExpectedJob(provider, f"job-{number}", ids)
            self.jobs.append(job)
            copies = self.rng.choice([1, 1, 2, 3])
            self.ledger.duplicates += copies - 1
            for _ in range(copies):
                body = f'{{"provider":"{provider}","oa_id":"oa","id":"{job.id}","page_size":5}}'
                self.queue.put(command_subject(provider), body.encode(), {})
        self.rng.shuffle(self.queue.commands)

    async def _chaos(self) -> None:
        pace = self.rng.choice([0.5, 2, 5])
        for _ in range(self.rng.randint(0, 20)):
            await asyncio.sleep(self.rng.expovariate(pace))
            victim = self.rng.choice(self.replicas)
            act = self.rng.choice(["kill", "pause", "drain"])
            if act == "kill":
                self.ledger.kills += 1
                victim.process.kill()
                await self._replace(victim)
            elif act == "pause":
                self.ledger.pauses += 1
                victim.process.pause(self.rng.uniform(0.5, 3 * ACK_WAIT))
            else:
                self.ledger.drains += 1
                victim.draining.set()
                await self._replace(victim)

    async def _replace(self, victim: "Replica") -> None:
        await asyncio.sleep(self.rng.uniform(0, 2))
        self.replicas[self.replicas.index(victim)] = Replica(self, len(self.replicas) + self.ledger.kills * 7)

    def _check(self) -> None:
        problems = self.ledger.problems
        if self.queue.left:
            problems.append(f"{self.queue.left} commands were never done")
        for job in self.jobs:
            self.ledger.jobs += 1
            found = verdict.problems(self.stream, job.provider, job.id, job.ids)
            story = verdict.read(self.stream, job.provider, job.id)
            self.ledger.pages += sum(isinstance(event, FollowerPage) for event in story)
            end = story[-1] if story else None
            if isinstance(end, JobCancelled):
                self.ledger.cancelled += 1
                if job.id not in self.steering.asked:
                    found.append("cancelled, but nobody asked for it")
            if isinstance(end, JobFailed):
                self.ledger.failed += 1
                if not self.faults.fatal:
                    found.append(f"ended as {end}")
                if (job.id, end.generation) not in self._buried():
                    found.append(f"failed in generation {end.generation} without a dead letter")
            told = self.statuses[job.id].state if job.id in self.statuses else None
            if isinstance(end, TERMINAL) and told != _STATES[type(end)]:
                found.append(f"ended as {type(end).__name__}, and its status says {told}")
            generation = end.generation if isinstance(end, TERMINAL) else 1
            self.ledger.reopened += generation > 1
            if generation - 1 > len(self.steering.retried[job.id]):
                found.append(f"reopened {generation - 1} times for {len(self.steering.retried[job.id])} dead letters")
            problems.extend(f"{job.id}: {problem}" for problem in found)

    def _buried(self) -> set[tuple[str, int]]:
        headers = [headers for _, _, headers in self.letters.ever]
        return {(one[deadletters.JOB_ID], int(one.get(deadletters.GENERATION, "1"))) for one in headers}


_STATES: dict[type, str] = {JobCompleted: "completed", JobFailed: "failed", JobCancelled: "cancelled"}


class Replica:
    """A worker process with a few slots."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation = simulation
        self.process = Process(f"w{number}-{simulation.rng.getrandbits(20)}")
        simulation.processes.append(self.process)
        self.draining = asyncio.Event()
        rng = simulation.rng
        log = ModelLog(simulation.stream, self.process, simulation.faults, rng)
        log.trust_duplicates = simulation.breakage.trust_duplicates
        self.world = World(
            log=log,
            status=ModelStatusBoard(simulation.statuses, self.process),
            cancellations=ModelCancellations(simulation.steering.cancelled, self.process),
            dead_letters=ModelDeadLetters(simulation.letters, self.process),
            meter=NoMeter(),
            now=lambda: START + timedelta(seconds=asyncio.get_running_loop().time()),
            dice=rng.random,
            token=lambda: f"{rng.getrandbits(64):x}",
            worker=self.process.name,
            prefetch=rng.choice([1, 3, 8]),
            ack_wait=ACK_WAIT,
            keeps_ids=simulation.breakage.keep_ids,
        )
        self.handler = CommandHandler(
            {provider: self._account(provider, self.world) for provider in PROVIDERS},
            self.world,
            self.draining,
        )
        self.tasks = [asyncio.create_task(self._slot()) for _ in range(rng.randint(1, 3))]

    def _account(self, provider: Provider, world: World) -> OpenAccount:
        simulation, share = self.simulation, None

        async def travel() -> None:
            await self.process.step()
            await asyncio.sleep(simulation.rng.expovariate(200))
            simulation.limits[provider].up = simulation.rng.random() >= simulation.faults.read_fails

        if simulation.rate:
            limit = Limit(simulation.rate)
            shared = FakeSharedLimit(limit, simulation.limits[provider], travel)
            share = Share(provider, limit, shared, world.dice)
        gate = open_gate(provider, provider, world, share)
        simulation.gates.append(gate)
        return OpenAccount(provider, provider, self._client(provider), gate)

    def _client(self, provider: Provider) -> ModelClient:
        simulation = self.simulation
        return _ByJob(simulation, self.process, offsets=provider == "esms")

    async def _slot(self) -> None:
        while not self.draining.is_set():
            await self.process.step()
            command = self.simulation.queue.take()
            if command is None:
                await asyncio.sleep(0.2)
                continue
            delivery = ModelDelivery(self.simulation.queue, command, self.process)
            await self.simulation.breakage.handle(self.handler, delivery)


class _ByJob(ModelClient):
    """Each job has its own list: the command's id says which."""

    def __init__(self, simulation: Simulation, process: Process, *, offsets: bool) -> None:
        super().__init__([], process, simulation.faults, simulation.rng, offsets=offsets, notes=simulation.notes)
        self._simulation = simulation

    async def fetch(self, command, cursor):
        return await self._of(command).fetch(command, cursor)

    def _of(self, command) -> ModelClient:
        simulation = self._simulation
        ids = next(job.ids for job in simulation.jobs if job.id == command.id)
        return ModelClient(
            ids, self._process, simulation.faults, simulation.rng, offsets=self._offsets, notes=simulation.notes
        )
