"""The unmodified change feed in virtual time: kills, freezes, rivals and a lying network at every await."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.changes import Compared, Feed, FeedBaseline
from schemas.jobs import ControlError
from schemas.subjects import change_subject
from tests.changes_kit import CHANGES, FakeFeeds, FakeSnapshots, Mirror, change_of, inline, people, publish_list
from tests.fakes import make_world
from tests.simulation import some
from tests.simulation import world as simulation_world
from tests.simulation.loop import run
from tests.simulation.model import Faults, ModelLog, Process, Stream
from tests.simulation.world import Simulation
from worker.core.cancellation import DrainingError
from worker.core.changes.feeds import ChangeFeeds
from worker.core.changes.pointer import EndedJob
from worker.core.changes.ports import FeedsUnavailableError
from worker.core.changes.publisher import ChangeLog
from worker.core.changes.release import Releases
from worker.core.jobs.handler import CommandHandler
from worker.core.ports.event_log import Entry, LogUnavailableError

SEEDS = some(300)
START = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNTS = ("shop", "branch")
ACK_WAIT = 3.0


class Lying:
    """A bucket as one process sees it: calls fail before or after they have acted."""

    def __init__(self, inside: Any, world: Any, process: Process) -> None:
        self._inside, self._world, self._process = inside, world, process

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._inside, name)

        async def call(*arguments: Any) -> Any:
            await self._world.travel(self._process)
            fate = self._world.rng.random()
            if fate < self._world.faults.publish_lost:
                raise FeedsUnavailableError
            done = await act(*arguments)
            await self._world.travel(self._process)
            if fate > 1 - self._world.faults.ack_lost:
                raise FeedsUnavailableError
            return done

        return call


class Pages:
    """`PageStore` of one process on the shared stream, of which a replica that lags may answer."""

    def __init__(self, world: Any, process: Process) -> None:
        self._world, self._process = world, process

    async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
        entries = [entry for entry in self._world.stream.of(subject) if entry.sequence <= last]
        if not sure and self._world.rng.random() < self._world.faults.read_fails:
            entries = entries[:-1]
        for entry in entries:
            await self._step()
            yield [entry]

    async def at(self, sequence: int) -> Entry | None:
        await self._step()
        entry: Entry = self._world.stream.entries[sequence - 1][1]
        return entry

    async def _step(self) -> None:
        await self._world.travel(self._process)
        if self._world.rng.random() < self._world.faults.read_fails:
            raise LogUnavailableError


class ChangeWorld:
    """A seed's world: lists of two feeds on one subject, and replicas that die. `run()` once."""

    def __init__(self, seed: int, *, fence: bool = True) -> None:
        self.rng = random.Random(seed)
        self.faults = Faults() if self.rng.random() < 0.7 else Faults(0.12, 0.12, 0.12, 0.1, 0.2)
        window = self.rng.choice([1.0, 120.0]) if fence else 0.01
        self.stream = Stream(self.rng, self.rng.random() < 0.5, window, fence=fence)
        self.feeds, self.snapshots = FakeFeeds(), FakeSnapshots()
        self.lists: dict[str, set[str]] = {}
        self.jobs: list[EndedJob] = []
        self.due: dict[str, float] = {}
        """When the command of each job that isn't acknowledged is delivered again."""
        self.mirror = Mirror()
        self.seen: Counter[str] = Counter()
        self.replicas: list[Replica] = []
        self.released: set[str] = set()
        self.unforeseen: list[str] = []

    def run(self) -> list[str]:
        """Return what was wrong."""
        return run(self.rng, self._main(), unforeseen=self.unforeseen)

    async def travel(self, process: Process) -> None:
        await process.step()
        await asyncio.sleep(self.rng.expovariate(200))
        await process.step()

    async def _main(self) -> list[str]:
        await self._publish()
        self.replicas = [Replica(self, number) for number in range(self.rng.randint(1, 3))]
        chaos = asyncio.create_task(self._chaos())
        loop = asyncio.get_running_loop()
        while self.due and loop.time() < 3_000:
            await asyncio.sleep(0.5)
        chaos.cancel()
        await asyncio.sleep(30)  # what landed late must not spoil what is finished
        await self._let_last_release_finish()
        for replica in self.replicas:
            replica.process.over = True
        return self._problems()

    async def _publish(self) -> None:
        calm = make_world(log=ModelLog(self.stream, Process("provider"), Faults(0, 0, 0, 0, 0), self.rng))
        for account in ACCOUNTS[: self.rng.randint(1, 2)]:
            ids = set(range(self.rng.choice([0, 5, 40])))
            for number in range(self.rng.randint(1, 4)):
                ids = ids - set(self.rng.sample(sorted(ids), min(len(ids), self.rng.choice([0, 2, 20]))))
                ids |= {self.rng.randrange(100) for _ in range(self.rng.choice([0, 3, 15]))}
                job_id = f"{account}-{number}"
                whole = self.rng.random() < 0.8
                listed = people(sorted(ids), display_name=self.rng.choice(["A", "B"]))
                job = await publish_list(
                    calm, job_id, listed, day=number, account=account, page_size=7,
                    verdict="complete" if whole else "drifted",
                )  # fmt: skip
                self.jobs.append(job)
                self.lists[job_id] = {follower.user_id for follower in listed}
                self.due[job_id] = self.rng.uniform(0, 1) + number * self.rng.choice([0, 2])

    async def _chaos(self) -> None:
        pace = self.rng.choice([0.5, 2, 5])
        for _ in range(self.rng.randint(0, 20)):
            await asyncio.sleep(self.rng.expovariate(pace))
            victim = self.rng.choice(self.replicas)
            act = self.rng.choice(["kill", "pause", "drain", "release"])
            self.seen[act] += 1
            if act == "pause":
                victim.process.pause(self.rng.uniform(0.5, 3 * ACK_WAIT))
            elif act == "release":
                self._release(victim)
            else:
                victim.process.kill() if act == "kill" else victim.draining.set()
                await asyncio.sleep(self.rng.uniform(0, 2))
                self.replicas[self.replicas.index(victim)] = Replica(self, 10 + sum(self.seen.values()))

    def _release(self, replica: "Replica") -> None:
        held = [feed.held.job.job_id for _, feed in self._all() if feed.held is not None]
        if held:
            job_id = self.rng.choice(held)
            self.released.add(job_id)
            replica.tasks.append(asyncio.create_task(replica.releases.answer(job_id)))

    async def _let_last_release_finish(self) -> None:
        """Whoever asked for a release asks again, until it is answered for good."""
        last = Replica(self, 99)
        for job_id in self.released:
            while True:
                answer = await last.releases.answer(job_id)
                if isinstance(answer, Feed) and answer.next is None:
                    break
                if isinstance(answer, ControlError) and not answer.error.retryable:
                    break
                await asyncio.sleep(1)
        self.replicas.append(last)

    def _all(self) -> list[tuple[str, Feed]]:
        return [(key, FakeFeeds.read(value)) for key, (_, value) in self.feeds.values.items()]

    def _problems(self) -> list[str]:
        found = [f"{job_id} was never done" for job_id in self.due]
        baselines = 0
        for entry in self.stream.of(CHANGES):
            event = change_of(entry)
            self.mirror.take(event)
            self.seen[type(event).__name__] += 1
            if isinstance(event, FeedBaseline):
                baselines += 1
                self.mirror.know(event.account, "{}", self.lists[event.job_id])
            elif isinstance(event, Compared) and self.mirror.lists[event.account, "{}"] != self.lists[event.job_id]:
                found.append(f"{event.job_id}: the changes don't lead to its list")
        feeds = self._all()
        if baselines != len(feeds):
            found.append(f"{baselines} baselines of {len(feeds)} feeds")
        for _, feed in feeds:
            found += self._feed_problems(feed)
        return found + self.mirror.problems

    def _feed_problems(self, feed: Feed) -> list[str]:
        found = []
        complete = [job for job in self.jobs if job.account == feed.account and job.ended.verdict == "complete"]
        newest = max(complete, key=lambda job: job.ended.started_at).ended.job_id
        kept = {job.job_id for job in (feed.current, feed.held.job if feed.held else None) if job is not None}
        if newest not in kept or feed.next is not None:
            found.append(f"{feed.account}: the newest list is {newest}, but the feed has {kept}")
        if feed.current is None or self.mirror.jobs.get((feed.account, "{}")) != feed.current.job_id:
            found.append(f"{feed.account}: the feed is at {feed.current}, its events are not")
        stored = {job_id for key, job_id in self.snapshots.objects if f".{feed.account}." in key}
        if not kept <= stored:
            found.append(f"{feed.account}: snapshots {stored} lack some of {kept}")
        return found


class Replica:
    """A worker process with a few slots, which knows nothing but change feeds."""

    def __init__(self, world: ChangeWorld, number: int) -> None:
        self.world = world
        self.process = Process(f"w{number}-{world.rng.getrandbits(20)}")
        self.draining = asyncio.Event()
        rng = world.rng
        log = ModelLog(world.stream, self.process, world.faults, rng)
        self.changes = ChangeFeeds(
            make_world(
                log=log,
                now=lambda: START + timedelta(seconds=asyncio.get_running_loop().time()),
                token=lambda: f"{rng.getrandbits(64):x}",
                worker=self.process.name,
            ),
            Lying(world.feeds, world, self.process),
            Lying(world.snapshots, world, self.process),
            Pages(world, self.process),
            threshold=0.3,
            offload=inline,
        )
        self.releases = Releases(self.changes, self.draining)
        self.tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._slot()) for _ in range(rng.randint(1, 3))]
        self.tasks.append(asyncio.create_task(self.releases.resume()))

    async def _slot(self) -> None:
        world, loop = self.world, asyncio.get_running_loop()
        while not self.draining.is_set():
            await self.process.step()
            job = next((one for one in world.jobs if world.due.get(one.ended.job_id, 1e9) <= loop.time()), None)
            if job is None:
                await asyncio.sleep(0.2)
                continue
            job_id = job.ended.job_id
            world.due[job_id] = loop.time() + ACK_WAIT
            beat = asyncio.create_task(self._beat(job_id))
            try:
                await self.changes.follow(job, self.releases._check)
                await self.process.step()
                world.due.pop(job_id, None)
            except Exception as error:
                if not (isinstance(error, DrainingError) and self.draining.is_set()):
                    world.unforeseen.append(f"{job_id}: {error!r}")
            finally:
                beat.cancel()

    async def _beat(self, job_id: str) -> None:
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            await self.process.step()
            if job_id in self.world.due:
                self.world.due[job_id] = asyncio.get_running_loop().time() + ACK_WAIT


def test_every_feed_tells_each_change_once_and_in_order_whatever_dies():
    seen: Counter[str] = Counter()

    for seed in range(SEEDS):
        world = ChangeWorld(seed)
        problems = world.run()
        assert not problems, f"seed {seed}: {problems}"
        assert not world.unforeseen, f"seed {seed}: {world.unforeseen}"
        seen += world.seen

    for name in ("kill", "pause", "release", "Held", "Compared", "Changed", "FeedBaseline"):
        assert seen[name] > SEEDS / 10, f"{name}: {seen[name]}"


def test_a_log_without_the_expected_sequence_is_caught():
    assert any(ChangeWorld(seed, fence=False).run() for seed in range(30))


def test_forgetting_to_look_what_is_published_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ChangeLog, "_see", lambda self, entry: None)

    assert any(ChangeWorld(seed).run() for seed in range(100))


def test_changing_a_pointer_without_looking_is_caught(monkeypatch: pytest.MonkeyPatch):
    async def put(self: FakeFeeds, key: str, feed: Feed, revision: int) -> int:
        return await original(self, key, feed, self.values.get(key, (0, b""))[0])

    original = FakeFeeds.put
    monkeypatch.setattr(FakeFeeds, "put", put)

    assert any(ChangeWorld(seed).run() for seed in range(300))


class FedSimulation(Simulation):
    """The whole worker's world, in which each replica has a change feed too."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(seed)
        self.feeds, self.snapshots = FakeFeeds(), FakeSnapshots()
        monkeypatch.setattr(simulation_world, "CommandHandler", self._handler)

    def _handler(self, accounts: Any, world: Any, draining: asyncio.Event) -> CommandHandler:
        handler = CommandHandler(accounts, world, draining)
        process = world.log._process
        handler.changes = ChangeFeeds(
            world,
            Lying(self.feeds, self, process),
            Lying(self.snapshots, self, process),
            Pages(self, process),
            threshold=0.3,
            offload=inline,
        )
        return handler

    async def travel(self, process: Process) -> None:
        await process.step()
        await asyncio.sleep(self.rng.expovariate(200))
        await process.step()

    def change_problems(self) -> list[str]:
        """What is wrong with the changes, and how many sets there were."""
        mirror, found = Mirror(), []
        for provider in ("etelecom", "esms"):
            for entry in self.stream.of(change_subject(provider, "oa")):
                event = change_of(entry)
                mirror.take(event)
                if isinstance(event, FeedBaseline):
                    ids = next(job.ids for job in self.jobs if job.id == event.job_id)
                    mirror.know(event.account, "{}", ids)
        for key, (_, value) in self.feeds.values.items():
            feed = FakeFeeds.read(value)
            if feed.next is not None or feed.current is None:
                found.append(f"{key} is left at {feed}")
            elif mirror.jobs.get((feed.account, "{}")) != feed.current.job_id:
                found.append(f"{key} is at {feed.current.job_id}, its events are not")
        return found + mirror.problems


def test_a_whole_workers_feeds_hold_too_whatever_dies(monkeypatch: pytest.MonkeyPatch):
    changes = 0

    for seed in range(100):
        world = FedSimulation(seed, monkeypatch)
        ledger = world.run()
        assert not ledger.problems, f"seed {seed}: {ledger.problems}"
        assert not ledger.unforeseen, f"seed {seed}: {ledger.unforeseen}"
        assert not world.change_problems(), f"seed {seed}: {world.change_problems()}"
        changes += sum(".change." in subject for subject, _ in world.stream.entries)

    assert changes > 100
