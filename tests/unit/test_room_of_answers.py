"""An answer takes room while it comes: as much as it says that it needs, or as it turns out to."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.simulation.loop import run
from worker.core.memory import COST, HOLD, Budget, Hold, NoRoomError
from worker.providers.http.client import HttpClient, _find_room
from worker.providers.http.inflate import Inflater

KB = 1024
LIMIT = 1000 * COST


class Asked(Budget):
    """Room for everything, and for how many bytes of a body it was asked."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[int] = []

    def take(self, hold: Hold) -> bool:
        self.asked.append(hold.wanted // COST)
        return super().take(hold)


class Chunks(httpx.AsyncByteStream):
    """A body that comes in pieces."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for size in self.sizes:
            yield b"x" * size


def client(max_response_bytes: int = 10**9) -> HttpClient:
    return HttpClient(
        request_timeout=1.0,
        max_response_bytes=max_response_bytes,
        max_connections=1,
        now=lambda: datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("length", "chunks", "asked"),
    [
        (0, [10], [64 * KB]),
        (0, [10, 64 * KB - 10], [64 * KB]),
        (0, [10, 64 * KB - 9], [64 * KB, 128 * KB + 2]),
        (0, [40 * KB], [80 * KB]),
        (300, [10, 290], [300]),
        (300, [300], [300]),
        (300, [10, 291], [300, 64 * KB]),
        (200 * KB, [100 * KB, 101 * KB], [200 * KB, 402 * KB]),
    ],
)
async def test_room_is_asked_for_as_the_answer_says_or_else_for_twice_what_came(
    length: int, chunks: list[int], asked: list[int]
) -> None:
    room = Asked()
    hold = room.open(lambda: None)
    token = HOLD.set(hold)
    try:
        async with asyncio.timeout(1) as deadline:
            response = httpx.Response(200, stream=Chunks(*chunks))
            body = await client()._collect(
                response, Inflater("", 10**9, "h"), {b"content-length": str(length).encode()}, deadline
            )
    finally:
        HOLD.reset(token)

    assert room.asked == asked
    assert (len(body), hold.body, hold.size, hold.receives) == (sum(chunks), sum(chunks), COST * sum(chunks), True)


async def test_where_nobody_counts_an_answer_is_read_all_the_same() -> None:
    async with asyncio.timeout(1) as deadline:
        response = httpx.Response(200, stream=Chunks(3, 4))
        assert await client()._collect(response, Inflater("", 100, "h"), {}, deadline) == b"x" * 7


@pytest.mark.parametrize(
    ("said", "encoding", "length"),
    [
        (b"1000", "", 1_000),
        (b"1000", "gzip", 8_000),
        (b"", "", 0),
        (b"-5", "", 0),
        (b"1e3", "", 0),
        (b"5000000", "gzip", 20_000_000),
        (b"20000001", "", 20_000_000),
        (b"9" * 15, "", 20_000_000),
        (b"9" * 16, "", 0),
    ],
)
def test_an_answers_length_is_what_it_says_eight_times_that_where_it_is_packed_and_bounded(
    said: bytes, encoding: str, length: int
) -> None:
    packed = {b"content-encoding": encoding.encode()} if encoding else {}
    assert client(20_000_000)._length({b"content-length": said, **packed}) == length
    assert client()._length(packed) == 0


class Full:
    """Room for a thousand bytes, which another answer has until it is told to let go."""

    def __init__(self) -> None:
        self.budget = Budget(LIMIT)
        self.other, self.hold = self.open(), self.open()
        assert self.other.take(1000)

    def open(self) -> Hold:
        hold = self.budget.open(lambda: None)
        hold.urge(0)
        hold.receive()
        return hold

    def free_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.other.drop)


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), main)


def test_the_time_that_an_answer_waits_for_room_is_not_the_providers() -> None:
    async def main() -> None:
        full, loop = Full(), asyncio.get_running_loop()
        full.free_in(60)
        async with asyncio.timeout(10) as deadline:
            await asyncio.sleep(4)
            await _find_room(full.hold, 500, deadline)

            assert (loop.time(), deadline.when()) == (60, 66)
            assert full.hold.size == 500 * COST

    in_virtual_time(main())


def test_room_that_is_there_is_taken_at_once() -> None:
    async def main() -> None:
        full, loop = Full(), asyncio.get_running_loop()
        full.other.drop()
        async with asyncio.timeout(10) as deadline:
            await _find_room(full.hold, 500, deadline)
            assert (loop.time(), deadline.when(), full.hold.size) == (0, 10, 500 * COST)

    in_virtual_time(main())


def test_an_answer_that_nobody_waits_for_lets_go_of_its_connection() -> None:
    async def main() -> None:
        full = Full()
        ahead = full.budget.open(lambda: None)
        async with asyncio.timeout(10) as deadline:
            with pytest.raises(NoRoomError) as caught:
                await _find_room(ahead, 500, deadline)
            assert (caught.value.body, deadline.when()) == (500, 10)

    in_virtual_time(main())


def test_without_a_deadline_an_answer_waits_for_room_as_long_as_it_takes() -> None:
    async def main() -> None:
        full = Full()
        full.free_in(3600)
        async with asyncio.timeout(None) as deadline:
            await _find_room(full.hold, 500, deadline)
            assert (asyncio.get_running_loop().time(), deadline.when()) == (3600, None)

    in_virtual_time(main())


def test_a_deadline_that_is_over_is_not_put_off() -> None:
    async def main() -> None:
        full, loop = Full(), asyncio.get_running_loop()
        full.free_in(5)
        async with asyncio.timeout(1) as deadline:
            try:
                await asyncio.sleep(3)
            except asyncio.CancelledError:
                assert deadline.expired()
            await _find_room(full.hold, 500, deadline)
            assert loop.time() == 5

    in_virtual_time(main())
