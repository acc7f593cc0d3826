"""Looking for a command in a queue of any length: what is looked at, and what is said where that isn't all."""

import asyncio
import time
from datetime import UTC
from types import SimpleNamespace
from typing import Any

import msgspec
import nats.errors
import pytest

from tests.jetstream_kit import STORED_AT, FakeStream
from worker.core.ports.job_store import QueuedCommand, QueueUnavailableError
from worker.jetstream.commands import queue
from worker.jetstream.commands.queue import JetStreamCommandQueue


class Commands(FakeStream):
    """The queue of eSMS, with what its consumer says of itself."""

    def __init__(self, count: int, *, delivered: int = 0) -> None:
        super().__init__()
        for sequence in range(1, count + 1):
            self.add(sequence)
        self.delivered: Any = SimpleNamespace(stream_seq=delivered)
        self.pending: int | None = max(0, count - delivered)
        self.in_hand: int | None = None
        self.waiting: int | None = None

    def add(self, sequence: int, *, provider: str = "esms") -> None:
        body = {"provider": provider, "oa_id": "1", "id": f"j{sequence}"}
        self.put(sequence, f"followers.fetch.{provider}", msgspec.json.encode(body))

    async def stream_info(self, stream: str) -> Any:
        state = SimpleNamespace(first_seq=min(self.messages, default=0), last_seq=max(self.messages, default=0))
        return SimpleNamespace(state=state, config=SimpleNamespace(allow_direct=False))

    async def consumer_info(self, stream: str, name: str) -> Any:
        return SimpleNamespace(
            delivered=self.delivered,
            num_pending=self.pending if name == "worker-esms" else 1,
            num_ack_pending=self.in_hand,
            num_waiting=self.waiting,
            paused=None,
        )


@pytest.fixture(autouse=True)
def _a_short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "SEARCHED", 500)


async def find(commands: Commands, job_id: str) -> QueuedCommand | None:
    return await JetStreamCommandQueue(commands.client, timeout=1).find(job_id)


async def place(commands: Commands, number: int) -> int | None:
    """How many are ahead of that command."""
    found = await find(commands, f"j{number}")
    assert found is not None
    assert found.sequence == number
    return found.ahead


@pytest.mark.parametrize(
    ("count", "number", "ahead"),
    [
        *((3, 1, 0), (3, 3, 2), (500, 500, 499), (501, 501, 500), (1000, 500, 499), (1000, 501, 500)),
        *((1000, 1000, 999), (1001, 1001, 1000), (1001, 502, 501), (1500, 1001, 1000), (1500, 1500, 1499)),
    ],
)
async def test_the_oldest_and_the_newest_500_are_looked_at(count: int, number: int, ahead: int) -> None:
    assert await place(Commands(count), number) == ahead


@pytest.mark.parametrize("number", [501, 1000])
async def test_of_one_between_them_nothing_can_be_said(number: int) -> None:
    with pytest.raises(QueueUnavailableError, match=r"^the queue is too long to be searched$"):
        await find(Commands(1500), f"j{number}")


@pytest.mark.parametrize("count", [0, 499, 500, 501, 1000])
async def test_one_that_is_not_in_a_queue_looked_at_whole_is_not_there(count: int) -> None:
    assert await find(Commands(count), "nobody") is None


async def test_one_that_is_not_found_in_a_queue_that_is_too_long_may_be_there() -> None:
    with pytest.raises(QueueUnavailableError, match=r"^the queue is too long to be searched$"):
        await find(Commands(1001), "nobody")


async def test_a_long_queue_of_one_provider_hides_no_other_providers_command() -> None:
    commands = Commands(1500)
    commands.add(1600, provider="etelecom")

    found = await find(commands, "j1600")

    assert found is not None
    assert (found.provider, found.ahead) == ("etelecom", 0)


@pytest.mark.parametrize(("delivered", "ahead"), [(1, [None, 0, 1]), (2, [None, None, 0]), (3, [None] * 3)])
async def test_what_was_delivered_has_no_place_and_is_not_ahead(delivered: int, ahead: list[int | None]) -> None:
    commands = Commands(3, delivered=delivered)

    assert [await place(commands, number) for number in (1, 2, 3)] == ahead


@pytest.mark.parametrize(("delivered", "ahead"), [(1098, 1), (1099, 0), (1100, None)])
async def test_so_it_is_among_the_newest(delivered: int, ahead: int | None) -> None:
    assert await place(Commands(1200, delivered=delivered), 1100) == ahead


@pytest.mark.parametrize("pending", [None, 50, 1000])
async def test_a_consumer_that_says_nothing_or_too_little_is_not_believed(pending: int | None) -> None:
    commands = Commands(1200)
    commands.delivered = None
    commands.pending = pending

    assert [await place(commands, number) for number in (3, 700, 1200)] == [2, 699, 1199]


async def test_among_the_newest_the_place_is_as_the_consumer_counts() -> None:
    commands = Commands(1200)
    commands.pending = 1001

    assert await place(commands, 1199) == 999
    assert await place(commands, 701) == 501


async def test_a_command_is_told_with_what_is_known_of_its_queue() -> None:
    commands = Commands(1)
    found = await find(commands, "j1")
    commands.in_hand, commands.waiting = 3, 2
    busy = await find(commands, "j1")

    assert found is not None
    assert busy is not None
    assert (found.in_hand, found.asking, busy.in_hand, busy.asking) == (0, 0, 3, 2)
    assert found.stored_at == STORED_AT
    assert found.stored_at.tzinfo is UTC
    assert (found.provider, found.oa_id, found.account, found.sequence) == ("esms", "1", None, 1)


async def test_what_cannot_be_read_is_no_command_but_stands_in_the_way() -> None:
    commands = Commands(3)
    commands.put(2, "followers.fetch.esms", b"no JSON")

    assert await place(commands, 3) == 2


@pytest.mark.parametrize("trouble", [nats.errors.TimeoutError(), OSError(), nats.errors.NoServersError()])
async def test_a_server_that_does_not_answer_is_said_to_be_silent(trouble: Exception) -> None:
    commands = Commands(3)
    commands.errors = [trouble]

    words = "the queue can't be searched in time" if isinstance(trouble, TimeoutError) else "NATS didn't answer"
    with pytest.raises(QueueUnavailableError, match=f"^{words}"):
        await find(commands, "j1")


class Clock:
    """A monotonic clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_what_was_found_is_told_for_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, commands = Clock(), Commands(0)
    monkeypatch.setattr(queue, "time", clock)
    finder = JetStreamCommandQueue(commands.client, timeout=1)
    assert await finder.find("j1") is None
    commands.add(1)

    clock.now += 2.0
    assert await finder.find("j1") is None
    clock.now += 0.001
    assert await finder.find("j1") is not None


async def test_of_a_hundred_jobs_it_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "time", Clock())
    commands = Commands(0)
    finder = JetStreamCommandQueue(commands.client, timeout=1)
    for number in range(1, 101):
        await finder.find(f"j{number}")
    commands.add(1)
    commands.add(2)

    assert await finder.find("j1") is None
    await finder.find("j101")

    assert await finder.find("j2") is None, "the newest hundred"
    assert await finder.find("j1") is not None


async def test_a_search_takes_two_seconds_and_waits_six_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def timeout(seconds: float) -> asyncio.Timeout:
        given.append(seconds)
        return asyncio.timeout(seconds / 100)

    monkeypatch.setattr(queue, "asyncio", SimpleNamespace(timeout=timeout, Lock=asyncio.Lock))
    commands = Commands(1)
    finder = JetStreamCommandQueue(commands.client, timeout=1)
    began = time.monotonic()

    async def silence(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(commands, "consumer_info", silence)
    ends = await asyncio.gather(*(finder.find(f"j{number}") for number in range(5)), return_exceptions=True)

    assert given[0] == 6.0
    assert set(given) == {6.0, 2.0}
    assert {str(end) for end in ends} == {
        "the queue can't be searched in time",
        "other jobs are being looked for just now",
    }
    assert all(isinstance(end, QueueUnavailableError) for end in ends)
    assert time.monotonic() - began < 1
