"""`DeadLetters`: what the core relies on, for the fake and for JetStream."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import pytest
from nats.aio.client import Client

from schemas.subjects import DEAD_STREAM, dead_subject
from schemas.types import Provider
from tests.contract.conftest import Connect
from tests.fakes import FakeDeadLetters
from worker.core.ports.delivery import DeadLetters
from worker.embedded import EmbeddedServer
from worker.jetstream.dead_letters.writer import JetStreamDeadLetters
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

KEY = "dead.7.1772323200000000"
OURS = {
    "Followers-Job-Id": "job-1",
    "Followers-Error-Code": "invalid_command",
    "Followers-Error-Message": "the command is empty: send an object such as {…}",
    "Followers-Attempts": "0",
    "Followers-Stream-Sequence": "7",
    "Followers-Failed-At": "2026-03-01T00:00:00Z",
}
MANY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Found:
    """A letter as it was stored."""

    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Dead letters, and a look at what was stored."""

    letters: DeadLetters
    find: Callable[[Provider], Awaitable[list[Found]]]
    max_payload: int
    go_away: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


@pytest.fixture
def fake() -> Rig:
    """In memory."""
    letters = FakeDeadLetters()

    async def find(provider: Provider) -> list[Found]:
        return [
            Found(body=letter.body, headers=dict(letter.headers))
            for letter in letters.letters
            if letter.provider == provider
        ]

    async def go_away() -> None:
        letters.open.clear()

    async def come_back() -> None:
        letters.open.set()

    return Rig(letters=letters, find=find, max_payload=letters.max_payload, go_away=go_away, come_back=come_back)


async def jetstream(server: EmbeddedServer, client: Client, reader: Client) -> Rig:
    dead = JetStreamLog(reader, timeout=5, stream=DEAD_STREAM)

    async def find(provider: Provider) -> list[Found]:
        entries = [entry async for entry in dead.read(dead_subject(provider), 1, MANY)]
        return [Found(body=entry.data, headers=dict(entry.headers)) for entry in entries]

    return Rig(
        letters=JetStreamDeadLetters(client, timeout=1),
        find=find,
        max_payload=client.max_payload,
        go_away=server.kill,
        come_back=server.restart,
    )


@pytest.fixture
async def real(server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on the shared server."""
    return await jetstream(server, await connect(server), await connect(server))


@pytest.fixture
async def mortal(mortal_server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on a server of the test's own."""
    return await jetstream(mortal_server, await connect(mortal_server), await connect(mortal_server))


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Dead letters that stay where they are."""
    return cast(Rig, request.getfixturevalue(request.param))


@pytest.fixture(params=["fake", "mortal"])
def mortal_rig(request: pytest.FixtureRequest) -> Rig:
    """Dead letters whose server may go away."""
    return cast(Rig, request.getfixturevalue(request.param))


@pytest.mark.parametrize("body", [b"", b"\x00\xff not JSON", '{"tag": "khách quý"}'.encode(), b"{" * 65_536])
async def test_a_commands_bytes_are_kept_as_they_are(rig: Rig, body: bytes) -> None:
    await rig.letters.store("esms", body, OURS, KEY)

    [letter] = await rig.find("esms")
    assert letter.body == body


async def test_headers_are_kept_as_they_are(rig: Rig) -> None:
    headers = {"Content-Type": "application/json", "Reply-Note": "chị Mận", "traceparent": "00-ab-cd-01", **OURS}

    await rig.letters.store("etelecom", b"{}", headers, KEY)

    [letter] = await rig.find("etelecom")
    assert {name: letter.headers.get(name) for name in headers} == headers


async def test_a_letter_is_filed_under_its_provider(rig: Rig) -> None:
    await rig.letters.store("etelecom", b"one", OURS, KEY)

    assert [letter.body for letter in await rig.find("etelecom")] == [b"one"]
    assert await rig.find("esms") == []


async def test_storing_again_under_the_same_key_stores_nothing_more(rig: Rig) -> None:
    await rig.letters.store("esms", b"one", OURS, KEY)
    await rig.letters.store("esms", b"one", OURS, KEY)
    await rig.letters.store("esms", b"two", OURS, KEY + "9")

    assert [letter.body for letter in await rig.find("esms")] == [b"one", b"two"]


async def test_a_body_that_leaves_no_room_for_the_headers_is_cut_and_says_so(rig: Rig) -> None:
    body = b"x" * rig.max_payload

    await rig.letters.store("esms", body, OURS, KEY)

    [letter] = await rig.find("esms")
    assert letter.headers["Followers-Body-Bytes"] == str(len(body))
    assert body.startswith(letter.body)
    assert len(letter.body) > rig.max_payload - 10_000
    assert OURS.items() <= letter.headers.items()


async def test_a_server_that_is_away_is_waited_for(mortal_rig: Rig) -> None:
    rig = mortal_rig
    await rig.go_away()
    storing = asyncio.create_task(rig.letters.store("esms", b"one", OURS, KEY))
    done, _ = await asyncio.wait([storing], timeout=0.3)
    assert not done

    await rig.come_back()

    await asyncio.wait_for(storing, 20)
    assert [letter.body for letter in await rig.find("esms")] == [b"one"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Long": "é" * 10_000, "Longer": "x" * 45_000},
        {f"Header-{number:03}": "x" * 100 for number in range(574)},
    ],
    ids=["long ones", "many"],
)
async def test_headers_that_leave_no_room_are_left_out_and_the_body_kept(real: Rig, headers: dict[str, str]) -> None:
    # What a publisher sent once must not be something that can't be stored: it would be tried for ever.
    body = b"{" * 65_536

    await asyncio.wait_for(real.letters.store("esms", body, {**headers, **OURS}, KEY), 5)

    [letter] = await real.find("esms")
    assert letter.body == body
    assert OURS.items() <= letter.headers.items()
    assert int(letter.headers["Followers-Headers-Dropped"]) > 0


async def test_a_header_that_cant_be_published_is_left_out(real: Rig) -> None:
    headers = {"X(1)": "other clients may send it", "Reply-Note": "kept", **OURS}

    await asyncio.wait_for(real.letters.store("esms", b"{}", headers, KEY), 5)

    [letter] = await real.find("esms")
    assert letter.headers["Reply-Note"] == "kept"
    assert letter.headers["Followers-Headers-Dropped"] == "1"


async def test_a_stream_that_is_missing_is_waited_for(server: EmbeddedServer, connect: Connect, real: Rig) -> None:
    client = await connect(server)
    await client.jetstream().delete_stream(DEAD_STREAM)
    storing = asyncio.create_task(real.letters.store("esms", b"one", OURS, KEY))
    done, _ = await asyncio.wait([storing], timeout=0.3)
    assert not done

    await reconcile(client, TopologyConfig())

    await asyncio.wait_for(storing, 10)
    assert [letter.body for letter in await real.find("esms")] == [b"one"]
