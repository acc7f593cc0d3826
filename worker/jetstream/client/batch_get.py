"""One batch of direct gets: the messages on a subject, as many as fit. Servers before 2.11 answer with one."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from worker.core.ports.event_log import Entry
from worker.jetstream.client.direct_get import PENDING, Nothing, read_answer


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in order."""

    entries: list[Entry]
    more: bool
    """There may be others behind them."""
    known: bool = True
    """The server knows batches; False: it gave one message for its answer, and will the next time."""


async def read_batch(
    client: Client, stream: str, subject: str, first: int, *, count: int, max_bytes: int, timeout: float
) -> Batch:
    """Return the next messages on `subject` from `first`, as any replica has them: the newest may be missing.

    Raises TimeoutError when nothing came for `timeout` seconds, nats-py's errors, also for what can't be read.
    """
    inbox = client.new_inbox()
    arrived: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
    entries: list[Entry] = []

    async def take(message: Msg) -> None:
        try:
            found = read_answer(message)
        except nats.errors.Error as error:
            if not arrived.done():
                arrived.set_exception(error)
            return
        if arrived.done():
            return
        if isinstance(found, Nothing):
            arrived.set_result(Batch(entries, found.pending > 0))
            return
        entries.append(found)
        if PENDING not in found.headers:
            arrived.set_result(Batch(entries, True, known=False))

    subscription = await client.subscribe(inbox, cb=take)
    try:
        query = as_query(seq=first, next_by_subj=subject, batch=count, max_bytes=max_bytes)
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", query, reply=inbox)
        heard = -1
        while not arrived.done():
            if heard == len(entries):
                raise TimeoutError
            heard = len(entries)
            await asyncio.wait([arrived], timeout=timeout)
        return arrived.result()
    finally:
        with contextlib.suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()


def as_query(**fields: Any) -> bytes:
    """Return the body of a direct get."""
    return json.dumps(fields).encode()
