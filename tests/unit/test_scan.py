"""Reading many messages by one get each, many at once: all of them, in order, and few gets more than messages."""

import asyncio
import random

import pytest

from tests.jetstream_kit import STORED_AT, FakeStream, end, stored
from worker.core.ports.event_log import Entry
from worker.jetstream.client.direct_get import stored_at
from worker.jetstream.events import scan as module
from worker.jetstream.events.scan import Scan, _gather

ESMS = "followers.fetch.esms"


class Source:
    """Messages with these sequences, and how they were asked for."""

    def __init__(self, *sequences: int) -> None:
        self.sequences = sorted(sequences)
        self.asked: list[int] = []
        self.under_way = self.most = 0

    async def get(self, sequence: int) -> Entry | None:
        self.asked.append(sequence)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        found = next((one for one in self.sequences if one >= sequence), None)
        return None if found is None else Entry(found, b"")


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_holes_there_are_each_message_comes_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)
    source = Source(*dice.sample(range(1, 700), dice.choice([0, 1, 40, 600])))

    found = await _gather(source.get, 100, 611)

    assert [entry.sequence for entry in found] == [one for one in source.sequences if 100 <= one <= 611]


async def test_a_full_range_takes_little_more_than_a_get_each_and_never_too_many_at_once() -> None:
    source = Source(*range(1, 513))

    await _gather(source.get, 1, 512)

    assert source.most == module.IN_FLIGHT
    assert 512 <= len(source.asked) <= 512 + 2 * module.IN_FLIGHT


async def test_what_stands_together_at_the_end_is_shared_among_the_readers() -> None:
    source = Source(*range(505, 513))

    found = await _gather(source.get, 1, 512)

    assert len(found) == 8
    assert len(source.asked) <= 300


@pytest.mark.parametrize(("first", "last", "found"), [(3, 3, [3]), (3, 2, []), (1, 2, [2]), (4, 9, [])])
async def test_a_range_of_one_or_none(first: int, last: int, found: list[int]) -> None:
    source = Source(2, 3)

    assert [entry.sequence for entry in await _gather(source.get, first, last)] == found


async def test_what_the_server_says_instead_of_an_answer_ends_all_readers() -> None:
    asked = 0

    async def get(sequence: int) -> Entry | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await _gather(get, 1, 512)
    before = asked
    await asyncio.sleep(0)
    assert asked == before


async def read(stream: FakeStream, first: int, last: int, *, direct: bool) -> list[list[int]]:
    scan = Scan(stream.client, "S", timeout=1, direct=direct)
    return [[entry.sequence for entry in entries] async for entries in scan.read(ESMS, first, last)]


async def test_batches_are_read_to_the_last_sequence_and_no_further() -> None:
    stream = FakeStream()
    stream.batches = [
        [stored(2, ESMS, pending=9), stored(4, ESMS, pending=8), end(8)],
        [stored(7, ESMS, pending=1), stored(9, ESMS, pending=0), end(0)],
    ]

    assert await read(stream, 2, 7, direct=True) == [[2, 4], [7]]
    asked = {"next_by_subj": ESMS, "batch": 1000, "max_bytes": 4_194_304}
    assert stream.queries == [("$JS.API.DIRECT.GET.S", asked | {"seq": first}) for first in (2, 5)]


async def test_nothing_left_is_the_end() -> None:
    stream = FakeStream()
    stream.batches = [[stored(2, ESMS, pending=0), end(0)]]

    assert await read(stream, 1, 9, direct=True) == [[2]]
    assert len(stream.queries) == 1


async def test_a_server_before_batches_is_asked_for_one_each_from_then_on() -> None:
    stream = FakeStream()
    stream.batches = [[stored(2, ESMS)]]
    stream.single = end()

    assert await read(stream, 1, 9, direct=True) == [[2]]
    assert [query for _, query in stream.queries][1:] == [{"seq": 3, "next_by_subj": ESMS}]
    assert stream.asked == [], "and not its leader"


async def test_without_direct_gets_the_leader_is_asked_and_says_when_each_was_stored() -> None:
    stream = FakeStream()
    for sequence in (3, 5, 600, 1200):
        stream.put(sequence, ESMS)
    stream.put(4, "followers.fetch.etelecom")
    scan = Scan(stream.client, "S", timeout=1, direct=False)

    found = [entries async for entries in scan.read(ESMS, 1, 1199)]

    assert [[entry.sequence for entry in entries] for entries in found] == [[3, 5], [600]]
    assert stored_at(found[0][0]) == STORED_AT
    assert stream.queries == []


async def test_a_hole_of_any_size_between_two_chunks_costs_one_get() -> None:
    stream = FakeStream()
    stream.put(1, ESMS)
    stream.put(100_000, ESMS)

    assert await read(stream, 1, 100_000, direct=False) == [[1], [100_000]]
    assert len(stream.asked) <= 2 + 12 * module.IN_FLIGHT
