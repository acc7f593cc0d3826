"""Limits and circuits with real workers, a real nats-server and simulated providers: what the provider's log shows."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import JobWaiting, decode
from schemas.events import JobEvent
from schemas.jobs import JobStatus
from schemas.subjects import EVENTS_STREAM, JOBS_BUCKET, LIMITS_BUCKET, command_subject
from tests.limits_kit import worst_second
from worker.app import Worker, topology
from worker.core.ratelimit.gcra import Limit
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY, EtelecomConfig, EtelecomSimulator, Fault
from worker.settings import Settings

RATE = 20.0
SECONDS = 3.0
"""How long requests are counted."""
LATENCY = 0.02


@pytest.fixture
async def shop() -> AsyncIterator[EtelecomSimulator]:
    """A provider whose list doesn't end within a test."""
    async with EtelecomSimulator(EtelecomConfig(followers={OA_ID: 100_000}, latency=LATENCY)) as simulator:
        yield simulator


@pytest.fixture
async def other_shop() -> AsyncIterator[EtelecomSimulator]:
    async with EtelecomSimulator(EtelecomConfig(followers={OA_ID: 100_000}, latency=LATENCY)) as simulator:
        yield simulator


class Fleet:
    """Workers that share one server and one set of accounts."""

    def __init__(self, server: EmbeddedServer, client: Client) -> None:
        self.server, self.client, self.js = server, client, client.jetstream()
        self.workers: list[Worker] = []

    @contextlib.asynccontextmanager
    async def of(self, size: int, *, max_jobs: int = 64, **accounts: tuple[EtelecomSimulator, float]) -> Any:
        """Run `size` workers; accounts are their provider and their rate limit."""
        settings = Settings.model_validate(
            {
                "nats": {"servers": [self.server.url]},
                "worker": {"http_port": 0, "max_jobs": max_jobs, "drain_timeout": 2.0},
                "accounts": {
                    name: {
                        "provider": "etelecom",
                        "base_url": simulator.shop_url,
                        "api_key": SHOP_KEY,
                        "rate_limit": rate,
                    }
                    for name, (simulator, rate) in accounts.items()
                },
            }
        )
        await reconcile(self.client, topology(settings))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(size):
                self.workers.append(await stack.enter_async_context(Worker(settings)))
            yield self

    async def command(self, id: str, account: str, **fields: Any) -> None:
        body = {"provider": "etelecom", "oa_id": OA_ID, "id": id, "account": account, "page_size": 1} | fields
        await self.js.publish(command_subject("etelecom"), msgspec.json.encode(body))

    async def waits(self, account: str) -> list[JobWaiting]:
        events = []
        subscription = await self.js.subscribe("followers.job.>", stream=EVENTS_STREAM, ordered_consumer=True)
        with contextlib.suppress(TimeoutError):
            while True:
                message = await subscription.next_msg(timeout=0.3)
                event: JobEvent = decode(message.data, JobEvent)
                if isinstance(event, JobWaiting) and event.account == account:
                    events.append(event)
        await subscription.unsubscribe()
        return events

    def metric(self, name: str, **labels: str) -> float:
        return sum(worker._registry.get_sample_value(name, labels) or 0.0 for worker in self.workers)


@pytest.fixture
async def fleet(nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext) -> Fleet:
    return Fleet(nats_server, nats_client)


async def seen(simulator: EtelecomSimulator, seconds: float = SECONDS) -> list[float]:
    """Return when requests came in the next `seconds` after the first one."""
    async with asyncio.timeout(10):
        await simulator.journal.until(lambda counters: counters.get("requests", 0) > 0)
    began = simulator.requests[-1].at
    await asyncio.sleep(seconds)
    return [entry.at for entry in simulator.requests if began <= entry.at < began + seconds]


async def seen_in_full(simulator: EtelecomSimulator) -> list[float]:
    """Like `seen`, of the first of four such times that uses the limit: a machine stops for a moment now and then."""
    for _ in range(3):
        times = await seen(simulator)
        if len(times) >= 0.95 * RATE * SECONDS:
            return times
    return await seen(simulator)


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


async def test_four_replicas_use_the_whole_limit_of_an_account_and_no_more(
    fleet: Fleet, shop: EtelecomSimulator
) -> None:
    async with fleet.of(4, shop=(shop, RATE)):
        for number in range(12):
            await fleet.command(f"job-{number}", "shop")

        times = await seen_in_full(shop)

    assert worst_second(times) <= RATE * 1.01 + Limit(RATE).burst
    assert len(times) >= 0.95 * RATE * SECONDS


async def test_without_the_bucket_four_replicas_stay_under_the_limit_and_share_it_again_afterwards(
    fleet: Fleet, shop: EtelecomSimulator
) -> None:
    async with fleet.of(4, shop=(shop, RATE)):
        for number in range(12):
            await fleet.command(f"job-{number}", "shop")
        await seen(shop, 1.0)

        await fleet.js.delete_stream(f"KV_{LIMITS_BUCKET}")
        await asyncio.sleep(3.0)
        without = await seen(shop)
        assert fleet.metric("followers_limits_not_shared", provider="etelecom") == 4
        await reconcile(fleet.client, topology(fleet.workers[0].settings))
        await until(lambda: fleet.metric("followers_limits_not_shared", provider="etelecom") == 0)
        await asyncio.sleep(2.5)
        again = await seen_in_full(shop)

    assert worst_second(without) <= RATE
    assert len(without) >= 0.5 * RATE * SECONDS
    assert len(again) >= 0.95 * RATE * SECONDS
    times = [entry.at for entry in shop.requests]
    assert worst_second(times) <= RATE * 1.01 + Limit(RATE).burst


async def test_a_server_that_dies_and_comes_back_is_no_reason_to_exceed_the_limit(
    private_nats_server: EmbeddedServer, shop: EtelecomSimulator
) -> None:
    client = await nats.connect(private_nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    fleet = Fleet(private_nats_server, client)
    async with fleet.of(4, shop=(shop, RATE)):
        for number in range(12):
            await fleet.command(f"job-{number}", "shop")
        await seen(shop, 1.0)

        await private_nats_server.kill()
        await asyncio.sleep(2.0)
        await private_nats_server.restart()
        before = len(shop.requests)
        await until(lambda: len(shop.requests) > before + RATE, seconds=20.0)

    await client.close()
    assert worst_second([entry.at for entry in shop.requests]) <= RATE * 1.01 + Limit(RATE).burst


async def test_no_limit_asks_no_bucket(fleet: Fleet, shop: EtelecomSimulator) -> None:
    async with fleet.of(1, shop=(shop, 0.0)):
        await fleet.command("job", "shop")
        times = await seen(shop, 1.0)

        info = await fleet.js.stream_info(f"KV_{LIMITS_BUCKET}")

    assert info.state.last_seq == 0
    assert len(times) > RATE


async def test_a_rate_limited_answer_holds_all_replicas_up_for_as_long_as_it_says(
    fleet: Fleet, shop: EtelecomSimulator
) -> None:
    async with fleet.of(4, shop=(shop, RATE)):
        for number in range(12):
            await fleet.command(f"job-{number}", "shop")
        await seen(shop, 1.0)

        shop.inject(Fault(kind="status", status=429, retry_after="3"))
        await until(lambda: any(entry.status == 429 for entry in shop.requests))
        hit = next(entry.at for entry in shop.requests if entry.status == 429)
        await asyncio.sleep(5.0)
        waits = await fleet.waits("shop")

    times = [entry.at for entry in shop.requests]
    # What other replicas had reserved before is still used: a tenth of a second's worth each.
    assert [time for time in times if hit + LATENCY + 0.5 < time < hit + 3.0] == []
    assert len([time for time in times if hit + 3.0 <= time]) > RATE
    assert {wait.reason for wait in waits} == {"rate_limited"}
    assert len({wait.job_id for wait in waits}) == 12


async def test_jobs_of_a_limited_account_tell_once_that_they_wait(fleet: Fleet, shop: EtelecomSimulator) -> None:
    async with fleet.of(2, shop=(shop, 4.0)):
        for number in range(6):
            await fleet.command(f"job-{number}", "shop", max_pages=4)
        await until(lambda: fleet.metric("followers_jobs_total", provider="etelecom", state="completed") == 6, 30)
        waits = Counter(wait.job_id for wait in await fleet.waits("shop"))

    assert len(shop.requests) >= 24
    assert set(waits.values()) == {1}
    assert len(waits) >= 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(kind="status", status=503, times=0), "circuit_open"),
        (Fault(kind="reset", times=0), "circuit_open"),
        (Fault(kind="status", status=429, retry_after="60", times=0), "rate_limited"),
    ],
    ids=["answers 503", "resets connections", "limits rates"],
)
async def test_an_account_in_trouble_slows_no_other_one_however_many_jobs_it_has(
    fleet: Fleet, shop: EtelecomSimulator, other_shop: EtelecomSimulator, fault: Fault, reason: str
) -> None:
    shop.inject(fault)
    async with fleet.of(1, max_jobs=4, broken=(shop, RATE), healthy=(other_shop, RATE)):
        for number in range(20):
            await fleet.command(f"broken-{number}", "broken")
        for number in range(3):
            await fleet.command(f"healthy-{number}", "healthy")

        times = await seen_in_full(other_shop)
        waits = await fleet.waits("broken")
        entry = await (await fleet.js.key_value(JOBS_BUCKET)).get(waits[-1].job_id)

    assert len(times) >= 0.95 * RATE * SECONDS
    assert len(shop.requests) <= 2 * RATE
    assert reason in {wait.reason for wait in waits}
    assert entry.value is not None
    assert decode(entry.value, JobStatus).state in ("waiting", "queued")


async def test_a_provider_that_comes_back_is_used_again_by_every_job(fleet: Fleet, shop: EtelecomSimulator) -> None:
    shop.inject(Fault(kind="status", status=503, times=0))
    async with fleet.of(1, shop=(shop, 0.0)):
        for number in range(5):
            await fleet.command(f"job-{number}", "shop", max_pages=3)
        await until(lambda: fleet.metric("followers_circuits", provider="etelecom", state="open") == 1)

        shop.faults.clear()
        await until(lambda: fleet.metric("followers_jobs_total", provider="etelecom", state="completed") == 5)

        assert fleet.metric("followers_circuits", provider="etelecom", state="open") == 0
        assert fleet.metric("followers_request_wait_seconds_total", provider="etelecom", reason="circuit_open") > 0
