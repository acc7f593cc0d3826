"""What is on the server in the end, read with plain nats-py and decoded without our own structs."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import ServiceUnavailableError

EVENTS = "FOLLOWERS_EVENTS"
DEAD = "FOLLOWERS_DEAD"
COMMANDS = "FOLLOWERS_COMMANDS"
STATUS = "KV_FOLLOWERS_JOBS"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One stored message."""

    sequence: int
    at: float
    """When the stream stored it, in seconds since 1970."""
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The body, decoded without a type."""
        if self.headers.get("Content-Type") == "application/msgpack":
            return msgspec.msgpack.decode(self.body, type=dict[str, Any])
        return msgspec.json.decode(self.body, type=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What is left of the commands."""

    messages: int
    ack_pending: int
    pending: int

    @property
    def empty(self) -> bool:
        """Nothing is left, held or waiting."""
        return not (self.messages or self.ack_pending or self.pending)


async def read_all(client: Client, stream: str) -> list[Record]:
    """Return every message of `stream` in its order. Raises AssertionError when one is missing on the way."""
    js = client.jetstream(timeout=5)
    state = (await js.stream_info(stream)).state
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, mem_storage=True)
    subscription = await js.pull_subscribe("", stream=stream, config=config)
    records: list[Record] = []
    while len(records) < state.messages:
        for message in await _fetch(subscription, min(500, state.messages - len(records))):
            metadata = message.metadata
            records.append(
                Record(
                    sequence=metadata.sequence.stream,
                    at=metadata.timestamp.timestamp(),
                    subject=message.subject,
                    headers=dict(message.headers or {}),
                    body=message.data,
                )
            )
    await subscription.unsubscribe()
    sequences = [record.sequence for record in records]
    assert sequences == sorted(set(sequences)), f"{stream} was not read in order"
    assert len(records) == state.messages, f"{stream} has {state.messages} messages, {len(records)} were read"
    return records


async def _fetch(subscription: JetStreamContext.PullSubscription, count: int) -> list[Msg]:
    """Fetch messages; a cluster may say for a moment that a consumer which was just made has nobody to answer."""
    for _ in range(20):
        try:
            return await subscription.fetch(count, timeout=5)
        except ServiceUnavailableError:
            await asyncio.sleep(0.2)
    return await subscription.fetch(count, timeout=5)


async def read_statuses(client: Client) -> dict[str, dict[str, Any]]:
    """Return every job's status in the bucket, by job id; the marks of cancellations, whose keys have a dot, aside."""
    records = {record.subject.split(".", 2)[2]: record for record in await read_all(client, STATUS)}
    return {job_id: record.data for job_id, record in records.items() if "." not in job_id and record.body}


async def queue(client: Client) -> Queue:
    """Return what is left of the commands, summed over the consumers."""
    js = client.jetstream(timeout=5)
    messages = (await js.stream_info(COMMANDS)).state.messages
    consumers = await js.consumers_info(COMMANDS)
    return Queue(
        messages=messages,
        ack_pending=sum(consumer.num_ack_pending or 0 for consumer in consumers),
        pending=sum(consumer.num_pending or 0 for consumer in consumers),
    )


async def until_quiet(client: Client, *, limit: float, settle: float) -> Queue:
    """Wait until nothing is left of the commands and no event has come for `settle` seconds, at most `limit`."""
    left = Queue(messages=-1, ack_pending=-1, pending=-1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            last, quiet_since = -1, 0.0
            while True:
                with contextlib.suppress(nats.errors.Error, OSError):
                    left = await queue(client)
                    newest = (await client.jetstream(timeout=5).stream_info(EVENTS)).state.last_seq
                    now = asyncio.get_running_loop().time()
                    if newest != last or not left.empty:
                        last, quiet_since = newest, now
                    elif now - quiet_since >= settle:
                        return left
                await asyncio.sleep(0.1)
    return left
