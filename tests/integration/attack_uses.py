"""What each role is there for: all of it must go on working in a layout that stops the attacks."""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.msg import Msg
from nats.js.errors import KeyNotFoundError
from typer.testing import CliRunner

from schemas.changes import Feed
from schemas.consume import Pages
from schemas.jobs import ControlError, JobStatus
from schemas.subjects import EVENTS_STREAM, JOBS_BUCKET, PROVIDERS, cancel_subject, command_subject, release_subject
from schemas.subjects import status_subject as status_of
from schemas.types import Provider
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.attack_layout import BI, BULK, CRM, PASSWORD
from tests.integration.attack_stage import PULL, Guest, Stage
from tests.integration.attack_state import call
from worker.cli import app
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, Fault

DONE = "uses-etelecom"
"""A job that has completed, at eTelecom; one more at eSMS."""
_ANSWER_WITHIN = 10.0


@dataclass
class House:
    """A stage, a worker that has done two jobs, and one connection a role."""

    built: Stage
    providers: stage.Providers
    guests: dict[str, Guest] = field(default_factory=dict)

    async def guest(self, name: str) -> Guest:
        """The connection of a user."""
        if name not in self.guests:
            self.guests[name] = await self.built.enter(name)
        return self.guests[name]

    async def ask(self, name: str, subject: str) -> bytes:
        """Ask a worker; return its answer."""
        answer: Msg = await (await self.guest(name)).client.request(subject, b"", timeout=_ANSWER_WITHIN)
        return answer.data

    async def order(self, provider: Provider, job_id: str, **fields: object) -> int:
        """Publish a command as the publisher; return its sequence."""
        body = encode({"provider": provider, "oa_id": OA_ID, "id": job_id, "page_size": 20, **fields})
        client = (await self.guest("publisher")).client
        return (await client.jetstream(timeout=_ANSWER_WITHIN).publish(command_subject(provider), body)).seq

    async def settled(self, sequence: int) -> None:
        """Wait until a command has been done."""
        await stage.command_settled((await self.guest("admin")).client, sequence, 60)

    async def followers(self, name: str, *arguments: str) -> str:
        """Run the command line as a user; return what it prints. It must end well."""
        login = {"SERVERS": json.dumps(self.built.urls), "USER": name, "PASSWORD": PASSWORD}
        login["INBOX_PREFIX"] = self.built.users.logins[name].inbox
        env = {f"FOLLOWERS_NATS__{key}": value for key, value in login.items()}
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=env)
        assert result.exit_code == 0, f"{result.exit_code}: {result.stderr} {result.exception!r}"
        return result.stdout


Use = Callable[[House], Awaitable[None]]


async def open_house(built: Stage, providers: stage.Providers) -> House:
    """Have two jobs done, as the publisher. A worker must be running."""
    house = House(built, providers)
    for ack in [await house.order(provider, f"uses-{provider}") for provider in PROVIDERS]:
        await house.settled(ack)
    return house


def _publishes(provider: Provider) -> Use:
    async def use(house: House) -> None:
        job_id = f"published-{provider}"
        await house.settled(await house.order(provider, job_id, max_pages=1))
        assert decode(await house.ask("publisher", status_of(job_id)), JobStatus).state == "completed"

    return use


def _status(name: str) -> Use:
    async def use(house: House) -> None:
        assert decode(await house.ask(name, status_of(DONE)), JobStatus).state == "completed"
        told = decode(await house.ask(name, status_of("nobody")), ControlError)
        assert told.error.code == "not_found"

    return use


async def _publisher_cancels(house: House) -> None:
    house.providers.etelecom.inject(Fault(kind="latency", seconds=0.3, times=0))
    sequence = await house.order("etelecom", "cancelled")

    async def running() -> bool:
        answer = await house.ask("publisher", status_of("cancelled"))
        return b'"running"' in answer

    await stage.until(running, 20)
    told = decode(await house.ask("publisher", cancel_subject("cancelled")), JobStatus)
    house.providers.etelecom.faults.clear()
    await house.settled(sequence)
    assert told.state == "cancelled"


async def _publisher_releases(house: House) -> None:
    # Nothing of it is held: whoever asks is told of the feed as it stands.
    assert decode(await house.ask("publisher", release_subject(DONE)), Feed).oa_id == OA_ID


async def _reader_reads(house: House) -> None:
    client = (await house.guest("consumer")).client
    async with asyncio.timeout(30), Pages(client.jetstream(), CRM) as pages:
        read = [(await anext(pages)).job_id for _ in range(3)]
    assert read
    info = await call((await house.guest("admin")).client, f"CONSUMER.INFO.{EVENTS_STREAM}.{CRM}")
    assert info["num_ack_pending"] == 0


async def _reader_gives_back(house: House) -> None:
    client = (await house.guest("victim-consumer")).client
    try:
        async with asyncio.timeout(30), Pages(client.jetstream(), BI) as pages:
            first = await anext(pages)
            raise RuntimeError("the body fails")
    except RuntimeError:
        pass
    async with asyncio.timeout(30), Pages(client.jetstream(), BI) as pages:
        again = await anext(pages)
    assert (again.job_id, again.page, again.part) == (first.job_id, first.page, first.part)


async def _reader_settles_each_way(house: House) -> None:
    client = (await house.guest("consumer")).client
    asked = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{BULK}"
    for act in ("ack_sync", "nak", "in_progress", "term"):
        message = await client.request(asked, PULL, timeout=6, old_style=True)
        await getattr(message, act)()
    await client.flush()

    async def three_settled() -> bool:
        info = await call((await house.guest("admin")).client, f"CONSUMER.INFO.{EVENTS_STREAM}.{BULK}")
        # The one that was only begun waits; what was given back comes again at the next pull.
        return bool(info["num_ack_pending"] == 1) or bool(info["num_redelivered"])

    await stage.until(three_settled, 5)


async def _reader_reads_status(house: House) -> None:
    bucket = await (await house.guest("consumer")).client.jetstream().key_value(JOBS_BUCKET)
    assert decode((await bucket.get(DONE)).value or b"", JobStatus).state == "completed"
    try:
        await bucket.get("nobody")
    except KeyNotFoundError:
        return
    raise AssertionError("a status of nobody")


def _views(*arguments: str, shows: str) -> Use:
    async def use(house: House) -> None:
        assert shows in await house.followers("viewer", *arguments)

    return use


async def _viewer_exports(house: House) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "list.jsonl"
        await house.followers("viewer", "export", DONE, str(file))
        assert len(file.read_text("utf-8").splitlines()) > 1


async def _setup_looks(house: House) -> None:
    topology = TopologyConfig(ack_wait=900, replicas=house.built.replicas)
    changes = await reconcile((await house.guest("setup")).client, topology)
    assert {change.outcome for change in changes} == {"unchanged"}


USES: dict[str, Use] = {
    **{f"publisher: publishes for {provider}, and a worker does it": _publishes(provider) for provider in PROVIDERS},
    **{f"{name}: asks for status": _status(name) for name in ("publisher", "consumer", "viewer")},
    "publisher: cancels": _publisher_cancels,
    "publisher: asks to release": _publisher_releases,
    "consumer: reads pages": _reader_reads,
    "consumer: gives a page back": _reader_gives_back,
    "consumer: acknowledges, gives back, begins, ends": _reader_settles_each_way,
    "consumer: reads the bucket of status": _reader_reads_status,
    "viewer: followers jobs": _views("jobs", shows=DONE),
    "viewer: followers status": _views("status", DONE, shows="completed"),
    "viewer: followers watch": _views("watch", DONE, shows="completed"),
    "viewer: followers pages": _views("pages", DONE, "--provider-pages", shows=DONE),
    "viewer: followers verify": _views("verify", DONE, shows=DONE),
    "viewer: followers export": _viewer_exports,
    "setup: finds all as it should be": _setup_looks,
}
"""By role and name."""


async def use(house: House) -> dict[str, str]:
    """Do all of it; return what went wrong, by name."""
    wrong = {}
    for name, act in USES.items():
        try:
            await act(house)
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    return wrong
