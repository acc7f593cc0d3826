"""Accounts of one provider on one replica: who is slow, or waits for a limit, keeps nobody else's commands away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.aio.client import Client

from schemas import decode
from schemas.events import JobEvent, JobStarted
from schemas.subjects import COMMANDS_STREAM, command_subject, consumer_name
from tests.integration import stage
from worker.app import Worker, topology
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY, EtelecomConfig, EtelecomSimulator
from worker.settings import Settings

COMMANDS = 5_000
SHARE = 64


class Accounts:
    """A worker with a slow account and another one, and what its events say."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.order: dict[str, list[int]] = {"slow": [], "other": []}

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def take(message: object) -> None:
            event: JobEvent = decode(message.data, JobEvent)  # type: ignore[attr-defined]
            if isinstance(event, JobStarted) and event.account:
                self.order[event.account].append(int(event.job_id.rpartition("-")[2]))

        subscription = await self.client.subscribe("followers.job.>", cb=take)
        yield
        await subscription.unsubscribe()

    async def publish(self, account: str, numbers: range) -> None:
        for number in numbers:
            body = {
                "provider": "etelecom", "oa_id": OA_ID, "id": f"{account}-{number}", "account": account,
                "page_size": 1, "max_pages": 1,
            }  # fmt: skip
            await self.client.publish(command_subject("etelecom"), msgspec.json.encode(body))
        await self.client.flush()

        async def stored() -> bool:
            info = await self.client.jetstream().stream_info(COMMANDS_STREAM)
            return bool(info.state.messages >= len(numbers))

        await stage.until(stored, 30)

    async def began(self, account: str, number: int) -> None:
        await stage.until(lambda: number in self.order[account], 20, lambda: f"{account}-{number} hasn't begun")

    async def seen(self) -> None:
        """Wait until every command has been delivered once."""

        async def all_seen() -> bool:
            info = await self.client.jetstream().consumer_info(COMMANDS_STREAM, consumer_name("etelecom"))
            return bool(info.num_pending == 0)

        await stage.until(all_seen, 30)


@contextlib.asynccontextmanager
async def accounts(rate: float, latency: float, max_jobs: int = SHARE) -> AsyncIterator[Accounts]:
    async with (
        stage.server() as server,
        EtelecomSimulator(EtelecomConfig(latency=latency)) as slow,
        EtelecomSimulator(EtelecomConfig()) as other,
    ):
        client = await connect(NatsOptions(servers=(server.url,)))
        of = {"provider": "etelecom", "api_key": SHOP_KEY}
        settings = stage.settings(
            server.url,
            {
                "slow": of | {"base_url": slow.shop_url, "rate_limit": rate},
                "other": of | {"base_url": other.shop_url, "rate_limit": 0.0},
            },
            worker={"max_jobs": max_jobs, "ack_wait": 10.0},
        )
        await reconcile(client, topology(settings))
        yield Accounts(client, settings)
        await client.close()


@pytest.mark.parametrize(("rate", "latency"), [(1.0, 0.0), (0.0, 60.0)], ids=["waits for its limit", "is slow"])
async def test_an_account_with_thousands_of_commands_keeps_no_other_accounts_from_beginning(
    rate: float, latency: float
) -> None:
    loop = asyncio.get_running_loop()
    async with accounts(rate, latency) as stage_of, stage_of.watched():
        await stage_of.publish("slow", range(COMMANDS))
        async with Worker(stage_of.settings):
            began = loop.time()
            await stage_of.publish("other", range(1))
            await stage_of.began("other", 0)
            behind_all = loop.time() - began
            await stage_of.seen()
            began = loop.time()
            await stage_of.publish("other", range(1, 2))
            await stage_of.began("other", 1)
            at_once = loop.time() - began

    assert behind_all < 5  # 0.8 s on a quiet machine
    assert at_once < 2
    assert len(set(stage_of.order["slow"])) <= SHARE + 30


async def test_commands_that_went_back_begin_in_the_order_of_the_stream() -> None:
    share, count = 4, 24
    async with accounts(rate=3.0, latency=0.0, max_jobs=share) as stage_of, stage_of.watched():
        await stage_of.publish("slow", range(count))
        async with Worker(stage_of.settings):
            await stage_of.began("slow", count - 1)
            info = await stage_of.client.jetstream().consumer_info(COMMANDS_STREAM, consumer_name("etelecom"))

    order = stage_of.order["slow"]
    assert sorted(order) == list(range(count))
    # Those that are in hand together begin together: none overtakes one that isn't in hand yet.
    assert max(abs(place - number) for place, number in enumerate(order)) < share
    assert info.delivered.consumer_seq > 2 * count, "nothing went back"
