"""Thousands of requests about jobs from one who asks a lot: others are answered at once, and the work has a bound."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.jobs import ControlError, JobStatus
from schemas.subjects import JOBS_BUCKET
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.test_cli import NOW
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY, EtelecomConfig, Simulator

QUEUED = 600
"""Commands of a provider without an account: they wait in the queue, where each unknown job is looked for."""


@pytest.fixture
async def asked(private_nats_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[str]:
    """A worker with a long queue; the server's address."""
    url = private_nats_server.url
    client = await nats.connect(url, allow_reconnect=False)
    await reconcile(client, TopologyConfig())
    # Without an account a command is a dead letter at once, so there is a worker of one slot, which hangs.
    async with Simulator(EtelecomConfig(followers={OA_ID: 100}, latency=60)) as slow:
        account = {"provider": "etelecom", "base_url": slow.shop_url, "api_key": SHOP_KEY}
        sections = stage.sections_for(url, {"shop": account}, worker={"max_jobs": 1, "drain_timeout": 0.2})
        async with stage.replica(sections, tmp_path) as replica:
            await client.publish(f"$KV.{JOBS_BUCKET}.known", encode(known()))
            for number in range(QUEUED):
                command = {"provider": "etelecom", "oa_id": OA_ID, "id": f"queued-{number}"}
                await client.jetstream().publish("followers.fetch.etelecom", encode(command))
            yield url
            assert replica.process.poll() is None
    await client.close()


def known() -> JobStatus:
    return JobStatus(
        job_id="known", provider="etelecom", account="my-shop", oa_id=OA_ID, state="completed", updated_at=NOW
    )


class Flood:
    """One who asks about jobs that nobody knows."""

    def __init__(self, client: Client, many: int) -> None:
        self.client, self.many = client, many
        self.answers: Counter[str] = Counter()
        self.late = asyncio.Event()
        self.began = time.monotonic()

    async def ask(self, act: str) -> None:
        inbox = self.client.new_inbox()

        async def take(message: Msg) -> None:
            self.answers[decode(message.data, ControlError).error.code] += 1
            if self.answers.total() == self.many:
                self.late.set()

        await self.client.subscribe(f"{inbox}.*", cb=take)
        self.began = time.monotonic()
        for number in range(self.many):
            await self.client.publish(f"followers.{act}.nobody-{number}", b"", reply=f"{inbox}.{number}")
        await self.client.flush()

    async def all_answered(self) -> float:
        async with asyncio.timeout(100):
            await self.late.wait()
        return time.monotonic() - self.began


@pytest.mark.parametrize(("act", "many", "within"), [("status", 3000, 15), ("cancel", 600, 30)])
async def test_a_known_job_is_answered_at_once_amid_thousands_of_unknown_ones(
    asked: str, act: str, many: int, within: float
) -> None:
    async with await nats.connect(asked) as reader, await nats.connect(asked) as operator:
        flood = Flood(reader, many)
        await flood.ask(act)
        began = time.monotonic()
        replies = [await operator.request(f"followers.{act}.known", b"", timeout=60) for _ in range(3)]
        took = time.monotonic() - began
        amid = flood.answers.total()
        all_of_them = await flood.all_answered()

    assert [decode(reply.data, JobStatus) for reply in replies] == [known()] * 3
    assert took < 1.5
    assert amid < many
    assert all_of_them < within
    assert flood.answers.keys() <= {"not_found", "rate_limited"}
    # Those that were looked for in the queue; the others are told that they were not.
    assert act == "cancel" or 0 < flood.answers["not_found"] < many / 10
