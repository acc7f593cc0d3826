"""The core against a list that changes while it is read, crashed between any two steps of its event loop."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from schemas import FollowerPage, JobCompleted, JobEvent, decode
from schemas.commands import FetchFollowers
from schemas.events import TERMINAL
from schemas.follower import Follower
from schemas.subjects import command_subject, job_subject, page_subject
from tests.simulation.loop import VirtualLoop, end
from tests.simulation.model import (
    Faults,
    Letters,
    ModelCancellations,
    ModelDeadLetters,
    ModelDelivery,
    ModelLog,
    ModelStatusBoard,
    NoMeter,
    Process,
    Queue,
    Stream,
)
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.ports.provider import Offsets, Order, ProviderPage
from worker.core.services import World

PAGE_SIZE = 3
ACK_WAIT = 3.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class LivingList:
    """Followers by id, newest (highest) first; people come and go."""

    def __init__(self, size: int) -> None:
        self.present = set(range(100, 100 + 10 * size, 10))
        self.ever = set(self.present)
        self.throughout = set(self.present)

    def follow(self, user: int) -> None:
        self.present.add(user)
        self.ever.add(user)

    def unfollow(self, index: int) -> None:
        if self.present:
            gone = sorted(self.present)[index % len(self.present)]
            self.present.remove(gone)
            self.throughout.discard(gone)

    @property
    def rows(self) -> list[int]:
        return sorted(self.present, reverse=True)


class LivingClient:
    """`ProviderClient` over a living list: by key as eTelecom pages, or by offset as eSMS does."""

    def __init__(self, people: LivingList, process: Process, *, offsets: bool) -> None:
        self._people, self._process, self._offsets = people, process, offsets

    def check(self, command: FetchFollowers) -> None:
        """Everything is possible here."""

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        await self._process.step()
        await asyncio.sleep(0.05)
        rows = self._people.rows
        if self._offsets:
            start = int(cursor or 0)
            page = rows[start : start + PAGE_SIZE]
            following = str(start + len(page)) if page and start + len(page) < len(rows) else None
        else:
            page = [row for row in rows if cursor is None or row < int(cursor)][:PAGE_SIZE]
            following = str(page[-1]) if page else None
        await self._process.step()
        total = len(rows) if self._offsets else None
        return ProviderPage(followers=[Follower(user_id=str(row)) for row in page], next_cursor=following, total=total)

    def order(self, command: FetchFollowers) -> Order:
        return "unknown" if self._offsets else "still"

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        return Offsets(count=PAGE_SIZE, last=1_000_000) if self._offsets else None

    async def close(self) -> None:
        """Nothing to let go."""


class JobUnderFire(RuleBasedStateMachine):
    """One job, published once or more often; whoever works on it may die at any step."""

    @initialize(size=st.integers(0, 12), offsets=st.booleans(), seed=st.integers(0, 10**6), faults=st.booleans())
    def begin(self, size: int, offsets: bool, seed: int, faults: bool) -> None:
        self.rng = random.Random(seed)
        self.loop = VirtualLoop(self.rng)
        self.faults = Faults(provider_fails=0) if faults else Faults(0, 0, 0, 0, 0)
        self.provider = "esms" if offsets else "etelecom"
        self.offsets = offsets
        self.people = LivingList(size)
        self.stream = Stream(self.rng, dedupe_first=self.rng.random() < 0.5, window=1.0)
        self.queue = Queue(ACK_WAIT)
        self.processes: list[Process] = []
        self.publish()
        self.replace()

    @rule(steps=st.integers(1, 40))
    def work(self, steps: int) -> None:
        """Let the event loop make so many turns."""
        self._run(lambda: None, steps)

    @rule(user=st.integers(0, 400))
    def follow(self, user: int) -> None:
        self.people.follow(user)

    @rule(index=st.integers(0, 100))
    def unfollow(self, index: int) -> None:
        self.people.unfollow(index)

    @rule()
    def crash(self) -> None:
        self.processes[-1].kill()
        self.replace()

    @rule(seconds=st.floats(0.1, 3 * ACK_WAIT))
    def freeze(self, seconds: float) -> None:
        """The worker stops for a while; another one comes up beside it."""
        self._run(lambda: self.processes[-1].pause(seconds), 1)
        self.replace()

    @precondition(lambda self: len(self.queue.commands) < 3)
    @rule()
    def publish(self) -> None:
        body = f'{{"provider":"{self.provider}","oa_id":"oa","id":"j","page_size":{PAGE_SIZE}}}'
        subject = command_subject(self.provider)  # type: ignore[arg-type]
        self._run(lambda: self.queue.put(subject, body.encode(), {}), 1)

    def replace(self) -> None:
        process = Process(f"w{len(self.processes)}")
        self.processes.append(process)
        self._run(lambda: self.loop.create_task(self._worker(process)), 1)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            for _ in range(20_000):
                if not self.queue.left:
                    break
                self._run(lambda: None, 50)
            self._check()
        finally:
            for process in self.processes:
                process.over = True
            end(self.loop)
        heard = self.loop.ear.heard()
        assert not heard, heard

    def _run(self, act: Callable[[], object], steps: int) -> None:
        async def turns() -> None:
            act()
            for _ in range(steps):
                # A sleep of nothing keeps the clock still while others are ready; then time moves on.
                await asyncio.sleep(0 if self.rng.random() < 0.7 else 0.02)

        self.loop.run_until_complete(turns())

    async def _worker(self, process: Process) -> None:
        world = World(
            log=ModelLog(self.stream, process, self.faults, self.rng),
            status=ModelStatusBoard({}, process),
            cancellations=ModelCancellations({}, process),
            dead_letters=ModelDeadLetters(Letters(), process),
            meter=NoMeter(),
            now=lambda: START + timedelta(seconds=self.loop.time()),
            dice=self.rng.random,
            token=lambda: f"{self.rng.getrandbits(64):x}",
            worker=process.name,
            prefetch=3,
            ack_wait=ACK_WAIT,
        )
        client = LivingClient(self.people, process, offsets=self.offsets)
        account = OpenAccount("a", self.provider, client)  # type: ignore[arg-type]
        handler = CommandHandler({"a": account}, world, asyncio.Event())
        while True:
            await process.step()
            command = self.queue.take()
            if command is None:
                await asyncio.sleep(0.1)
            else:
                await handler.handle(ModelDelivery(self.queue, command, process))

    def _check(self) -> None:
        assert self.queue.left == 0, "a command was never done"
        entries = self.stream.of(page_subject(self.provider, "oa", "j"))  # type: ignore[arg-type]
        pages = [decode(entry.data, FollowerPage) for entry in entries]
        events = self.stream.of(job_subject(self.provider, "oa", "j"))  # type: ignore[arg-type]
        decoded: list[tuple[int, JobEvent]] = [(entry.sequence, decode(entry.data, JobEvent)) for entry in events]
        ids = [int(follower.user_id) for page in pages for follower in page.followers]

        assert [page.page for page in pages] == list(range(1, len(pages) + 1))
        assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
        assert [page.cursor for page in pages[1:]] == [page.next_cursor for page in pages[:-1]]
        assert len(ids) == len(set(ids)), "somebody was published twice"
        assert set(ids) <= self.people.ever
        ends = [(sequence, event) for sequence, event in decoded if isinstance(event, TERMINAL)]
        assert len(ends) == 1
        sequence, end = ends[0]
        assert isinstance(end, JobCompleted)
        assert sequence > entries[-1].sequence
        assert (end.pages, end.followers) == (len(pages), len(ids))
        if not self.offsets or end.missed_at_most == 0:
            assert self.people.throughout <= set(ids), "nobody who was there all the time is skipped"
        if end.verdict == "complete":
            assert end.missed_at_most == 0
        if self.offsets and (end.duplicates_dropped or end.total_first != end.total_last):
            assert end.verdict == "drifted"


TestJobUnderFire = JobUnderFire.TestCase
TestJobUnderFire.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
