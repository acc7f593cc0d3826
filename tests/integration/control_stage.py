"""A real worker in this process, between a real nats-server and a simulated eTelecom; and its command line."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from nats.aio.client import Client
from typer.testing import CliRunner, Result

from schemas import FollowerPage, JobEvent, decode
from schemas.events import TERMINAL
from schemas.subjects import COMMANDS_STREAM, command_subject
from worker.app import Worker
from worker.cli import app
from worker.jetstream.events.reader import EventReader
from worker.jetstream.topology.assets import TopologyConfig
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY, EtelecomConfig, EtelecomSimulator, Simulator
from worker.settings import Settings

ACK_WAIT = 2.0
PATIENCE = 20.0


class Stage:
    """What a test works with."""

    def __init__(self, client: Client, url: str, simulator: EtelecomSimulator, folder: Path) -> None:
        self.client = client
        self.simulator = simulator
        self.key_file = folder / "key"
        self.key_file.write_text(SHOP_KEY)
        self.settings = Settings.model_validate(
            {
                "nats": {"servers": [url]},
                "worker": {"http_port": 0, "ack_wait": ACK_WAIT},
                "accounts": {
                    "shop": {
                        "provider": "etelecom",
                        "base_url": simulator.shop_url,
                        "api_key_file": str(self.key_file),
                        "rate_limit": 0,
                    }
                },
            }
        )
        self._environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([url])}

    def worker(self) -> Worker:
        """Another replica; use as `async with`."""
        return Worker(self.settings)

    async def publish(self, job_id: str, headers: dict[str, str] | None = None, **fields: Any) -> int:
        """Publish a command; return its sequence."""
        body = {"provider": "etelecom", "oa_id": OA_ID, "id": job_id, "page_size": 10} | fields
        subject = command_subject("etelecom")
        ack = await self.client.jetstream().publish(subject, msgspec.json.encode(body), headers=headers)
        return ack.seq

    async def run(self, *arguments: str, input: str | None = None, **env: str) -> Result:
        """Run one `followers` command; in a thread, as it has an event loop of its own."""
        environment = {**self._environment, **env}
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment, input=input)

    async def ask(self, subject: str) -> Any:
        """Send a request to whoever answers it; return its JSON."""
        return json.loads((await self.client.request(subject, timeout=PATIENCE)).data)

    async def story(self, job_id: str, *, ends: int = 1) -> list[FollowerPage | JobEvent]:
        """Return the job's events from the first one to the terminal one number `ends`."""
        found: list[FollowerPage | JobEvent] = []
        async with EventReader(self.client, f"followers.*.etelecom.{OA_ID}.{job_id}") as reader:
            while ends:
                message = await reader.next(PATIENCE)
                assert message is not None, (
                    f"no end within {PATIENCE:g} s of {[type(event).__name__ for event in found]}"
                )
                found.append(decode(message.data, FollowerPage if ".page." in message.subject else JobEvent))
                ends -= isinstance(found[-1], TERMINAL)
        return found

    async def until(self, job_id: str, kind: type) -> Any:
        """Wait for the job's first event of `kind`."""
        async with EventReader(self.client, f"followers.*.etelecom.{OA_ID}.{job_id}") as reader:
            while True:
                message = await reader.next(PATIENCE)
                assert message is not None, f"no {kind.__name__} within {PATIENCE:g} s"
                event = decode(message.data, FollowerPage if ".page." in message.subject else JobEvent)
                if isinstance(event, kind):
                    return event

    async def commands_left(self) -> int:
        """Return how many commands are in the work queue."""
        return (await self.client.jetstream().stream_info(COMMANDS_STREAM)).state.messages


@contextlib.asynccontextmanager
async def stage(
    client: Client, url: str, folder: Path, *, followers: int = 100, others: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """Set up streams and a simulator with one list, and as long ones of `others`; no worker yet."""
    before = structlog.get_config()
    # The command line runs in this process: the worker's log would be part of its output.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    await reconcile(client, TopologyConfig(ack_wait=ACK_WAIT))
    async with Simulator(EtelecomConfig(followers=dict.fromkeys((OA_ID, *others), followers))) as simulator:
        yield Stage(client, url, simulator, folder)
    structlog.configure(**before)
