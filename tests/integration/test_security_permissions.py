"""Least privilege on a real nats-server: what each user must do works, what it must not do the server refuses.

NATS_SERVER_BIN names another nats-server to run all of it on; LONG_TESTS=1 adds the slow ones.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import nats
import nats.errors
import nats.js.errors
import pytest
import structlog
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from schemas.changes import Feed
from schemas.events import FollowerPage, JobCompleted, JobFailed
from schemas.jobs import JobStatus
from schemas.subjects import (
    CANCEL_SUBJECTS,
    COMMANDS_STREAM,
    CONTROL_QUEUE,
    DEAD_STREAM,
    EVENTS_STREAM,
    FEEDS_BUCKET,
    ID_SUBJECTS,
    JOBS_BUCKET,
    LIMITS_BUCKET,
    PROVIDERS,
    RELEASE_SUBJECTS,
    SNAPSHOTS_BUCKET,
    STATUS_SUBJECTS,
    command_subject,
    consumer_name,
    exhausted_subject,
    id_subject,
)
from schemas.types import Provider
from schemas.wire import decode, encode
from tests.integration import page_kit, stage
from worker.app import StartError, Worker
from worker.core.ratelimit.gcra import Limit
from worker.embedded import EmbeddedServer
from worker.jetstream.changes.feeds import JetStreamFeeds
from worker.jetstream.changes.snapshots import JetStreamSnapshots
from worker.jetstream.client.connect import ConnectError, NatsOptions, connect
from worker.jetstream.commands.delivery import JetStreamDelivery
from worker.jetstream.commands.max_deliveries import find_exhausted
from worker.jetstream.commands.queue import JetStreamCommandQueue
from worker.jetstream.dead_letters.backlog import Backlog
from worker.jetstream.dead_letters.writer import JetStreamDeadLetters
from worker.jetstream.events.bulk_reader import BulkReader
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.events.scan import Scan
from worker.jetstream.events.stored import read_stored
from worker.jetstream.kv.cancellations import JetStreamCancellations
from worker.jetstream.kv.job_status import JetStreamStatusBoard
from worker.jetstream.kv.rate_limits import JetStreamLimit, ServerClock
from worker.jetstream.kv.watch import JobsWatch
from worker.jetstream.topology.accounts import REPLIES, local_subject
from worker.jetstream.topology.permissions import (
    MADE,
    STREAMS,
    USER_INFO,
    Role,
    User,
    accounts_block,
    inbox_prefix,
    permissions,
)
from worker.jetstream.topology.reconcile import TopologyConfig, missing, missing_for_changes, reconcile
from worker.providers.simulators import OA_ID, Fault

ROLES: tuple[Role, ...] = ("worker", "publisher", "consumer", "viewer", "setup", "admin")
READER = "reader"
TOPOLOGY = TopologyConfig(ack_wait=2)


def user(role: Role, name: str = "") -> User:
    """A user of `role`, named after it."""
    login = {"user": name or role, "password": f"invented-{role}"}
    return User(role=role, login=login, durables=(READER,) if role == "consumer" else ())


@dataclass
class Guest:
    """A connection and what the server refused it."""

    client: Client
    refused: list[str] = field(default_factory=list)
    any_refused: asyncio.Event = field(default_factory=asyncio.Event)


async def hear_all(guest: Guest) -> None:
    """Wait until the server has answered to everything: nats-py may send a ping before what is still buffered."""
    await guest.client.flush()
    await guest.client.flush()


Enter = Callable[..., Awaitable[Guest]]


def lacking() -> dict[str, tuple[User, str]]:
    """A user for every line of every role that lacks just that line, by name."""
    made = {}
    for role in ROLES:
        for number, line in enumerate(lines_of(role)):
            made[f"{role}-{number}"] = (user(role, f"{role}-{number}"), line)
    return made


def lines_of(role: Role) -> tuple[str, ...]:
    """All that `role` may do on a server with a user of each role."""
    allowed = permissions(user(role), [user(asker) for asker in ROLES])
    return (*allowed.publish, *allowed.subscribe) if allowed else ()


def config_with(lacking_users: dict[str, tuple[User, str]]) -> str:
    """The rendered block of all roles, and the users who lack a line."""
    block = accounts_block([*map(user, ROLES), *(lame for lame, _ in lacking_users.values())])
    accounts = json.loads(block.removeprefix("accounts: "))
    for listed in (one for account in accounts.values() for one in account["users"]):
        if listed["user"] in lacking_users:
            for act in ("publish", "subscribe"):
                allowed = listed["permissions"][act]["allow"]
                allowed[:] = [line for line in allowed if line != lacking_users[listed["user"]][1]] or ["nothing"]
    return f"accounts: {json.dumps(accounts)}\n"


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[EmbeddedServer]:
    """A server that knows all roles, set up by the user for that."""
    async with stage.server(config_with(lacking())) as server:
        async with entered(server) as enter:
            assert {change.outcome for change in await reconcile((await enter("setup")).client, TOPOLOGY)} == {
                "created"
            }
            admin = (await enter("admin")).client.jetstream()
            await admin.add_consumer(EVENTS_STREAM, ConsumerConfig(durable_name=READER, ack_policy="explicit"))  # type: ignore[arg-type]
        yield server


@contextlib.asynccontextmanager
async def entered(server: EmbeddedServer) -> AsyncIterator[Enter]:
    """Opens connections and closes them at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def enter(name: str) -> Guest:
            role: Role = name.partition("-")[0]  # type: ignore[assignment]
            guest = Guest(Client())

            async def note(error: Exception) -> None:
                guest.refused.append(str(error))
                guest.any_refused.set()

            await guest.client.connect(
                server.url,
                user=name,
                password=f"invented-{role}",
                inbox_prefix=inbox_prefix(role),
                allow_reconnect=False,
                error_cb=note,
            )
            stack.push_async_callback(guest.client.close)
            return guest

        yield enter


@pytest.fixture
async def enter(guarded: EmbeddedServer) -> AsyncIterator[Enter]:
    async with entered(guarded) as enter:
        yield enter


# What each role does, and which lines it needs for that.

Act = Callable[[Client], Awaitable[object]]


async def look(client: Client) -> None:
    assert await missing(client) is None
    assert await missing_for_changes(client) is None


def take(provider: Provider) -> Act:
    async def act(client: Client) -> None:
        subscription = await client.jetstream().pull_subscribe_bind(
            consumer_name(provider), COMMANDS_STREAM, inbox_prefix=b"_INBOX_worker."
        )
        await subscription.fetch(1, timeout=2)

    return act


def settle(provider: Provider) -> Act:
    async def act(client: Client) -> None:
        subscription = await client.jetstream().pull_subscribe_bind(
            consumer_name(provider), COMMANDS_STREAM, inbox_prefix=b"_INBOX_worker."
        )
        delivery = JetStreamDelivery((await subscription.fetch(1, timeout=2))[0], ack_wait=4)
        await delivery.in_progress()
        await delivery.ack()

    return act


async def read_tail(client: Client) -> None:
    await JetStreamLog(client, timeout=2).last("followers.page.esms.nobody.none")


async def look_through_the_queue(client: Client) -> None:
    scan = Scan(client, COMMANDS_STREAM, timeout=2, direct=True)
    assert [entries async for entries in scan.read(command_subject("esms"), 1, 2**62)]


async def look_at_the_queue(client: Client) -> None:
    await JetStreamCommandQueue(client, timeout=2).waiting(1)


async def read_pages(client: Client) -> None:
    subject = "followers.page.esms.oa.job"
    assert [entry.subject async for entry in read_stored(client, subject, patience=2)]


async def read_jobs(client: Client) -> None:
    async for entry in read_stored(client, f"$KV.{JOBS_BUCKET}.*", stream=f"KV_{JOBS_BUCKET}", patience=2):
        assert entry.subject.startswith("$KV.")


async def take_an_id(client: Client) -> None:
    await JetStreamLog(client, timeout=2).publish(id_subject(uuid.uuid4().hex), b"{}", {}, 0)


def append(kind: str) -> Act:
    async def act(client: Client) -> None:
        await JetStreamLog(client, timeout=2).publish(f"followers.{kind}.esms.oa.{uuid.uuid4().hex}", b"{}", {}, 0)

    return act


def bury(provider: Provider) -> Act:
    async def act(client: Client) -> None:
        await JetStreamDeadLetters(client, timeout=2).store(provider, b"{}", {}, uuid.uuid4().hex)

    return act


async def read_status(client: Client) -> None:
    assert await JetStreamStatusBoard(client, timeout=2).get("nobody") is None


async def write_status(client: Client) -> None:
    now = datetime.now(UTC)
    status = JobStatus(job_id="j", provider="esms", account="a", oa_id="o", state="queued", updated_at=now, worker="w")
    await JetStreamStatusBoard(client, timeout=2).settle(status)


async def lose_the_status(client: Client) -> None:
    """Write a status of which somebody else has written a newer one: the leader is asked whose it is."""
    job_id, board = uuid.uuid4().hex, JetStreamStatusBoard(client, timeout=2)
    now = datetime.now(UTC)
    status = JobStatus(
        job_id=job_id, provider="esms", account="a", oa_id="o", state="running", updated_at=now, worker="w"
    )
    assert await board.get(job_id) is None
    await client.jetstream(timeout=2).publish(f"$KV.{JOBS_BUCKET}.{job_id}", encode(status))
    await board.settle(status)


async def cancel(client: Client) -> None:
    await JetStreamCancellations(client, timeout=2).request("nobody")


async def end_exhausted(client: Client) -> None:
    first = b'{"stream_seq": %d}' % (await client.jetstream().stream_info(COMMANDS_STREAM)).state.first_seq
    delivery = await find_exhausted(client, first, timeout=2)
    assert delivery is not None
    await delivery.ack()


def hear(subject: str) -> Act:
    name, _, queue = subject.partition(" ")

    async def act(client: Client) -> None:
        await client.subscribe(name, queue=queue)
        await client.flush()

    return act


def answer(inbox: str) -> Act:
    async def act(client: Client) -> None:
        await client.publish(inbox.replace(">", "request"), b"{}")
        await client.flush()

    return act


def ask(subject: str) -> Act:
    async def act(client: Client) -> None:
        # No worker is there; 2.10 doesn't say so across accounts.
        with contextlib.suppress(nats.errors.NoRespondersError, nats.errors.TimeoutError):
            await client.request(subject.replace("*", "nobody"), b"", timeout=2)

    return act


async def watch_jobs(client: Client) -> None:
    watch = JobsWatch(client, timeout=2)
    async with watch.watching():
        assert await watch.next() is not None


async def read_letters(client: Client) -> None:
    assert (await Backlog(client, timeout=2).letters())[1]


async def read_pages_back(client: Client) -> None:
    assert [
        one async for batch in BulkReader(client, timeout=2).read("followers.page.esms.oa.job", 2**63) for one in batch
    ]


async def change_feed(client: Client) -> None:
    feeds, key = JetStreamFeeds(client, timeout=2), f"esms.shop.{uuid.uuid4().hex}.all"
    feed = Feed(provider="esms", account="shop", oa_id="oa")
    await feeds.put(key, feed, (await feeds.get(key))[1])


async def look_for_feeds(client: Client) -> None:
    await JetStreamFeeds(client, timeout=2).all()


async def keep_snapshot(client: Client) -> None:
    snapshots, job_id = JetStreamSnapshots(client, timeout=2), uuid.uuid4().hex
    await snapshots.put("esms.shop.oa.all", job_id, b"list")
    assert await snapshots.get("esms.shop.oa.all", job_id) == b"list"
    await snapshots.delete("esms.shop.oa.all", job_id)


async def share_limit(client: Client) -> None:
    assert (await JetStreamLimit(client, ServerClock(), "shop", Limit(100.0)).take(1)).times


def order(provider: Provider) -> Act:
    async def act(client: Client) -> None:
        await client.jetstream().publish(command_subject(provider), b"{}", stream=COMMANDS_STREAM, timeout=2)

    return act


async def read_events(client: Client) -> None:
    subscription = await client.jetstream().pull_subscribe("followers.>", durable=READER, stream=EVENTS_STREAM)
    for message in await subscription.fetch(1, timeout=2):
        await message.ack_sync(timeout=2)


async def read_bucket(client: Client) -> None:
    bucket = await client.jetstream().key_value(JOBS_BUCKET)
    with contextlib.suppress(nats.js.errors.KeyNotFoundError):
        await bucket.get("nobody")


async def set_up(client: Client) -> None:
    await reconcile(client, TOPOLOGY)


def consumers_of(act: str) -> dict[str, Provider]:
    return {f"{act}.{COMMANDS_STREAM}.{consumer_name(provider)}": provider for provider in PROVIDERS}


async def who_am_i(client: Client) -> None:
    """Ask about oneself, as `followers doctor` does."""
    await client.request(USER_INFO, b"", timeout=5)


def in_another_account(needs: dict[str, Act]) -> dict[str, Act]:
    """The same, as the lines are called where another account lets them in."""
    return {local_subject(line): act for line, act in needs.items()}


NEEDS: dict[str, dict[str, Act]] = {
    "worker": {
        **{f"$JS.API.STREAM.INFO.{stream}": look for stream in STREAMS},
        **dict.fromkeys(consumers_of("$JS.API.CONSUMER.INFO"), look),
        **{line: take(provider) for line, provider in consumers_of("$JS.API.CONSUMER.MSG.NEXT").items()},
        **{f"{line}.>": settle(provider) for line, provider in consumers_of("$JS.ACK").items()},
        f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}": read_tail,
        "followers.page.>": append("page"),
        "followers.job.>": append("job"),
        ID_SUBJECTS: take_an_id,
        **{f"followers.dead.{provider}": bury(provider) for provider in PROVIDERS},
        f"$JS.API.DIRECT.GET.KV_{JOBS_BUCKET}.>": read_status,
        f"$KV.{JOBS_BUCKET}.*": write_status,
        f"$JS.API.STREAM.MSG.GET.KV_{LIMITS_BUCKET}": share_limit,
        f"$KV.{LIMITS_BUCKET}.*": share_limit,
        "_INBOX_worker.>": look,
        USER_INFO: who_am_i,
        f"$JS.API.STREAM.MSG.GET.KV_{JOBS_BUCKET}": lose_the_status,
        f"$KV.{JOBS_BUCKET}.cancel.*": cancel,
        f"$JS.API.STREAM.MSG.GET.{COMMANDS_STREAM}": end_exhausted,
        f"$JS.API.STREAM.MSG.DELETE.{COMMANDS_STREAM}": end_exhausted,
        f"$JS.API.DIRECT.GET.{COMMANDS_STREAM}": look_through_the_queue,
        **{line: answer(line) for line in ("_INBOX.>", REPLIES)},
        **{line: hear(line) for line in (CANCEL_SUBJECTS, STATUS_SUBJECTS)},
        f"{RELEASE_SUBJECTS} {CONTROL_QUEUE}": hear(f"{RELEASE_SUBJECTS} {CONTROL_QUEUE}"),
        f"$JS.API.DIRECT.GET.{EVENTS_STREAM}": read_pages_back,
        "followers.change.>": append("change"),
        f"$JS.API.STREAM.MSG.GET.KV_{FEEDS_BUCKET}": change_feed,
        f"$KV.{FEEDS_BUCKET}.>": change_feed,
        f"$JS.API.DIRECT.GET.KV_{FEEDS_BUCKET}": look_for_feeds,
        f"$JS.API.STREAM.MSG.GET.OBJ_{SNAPSHOTS_BUCKET}": keep_snapshot,
        f"$JS.API.DIRECT.GET.OBJ_{SNAPSHOTS_BUCKET}": keep_snapshot,
        f"$O.{SNAPSHOTS_BUCKET}.>": keep_snapshot,
        f"$JS.API.STREAM.PURGE.OBJ_{SNAPSHOTS_BUCKET}": keep_snapshot,
        f"$JS.API.DIRECT.GET.KV_{JOBS_BUCKET}": watch_jobs,
        f"$JS.API.STREAM.MSG.GET.{DEAD_STREAM}": read_letters,
        **{line: hear(line) for line in (f"{exhausted_subject(provider)} {CONTROL_QUEUE}" for provider in PROVIDERS)},
    },
    "publisher": {
        **{command_subject(provider): order(provider) for provider in PROVIDERS},
        CANCEL_SUBJECTS: ask(CANCEL_SUBJECTS),
        STATUS_SUBJECTS: ask(STATUS_SUBJECTS),
        RELEASE_SUBJECTS: ask(RELEASE_SUBJECTS),
        "_INBOX_publisher.>": order("esms"),
    },
    "consumer": in_another_account(
        {
            f"$JS.API.CONSUMER.INFO.{EVENTS_STREAM}.{READER}": read_events,
            f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{READER}": read_events,
            f"$JS.ACK.{EVENTS_STREAM}.{READER}.>": read_events,
            STATUS_SUBJECTS: ask(STATUS_SUBJECTS),
            f"$JS.API.STREAM.INFO.KV_{JOBS_BUCKET}": read_bucket,
            f"$JS.API.DIRECT.GET.KV_{JOBS_BUCKET}.>": read_bucket,
            "_INBOX_consumer.>": read_events,
        }
    ),
    "viewer": in_another_account(
        {
            f"$JS.API.STREAM.INFO.{COMMANDS_STREAM}": look_at_the_queue,
            **dict.fromkeys(consumers_of("$JS.API.CONSUMER.INFO"), look_at_the_queue),
            f"$JS.API.DIRECT.GET.{COMMANDS_STREAM}": look_through_the_queue,
            **{f"$JS.API.{act}.{EVENTS_STREAM}": read_pages for act in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET")},
            STATUS_SUBJECTS: ask(STATUS_SUBJECTS),
            f"$JS.API.STREAM.INFO.KV_{JOBS_BUCKET}": read_bucket,
            f"$JS.API.STREAM.MSG.GET.KV_{JOBS_BUCKET}": read_jobs,
            f"$JS.API.DIRECT.GET.KV_{JOBS_BUCKET}": watch_jobs,
            f"$JS.API.DIRECT.GET.KV_{JOBS_BUCKET}.>": read_bucket,
            USER_INFO: who_am_i,
            "_INBOX_viewer.>": read_pages,
            f"$KV.{JOBS_BUCKET}.*": watch_jobs,
        }
    ),
    "setup": {
        **{f"$JS.API.STREAM.{act}.{stream}": set_up for stream in MADE for act in ("INFO", "CREATE", "UPDATE")},
        **{line: set_up for act in ("INFO", "CREATE") for line in consumers_of(f"$JS.API.CONSUMER.{act}")},
        "_INBOX_setup.>": set_up,
    },
}


async def prepare(admin: Client, line: str) -> None:
    """Make sure that the act has something to do: a command, an event, something to create or to change."""
    js = admin.jetstream()
    for provider in PROVIDERS:
        await js.publish(command_subject(provider), b"{}")
    await js.publish("followers.page.esms.oa.job", b"{}")
    await js.publish("followers.dead.esms", b"{}")
    tokens = line.split(".")
    name = tokens[4] if len(tokens) > 4 else ""
    if ".STREAM.CREATE." in line:
        await js.delete_stream(name)
    elif ".STREAM.UPDATE." in line:
        config = (await js.stream_info(name)).config
        config.duplicate_window = config.max_age = 3600
        await js.update_stream(config)
    elif ".CONSUMER.CREATE." in line:
        await js.delete_consumer(COMMANDS_STREAM, tokens[5])


async def mend(enter: Enter) -> None:
    admin = (await enter("admin")).client
    await reconcile(admin, TOPOLOGY)
    await admin.jetstream().add_consumer(EVENTS_STREAM, ConsumerConfig(durable_name=READER, ack_policy="explicit"))  # type: ignore[arg-type]


def test_each_permission_has_an_act_that_needs_it() -> None:
    for role in ROLES:
        assert set(NEEDS.get(role, ())) == set(lines_of(role))


@pytest.mark.parametrize(("role", "line"), [(role, line) for role, needs in NEEDS.items() for line in needs])
async def test_each_permission_is_needed_and_enough_for_its_act(enter: Enter, role: Role, line: str) -> None:
    act = NEEDS[role][line]
    lame = next(name for name, (of, missing_line) in lacking().items() if of.role == role and missing_line == line)
    await prepare((await enter("admin")).client, line)
    allowed, without = await enter(role), await enter(lame)

    refused = asyncio.ensure_future(without.any_refused.wait())
    attempt = asyncio.ensure_future(act(without.client))
    await asyncio.wait({refused, attempt}, timeout=8, return_when=asyncio.FIRST_COMPLETED)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    refused.cancel()
    await act(allowed.client)
    await hear_all(allowed)

    assert any(_covers(line, text) for text in without.refused), f"nothing broke: {without.refused}"
    assert allowed.refused == []
    await mend(enter)


def _covers(line: str, refusal: str) -> bool:
    return line.partition(" ")[0].rstrip("*>").lower() in refusal.lower()


# What each role must not do.

MANAGE = [
    f"$JS.API.STREAM.{act}.{stream}" for act in ("DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT") for stream in MADE
] + ["$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.OTHER", "$SYS.REQ.SERVER.PING"]
MANAGED_BY_WORKERS = (
    f"$JS.API.STREAM.MSG.DELETE.{COMMANDS_STREAM}",
    f"$JS.API.STREAM.PURGE.OBJ_{SNAPSHOTS_BUCKET}",
)
CHANGE = [f"$JS.API.STREAM.{act}.{stream}" for act in ("CREATE", "UPDATE") for stream in MADE]
COMMANDS = [command_subject(provider) for provider in PROVIDERS]
EVENTS = ["followers.page.esms.oa.job", "followers.job.esms.oa.job", "followers.change.esms.oa"]
DEAD = ["followers.dead.esms", f"$JS.API.STREAM.MSG.GET.{DEAD_STREAM}", f"$JS.API.DIRECT.GET.{DEAD_STREAM}.x"]
BUCKETS = [
    f"$KV.{JOBS_BUCKET}.job",
    "$KV.FOLLOWERS_LIMITS.shop",
    f"$KV.{FEEDS_BUCKET}.esms.shop.oa.all",
    f"$O.{SNAPSHOTS_BUCKET}.C.one",
    "$KV.FOLLOWERS_SCHEDULES.nightly",
    "$KV.OTHER.key",
]
CONSUMERS = [
    f"$JS.API.CONSUMER.{act}"
    for act in (
        f"CREATE.{EVENTS_STREAM}.mine",
        f"DURABLE.CREATE.{EVENTS_STREAM}.mine",
        f"CREATE.{COMMANDS_STREAM}.mine.followers.fetch.esms",
        f"DELETE.{COMMANDS_STREAM}.worker-esms",
        f"PAUSE.{COMMANDS_STREAM}.worker-esms",
        f"LIST.{COMMANDS_STREAM}",
    )
]
TAKING = [
    f"$JS.API.CONSUMER.MSG.NEXT.{COMMANDS_STREAM}.worker-esms",
    f"$JS.ACK.{COMMANDS_STREAM}.worker-esms.1.1.1.1.0",
]
READING = [
    f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}",
    f"$JS.API.DIRECT.GET.{EVENTS_STREAM}.followers.page.esms.oa.job",
    f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{READER}",
]
LISTENING = [
    ">",
    "followers.>",
    "followers.status.*",
    "followers.release.*",
    "followers.page.>",
    "followers.fetch.esms",
    "$JS.>",
    "$KV.>",
    "$SYS.>",
    "_INBOX.>",
]
INBOXES = [f"_INBOX_{role}.>" for role in ROLES]

FORBIDDEN: dict[Role, Sequence[str]] = {
    "worker": [
        *(act for act in MANAGE if act not in MANAGED_BY_WORKERS),
        *CHANGE,
        *COMMANDS,
        *DEAD[2:],
        *BUCKETS[4:],
        *CONSUMERS,
        *READING[2:],
        "orders.new",
    ],
    "publisher": [*MANAGE, *CHANGE, *EVENTS, *DEAD, *BUCKETS, *CONSUMERS, *TAKING, *READING],
    "consumer": [*MANAGE, *CHANGE, *COMMANDS, *EVENTS, *DEAD, *BUCKETS, *CONSUMERS, *TAKING, *READING[:2]],
    "viewer": [*MANAGE, *CHANGE, *COMMANDS, *EVENTS, *DEAD, *BUCKETS, *CONSUMERS, *TAKING, *READING[1:]],
    "setup": [*MANAGE, *COMMANDS, *EVENTS, *DEAD, *BUCKETS, *TAKING, *READING],
}


@pytest.mark.parametrize("role", list(FORBIDDEN))
async def test_what_a_user_need_not_do_the_server_refuses(enter: Enter, role: Role) -> None:
    guest = await enter(role)

    for subject in FORBIDDEN[role]:
        await guest.client.publish(subject, b"{}", reply=guest.client.new_inbox())
    # Each worker hears what is asked, as it hears who is to be cancelled: one of them has the job.
    listening = [subject for subject in LISTENING if (role, subject) != ("worker", STATUS_SUBJECTS)]
    for subject in (*listening, *(inbox for inbox in INBOXES if inbox != f"{inbox_prefix(role)}.>")):
        await guest.client.subscribe(subject)
    await hear_all(guest)

    refused = "\n".join(guest.refused).lower()
    tried = [f'publish to "{subject}"' for subject in FORBIDDEN[role]]
    tried += [f'subscription to "{subject}"' for subject in listening]
    assert [act for act in tried if act.lower() not in refused] == []


async def test_who_may_make_consumers_could_write_into_the_command_stream(enter: Enter) -> None:
    """Why a consumer's durables are made for it: the server delivers wherever a consumer's maker says."""
    admin = (await enter("admin")).client.jetstream()
    await admin.publish("followers.page.esms.oa.job", b"{}")

    await admin.add_consumer(
        EVENTS_STREAM,
        ConsumerConfig(durable_name="leak", ack_policy="none", deliver_subject="followers.fetch.esms"),  # type: ignore[arg-type]
    )

    async def arrived() -> bool:
        info = await admin.stream_info(COMMANDS_STREAM, subjects_filter="followers.page.>")
        return bool(info.state.subjects)

    await stage.until(arrived, 5)
    await admin.delete_consumer(EVENTS_STREAM, "leak")
    await admin.purge_stream(COMMANDS_STREAM)


@pytest.mark.parametrize("login", [{}, {"user": "worker", "password": "wrong"}, {"user": "nobody", "password": "x"}])
async def test_strangers_are_refused(guarded: EmbeddedServer, login: dict[str, str]) -> None:
    with pytest.raises(ConnectError, match="refuses the credentials"):
        await connect(NatsOptions(servers=(guarded.url,), **login))


# The whole worker with its user.


def worker_sections(
    server: EmbeddedServer, accounts: dict[str, dict[str, object]], **worker: object
) -> dict[str, object]:
    nats_section = {"user": "worker", "password": "invented-worker", "inbox_prefix": inbox_prefix("worker")}
    return stage.sections_for(server.url, accounts, nats=nats_section, worker=worker)


@pytest.fixture
async def clean(enter: Enter) -> None:
    admin = (await enter("admin")).client.jetstream()
    for stream in STREAMS:
        await admin.purge_stream(stream)


@pytest.mark.usefixtures("clean")
async def test_the_workers_user_is_enough_for_all_of_a_workers_life(
    guarded: EmbeddedServer, enter: Enter, tmp_path: Path
) -> None:
    publisher, consumer = (await enter("publisher")).client, (await enter("consumer")).client
    async with stage.providers(followers=730) as providers:
        sections = worker_sections(guarded, providers.accounts)
        slow = Fault(kind="latency", seconds=0.15, times=0)
        providers.etelecom.inject(slow)
        providers.esms.inject(slow)
        orders = {
            provider: await publisher.jetstream().publish(
                command_subject(provider),
                encode({"provider": provider, "oa_id": OA_ID, "id": f"job-{provider}", "page_size": 20}),
            )
            for provider in PROVIDERS
        }

        # Killed in the middle, taken over, drained, and finished by a third.
        async with stage.replica(sections, tmp_path) as first:
            await until_page(consumer, 2)
            first.process.kill()
        await publisher.jetstream().publish(command_subject("esms"), b"no command", headers={"Nats-Msg-Id": "bad"})
        async with stage.replica(sections, tmp_path) as second:
            await second.says("command.rejected")
            await until_page(consumer, 4)
            assert await second.stop() == 0
            assert second.events("job.queued")
        providers.etelecom.faults.clear()
        providers.esms.faults.clear()
        async with stage.replica(sections, tmp_path) as third:
            admin = (await enter("admin")).client
            for ack in orders.values():
                await stage.command_settled(admin, ack.seq)
            for act in ("status", "cancel"):
                told = await publisher.request(f"followers.{act}.job-esms", b"", timeout=5)
                assert decode(told.data, JobStatus).state == "completed"
            assert await third.stop() == 0
        logs = "".join(replica.log for replica in (first, second, third))

    for provider in PROVIDERS:
        event = (
            await admin.jetstream().get_last_msg(EVENTS_STREAM, f"followers.job.{provider}.{OA_ID}.job-{provider}")
        ).data
        assert isinstance(decode(event or b"", JobCompleted | JobFailed), JobCompleted)
        bucket = await consumer.jetstream().key_value(JOBS_BUCKET)
        assert decode((await bucket.get(f"job-{provider}")).value or b"", JobStatus).state == "completed"
    assert (await admin.jetstream().stream_info(DEAD_STREAM)).state.messages == 1
    assert [line for line in logs.splitlines() if "permission" in line or "nats.error" in line] == []


@pytest.mark.usefixtures("clean")
async def test_a_worker_finds_a_queued_command_with_the_rights_that_it_has(enter: Enter) -> None:
    admin, worker = (await enter("admin")).client, await enter("worker")
    command = encode({"provider": "esms", "oa_id": OA_ID, "id": "queued"})
    await admin.jetstream().publish(command_subject("esms"), command)

    found = await JetStreamCommandQueue(worker.client, timeout=2).find("queued")
    await hear_all(worker)

    assert found is not None
    assert (found.job_id, found.ahead) == ("queued", 0)
    assert worker.refused == []


@pytest.fixture
async def steered() -> AsyncIterator[EmbeddedServer]:
    """A server with two users of workers, of which one's page may steer."""
    users = [
        User(role="worker", login={"user": "steering", "password": "invented"}, steers=True),
        User(role="worker", login={"user": "plain", "password": "invented"}),
        user("admin"),
    ]
    async with stage.server(accounts_block(users)) as server:
        yield server


@pytest.mark.parametrize("name", ["steering", "plain"])
async def test_the_live_page_steers_with_the_rights_for_it_and_else_says_what_lacks(
    steered: EmbeddedServer, name: str
) -> None:
    admin = await nats.connect(steered.url, user="admin", password="invented-admin")
    await reconcile(admin, TOPOLOGY)
    login = {"user": name, "password": "invented", "inbox_prefix": inbox_prefix("worker")}
    headers = {"Authorization": f"Bearer {page_kit.TOKEN}"}
    async with page_kit.live(admin, steered.url, **login) as live, aiohttp.ClientSession(live.url) as http:
        live.busy.faults.clear()
        await live.publish("hopeless", "esms", "busy-esms", filter={"tag": "x"})
        await live.comes_to("hopeless", "failed")
        await live.publish("big", "etelecom", "my-shop")
        await live.comes_to("big", "running")
        async with http.get("/stream") as stream:
            seen = await page_kit.Stream(stream).until("overview", lambda data: data["dead"] and data["jobs"])
        said = {}
        for path in ("jobs/big/cancel", "letters/1/retry"):
            async with http.post(f"/{path}", headers=headers) as answer:
                said[path] = answer.status, await answer.json()

        assert {job["id"] for job in seen["jobs"]} >= {"big"}
        if name == "steering":
            assert [status for status, _ in said.values()] == [200, 200]
            assert said["jobs/big/cancel"][1]["state"] == "cancelled"
        else:
            for status, body in said.values():
                assert status == 503
                assert "lacks publish followers.cancel.*" in body["message"]
        # Nothing was tried that the server refuses: that would make the worker unready.
        assert live.worker.readiness.ready
    await admin.close()


async def until_page(consumer: Client, count: int) -> None:
    """Read events as a consumer until there were `count` pages of each provider."""
    subscription = await consumer.jetstream().pull_subscribe("followers.>", durable=READER, stream=EVENTS_STREAM)
    pages = dict.fromkeys(PROVIDERS, 0)
    async with asyncio.timeout(20):
        while min(pages.values()) < count:
            for message in await subscription.fetch(1, timeout=10):
                await message.ack()
                if message.subject.startswith("followers.page."):
                    page = decode(message.data, FollowerPage)
                    pages[page.provider] = max(pages[page.provider], page.page)


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        (f"$JS.API.CONSUMER.MSG.NEXT.{COMMANDS_STREAM}.worker-esms", "publish to $JS.API.CONSUMER.MSG.NEXT"),
        (f"$JS.ACK.{COMMANDS_STREAM}.worker-esms.>", "publish to $JS.ACK"),
        pytest.param("followers.page.>", "publish to followers.page.esms", marks=stage.in_the_long_run),
    ],
)
@pytest.mark.usefixtures("clean")
async def test_a_denied_permission_turns_readiness_off_with_the_reason(
    guarded: EmbeddedServer, enter: Enter, lacks: str, reason: str
) -> None:
    lame = next(name for name, (of, line) in lacking().items() if of.role == "worker" and line == lacks)
    async with stage.providers(followers=3) as providers:
        settings = stage.settings(
            guarded.url,
            providers.accounts,
            nats={"user": lame, "password": "invented-worker", "inbox_prefix": "_INBOX_worker"},
            worker={"drain_timeout": 0.2},
        )
        with structlog.testing.capture_logs() as logs:
            async with Worker(settings) as worker:
                publisher = (await enter("publisher")).client.jetstream()
                await publisher.publish("followers.fetch.esms", encode({"provider": "esms", "oa_id": OA_ID}))
                await stage.until(lambda: not worker.readiness.ready, 10)

                assert reason.lower() in (worker.readiness.why or "").lower()

    said = [line for line in logs if line["event"] == "nats.permission_denied"]
    assert said
    assert len(said) <= 2, "once in a while, not for each refusal"


@stage.in_the_long_run
async def test_a_wrong_inbox_prefix_is_told_at_the_start(guarded: EmbeddedServer) -> None:
    settings = stage.settings(guarded.url, {}, nats={"user": "worker", "password": "invented-worker"})

    with pytest.raises(StartError, match=r"subscribe to _inbox\."):
        async with Worker(settings):
            pass
