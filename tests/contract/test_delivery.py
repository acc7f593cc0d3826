"""`Delivery`: what the core relies on, for the fake and for JetStream."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

import nats.errors
import pytest
from nats.aio.client import Client

from schemas.subjects import COMMANDS_STREAM, command_subject, consumer_name
from tests.contract.conftest import ACK_WAIT, Connect
from tests.fakes import FakeQueue
from worker.core.ports.delivery import Delivery
from worker.embedded import EmbeddedServer
from worker.jetstream.commands.delivery import JetStreamDelivery

SUBJECT = command_subject("esms")
SOON = 5.0
"""Seconds within which what must come has come."""


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A work queue, and two replicas' way to take from it: which one takes is nobody's business."""

    publish: Callable[[bytes, Mapping[str, str] | None], Awaitable[int]]
    """Returns the command's sequence."""
    take: Callable[[float], Awaitable[Delivery | None]]
    """The next delivery, None when there is none for so many seconds."""
    left: Callable[[], Awaitable[int]]
    """How many commands are not acknowledged."""
    go_away: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


@pytest.fixture
def fake() -> Rig:
    """In memory."""
    queue = FakeQueue(ack_wait=ACK_WAIT)

    async def publish(data: bytes, headers: Mapping[str, str] | None) -> int:
        return queue.publish(SUBJECT, data, headers)

    async def take(seconds: float) -> Delivery | None:
        return await queue.next(seconds)

    async def left() -> int:
        return len(queue)

    async def go_away() -> None:
        queue.down = True

    async def come_back() -> None:
        queue.down = False

    return Rig(publish=publish, take=take, left=left, go_away=go_away, come_back=come_back)


async def jetstream(server: EmbeddedServer, client: Client, patience: float = ACK_WAIT) -> Rig:
    js = client.jetstream(timeout=SOON)
    # As the worker takes them: a pull of one.
    puller = await js.pull_subscribe_bind(consumer_name("esms"), COMMANDS_STREAM)

    async def publish(data: bytes, headers: Mapping[str, str] | None) -> int:
        return (await js.publish(SUBJECT, data, headers=dict(headers) if headers else None)).seq

    async def take(seconds: float) -> Delivery | None:
        try:
            [message] = await puller.fetch(1, timeout=seconds)
        except nats.errors.TimeoutError:
            return None
        return JetStreamDelivery(message, ack_wait=patience)

    async def left() -> int:
        return (await js.stream_info(COMMANDS_STREAM)).state.messages

    return Rig(publish=publish, take=take, left=left, go_away=server.kill, come_back=server.restart)


@pytest.fixture
async def real(server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on the shared server."""
    return await jetstream(server, await connect(server))


@pytest.fixture
async def mortal(mortal_server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on a server of the test's own."""
    return await jetstream(mortal_server, await connect(mortal_server))


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A queue that stays where it is."""
    return cast(Rig, request.getfixturevalue(request.param))


@pytest.fixture(params=["fake", "mortal"])
def mortal_rig(request: pytest.FixtureRequest) -> Rig:
    """A queue whose server may go away."""
    return cast(Rig, request.getfixturevalue(request.param))


@pytest.mark.parametrize("data", [b"", b"\x00\xff not JSON", '{"tag": "khách quý"}'.encode()])
async def test_a_delivery_is_what_was_published(rig: Rig, data: bytes) -> None:
    headers = {"Content-Type": "application/json", "traceparent": "00-ab-cd-01", "Reply-Note": "chị Mận"}
    before = time.time()
    first = await rig.publish(b"another", None)
    sequence = await rig.publish(data, headers)
    await (await _take(rig)).ack()

    delivery = await _take(rig)

    assert first < sequence == delivery.sequence
    assert delivery.subject == SUBJECT
    assert delivery.data == data
    assert headers.items() <= delivery.headers.items()
    assert before - 1 <= delivery.timestamp_us / 1e6 <= time.time() + 1
    assert delivery.deliveries == 1


async def test_a_command_without_headers_has_none(rig: Rig) -> None:
    await rig.publish(b"{}", None)

    assert (await _take(rig)).headers == {}


async def test_a_redelivery_is_the_same_command_once_more(rig: Rig) -> None:
    await rig.publish(b"{}", {"Nats-Msg-Id": "mine"})
    first = await _take(rig)
    await first.nak(0)

    again = await _take(rig)

    assert again.deliveries == 2
    assert (again.sequence, again.timestamp_us) == (first.sequence, first.timestamp_us)
    assert (again.subject, again.data, again.headers) == (first.subject, first.data, first.headers)


async def test_acknowledging_removes_the_command_before_it_returns(rig: Rig) -> None:
    await rig.publish(b"{}", None)
    delivery = await _take(rig)

    await delivery.ack()

    assert await rig.left() == 0


async def test_acknowledging_twice_is_harmless(rig: Rig) -> None:
    await rig.publish(b"{}", None)
    delivery = await _take(rig)

    await delivery.ack()
    await delivery.ack()

    assert await rig.left() == 0


async def test_a_command_that_is_handed_back_comes_again_after_the_delay_and_not_before(rig: Rig) -> None:
    await rig.publish(b"{}", None)
    delivery = await _take(rig)
    start = time.monotonic()

    await delivery.nak(0.6)

    assert await rig.take(0.4) is None
    assert (await _take(rig)).deliveries == 2
    assert 0.55 <= time.monotonic() - start < ACK_WAIT


async def test_a_delay_may_be_longer_than_ack_wait(rig: Rig) -> None:
    await rig.publish(b"{}", None)
    delivery = await _take(rig)

    await delivery.nak(ACK_WAIT + 0.5)

    assert await rig.take(ACK_WAIT + 0.2) is None
    assert (await _take(rig)).deliveries == 2


async def test_a_command_that_nobody_holds_comes_again_after_ack_wait(rig: Rig) -> None:
    await rig.publish(b"{}", None)
    await _take(rig)
    start = time.monotonic()

    assert (await _take(rig)).deliveries == 2

    assert ACK_WAIT - 0.1 <= time.monotonic() - start < ACK_WAIT + 1


async def test_a_command_in_progress_stays_where_it_is(rig: Rig) -> None:
    await rig.publish(b"{}", None)
    delivery = await _take(rig)

    for _ in range(4):
        await delivery.in_progress()
        assert await rig.take(ACK_WAIT * 0.4) is None
    await delivery.ack()

    assert await rig.left() == 0


async def test_a_stale_delivery_can_still_remove_the_command(rig: Rig) -> None:
    # Why the core never settles a delivery once somebody else has the job (RELIABILITY 1).
    await rig.publish(b"{}", None)
    stale = await _take(rig)
    current = await _take(rig)
    assert current.deliveries == 2

    await stale.ack()

    assert await rig.left() == 0


async def test_settling_while_the_server_is_away_raises_nothing_and_the_command_comes_again(mortal_rig: Rig) -> None:
    rig = mortal_rig
    await rig.publish(b"{}", None)
    delivery = await _take(rig)
    await rig.go_away()

    await delivery.in_progress()
    await asyncio.wait_for(delivery.ack(), ACK_WAIT * 4)
    await rig.come_back()

    # Unless what was said reached the server after all, which is as good.
    async with asyncio.timeout(20):
        while await _left(rig):
            with contextlib.suppress(nats.errors.Error, OSError):
                again = await rig.take(ACK_WAIT)
                if again is not None:
                    await again.ack()


async def test_handing_back_while_the_server_is_away_raises_nothing(mortal_rig: Rig) -> None:
    rig = mortal_rig
    await rig.publish(b"{}", None)
    delivery = await _take(rig)
    await rig.go_away()

    await asyncio.wait_for(delivery.nak(0.1), SOON)
    await rig.come_back()

    # Counted anew from 1 where the server forgot the first time with its crash.
    assert (await _take(rig)).deliveries in (1, 2)


async def test_an_ack_during_a_restart_is_confirmed_by_the_server_that_comes_back(
    mortal_server: EmbeddedServer, connect: Connect
) -> None:
    client = await connect(mortal_server)
    rig = await jetstream(mortal_server, client, patience=10)
    await rig.publish(b"{}", None)
    delivery = await _take(rig)

    restarting = asyncio.create_task(mortal_server.restart())
    while client.is_connected:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(delivery.ack(), 20)
    await restarting

    assert await _left(rig) == 0


async def test_a_closed_connection_raises_nothing(server: EmbeddedServer, connect: Connect) -> None:
    client = await connect(server)
    rig = await jetstream(server, client)
    await rig.publish(b"{}", None)
    delivery = await _take(rig)
    await client.close()

    await delivery.in_progress()
    await delivery.nak(1)
    await asyncio.wait_for(delivery.ack(), ACK_WAIT * 4)


async def _take(rig: Rig) -> Delivery:
    async with asyncio.timeout(20):
        while True:
            try:
                delivery = await rig.take(SOON)
            except (nats.errors.Error, OSError):  # the server is just coming back
                await asyncio.sleep(0.05)
                continue
            assert delivery is not None, "no delivery"
            return delivery


async def _left(rig: Rig) -> int:
    async with asyncio.timeout(20):
        while True:
            try:
                return await rig.left()
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.05)
