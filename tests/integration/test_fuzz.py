"""Whatever stands in the command stream ends as an event or as a dead letter, and the worker lives on.

FUZZ_COMMANDS says how many commands (CI: a few hundred, a release: 20000), FUZZ_SEED which ones.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from schemas.events import JobCancelled, JobCompleted, JobEvent, JobFailed
from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, EVENTS_STREAM
from schemas.types import ErrorCode
from schemas.wire import decode
from tests.integration import stage
from tests.integration.fuzzing import Order, orders
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

COUNT = int(os.environ.get("FUZZ_COMMANDS", "250"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
WARM_UP = 100
MEGABYTE = 2**20


async def test_every_command_ends_as_an_event_or_a_dead_letter_and_the_worker_lives(tmp_path: Path) -> None:
    async with stage.server() as server, stage.providers(followers=12) as providers:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig(ack_wait=1))
        accounts = {name: {**account, "rate_limit": 0.0} for name, account in providers.accounts.items()}
        sections = stage.sections_for(server.url, accounts, worker={"ack_wait": 1.0}, log={"level": "error"})
        async with stage.replica(sections, tmp_path) as replica:
            await send(client, orders(WARM_UP, SEED + 1_000_000), prefix="warm-")
            await queue_empty(client)
            before = replica.rss_bytes()
            sent = await send(client, orders(COUNT, SEED))
            await queue_empty(client)
            # What only waits to be collected is no growth.
            grown = replica.rss_bytes() - before
            alive = await replica.get("/healthz")
            metrics = (await replica.get("/metrics"))[1]
            log = replica.log
            assert await replica.stop() == 0
        dead = {int(headers["Followers-Stream-Sequence"]): headers for headers, _ in await all_of(client, DEAD_STREAM)}
        ended = terminal_events(await all_of(client, EVENTS_STREAM))
        await client.close()

    assert alive == (200, "ok\n")
    lost = [order for sequence, order in sent.items() if sequence not in dead and not ended.keys() & ids(order)]
    assert lost == []
    codes = {headers["Followers-Error-Code"] for headers in dead.values()}
    codes |= {event.error.code for events in ended.values() for event in events if isinstance(event, JobFailed)}
    assert codes <= set(get_args(ErrorCode))
    assert "internal" not in codes
    # An id claimed for two Official Accounts has a `failed` event of the second, under that one's subject.
    ends = Counter((e.job_id, e.provider, e.oa_id) for events in ended.values() for e in events)
    assert [job for job, count in ends.items() if count > 1] == []
    assert "command.fault" not in log
    assert "Traceback" not in log
    assert 'followers_jobs_in_flight{provider="esms"} 0.0' in metrics
    assert grown < 30 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB more than after the warm-up"
    # The corpus is worth something: much of it is refused, much is done.
    done = sum(isinstance(event, JobCompleted) for events in ended.values() for event in events)
    assert len(dead) > len(sent) / 5
    assert done > COUNT / 10
    print(
        f"\n{len(sent)} commands (seed {SEED}): {len(dead)} dead letters, {len(ended)} jobs ended, {done} completed, "
        f"codes {sorted(codes)}, memory {grown / MEGABYTE:+.1f} MB"
    )


async def send(client: Client, corpus: Iterable[Order], prefix: str = "") -> dict[int, Order]:
    """Publish all of it; return what went under which sequence."""
    sent = {}
    for order in corpus:
        subject = f"followers.fetch.{order.provider}"
        headers = {**order.headers, "Nats-Msg-Id": prefix + order.message_id}
        ack = await client.jetstream().publish(subject, order.body, headers=headers)
        sent[ack.seq] = order
    return sent


async def queue_empty(client: Client) -> None:
    """Wait until the last command has been settled."""

    async def empty() -> bool:
        return (await client.jetstream().stream_info(COMMANDS_STREAM)).state.messages == 0

    await stage.until(empty, 30 + COUNT / 20)


async def all_of(client: Client, stream: str) -> list[tuple[dict[str, str], bytes]]:
    """Headers and body of everything in a stream but pages."""
    js = client.jetstream()
    filters = ["followers.job.>"] if stream == EVENTS_STREAM else ["followers.dead.>"]
    config = ConsumerConfig(filter_subjects=filters, ack_policy="none", mem_storage=True)  # type: ignore[arg-type]
    subscription = await js.pull_subscribe("", stream=stream, config=config)
    count = (await subscription.consumer_info()).num_pending or 0
    found: list[tuple[dict[str, str], bytes]] = []
    while len(found) < count:
        for message in await subscription.fetch(min(256, count - len(found)), timeout=5):
            found.append((dict(message.headers or {}), message.data))
    return found


def terminal_events(stored: list[tuple[dict[str, str], bytes]]) -> dict[str, list[JobEvent]]:
    """The terminal events of each job."""
    ended: dict[str, list[JobEvent]] = {}
    for _, data in stored:
        event: Any = decode(data, JobEvent)
        if isinstance(event, JobCompleted | JobFailed | JobCancelled):
            ended.setdefault(event.job_id, []).append(event)
    return ended


def ids(order: Order) -> set[str]:
    """The job that a command can be: the id in its body, else its message's."""
    body: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        body = decode(order.body, Any, "application/msgpack" if order.body[:1] > b"\x7f" else "application/json")
    given = body.get("id") if isinstance(body, dict) else None
    return {given} if isinstance(given, str) else {order.message_id}
