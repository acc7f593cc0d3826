"""Leaning on the HTTP port of a real worker: crowds of connections, and requests that only look like our own page's."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nats.aio.client import Client

from schemas.wire import encode
from tests.integration import stage
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID

TOKEN = "door-token-0123456789abcdef"
NAME = "followers.example"
SOON = 2.0
"""Seconds in which a probe must be answered; Kubernetes gives it as many."""
LIMIT = 1024
CROWD = [f"127.0.1.{number}" for number in range(1, 101)]
MACHINE = "127.0.0.1"
PROGRAM = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
import worker.page.server
# All of loopback is the machine itself: here it stands for machines elsewhere, but for one address.
worker.page.server.is_near = lambda address: address == "{MACHINE}"
sys.argv = ["followers", "worker"]
from worker.cli import main
main()
"""
"""A worker with as many descriptors as most systems give."""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, kw_only=True)
class Door:
    """A worker and its port."""

    replica: stage.Replica
    client: Client

    async def connect(self, address: str) -> Connection:
        """A connection from `address`."""
        return await asyncio.open_connection(MACHINE, self.replica.port, local_addr=(address, 0), limit=2**20)

    async def ask(self, head: str, address: str = MACHINE, within: float = 5.0) -> int:
        """The status of the answer to a request, given as its lines; 0 where the port closed without one."""
        try:
            reader, writer = await self.connect(address)
            try:
                writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
                line = await asyncio.wait_for(reader.readline(), within)
            finally:
                writer.transport.abort()
        except (OSError, TimeoutError):
            return 0
        return int(line.split()[1]) if line else 0

    async def probes(self) -> str:
        """What `/healthz` and `/readyz` answer, five times each, by a name of the kubelet's."""
        slowest, statuses = 0.0, set()
        for path in ("/healthz", "/readyz") * 5:
            began = time.monotonic()
            statuses.add(await self.ask(f"GET {path} HTTP/1.1\nHost: 10.0.0.7:8080", "127.0.0.7"))
            slowest = max(slowest, time.monotonic() - began)
        return f"{shown(statuses)} within {SOON:g} s" if slowest < SOON else f"{shown(statuses)} after {slowest:.1f} s"

    async def operator(self) -> str:
        """What somebody gets who comes by the machine itself, and somebody elsewhere who bears the token."""
        near = await self.ask("GET /stream HTTP/1.1\nHost: localhost")
        bears = await self.ask(f"GET /stream HTTP/1.1\nHost: {NAME}\nAuthorization: Bearer {TOKEN}", "127.0.2.1")
        cancel = await self.ask(
            f"POST /jobs/nobody/cancel HTTP/1.1\nHost: {NAME}\nAuthorization: Bearer {TOKEN}\nContent-Length: 0",
            "127.0.2.1",
        )
        return f"stream {near}, with the token {bears}, cancel {cancel}"

    async def job(self, name: str) -> str:
        """What becomes of a job that is ordered now."""
        ack = await self.client.jetstream().publish(
            "followers.fetch.esms", encode({"provider": "esms", "oa_id": OA_ID, "id": name})
        )
        await stage.command_settled(self.client, ack.seq)
        last = await self.client.jetstream().get_last_msg("FOLLOWERS_EVENTS", f"followers.job.esms.{OA_ID}.{name}")
        return "completed" if b'"completed"' in (last.data or b"") else "not completed"


@contextlib.asynccontextmanager
async def door(client: Client, url: str, folder: Path) -> AsyncIterator[Door]:
    """A worker whose page has a token, and one name."""
    await reconcile(client, TopologyConfig())
    async with stage.providers(followers=230) as providers:
        worker = {"page_token": TOKEN, "http_hosts": [NAME]}
        sections = stage.sections_for(url, providers.accounts, worker=worker)
        async with stage.replica(sections, folder, program=[sys.executable, "-c", PROGRAM]) as replica:
            yield Door(replica=replica, client=client)


Crowd = Callable[[Door], "contextlib.AbstractAsyncContextManager[Callable[[], Awaitable[str]]]"]


def connections(count: int, addresses: Sequence[str], said: str = "", *, again: str = "") -> Crowd:
    """So many connections that say no more than `said`, and `again` each half second; tells how many stay open."""

    @contextlib.asynccontextmanager
    async def crowd(door: Door) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        held: list[Connection] = []
        for number in range(count):
            with contextlib.suppress(OSError):
                held.append(await door.connect(addresses[number % len(addresses)]))
                held[-1][1].write(said.encode())

        async def drip() -> None:
            while again:
                for _, writer in held:
                    with contextlib.suppress(OSError, RuntimeError):
                        writer.write(again.encode())
                await asyncio.sleep(0.2)

        async def left() -> int:
            closed = [reader.at_eof() or reader.exception() is not None for reader, _ in held]
            return closed.count(False)

        async def told() -> str:
            bound = 256 if len(addresses) > 1 else 128
            open_now = await left()
            began = time.monotonic()
            while await left() and time.monotonic() - began < 15:
                await asyncio.sleep(0.1)
            kept = f"at most {bound} stay open" if open_now <= bound else f"{open_now} stay open"
            return f"{kept}, none for longer than 10 s" if not await left() else f"{kept}, {await left()} for long"

        dripping = asyncio.create_task(drip())
        yield told
        dripping.cancel()
        for _, writer in held:
            writer.transport.abort()

    return crowd


def streams(count: int, addresses: Sequence[str], *, job: bool = False, reads: bool = True) -> Crowd:
    """So many open pages; tells how many got one, and whether somebody else still gets one."""

    @contextlib.asynccontextmanager
    async def crowd(door: Door) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        held: list[Connection] = []
        statuses: list[int] = []
        for number in range(count):
            path = f"/stream/jobs/unknown-{number}" if job else "/stream"
            reader, writer = await door.connect(addresses[number % len(addresses)])
            held.append((reader, writer))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), 5) if number < 128 else b""
            statuses.append(int(line.split()[1]) if line else 0)
        reading = [asyncio.create_task(drain(reader)) for reader, _ in held] if reads else []

        async def told() -> str:
            fresh = await door.ask(f"GET /stream HTTP/1.1\nHost: {NAME}", "127.0.3.1")
            got = f"{statuses.count(200)} get a stream, {statuses.count(503)} get 503"
            return f"{got}; somebody at one more address gets {fresh}"

        yield told
        for task in reading:
            task.cancel()
        for _, writer in held:
            writer.transport.abort()
        for _ in range(8):  # that somebody left is noticed with the next picture: the next crowd needs the places
            await asyncio.sleep(0.2)

    return crowd


async def drain(reader: asyncio.StreamReader) -> None:
    """Read to the end."""
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


def shown(statuses: set[int]) -> str:
    """Statuses as text."""
    return " and ".join(map(str, sorted(statuses)))
