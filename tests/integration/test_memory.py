"""What a worker process holds in memory while many jobs have large pages at once."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
import pytest
from aiohttp import web
from nats.aio.client import Client

from schemas.events import JobCompleted, JobEvent
from schemas.jobs import JobStatus
from schemas.subjects import JOBS_BUCKET
from schemas.wire import decode
from tests.integration import stage
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY

MIB = 2**20
ROWS = 100


class LargeShop:
    """A provider whose lists have `pages` pages of `size` bytes, made once: what is measured is not its work."""

    def __init__(self, size: int, pages: int) -> None:
        self.pages, self.asked, self.size = pages, 0, size
        self._bodies = {f"c{page}": self._body(page) for page in range(pages)}

    def _body(self, page: int) -> bytes:
        rows = [
            {
                "zl_user_id": str(10**18 + page * ROWS + number),
                "full_name": "Nguyễn Thị Hoa",
                "tags_and_notes_info": {"notes": ["ghi chú " * (self.size // ROWS // 9)]},
            }
            for number in range(ROWS)
        ]
        following = f"c{page + 1}" if page + 1 < self.pages else ""
        return msgspec.json.encode({"followers": rows, "paging": {"next": following}})

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        asked = msgspec.json.decode(await request.read())
        return web.Response(body=self._bodies[asked["paging"].get("after", "c0")], content_type="application/json")

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        runner = web.ServerRunner(web.Server(self.answer))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/shop"
        finally:
            await runner.cleanup()


async def publish(client: Client, jobs: int) -> None:
    for number in range(jobs):
        body = {"provider": "etelecom", "oa_id": OA_ID, "id": f"job-{number}", "page_size": ROWS}
        await client.publish("followers.fetch.etelecom", msgspec.json.encode(body))
    await client.flush()


@contextlib.asynccontextmanager
async def counted(client: Client) -> AsyncIterator[list[JobEvent]]:
    """The terminal events that come."""
    ended: list[JobEvent] = []

    async def take(message: Any) -> None:
        event: JobEvent = decode(message.data, JobEvent)
        if event.__struct_config__.tag in ("completed", "failed"):
            ended.append(event)

    subscription = await client.subscribe("followers.job.>", cb=take)
    yield ended
    await subscription.unsubscribe()


async def statuses(client: Client) -> list[JobStatus]:
    bucket = await client.jetstream().key_value(JOBS_BUCKET)
    entries = [await bucket.get(key) for key in await bucket.keys()]
    return [decode(entry.value or b"", JobStatus) for entry in entries]


@pytest.mark.parametrize(
    ("size", "pages", "jobs", "budget", "most"),
    [
        pytest.param(60_000, 1, 400, 16 * MIB, 150 * MIB, id="a burst of 400"),
        pytest.param(60_000, 1, 2_000, 16 * MIB, 150 * MIB, id="a burst of 2000", marks=stage.in_the_long_run),
        pytest.param(2 * MIB, 2, 24, 16 * MIB, 150 * MIB, id="24 of 2 MB"),
        pytest.param(15_000_000, 2, 64, 128 * MIB, 384 * MIB, id="64 of 15 MB", marks=stage.in_the_long_run),
    ],
)
async def test_many_jobs_with_large_pages_stay_within_the_memory_that_is_meant_for_them(
    tmp_path: Path, size: int, pages: int, jobs: int, budget: int, most: int
) -> None:
    shop = LargeShop(size, pages)
    async with stage.server() as server, shop.served() as base_url:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig(ack_wait=30))
        accounts = {"shop": {"provider": "etelecom", "api_key": SHOP_KEY, "rate_limit": 0.0, "base_url": base_url}}
        bounds = {"ack_wait": 30.0, "max_bytes_in_flight": budget}
        sections = stage.sections_for(server.url, accounts, worker=bounds, log={"level": "info"})
        sections["changes"] = {"enabled": False}  # all are lists of one OA, and their changes come one after the other
        async with stage.replica(sections, tmp_path) as replica, counted(client) as ended:
            idle, peak, owners = replica.rss_bytes(), 0, set[str]()
            await publish(client, jobs)
            for look in itertools.count():
                peak = max(peak, replica.rss_bytes())
                if look % 20 == 10 and jobs < 100:
                    with contextlib.suppress(nats.errors.Error):  # a server that writes gigabytes may take its time
                        owners |= {status.wait.owner for status in await statuses(client) if status.wait is not None}
                if len(ended) == jobs:
                    break
                assert replica.process.poll() is None, replica.log[-2000:]
                assert look < 6000, f"{len(ended)} of {jobs} ended:\n{replica.log[-2000:]}"
                await asyncio.sleep(0.05)
            print(f"idle {idle / MIB:.0f} MiB, peak {peak / MIB:.0f} MiB")
        await client.close()

    assert all(isinstance(event, JobCompleted) and event.followers == pages * ROWS for event in ended)
    assert peak < most
    assert owners <= {"memory"}
    assert shop.asked == pages * jobs, "large pages are not asked for twice"
