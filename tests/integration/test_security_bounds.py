"""Nothing that a publisher or a provider sends makes the worker swell, leave its provider, or stand still."""

import json
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from schemas.events import JobCancelled, JobCompleted, JobFailed
from schemas.subjects import DEAD_STREAM, EVENTS_STREAM
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.hostile import Answering, Hostile, hostile, saying
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY

MEGABYTE = 2**20
KEY = SHOP_KEY.rpartition(":")[2]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server(max_payload=4 * MEGABYTE) as server:
        yield server


@pytest.fixture(scope="module")
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,)))
    await reconcile(client, TopologyConfig(ack_wait=2))
    yield client
    await client.close()


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Hostile]:
    async with hostile() as provider:
        yield provider


@pytest.fixture(scope="module")
async def thief() -> AsyncIterator[Hostile]:
    """Another host, to which nothing must ever go."""

    async def take(_: web.Request) -> web.StreamResponse:
        return web.json_response({})

    class Anything(dict[str, Answering]):
        def __missing__(self, key: str) -> Answering:
            return take

    async with hostile(Anything()) as thief:
        yield thief


@pytest.fixture(scope="module")
async def replica(
    server: EmbeddedServer, client: Client, provider: Hostile, thief: Hostile, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[stage.Replica]:
    """One worker for all of it, with an account for each trick of the provider."""
    provider.answers |= {
        "bomb": bomb,
        "flood": flood,
        "good": saying(json.dumps({"followers": [], "paging": {}})),
        **{f"redirect{status}": redirect(status, thief) for status in (301, 302, 303, 307, 308)},
    }
    accounts = {
        kind: {"provider": "etelecom", "base_url": f"{provider.url}/{kind}/v1/shop", "api_key": SHOP_KEY}
        for kind in provider.answers
    }
    sections = stage.sections_for(server.url, accounts, worker={"retry_for": 0.5})
    folder = tmp_path_factory.mktemp("replica")
    # A proxy of the environment would be sent every key.
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), thief.url)
    async with stage.replica(sections, folder, environment=proxy) as replica:
        yield replica


async def bomb(request: web.Request) -> web.StreamResponse:
    """400 MB of zeros in 0.4 MB."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
    await response.prepare(request)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(MEGABYTE)
    for _ in range(400):
        if packed := packer.compress(block):
            await response.write(packed)
    await response.write(packer.flush())
    return response


async def flood(request: web.Request) -> web.StreamResponse:
    """300 MB as they are."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for _ in range(300):
        await response.write(b" " * MEGABYTE)
    return response


def redirect(status: int, thief: Hostile) -> Answering:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"{thief.url}/stolen"})

    return answer


async def ordered(
    client: Client, command: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Publish a command and wait for its end; return the headers of its dead letter, {} where there is none."""
    body = command if isinstance(command, bytes) else encode(command)
    ack = await client.jetstream().publish("followers.fetch.etelecom", body, headers=dict(headers or {}) or None)
    await stage.command_settled(client, ack.seq)
    try:
        letter = await client.jetstream().get_last_msg(DEAD_STREAM, "followers.dead.etelecom")
    except NotFoundError:
        return {}
    found = letter.headers or {}
    return found if found.get("Followers-Stream-Sequence") == str(ack.seq) else {}


def command(account: str = "good", **more: Any) -> dict[str, Any]:
    return {"provider": "etelecom", "oa_id": OA_ID, "account": account, **more}


async def end(client: Client, job_id: str) -> JobCompleted | JobFailed | JobCancelled:
    event = await client.jetstream().get_last_msg(EVENTS_STREAM, f"followers.job.etelecom.{OA_ID}.{job_id}")
    return decode(event.data or b"", JobCompleted | JobFailed | JobCancelled)


def peak(replica: stage.Replica) -> int:
    """The most memory that it has held so far, in bytes."""
    lines = Path(f"/proc/{replica.process.pid}/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.parametrize("trick", ["bomb", "flood"])
async def test_a_huge_answer_costs_little_memory(client: Client, replica: stage.Replica, trick: str) -> None:
    await ordered(client, command("good"))
    before = peak(replica)

    letter = await ordered(client, command(trick))

    assert letter["Followers-Error-Code"] == "bad_response"
    assert "larger than" in letter["Followers-Error-Message"]
    assert peak(replica) - before < 30 * MEGABYTE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    client: Client, replica: stage.Replica, provider: Hostile, thief: Hostile, status: int
) -> None:
    letter = await ordered(client, command(f"redirect{status}"))

    # A temporary one may be a captive portal's: it was tried for `retry_for`.
    assert letter["Followers-Error-Code"] == ("bad_response" if status in (301, 308) else "provider_unavailable")
    assert "redirect, refused so that no key travels to another address" in letter["Followers-Error-Message"]
    assert thief.heard == []
    assert KEY in provider.heard[-1], "the provider itself does get the key"


@pytest.mark.parametrize(
    "more",
    [
        {"base_url": "{thief}"},
        {"url": "{thief}"},
        {"host": "{thief}"},
        {"endpoint": "{thief}"},
        {"api_key": "x"},
        {"account": "{thief}"},
        {"account": "good/../../stolen"},
        {"oa_id": "../../stolen"},
        {"oa_id": "x@127.0.0.1"},
        {"id": "a.b.c"},
        {"id": "job\r\nHost: evil"},
        {"sort": "created_at&url={thief}"},
        {"cursor": "{thief}"},
        {"filter": {"url": "{thief}"}},
    ],
    ids=lambda more: next(iter(more)) if isinstance(more, dict) else str(more),
)
async def test_a_command_can_choose_no_host(
    client: Client, replica: stage.Replica, provider: Hostile, thief: Hostile, more: dict[str, Any]
) -> None:
    heard = len(provider.heard)
    filled = json.loads(json.dumps(more).replace("{thief}", thief.url))

    letter = await ordered(client, command() | filled)

    assert letter["Followers-Error-Code"] in ("invalid_command", "unknown_account")
    assert len(provider.heard) == heard
    assert thief.heard == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (encode(command(filter={"zl_user_ids": ["1" * 19] * 1000})), ""),
        (encode(command(labels={f"l{n}": "x" * 256 for n in range(16)})), ""),
        (encode(command(labels={f"l{n}": "x" for n in range(17)})), "invalid_command"),
        (encode(command(labels={"l": "x" * 257})), "invalid_command"),
        (encode(command(labels={"l" * 65: "x"})), "invalid_command"),
        (encode(command(filter={"zl_user_ids": ["1"] * 1001})), "invalid_command"),
        (encode(command()) + b" " * 65_536, "invalid_command"),
        (encode(command()) + b" " * (4 * MEGABYTE - 1000), "invalid_command"),
        (b"[" * 60_000, "invalid_command"),
        (b'{"filter":' * 6_000, "invalid_command"),
        (b'{"page_size": ' + b"9" * 10_000 + b"}", "invalid_command"),
        (b"\xff" * 1000, "invalid_command"),
    ],
    ids=[
        *("1000 ids", "labels", "17 labels", "long label", "long name", "1001 ids", "64 KiB", "4 MB"),
        *("nested lists", "nested objects", "long number", "no text"),
    ],
)
async def test_a_command_within_the_bounds_is_done_and_beyond_them_a_dead_letter(
    client: Client, replica: stage.Replica, body: bytes, code: str
) -> None:
    letter = await ordered(client, body)

    assert letter.get("Followers-Error-Code", "") == code


@pytest.mark.parametrize("size", ["many small", "one large", "as large as a message"])
async def test_a_bomb_of_headers_ends_and_holds_up_nobody(client: Client, replica: stage.Replica, size: str) -> None:
    headers = {
        "many small": {f"x-{n}": "y" for n in range(5_000)},
        "one large": {"x": "y" * 60_000},
        "as large as a message": {f"x-{n}": "y" * 1000 for n in range(60)},
    }[size]

    good = await ordered(client, command(), {**headers, "Nats-Msg-Id": f"job-{size.replace(' ', '-')}"})
    bad = await ordered(client, b"no command", headers)

    assert good == {}
    assert isinstance(await end(client, f"job-{size.replace(' ', '-')}"), JobCompleted)
    assert bad["Followers-Error-Code"] == "invalid_command"
    assert (await replica.get("/healthz"))[0] == 200


async def test_what_a_command_echoes_can_add_no_header(client: Client, replica: stage.Replica) -> None:
    """Header values of events and dead letters come from ids, labels and error messages."""
    letter = await ordered(
        client,
        b'{"provider":"etelecom","oa_id":"1","filter":{"x\\r\\nEvil: 1\\r\\n\\r\\n":1}}',
        {"traceparent": "00-\x00evil"},
    )

    assert letter["Followers-Error-Code"] == "invalid_command"
    assert "Evil" not in letter
    assert "\n" not in letter["Followers-Error-Message"]
