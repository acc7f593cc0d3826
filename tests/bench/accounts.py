"""What an account for each party costs: a publish and a pull that cross from one account to another, and within one."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, command_subject, page_subject
from tests.bench.processes import MEASURED, cpu_seconds, pin
from tests.bench.table import Figure, ratio
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.permissions import Layout, Role, User, accounts_block, inbox_prefix
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

LAYOUTS: tuple[Layout, ...] = ("accounts", "one")
MESSAGES = 500
"""Of either layout in a round, one after the other, so that both see the same machine."""
_READER = "crm"
_BODY = json.dumps({"provider": "esms", "oa_id": "1", "filter": {"tag": "x" * 300}}).encode()
_PULL = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{_READER}"
_ASKED = b'{"batch": 1, "expires": 5000000000}'
_MICRO = 1e6


@dataclass(frozen=True, kw_only=True)
class Side:
    """A server with a layout, and who uses it."""

    server: EmbeddedServer
    admin: Client
    publisher: Client
    reader: Client
    arrivals: Subscription
    """Where the reader's pulls are answered."""

    async def publish(self) -> None:
        """Publish a command, and wait for its acknowledgement."""
        await self.publisher.jetstream().publish(command_subject("esms"), _BODY)

    async def pull(self) -> None:
        """Pull an event that is there, and acknowledge it."""
        await self.reader.publish(_PULL, _ASKED, reply=self.arrivals.subject)
        message = await self.arrivals.next_msg(10)
        if not message.reply.startswith("$JS.ACK."):
            raise RuntimeError(f"a pull brought {message.headers}")
        await message.ack()

    async def fill(self) -> None:
        """Put back what a round takes, and take away what it leaves."""
        js = self.admin.jetstream()
        await js.purge_stream(COMMANDS_STREAM)
        await js.purge_stream(EVENTS_STREAM)
        subject = page_subject("esms", "1", "job")
        await asyncio.gather(*(js.publish(subject, _BODY) for _ in range(MESSAGES)))


Act = Callable[[Side], Awaitable[None]]
ACTS: dict[str, Act] = {"publish": Side.publish, "pull": Side.pull}


async def accounts(rounds: int) -> tuple[list[Figure], list[str]]:
    """Return the rows about accounts, and their figures as they are."""
    async with contextlib.AsyncExitStack() as open_:
        sides = {layout: await open_.enter_async_context(_side(layout)) for layout in LAYOUTS}
        taken: dict[tuple[str, Layout], list[float]] = {}
        for number in range(rounds + 1):
            for side in sides.values():
                await side.fill()
            for name, act in ACTS.items():
                for (what, layout), value in (await _round(sides, act)).items():
                    if number:  # in the first one everybody warms up
                        taken.setdefault((f"{name}{what}", layout), []).append(value)
    return _figures(taken), [_note(taken)]


async def _round(sides: Mapping[Layout, Side], act: Act) -> dict[tuple[str, Layout], float]:
    """Let each side do it in turn, message by message; return the median seconds, and the server's CPU for each."""
    began = {layout: cpu_seconds(side.server.pid) for layout, side in sides.items()}
    walls: dict[Layout, list[float]] = {layout: [] for layout in sides}
    for _ in range(MESSAGES):
        for layout, side in sides.items():
            start = time.perf_counter()
            await act(side)
            walls[layout].append(time.perf_counter() - start)
    cpu = {layout: (cpu_seconds(side.server.pid) - began[layout]) / MESSAGES for layout, side in sides.items()}
    return {("", layout): statistics.median(values) for layout, values in walls.items()} | {
        (", CPU", layout): value for layout, value in cpu.items()
    }


def _figures(taken: dict[tuple[str, Layout], list[float]]) -> list[Figure]:
    rows = (
        ("publish", "accounts_publish", "a command published and acknowledged", 1.4),
        ("pull", "accounts_pull", "an event pulled", 1.5),
        ("publish, CPU", "accounts_publish_cpu", "CPU of nats-server for such a publish", 1.8),
        ("pull, CPU", "accounts_pull_cpu", "CPU of nats-server for such a pull and its acknowledgement", 1.8),
    )
    return [
        ratio(
            key, f"{measure}, from an account of its own ÷ in one account", taken[act, "accounts"], taken[act, "one"],
            sense="at most", target=target,
        )
        for act, key, measure, target in rows
    ]  # fmt: skip


def _note(taken: dict[tuple[str, Layout], list[float]]) -> str:
    acts = dict.fromkeys(act for act, _ in taken)
    shown = ", ".join(
        f"{act} {statistics.median(taken[act, 'accounts']) * _MICRO:,.0f} against"
        f" {statistics.median(taken[act, 'one']) * _MICRO:,.0f} µs"
        for act in acts
    )
    return f"Accounts beside one account, medians, streams in memory: {shown}."


@contextlib.asynccontextmanager
async def _side(layout: Layout) -> AsyncIterator[Side]:
    roles: tuple[Role, ...] = ("worker", "admin", "publisher", "consumer")
    users = [User(role=role, login={"user": role, "password": "x"}, durables=(_READER,)) for role in roles]
    async with EmbeddedServer(extra_config=accounts_block(users, layout=layout)) as server, _clients() as enter:
        pin(server.pid, MEASURED)
        admin = await enter(server, "admin")
        # In memory: what a disk takes would hide what the accounts do.
        readers = {_READER: ("followers.page.>",)}
        await reconcile(admin, TopologyConfig(storage="memory", readers=readers))
        publisher, reader = await enter(server, "publisher"), await enter(server, "consumer")
        arrivals = await reader.subscribe(reader.new_inbox())
        yield Side(server=server, admin=admin, publisher=publisher, reader=reader, arrivals=arrivals)


@contextlib.asynccontextmanager
async def _clients() -> AsyncIterator[Callable[[EmbeddedServer, Role], Awaitable[Client]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def enter(server: EmbeddedServer, role: Role) -> Client:
            client = Client()
            await client.connect(server.url, user=role, password="x", inbox_prefix=inbox_prefix(role))
            stack.push_async_callback(client.close)
            return client

        yield enter
