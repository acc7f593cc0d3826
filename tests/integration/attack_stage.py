"""What is attacked: a nats-server, or three, with a layout of users and the data that a worker left there."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, PROVIDERS, command_subject, consumer_name
from schemas.wire import encode
from tests.chaos.cluster import Cluster
from tests.integration import stage
from tests.integration.attack_layout import BI, BULK, CRM, IDLE, PASSWORD, Users
from tests.integration.attack_state import Stored, call, messages, stream_names
from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID
from worker.settings import Settings

JOB = "victims-job"
"""A job that has completed at either provider, for whom `-etelecom` and `-esms` are added."""
REJECTED = b"no command"
FOLLOWERS = 230
PAGE_SIZE = 10
NEVER_AGAIN = 900.0
"""Seconds until something that was delivered is delivered again: longer than anything here takes."""
HELD = 2
"""Commands of either provider that a worker has taken and not settled."""
QUEUED = 3
"""And that nobody has taken."""
_RESTORES = 4
_PULLS, _PULL_WITHIN = 8, 1.0
PULL = b'{"batch": 1, "expires": 1000000000}'
_NOT_COPIED = (b"Nats-Expected-", b"Nats-Rollup")
"""Headers that would make a copy of a message fail, or replace others."""


@dataclass
class Guest:
    """A user's connection, and what it has heard beside the answers to its own requests."""

    client: Client
    refused: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    async def listen(self, subject: str, queue: str = "", *, but_from: str = "nobody") -> None:
        """Note each message that comes there: its subject, or where no wildcard is, `subject`.

        What a consumer delivers keeps the subject under which it was stored, wherever it goes. `but_from`: whose own
        requests don't count, by the inbox in which they are answered.
        """
        exact = None if ">" in subject or "*" in subject else subject

        async def note(message: Msg) -> None:
            if not message.reply.startswith(f"{but_from}."):
                self.heard.append(exact or message.subject)

        await self.client.subscribe(subject, queue=queue, cb=note)

    async def hear_all(self) -> None:
        """Wait until the server has answered to everything: nats-py may send a ping before what is still buffered."""
        await self.client.flush(30)
        await self.client.flush(30)


@dataclass
class Stage:
    """A place to attack. `async with build(...)` makes it."""

    users: Users
    urls: list[str]
    stack: contextlib.AsyncExitStack
    replicas: int
    spies: list[Guest] = field(default_factory=list)
    """One an account, in the order of `users.accounts`."""
    image: list[Stored] = field(default_factory=list)
    acks: dict[str, str] = field(default_factory=dict)
    """By durable: the subject on which what it holds would be acknowledged."""

    @property
    def settle(self) -> float:
        """Seconds in which whatever an attack sets off is done: other nodes are told by their own connections."""
        return 0.02 if self.replicas == 1 else 0.2

    async def enter(self, name: str, node: int = 0) -> Guest:
        """Connect as a user."""
        login = self.users.logins[name]
        guest = Guest(Client())

        async def note(error: Exception) -> None:
            guest.refused.append(str(error))

        await guest.client.connect(
            self.urls[node % len(self.urls)],
            user=name,
            password=PASSWORD,
            inbox_prefix=login.inbox,
            allow_reconnect=False,
            error_cb=note,
        )
        self.stack.push_async_callback(_close, guest.client)
        return guest

    async def spy(self, subjects: Collection[str]) -> None:
        """Listen to these in every account."""
        for account in self.users.accounts:
            spy = await self.enter(f"spy-{account}", node=self.replicas - 1)
            for subject in subjects:
                await spy.listen(subject, but_from=self.users.logins["worker"].inbox)
            await spy.hear_all()
            self.spies.append(spy)

    def settings(self, accounts: dict[str, Any]) -> Settings:
        """Settings of a worker with the worker's login."""
        login = {"user": "worker", "password": PASSWORD, "inbox_prefix": self.users.logins["worker"].inbox}
        return stage.settings(self.urls[0], accounts, nats=login, worker={"ack_wait": NEVER_AGAIN})

    @contextlib.asynccontextmanager
    async def worker(self, accounts: dict[str, Any] | None = None) -> AsyncIterator[Worker]:
        """A real worker in this process."""
        async with Worker(self.settings(accounts or {})) as worker:
            yield worker

    async def set_up(self, admin: Client) -> None:
        """Make streams, buckets and consumers."""
        readers = {CRM: ("followers.page.>",), IDLE: ("followers.page.esms.nobody.>",), BI: ("followers.page.>",)}
        topology = TopologyConfig(ack_wait=NEVER_AGAIN, replicas=self.replicas, readers=readers)
        changes = await reconcile(admin, topology)
        assert {change.outcome for change in changes} <= {"created", "unchanged"}, changes
        await self.refill(admin)

    async def refill(self, admin: Client) -> None:
        """Give the attacking reader a durable in which every page waits, and none has been delivered."""
        with contextlib.suppress(RuntimeError):
            await call(admin, f"CONSUMER.DELETE.{EVENTS_STREAM}.{BULK}")
        config = {
            "durable_name": BULK,
            "ack_policy": "explicit",
            "ack_wait": int(NEVER_AGAIN * 1e9),
            "filter_subject": "followers.page.>",
            "max_ack_pending": 10_000,
        }
        subject = f"CONSUMER.CREATE.{EVENTS_STREAM}.{BULK}.followers.page.>"
        await call(admin, subject, stream_name=EVENTS_STREAM, config=config)

    async def hold(self, admin: Client) -> None:
        """Take commands and a page as a worker and a reader do, and leave their acknowledgements open."""
        for stream, durable in [(COMMANDS_STREAM, consumer_name(provider)) for provider in PROVIDERS] + [
            (EVENTS_STREAM, BI)
        ]:
            for _ in range(HELD if stream == COMMANDS_STREAM else 1):
                self.acks[durable] = (await pulled(admin, stream, durable)).reply

    async def restore(self, admin: Client) -> None:
        """Put everything back as it was, whatever has become of it.

        Deleting a stream ends the pulls that are open on it, and where a reply does harm, that does some more.
        """
        for _ in range(_RESTORES):
            with contextlib.suppress(RuntimeError, AssertionError, nats.errors.Error, nats.js.errors.Error):
                return await self._restore(admin)
        return await self._restore(admin)

    async def _restore(self, admin: Client) -> None:
        while names := await stream_names(admin):
            for name in names:
                with contextlib.suppress(RuntimeError):  # an attack is still at it
                    await call(admin, f"STREAM.DELETE.{name}")
            await asyncio.sleep(self.settle)
        await self.set_up(admin)
        for stored in self.image:
            await admin.jetstream(timeout=10).publish(stored.subject, stored.data, headers=_headers(stored.headers))
        await self.hold(admin)

    async def forget(self, admin: Client, sequence: int) -> None:
        """Take away what is in the queue behind `sequence`."""
        state = (await call(admin, f"STREAM.INFO.{COMMANDS_STREAM}"))["state"]
        for extra in range(sequence + 1, state["last_seq"] + 1):
            with contextlib.suppress(RuntimeError):
                await call(admin, f"STREAM.MSG.DELETE.{COMMANDS_STREAM}", seq=extra, no_erase=True)


@contextlib.asynccontextmanager
async def build(users: Users, *, nodes: int = 1, binary: Path | None = None) -> AsyncIterator[Stage]:
    """Start it without data. `binary`: None is the one that NATS_SERVER_BIN names, else the environment's."""
    if binary is None and (named := os.environ.get("NATS_SERVER_BIN")):
        binary = Path(named)
    urls: list[str]
    async with contextlib.AsyncExitStack() as stack:
        if nodes == 1:
            server = EmbeddedServer(binary=binary, extra_config=users.config)
            urls = [(await stack.enter_async_context(server)).url]
        else:
            urls = (await stack.enter_async_context(Cluster(binary, extra_config=users.config))).urls
        built = Stage(users=users, urls=urls, stack=stack, replicas=nodes)
        await built.set_up((await built.enter("admin")).client)
        yield built


async def populate(built: Stage, admin: Client) -> None:
    """Let a real worker do jobs, and add what it leaves nothing of: a queue, a schedule, a limit."""
    js = admin.jetstream(timeout=10)
    async with stage.providers(followers=FOLLOWERS) as providers, built.worker(providers.accounts):
        acks = [
            await js.publish(
                command_subject(provider),
                encode({"provider": provider, "oa_id": OA_ID, "id": f"{JOB}-{provider}", "page_size": PAGE_SIZE}),
            )
            for provider in PROVIDERS
        ]
        acks.append(await js.publish(command_subject("esms"), REJECTED))
        for ack in acks:
            await stage.command_settled(admin, ack.seq, 60)
    await js.publish("$KV.FOLLOWERS_SCHEDULES.nightly", b'{"due": "2026-11-30T00:00:00Z"}')
    await js.publish("$KV.FOLLOWERS_LIMITS.shop", b"[]")
    for provider in PROVIDERS:
        for number in range(HELD + QUEUED):
            body = {"provider": provider, "oa_id": OA_ID, "id": f"queued-{provider}-{number}"}
            await js.publish(command_subject(provider), encode(body), headers={"Nats-Msg-Id": body["id"]})
    built.image = await messages(admin)
    assert {stored.stream for stored in built.image} == set(await stream_names(admin)), "every stream holds something"
    await built.hold(admin)


async def pulled(client: Client, stream: str, durable: str) -> Msg:
    """Pull one message. A consumer of a cluster that has just been made may not hear the first time."""
    asked = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
    for _ in range(_PULLS):
        with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
            message = await client.request(asked, PULL, timeout=_PULL_WITHIN + 0.5, old_style=True)
            if message.reply.startswith("$JS.ACK."):
                return message
    raise AssertionError(f"{durable} on {stream} delivers nothing")


def _headers(block: bytes) -> dict[str, str] | None:
    lines = [line for line in block.split(b"\r\n")[1:] if line and not line.startswith(_NOT_COPIED)]
    pairs = (line.decode().partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs} or None


async def _close(client: Client) -> None:
    with contextlib.suppress(nats.errors.Error, TimeoutError):
        await client.close()
