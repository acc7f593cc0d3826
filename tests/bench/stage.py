"""What every measurement needs: a nats-server, the stand-in, and an eye on the events."""

import asyncio
import contextlib
import itertools
import json
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.subjects import command_subject
from schemas.types import Provider
from tests.bench.processes import OTHERS, Program, pin
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

ENDS = ("vn.followers.job.completed.v1", "vn.followers.job.failed.v1", "vn.followers.job.cancelled.v1")

_runs = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where measurements take place."""

    server: EmbeddedServer
    client: Client
    standin: Program
    provider: str
    """The stand-in's base URL."""
    seed: int

    def names(self, count: int, kind: str) -> list[str]:
        """Return job ids that were never used."""
        run = next(_runs)
        return [f"{kind}-{run}-{number}" for number in range(count)]

    async def command(self, provider: Provider, oa_id: str, job: str, **fields: Any) -> None:
        """Publish a command."""
        body = {"provider": provider, "oa_id": oa_id, "id": job, "page_size": 50, **fields}
        await self.client.jetstream().publish(command_subject(provider), json.dumps(body).encode())

    async def run(self, provider: Provider, oa_id: str, jobs: list[str], **fields: Any) -> float:
        """Let the workers do these jobs; return the seconds from the first command to the last end."""
        async with self.ends(jobs) as ended:
            began = time.monotonic()
            await asyncio.gather(*(self.command(provider, oa_id, job, **fields) for job in jobs))
            await ended
            return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def ends(self, jobs: list[str]) -> AsyncIterator[asyncio.Future[None]]:
        """Give a future that is done when all `jobs` have completed; it fails when one ends otherwise."""
        left, done = set(jobs), asyncio.get_running_loop().create_future()

        async def hear(message: Msg) -> None:
            headers = message.headers or {}
            job, kind = headers.get("ce-subject", ""), headers.get("ce-type", "")
            if job not in left or kind not in ENDS:
                return
            left.discard(job)
            if done.done():
                return
            if kind != ENDS[0]:
                done.set_exception(RuntimeError(f"{job}: {message.data.decode()}"))
            elif not left:
                done.set_result(None)

        subscription = await self.client.subscribe("followers.job.>", cb=hear)
        await self.client.flush()
        try:
            yield done
        finally:
            await subscription.unsubscribe()

    @contextlib.asynccontextmanager
    async def pages(self, subject: str = "followers.page.>") -> AsyncIterator[list[tuple[float, str, int]]]:
        """Give a list that grows with each page that is published: when, of which job, with which number."""
        seen: list[tuple[float, str, int]] = []

        async def hear(message: Msg) -> None:
            job, _, number = (message.headers or {}).get("ce-id", "").partition(":")
            seen.append((time.monotonic(), job, int(number.partition(".")[0])))

        subscription = await self.client.subscribe(subject, cb=hear, pending_bytes_limit=1 << 30)
        await self.client.flush()
        try:
            yield seen
        finally:
            await subscription.unsubscribe()

    def counts(self) -> dict[str, list[int]]:
        """Return, for each counted list, how many requests came and for how many different cursors."""
        with urllib.request.urlopen(f"{self.provider}/counts", timeout=5) as answer:
            counted: dict[str, list[int]] = json.load(answer)
            return counted

    async def forget(self) -> None:
        """Let go of the events so far, so that the store stays small, and of commands that nobody has ended."""
        js = self.client.jetstream()
        await js.purge_stream("FOLLOWERS_COMMANDS")
        await js.purge_stream("FOLLOWERS_EVENTS", subject="followers.page.>")


@contextlib.asynccontextmanager
async def stage(seed: int) -> AsyncIterator[Stage]:
    """Build it up, and take it away."""
    async with EmbeddedServer() as server:
        pin(server.pid, OTHERS)
        standin = Program([sys.executable, "-m", "tests.bench.standin", "--seed", str(seed)], cores=OTHERS)
        client = await nats.connect(server.url, pending_size=64 * 1024 * 1024)
        try:
            await reconcile(client, TopologyConfig())
            port = int(standin.line())
            yield Stage(server=server, client=client, standin=standin, provider=f"http://127.0.0.1:{port}", seed=seed)
        finally:
            await client.close()
            standin.close()
