"""Reading a stream in batches: what is asked, what is made of the answers, and when the leader is asked instead."""

import asyncio
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from schemas.subjects import EVENTS_STREAM
from tests.jetstream_kit import FakeStream, answer, end, stored
from worker.core.ports.event_log import Entry, LogUnavailableError
from worker.jetstream.events.bulk_reader import BulkReader

PAGES = "followers.page.esms.1.j"
SILENT, SLOW = 0.02, 0.15
"""Seconds."""


def query(first: int) -> tuple[str, dict[str, Any]]:
    """A batch, as it is asked for on the wire."""
    fields = {"seq": first, "next_by_subj": PAGES, "batch": 128, "max_bytes": 4_194_304}
    return "$JS.API.DIRECT.GET.FOLLOWERS_EVENTS", fields


def leader(sequence: int) -> dict[str, Any]:
    return {"stream": EVENTS_STREAM, "seq": sequence, "subject": PAGES, "next": True}


async def read(stream: FakeStream, last: int, *, sure: bool = False) -> list[list[int]]:
    """The sequences read, batch by batch."""
    reader = BulkReader(stream.client, timeout=SILENT)
    return [[one.sequence for one in batch] async for batch in reader.read(PAGES, last, sure=sure)]


def pages(*sequences: int) -> list[Msg]:
    return [stored(sequence, PAGES, pending=9) for sequence in sequences]


async def test_batches_are_asked_for_until_one_says_that_there_is_no_more() -> None:
    stream = FakeStream()
    stream.batches = [[*pages(2, 5), end(1)], [*pages(7), end(0)]]

    assert await read(stream, 100) == [[2, 5], [7]]

    assert stream.queries == [query(1), query(6)]
    assert stream.left == ["_INBOX.0", "_INBOX.1"]
    assert stream.asked == []


@pytest.mark.parametrize(
    ("last", "found", "asked"), [(4, [[2]], [1]), (5, [[2, 5]], [1]), (6, [[2, 5]], [1, 6]), (1, [], [1])]
)
async def test_nothing_behind_the_last_one_is_asked_for_or_given(
    last: int, found: list[list[int]], asked: list[int]
) -> None:
    stream = FakeStream()
    stream.batches = [[*pages(2, 5), end(1)], [*pages(8), end(1)]]

    assert await read(stream, last) == found
    assert stream.queries == [query(first) for first in asked]


async def test_a_batch_of_nothing_is_the_end_whatever_it_says_is_left() -> None:
    stream = FakeStream()
    stream.batches = [[end(3)]]

    assert await read(stream, 100) == []
    assert stream.queries == [query(1)]


async def test_a_server_before_batches_is_asked_again_and_again() -> None:
    stream = FakeStream()
    stream.batches = [[stored(2, PAGES)], [stored(3, PAGES)], [answer({"Status": "404"})]]

    assert await read(stream, 100) == [[2], [3]]
    assert stream.queries == [query(1), query(3), query(4)]


async def test_what_comes_behind_the_end_of_a_batch_changes_nothing() -> None:
    stream = FakeStream()
    stream.batches = [[*pages(2), end(0), end(1), answer({"Status": "408"})]]

    assert await read(stream, 100) == [[2]]
    assert stream.queries == [query(1)]


@pytest.mark.parametrize("silence", [[], [*pages(2)], [answer({"Status": "503"})], nats.errors.NoRespondersError()])
async def test_where_a_direct_get_has_no_answer_the_leader_goes_on(silence: Any) -> None:
    stream = FakeStream()
    stream.batches = [[*pages(2), end(1)], silence]
    for sequence in (2, 3, 9):
        stream.put(sequence, PAGES)

    assert await read(stream, 8) == [[2], [3]]
    assert stream.asked == [leader(3), leader(4)]
    assert stream.queries == [query(1), query(3)]


async def test_a_batch_that_comes_slowly_is_waited_for() -> None:
    stream = FakeStream()
    stream.pause = 0.6 * SLOW
    stream.batches = [[*pages(2, 3, 4), end(0)]]
    reader = BulkReader(stream.client, timeout=SLOW)

    assert [[one.sequence for one in batch] async for batch in reader.read(PAGES, 9)] == [[2, 3, 4]]
    assert stream.asked == []


async def test_after_silence_the_leader_is_asked_for_a_minute() -> None:
    stream = FakeStream()
    stream.put(2, PAGES)
    stream.single = TimeoutError()
    reader = BulkReader(stream.client, timeout=SILENT)
    before = asyncio.get_running_loop().time()

    for _ in range(2):
        assert await reader.at(2) == Entry(2, b"data", {}, PAGES)
        assert [one async for one in reader.read(PAGES, 9)] == [[Entry(2, b"data", {}, PAGES)]]

    assert len(stream.queries) == 1
    assert before + 60 <= reader._direct_from < before + 61
    reader._direct_from = asyncio.get_running_loop().time()
    stream.single = stored(2, PAGES, b"direct")
    found = await reader.at(2)
    assert found is not None
    assert found.data == b"direct"


async def test_whoever_wants_to_be_sure_asks_the_leader_from_the_first_one_on() -> None:
    stream = FakeStream()
    stream.put(1, PAGES)
    stream.put(4, PAGES)

    assert await read(stream, 4, sure=True) == [[1], [4]]
    assert stream.asked == [leader(1), leader(2)]
    assert stream.queries == []


@pytest.mark.parametrize("trouble", [answer({"Status": "408"}), answer(None)])
async def test_an_answer_that_says_nothing_makes_the_log_unavailable(trouble: Msg) -> None:
    stream = FakeStream()
    stream.batches = [[*pages(2), trouble]]
    stream.single = trouble
    reader = BulkReader(stream.client, timeout=SILENT, stream="OTHER")

    with pytest.raises(LogUnavailableError, match=r"^read on OTHER: UnreadableAnswerError$"):
        await anext(reader.read(PAGES, 9))
    with pytest.raises(LogUnavailableError, match=r"^read on OTHER: UnreadableAnswerError$"):
        await reader.at(2)
    assert stream.asked == []
    assert [subject for subject, _ in stream.queries] == ["$JS.API.DIRECT.GET.OTHER"] * 2


async def test_one_message_is_asked_of_any_replica_and_its_absence_of_the_leader() -> None:
    stream = FakeStream()
    reader = BulkReader(stream.client, timeout=SILENT)
    stream.single = stored(7, PAGES)

    found = await reader.at(7)
    assert found is not None
    assert (found.sequence, found.data, found.subject) == (7, b"data", PAGES)
    assert stream.asked == []
    assert stream.queries == [("$JS.API.DIRECT.GET.FOLLOWERS_EVENTS", {"seq": 7})]
    stream.single = answer({"Status": "404"})
    assert await reader.at(8) is None
    assert [one["seq"] for one in stream.asked] == [8]
    assert stream.timeouts == [SILENT] * 3, "of the leader, and of two direct gets"
