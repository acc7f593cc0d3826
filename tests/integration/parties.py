"""A server with one user of each role, in either layout of accounts, and what they need to get in."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from typer.testing import CliRunner, Result

from tests.integration import stage
from worker.cli import app
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.permissions import Layout, Role, User, accounts_block, inbox_prefix

ROLES: tuple[Role, ...] = ("worker", "publisher", "consumer", "viewer", "setup", "admin")
READER = "crm"
LAYOUTS: tuple[Layout, ...] = ("accounts", "one")


def login(role: Role) -> dict[str, str]:
    """The settings of `[nats]` with which a role gets in."""
    return {"user": role, "password": f"invented-{role}", "inbox_prefix": inbox_prefix(role)}


def block(layout: Layout) -> str:
    """The accounts of all roles."""
    users = [
        User(
            role=role,
            login={"user": role, "password": f"invented-{role}"},
            durables=(READER,) if role in ("consumer", "setup") else (),
        )
        for role in ROLES
    ]
    return accounts_block(users, layout=layout)


@dataclass
class Parties:
    """Whoever gets in is heard here when the server refuses it something."""

    url: str
    stack: contextlib.AsyncExitStack
    refused: list[str] = field(default_factory=list)

    async def enter(self, role: Role, **options: Any) -> Client:
        """A connection of the role's user."""

        async def note(error: Exception) -> None:
            self.refused.append(f"{role}: {error}")

        client = Client()
        await client.connect(self.url, error_cb=note, **{**login(role), **options})
        self.stack.push_async_callback(_leave, client)
        return client


async def _leave(client: Client) -> None:
    if not client.is_closed:
        await client.close()


@contextlib.asynccontextmanager
async def parties(url: str) -> AsyncIterator[Parties]:
    """Connections that are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:
        yield Parties(url, stack)


async def followers(url: str, role: Role, *arguments: str) -> Result:
    """Run a command as the role's user."""
    given = {"SERVERS": json.dumps([url])} | {name.upper(): value for name, value in login(role).items()}
    env = {f"FOLLOWERS_NATS__{name}": value for name, value in given.items()}
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=env)


async def move(server: EmbeddedServer, before: Layout, after: Layout, *, signals: int) -> None:
    """Give a running server the other layout, and tell it so many times."""
    config = server.folder / "nats-server.conf"
    text = config.read_text("utf-8")
    assert block(before) in text
    config.write_text(text.replace(block(before), block(after)), "utf-8")
    for number in range(1, signals + 1):
        reloads = server.log_tail(10_000).count("Reloaded server configuration")
        os.kill(server.pid, signal.SIGHUP)
        await stage.until(_reloaded(server, reloads), 10, lambda: f"signal {number}:\n{server.log_tail()}")  # noqa: B023


def _reloaded(server: EmbeddedServer, before: int) -> Callable[[], bool | Awaitable[bool]]:
    return lambda: server.log_tail(10_000).count("Reloaded server configuration") > before
