"""A command that no consumer gives out: it is found in the stream, and ends by being deleted."""

import base64
from collections.abc import Callable
from types import SimpleNamespace

import nats.errors
import pytest

from schemas.subjects import COMMANDS_STREAM
from tests.jetstream_kit import FakeStream
from worker.jetstream.commands.max_deliveries import ExhaustedDelivery, find_exhausted

SUBJECT = "followers.fetch.esms"
TROUBLE: list[Callable[[], Exception]] = [nats.errors.TimeoutError, OSError, nats.errors.ConnectionClosedError]
PAUSES = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been slept."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("worker.jetstream.commands.max_deliveries.asyncio", SimpleNamespace(sleep=sleep))
    return pauses


async def found(stream: FakeStream, advisory: bytes = b'{"stream_seq": 7}') -> ExhaustedDelivery | None:
    return await find_exhausted(stream.client, advisory, timeout=2.5)


async def test_a_command_is_read_from_the_stream_as_it_was_published() -> None:
    stream = FakeStream()
    block = "NATS/1.0\r\nFollowers-Note: đã\r\n\r\n".encode()
    stream.put(7, SUBJECT, b"{}", base64.b64encode(block))

    delivery = await found(stream)

    assert delivery is not None
    assert (delivery.subject, delivery.data, delivery.headers) == (SUBJECT, b"{}", {"Followers-Note": "đã"})
    assert (delivery.sequence, delivery.deliveries, delivery.settled) == (7, 1, False)
    assert delivery.timestamp_us == 1_772_323_201_250_001
    assert stream.asked == [{"stream": COMMANDS_STREAM, "seq": 7, "subject": None, "next": False}]
    assert stream.timeouts == [2.5]


async def test_a_command_without_headers_or_data_has_none() -> None:
    stream = FakeStream()
    stream.put(7, SUBJECT, None)

    delivery = await found(stream)

    assert delivery is not None
    assert (delivery.data, delivery.headers) == (b"", {})


@pytest.mark.parametrize("advisory", [b"", b"{}", b"[]", b'{"stream_seq": "7"}', b'{"stream_seq": 8}'])
async def test_what_is_gone_or_cannot_be_told_is_none(advisory: bytes) -> None:
    stream = FakeStream()
    stream.put(7, SUBJECT)

    assert await found(stream, advisory) is None


async def test_a_command_is_asked_for_until_there_is_an_answer(slept: list[float]) -> None:
    stream = FakeStream()
    stream.put(7, SUBJECT)
    stream.errors = [TROUBLE[number % 3]() for number in range(8)]

    assert await found(stream) is not None
    assert slept == PAUSES
    assert len(stream.asked) == 9


async def test_it_is_deleted_however_long_that_takes(slept: list[float]) -> None:
    stream = FakeStream()
    delivery = ExhaustedDelivery(stream.jetstream(timeout=1), stream.put(7, SUBJECT))
    stream.errors = [TROUBLE[number % 3]() for number in range(8)]

    await delivery.nak(1.0)
    await delivery.in_progress()
    assert (delivery.settled, stream.deleted) == (False, [])
    await delivery.ack()

    assert delivery.settled
    assert slept == PAUSES
    assert stream.deleted == [7] * 9
