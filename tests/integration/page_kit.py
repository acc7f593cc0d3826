"""A worker with a live page, and twelve jobs in all states: ten of them real, two put into the bucket as `queued`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
from nats.aio.client import Client

from schemas.jobs import JobStatus
from schemas.subjects import JOBS_BUCKET, cancel_subject, command_subject
from schemas.wire import decode, encode
from tests.integration import stage
from worker.app import Worker
from worker.jetstream.topology.assets import TopologyConfig
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import (
    API_KEY,
    OA_ID,
    SECRET_KEY,
    SHOP_KEY,
    EsmsConfig,
    EsmsSimulator,
    EtelecomConfig,
    EtelecomSimulator,
    Fault,
)
from worker.settings import Settings

TOKEN = "invented-token-of-the-page"
JOBS = 12


@dataclass(frozen=True, kw_only=True)
class Live:
    """A replica and its page."""

    worker: Worker
    client: Client
    port: int
    busy: EsmsSimulator

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}"

    async def publish(self, job_id: str, provider: str, account: str, **fields: Any) -> None:
        """Publish a command."""
        body = {"provider": provider, "account": account, "oa_id": OA_ID, "id": job_id, **fields}
        subject = command_subject(provider)  # type: ignore[arg-type]
        await self.client.jetstream().publish(subject, msgspec.json.encode(body))

    async def put(self, status: JobStatus) -> None:
        """Write a status as if another replica had."""
        await self.client.jetstream().publish(f"$KV.{JOBS_BUCKET}.{status.job_id}", encode(status))

    async def state(self, job_id: str) -> str | None:
        """A job's state in the bucket, None when there is none."""
        bucket = await self.client.jetstream().key_value(JOBS_BUCKET)
        with contextlib.suppress(Exception):
            return decode((await bucket.get(job_id)).value or b"", JobStatus).state
        return None

    async def comes_to(self, job_id: str, *states: str) -> None:
        """Wait until the job is in one of `states`."""

        async def there() -> bool:
            return await self.state(job_id) in states

        await stage.until(there, 30, lambda: f"{job_id} is not {states}")


@contextlib.asynccontextmanager
async def live(client: Client, url: str, *, token: str | None = TOKEN, **nats: Any) -> AsyncIterator[Live]:
    """A worker in this process: `my-shop` slow, `my-esms` quick, `busy-esms` told to wait."""
    async with (
        EtelecomSimulator(EtelecomConfig(followers={OA_ID: 100_000})) as etelecom,
        EsmsSimulator(EsmsConfig(followers={OA_ID: 230})) as esms,
        EsmsSimulator(EsmsConfig(followers={OA_ID: 230})) as busy,
    ):
        etelecom.inject(Fault(kind="latency", seconds=0.2, times=0))
        busy.inject(Fault(kind="status", status=429, retry_after="600", times=0))
        keys: dict[str, Any] = {
            "provider": "esms",
            "api_key": API_KEY,
            "secret_key": SECRET_KEY,
            "endpoint": "GetFollowers",
        }
        port = stage.free_port()
        settings = Settings.model_validate(
            {
                "nats": {"servers": [url], **nats},
                "worker": {"http_port": port, "ack_wait": 5.0, "drain_timeout": 2.0, "page_token": token},
                "accounts": {
                    "my-shop": {"provider": "etelecom", "base_url": etelecom.shop_url, "api_key": SHOP_KEY},
                    "my-esms": keys | {"base_url": esms.url},
                    "busy-esms": keys | {"base_url": busy.url},
                },
            }
        )
        if not nats:
            await reconcile(client, TopologyConfig(ack_wait=5))
        async with Worker(settings) as worker:
            yield Live(worker=worker, client=client, port=port, busy=busy)


async def twelve_jobs(stage_: Live) -> None:
    """Bring twelve jobs into all six states."""
    now = datetime.now(UTC)
    for number in (1, 2):
        await stage_.put(
            JobStatus(
                job_id=f"handed-back-{number}",
                provider="etelecom",
                account="my-shop",
                oa_id=OA_ID,
                state="queued",
                page=7 * number,
                followers=700 * number,
                total=2300,
                percent=30.4 * number,
                attempt=1,
                started_at=now - timedelta(minutes=4 * number),
                updated_at=now - timedelta(seconds=20),
            )
        )
    await stage_.client.publish(cancel_subject("nightly-cancelled"))
    await stage_.client.flush()
    await asyncio.sleep(0)
    for number in (1, 2, 3):
        await stage_.publish(f"big-shop-{number}", "etelecom", "my-shop", labels={"secret": "label-of-nobody"})
    for number in (1, 2):
        await stage_.publish(f"patient-{number}", "esms", "busy-esms")
    await stage_.publish("done-complete", "esms", "my-esms")
    await stage_.publish("done-truncated-by-ceiling", "esms", "my-esms", max_pages=2)
    for number in (1, 2):
        await stage_.publish(f"no-account-{number}", "esms", "nobodys-account")
    await stage_.publish("nightly-cancelled", "esms", "busy-esms")
    for number in (1, 2, 3):
        await stage_.comes_to(f"big-shop-{number}", "running")
    for number in (1, 2):
        await stage_.comes_to(f"patient-{number}", "waiting")
        await stage_.comes_to(f"no-account-{number}", "failed")
    await stage_.comes_to("done-complete", "completed")
    await stage_.comes_to("done-truncated-by-ceiling", "completed")
    if await stage_.state("nightly-cancelled") != "cancelled":
        await stage_.client.publish(cancel_subject("nightly-cancelled"))
    await stage_.comes_to("nightly-cancelled", "cancelled")


class Stream:
    """A browser's EventSource, in short."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Read an open response."""
        self._response = response

    async def next(self, event: str) -> Any:
        """The data of the next event of that name."""
        name = ""
        async with asyncio.timeout(20):
            async for raw in self._response.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == event:
                    return msgspec.json.decode(line.removeprefix("data: "))
        raise AssertionError(f"the stream ended without {event}")

    async def until(self, event: str, condition: Any) -> Any:
        """The first such data that meets `condition`."""
        while not condition(data := await self.next(event)):
            pass
        return data
