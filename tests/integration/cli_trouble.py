"""Every command of the command line, and the states of the world in which none of them may show a traceback."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import typer
from nats.aio.client import Client

from schemas import encode
from schemas.examples import EXAMPLES
from tests.integration import stage
from tests.integration.test_cli import completed, page, publish
from worker.cli import app
from worker.embedded import EmbeddedServer, find_server
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.permissions import Role, User, accounts_block, inbox_prefix
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

JOB = "job-1"
FEED = "etelecom.my-shop.579745863508352884.all"
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "setup": ("--check",),
    "fetch": ("esms", "1", "--id", JOB),
    "jobs": (),
    "status": (JOB,),
    "watch": (JOB,),
    "cancel": (JOB,),
    "pages": (JOB,),
    "export": (JOB, "-", "--format", "jsonl"),
    "verify": (JOB,),
    "changes list": (),
    "changes show": (JOB,),
    "changes release": (JOB,),
    "changes reset": (FEED,),
    "dead list": (),
    "dead show": ("1",),
    "dead retry": ("1",),
    "dead purge": ("1", "--yes"),
    "schedules": (),
    "doctor": ("--no-accounts",),
    "schema": (),
    "worker": (),
    "demo": ("--once", "--followers", "5", "--latency", "1"),
    "simulate": (),
}
"""Of every command: one that is missing here fails the test that enumerates them."""
OFFLINE = {"schema", "simulate", "demo"}
"""Commands that ask no server that somebody else runs."""
PRINTING = (
    "fetch",
    "jobs",
    "status",
    "watch",
    "pages",
    "export",
    "verify",
    "changes list",
    "dead list",
    "dead show",
    "schedules",
    "doctor",
    "schema",
    "demo",
    "simulate",
)
"""Commands that print on stdout where all is well."""
STAYING = {"worker", "simulate"}
"""Commands that run until they are told to end, once all is well."""
ONLINE = tuple(name for name in ARGUMENTS if name not in OFFLINE | STAYING)
SETTINGS = """
[accounts.my-shop]
provider = "etelecom"
base_url = "http://127.0.0.1:9/v1/shop"
api_key = "1:invented"
[schedules.nightly]
every = 3600
provider = "etelecom"
oa_id = "1"
"""


def commands() -> list[str]:
    """All commands that there are, as one types them."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(path)
        else:
            for name, one in inner.items():
                yield from walk(one, (*path, name))

    return sorted(walk(typer.main.get_command(app), ()))


@dataclass(frozen=True, kw_only=True)
class World:
    """What the commands find."""

    url: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A state of the world, and what is to be said in it."""

    make: Callable[[], contextlib.AbstractAsyncContextManager[World]]
    code: int
    says: tuple[str, ...]
    """Words of the line: the cause, and the cure."""
    but: Mapping[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """Commands to which something else applies."""


def environment(world: World, folder: Path) -> dict[str, str]:
    """What a command is told of the world."""
    config = folder / "followers.toml"
    config.write_text(SETTINGS, "utf-8")
    return {
        "FOLLOWERS_NATS__SERVERS": json.dumps([world.url]),
        "FOLLOWERS_CONFIG": str(config),
        "FOLLOWERS_WORKER__HTTP_PORT": "0",
        **world.environment,
    }


@contextlib.asynccontextmanager
async def away() -> AsyncIterator[World]:
    """Nobody listens."""
    yield World(url=f"nats://127.0.0.1:{stage.free_port()}")


@contextlib.asynccontextmanager
async def empty() -> AsyncIterator[World]:
    """`followers setup` has never run."""
    async with stage.server() as server:
        yield World(url=server.url)


@contextlib.asynccontextmanager
async def without_jetstream() -> AsyncIterator[World]:
    """A server without `-js`."""
    port = stage.free_port()
    named = os.environ.get("NATS_SERVER_BIN")
    program = find_server(Path(named) if named else None).path
    process = await asyncio.create_subprocess_exec(program, "-a", "127.0.0.1", "-p", str(port), "-l", os.devnull)
    try:
        await stage.until(lambda: _listens(port), 10)
        yield World(url=f"nats://127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def without_jetstream_for_the_account() -> AsyncIterator[World]:
    """A server with it, and an account without."""
    accounts = (
        "accounts { DARK { users: [{user: dark, password: p}] },"
        " LIT { jetstream: enabled, users: [{user: lit, password: p}] } }\nno_auth_user: lit\n"
    )
    async with stage.server(accounts) as server:
        yield World(url=server.url, environment={"FOLLOWERS_NATS__USER": "dark", "FOLLOWERS_NATS__PASSWORD": "p"})


@contextlib.asynccontextmanager
async def filled(**options: Any) -> AsyncIterator[EmbeddedServer]:
    """A server with everything that `followers setup` makes, and something in it; the anonymous may do all."""
    async with stage.server(**options) as server:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig())
        await _fill(client)
        await client.close()
        yield server


def as_role(role: Role, **more: str) -> Callable[[], contextlib.AbstractAsyncContextManager[World]]:
    """A user with the rights of a role, and none beside."""

    @contextlib.asynccontextmanager
    async def made() -> AsyncIterator[World]:
        roles: tuple[Role, ...] = ("admin", "publisher", "consumer")
        users = [User(role=one, login={"user": one, "password": "p"}) for one in roles]
        async with filled(extra_config=f"{accounts_block(users)}no_auth_user: admin\n") as server:
            login = {"USER": role, "PASSWORD": "p", "INBOX_PREFIX": inbox_prefix(role)} | more
            yield World(url=server.url, environment={f"FOLLOWERS_NATS__{key}": said for key, said in login.items()})

    return made


@contextlib.asynccontextmanager
async def without_direct_get() -> AsyncIterator[World]:
    """Somebody has turned direct gets off."""
    async with filled() as server:
        client = await connect(NatsOptions(servers=(server.url,)))
        js = client.jetstream()
        for stream in ("FOLLOWERS_EVENTS", "KV_FOLLOWERS_FEEDS", "KV_FOLLOWERS_JOBS", "KV_FOLLOWERS_SCHEDULES"):
            config = (await js.stream_info(stream)).config
            config.allow_direct = False
            await js.update_stream(config)
        await client.close()
        yield World(url=server.url)


async def _fill(client: Client) -> None:
    js = client.jetstream()
    status = msgspec.structs.replace(EXAMPLES["JobStatus"][0], job_id=JOB, state="completed")
    await js.publish(f"$KV.FOLLOWERS_FEEDS.{FEED}", encode(EXAMPLES["Feed"][0]))
    await js.publish(f"$KV.FOLLOWERS_JOBS.{JOB}", encode(status))
    await js.publish("followers.dead.esms", b"{", headers={"Followers-Job-Id": JOB, "Followers-Error-Code": "internal"})
    await publish(js, page(JOB, 1, 2), page(JOB, 2, 2), completed(JOB, 2))


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


_NO_WORKER = (1, ("no worker", "start one with `followers worker`"))
_ASKING = {"cancel": _NO_WORKER, "changes release": _NO_WORKER}
_DOCTOR = {"doctor": (1, ("failed",))}
_SETUP = "run `followers setup`"
_NO_JETSTREAM = ("NATS answers, but JetStream doesn't", "turn it on for this server and account")
_RIGHT = ("NATS does not let this user", "grant it on the server")
_FETCHED = (2, ("publish to $JS.API.CONSUMER.CREATE.FOLLOWERS_EVENTS.*", *_RIGHT))

TROUBLES: Mapping[str, Trouble] = {
    "away": Trouble(make=away, code=2, says=("can't be reached", "start a nats-server there"), but=_DOCTOR),
    "wrong password": Trouble(
        make=as_role("publisher", PASSWORD="wrong"),
        code=2,
        says=("NATS refuses the credentials", "check creds_file"),
        but=_DOCTOR,
    ),
    "empty": Trouble(
        make=empty,
        code=2,
        says=("is missing", _SETUP),
        but=_ASKING | _DOCTOR | {"setup": (1, (_SETUP,)), "verify": (2, ("is missing", "by --stream"))},
    ),
    "no jetstream": Trouble(
        make=without_jetstream,
        code=2,
        says=_NO_JETSTREAM,
        but=_ASKING | _DOCTOR | {"setup": (2, ("JetStream is not enabled on this NATS server", "start it with -js"))},
    ),
    "no jetstream for the account": Trouble(
        make=without_jetstream_for_the_account,
        code=2,
        says=_NO_JETSTREAM,
        but=_ASKING | _DOCTOR | {"setup": (2, ("JetStream is not enabled for this account",))},
    ),
    "publisher": Trouble(make=as_role("publisher"), code=2, says=_RIGHT, but=_ASKING | _DOCTOR | {"fetch": _FETCHED}),
    "consumer": Trouble(make=as_role("consumer"), code=2, says=_RIGHT, but=_DOCTOR | {"status": (0, ())}),
    "another inbox": Trouble(
        make=as_role("publisher", INBOX_PREFIX="_INBOX"),
        code=2,
        says=("does not let this user subscribe to _INBOX.>", "set nats.inbox_prefix"),
        but=_DOCTOR,
    ),
}
