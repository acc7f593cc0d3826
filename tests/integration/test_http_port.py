"""The HTTP port under people who connect and say nothing: it goes on answering, and the worker on working."""

import asyncio
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from schemas.wire import encode
from tests.integration import stage
from tests.integration.control_stage import PATIENCE
from worker import connections
from worker.connections import MOST, address_of
from worker.descriptors import ENOUGH, raise_limit
from worker.embedded import EmbeddedServer
from worker.jetstream.events.reader import EventReader
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.ops import OpsServer, Readiness
from worker.providers.simulators import OA_ID

SILENT = 2000
LIMIT = 1024
"""Descriptors of the worker under test, and no more to be had: what many systems give."""
BOUNDED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
sys.argv = ["followers", "worker"]
from worker.cli import main
main()
"""
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.asynccontextmanager
async def silent(port: int, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """So many connections that say nothing; those that are closed stay closed."""
    held: list[asyncio.StreamWriter] = []
    for _ in range(count):
        with contextlib.suppress(ConnectionError):
            held.append((await asyncio.open_connection("127.0.0.1", port))[1])
    yield held
    for writer in held:
        writer.transport.abort()


async def test_two_thousand_silent_connections_stop_neither_the_port_nor_the_work(
    private_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    raise_limit()
    url = private_nats_server.url
    client = await nats.connect(url, allow_reconnect=False)
    await reconcile(client, TopologyConfig())
    async with stage.providers(followers=230) as providers:
        sections = stage.sections_for(url, providers.accounts)
        async with stage.replica(sections, tmp_path, program=[sys.executable, "-c", BOUNDED]) as replica:
            async with silent(replica.port, SILENT):
                open_files = len(list(Path(f"/proc/{replica.process.pid}/fd").iterdir()))
                slowest = 0.0
                for path in ("/healthz", "/readyz", "/metrics", "/healthz"):
                    began = time.monotonic()
                    status, text = await replica.get(path, timeout=5)
                    slowest = max(slowest, time.monotonic() - began)
                    assert status == 200, text
                for provider in ("etelecom", "esms"):
                    command = {"provider": provider, "oa_id": OA_ID, "id": provider}
                    await client.jetstream().publish(f"followers.fetch.{provider}", encode(command))
                for provider in ("etelecom", "esms"):
                    await completed(client, provider)
            (told,) = replica.events("worker.descriptors")
            (crowded,) = replica.events("http.crowded")

    await client.close()
    assert (told["limit"], told["before"], told["http_at_most"]) == (LIMIT, LIMIT, MOST)
    assert open_files < LIMIT / 2
    assert crowded["most"] == MOST
    assert slowest < 2


async def completed(client: Any, job: str) -> None:
    async with EventReader(client, f"followers.job.*.*.{job}") as reader:
        while True:
            message = await reader.next(PATIENCE)
            assert message is not None, f"{job} doesn't end"
            if b'"completed"' in message.data:
                return


class Port:
    """A port of a few connections, with an answer that never ends and one that is large."""

    def __init__(self) -> None:
        self.port = stage.free_port()
        routes = [web.get("/endless", self._endless), web.get("/large", self._large)]
        self.server = OpsServer(Readiness(), CollectorRegistry(), routes, descriptors=32)
        self._callers: list[Caller] = []

    async def close(self) -> None:
        """Stop the server, and leave no connection."""
        for caller in self._callers:
            caller.writer.transport.abort()
        await asyncio.sleep(0.01)
        await self.server.stop()

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    async def _large(self, request: web.Request) -> web.Response:
        return web.Response(body=bytes(50_000_000))

    async def enter(self, address: str = "127.0.0.1", path: bytes = b"") -> "Caller":
        """Connect from `address` and, where there is a path, get the beginning of its answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0), limit=1024)
        caller = Caller(reader, writer)
        self._callers.append(caller)
        if path:
            await caller.get(path)
        return caller


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self, path: bytes) -> bytes:
        self.writer.write(GET % path)
        return await asyncio.wait_for(self.reader.readline(), 5)

    async def ends(self, within: float = 5) -> float:
        """Wait until the server has closed it; return how long that took."""
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while await asyncio.wait_for(self.reader.read(100_000), within):
                pass
        return time.monotonic() - began

    async def is_open(self) -> bool:
        """Say whether the server has not closed it by now."""
        try:
            await asyncio.wait_for(self.reader.read(1), 0.1)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        return not self.reader.at_eof()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    opened = Port()
    await opened.server.start("127.0.0.1", opened.port)
    yield opened
    await opened.close()


async def test_a_quarter_of_the_descriptors_is_for_the_port_and_half_of_that_for_one_address(port: Port) -> None:
    assert port.server.most_connections == 8
    first, *more = [await port.enter() for _ in range(4)]
    assert [await one.is_open() for one in (first, *more)] == [True] * 4

    newest = await port.enter()

    assert await first.ends() < 2
    assert b"200 OK" in await newest.get(b"/healthz")
    assert [await one.is_open() for one in more] == [True] * 3


async def test_the_address_that_has_most_makes_room_for_others(port: Port) -> None:
    one = [await port.enter("127.0.0.2") for _ in range(4)]
    others = [await port.enter(f"127.0.0.{last}") for last in (3, 3, 3, 4)]

    newest = await port.enter("127.0.0.5")

    assert await one[0].ends() < 2
    assert b"200 OK" in await newest.get(b"/healthz")
    assert [await caller.is_open() for caller in (*one[1:], *others)] == [True] * 7


async def test_whoever_has_just_been_answered_goes_later_and_whoever_is_being_answered_stays(port: Port) -> None:
    endless = await port.enter(path=b"/endless")
    asked, idle = await port.enter(), await port.enter()
    assert b"200 OK" in await asked.get(b"/healthz")
    busy = await port.enter(path=b"/endless")

    newest = await port.enter()
    assert await idle.ends() < 2
    another = await port.enter()
    assert await asked.ends() < 2

    assert b"200 OK" in await newest.get(b"/healthz")
    assert b"200 OK" in await another.get(b"/healthz")
    for stream in (endless, busy):
        await stream.reader.read(500)
        assert await stream.is_open()


async def test_where_all_are_being_answered_the_newest_is_not_let_in(port: Port) -> None:
    streams = [await port.enter(path=b"/endless") for _ in range(4)]

    newest = await port.enter()

    assert await newest.ends() < 2
    for stream in streams:
        await stream.reader.read(500)
        assert await stream.is_open()
    assert b"200 OK" in await (await port.enter("127.0.0.2")).get(b"/healthz")


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
async def test_the_first_request_has_its_time(port: Port, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    assert (connections.FIRST_WITHIN, connections.NEXT_WITHIN) == (10, 75)
    monkeypatch.setattr(connections, "FIRST_WITHIN", 0.3)
    caller = await port.enter()
    caller.writer.write(sent)

    assert 0.2 < await caller.ends() < 2


async def test_a_kept_connection_has_its_time_until_the_next_request(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_WITHIN", 0.2)
    monkeypatch.setattr(connections, "NEXT_WITHIN", 0.5)
    caller = await port.enter()
    for _ in range(4):
        assert b"200 OK" in await caller.get(b"/healthz")
        while await caller.reader.readline() != b"ok\n":
            pass
        await asyncio.sleep(0.2)

    assert 0.2 < await caller.ends() < 2


async def test_an_answer_that_nobody_reads_has_its_time_and_a_stream_has_none(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_WITHIN", 0.2)
    monkeypatch.setattr(connections, "NEXT_WITHIN", 0.3)
    stream, unread = await port.enter(path=b"/endless"), await port.enter(path=b"/large")
    await asyncio.sleep(0.2)
    await asyncio.sleep(0.2)
    await asyncio.sleep(0.2)

    got = 0
    with contextlib.suppress(ConnectionError):
        while more := await asyncio.wait_for(unread.reader.read(1_000_000), 5):
            got += len(more)
    assert got < 50_000_000
    await stream.reader.read(500)
    assert await stream.is_open()


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("10.0.0.7", 4711), "10.0.0.7"),
        (("::ffff:10.0.0.7", 4711, 0, 0), "10.0.0.7"),
        (("2001:db8:1:2:aaaa::1", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:bbbb::2", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:3::1", 4711, 0, 0), "2001:db8:1:3::/64"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_is_who_can_have_it(peer: Any, address: str) -> None:
    assert address_of(peer) == address


@pytest.mark.parametrize(
    ("soft", "hard", "after"), [(64, 512, 512), (512, 512, 512), (300, 200_000, ENOUGH), (100_000, 200_000, 100_000)]
)
def test_the_limit_of_descriptors_is_raised_as_far_as_it_can_be_of_use(soft: int, hard: int, after: int) -> None:
    hard = min(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    script = (
        "import resource; from worker.descriptors import raise_limit;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({min(soft, hard)}, {hard}));"
        "print(*raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    wanted = min(after, hard)
    assert [int(word) for word in told.stdout.split()] == [wanted, min(soft, hard), wanted, hard]
