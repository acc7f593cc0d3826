"""`SwiftClient` does what nats-py's own client does: the same suite for both, on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, Header, StreamConfig

from worker.embedded import EmbeddedServer
from worker.jetstream.client.fast import SwiftClient
from worker.jetstream.client.secure import GuardedClient

HEADERS = {"Nats-Msg-Id": "job-1:1.1", "Followers-Note": "đã quan tâm: Nguyễn Văn Ổi"}


@pytest.fixture(params=[Client, SwiftClient, GuardedClient])
async def client(request: pytest.FixtureRequest, nats_server: EmbeddedServer) -> AsyncIterator[Client]:
    client: Client = request.param()
    await client.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
async def heard(client: Client) -> asyncio.Queue[Msg]:
    """What was published on `a`; each is answered with its own body."""
    queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        queue.put_nowait(message)
        if message.reply:
            await message.respond(message.data)

    await client.subscribe("a", cb=hear)
    await client.flush()
    return queue


async def test_a_request_gets_its_own_answer_however_many_are_under_way(
    client: Client, heard: asyncio.Queue[Msg]
) -> None:
    asked = [client.request("a", b"%d" % number, timeout=5, headers=HEADERS) for number in range(200)]

    answers = await asyncio.gather(*asked)

    assert [answer.data for answer in answers] == [b"%d" % number for number in range(200)]
    assert client._resp_map == {}


@pytest.mark.parametrize(
    "block",
    [
        b"a: 1\r\nb:2\r\nc:\t3 \r\n\r\n",
        b"no colon\r\n: nameless\r\nin name: x\r\nna\xc3\xafve: x\r\nbad: \xff\r\n",
        b"a: first\r\na: second\r\n" + b"n" * 200 + b": long\r\n" + b"n " * 200 + b": x\r\n",
        b" padded : v:w \r\n",
    ],
)
def test_a_header_block_is_read_as_nats_py_reads_it(block: bytes) -> None:
    assert SwiftClient._parse_header_lines(block) == Client._parse_header_lines(block)


async def test_headers_arrive_as_text_on_one_line_each(client: Client, heard: asyncio.Queue[Msg]) -> None:
    await client.publish("a", b"body", headers={" name ": "  two\r\nlines\nhere ", "": "nameless", "empty": ""})

    message = await asyncio.wait_for(heard.get(), 5)
    assert message.headers == {"name": "two  lines here", "empty": ""}
    assert message.data == b"body"


@pytest.mark.parametrize("name", ["a b", "a:b", "ä", "a\r\nb"])
async def test_a_name_that_is_none_is_refused_and_costs_nobody_the_connection(
    client: Client, heard: asyncio.Queue[Msg], name: str
) -> None:
    with pytest.raises(nats.errors.BadHeaderError):
        await client.publish("a", b"", headers={name: "value"})

    await client.publish("a", b"after")
    assert (await asyncio.wait_for(heard.get(), 5)).data == b"after"


async def test_nobody_to_answer_is_said_at_once(client: Client) -> None:
    with pytest.raises(nats.errors.NoRespondersError):
        await client.request("nobody", timeout=30)


async def test_an_answer_that_does_not_come_is_a_timeout_and_too_late_it_is_nobodys(client: Client) -> None:
    late = asyncio.Event()

    async def answer_late(message: Msg) -> None:
        await late.wait()
        await message.respond(b"late")

    await client.subscribe("slow", cb=answer_late)
    with pytest.raises(nats.errors.TimeoutError):
        await client.request("slow", timeout=0.05)
    late.set()
    await client.flush()

    assert client._resp_map == {}


async def test_who_no_longer_waits_for_an_answer_leaves_nothing_behind(client: Client) -> None:
    async def never(message: Msg) -> None:
        """Answer nothing."""

    await client.subscribe("never", cb=never)
    asking = asyncio.create_task(client.request("never", timeout=30))
    await client.flush()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0)

    assert client._resp_map == {}


async def test_a_closed_connection_takes_nothing(client: Client) -> None:
    await client.close()

    with pytest.raises(nats.errors.ConnectionClosedError):
        await client.request("a", b"", timeout=1, headers=HEADERS)


@pytest.mark.parametrize("kind", [Client, SwiftClient])
async def test_requests_go_on_after_the_server_was_away(
    kind: type[Client], private_nats_server: EmbeddedServer
) -> None:
    client = kind()
    patience: dict[str, Any] = {"reconnect_time_wait": 0.05, "max_reconnect_attempts": -1}
    await client.connect(private_nats_server.url, **patience)

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await client.subscribe("a", cb=answer)
    assert (await client.request("a", b"before", timeout=5, headers=HEADERS)).data == b"before"

    await private_nats_server.restart()
    async with asyncio.timeout(20):
        while True:
            try:
                answered = await client.request("a", b"after", timeout=1, headers=HEADERS)
                break
            except nats.errors.Error:
                await asyncio.sleep(0.05)

    assert answered.data == b"after"
    await client.close()


@pytest.fixture
async def stored(nats_server: EmbeddedServer, js: JetStreamContext) -> AsyncIterator[Client]:
    """Our client, where a stream holds a message under each status, on the subject of that name."""
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"], allow_direct=True))
    await js.add_consumer("S", ConsumerConfig(durable_name="d", ack_policy=AckPolicy.EXPLICIT))
    client = GuardedClient()
    await client.connect(nats_server.url)
    yield client
    await client.close()


@pytest.mark.parametrize("body", [b"", b"body"])
@pytest.mark.parametrize("status", ["100", "404", "408", "409", "503", "none"])
async def test_a_stored_message_is_no_status_whatever_its_headers_say(
    stored: Client, js: JetStreamContext, status: str, body: bytes
) -> None:
    headers = {"Status": status, "Description": "Idle Heartbeat", "x": "y"}
    await js.publish("s.a", body, headers=headers)
    pulling = await stored.jetstream().pull_subscribe_bind("d", stream="S")

    (pulled,) = await pulling.fetch(1, timeout=5)
    asked = await stored.request("$JS.API.DIRECT.GET.S.s.a", timeout=5)

    assert pulled.headers == headers
    assert (asked.data, pulled.data) == (body, body)
    assert asked.headers is not None
    assert asked.headers.get("Status") == asked.headers["Status"] == status


async def test_the_servers_own_word_is_still_heard(stored: Client) -> None:
    pulling = await stored.jetstream().pull_subscribe_bind("d", stream="S")

    with pytest.raises(nats.errors.TimeoutError):
        await pulling.fetch(1, timeout=0.1)
    nothing = await stored.request("$JS.API.DIRECT.GET.S.s.a", timeout=5)
    assert nothing.headers is not None
    assert nothing.headers.get(Header.STATUS) == "404"
    with pytest.raises(nats.errors.NoRespondersError):
        await stored.request("nobody", timeout=5)


@pytest.mark.parametrize("headers", [None, HEADERS])
async def test_a_publish_on_a_connection_that_has_just_broken_fails_as_others_do(
    headers: dict[str, str] | None, nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop raises a RuntimeError, which nobody expects of a network: a job would fail by it."""
    client = SwiftClient()
    await client.connect(nats_server.url)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    with monkeypatch.context() as patch:
        patch.setattr(client, "_flush_pending", broken)
        with pytest.raises(OSError, match="the connection to NATS has broken"):
            await client.publish("a", b"1", headers=headers)
    await client.close()
