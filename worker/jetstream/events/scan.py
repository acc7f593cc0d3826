"""Reading thousands of messages on one subject between two sequences within a second, whatever the server can do.

Servers since 2.11 answer a direct get with a batch. Others, streams without direct get and users without the right are
asked for one message at a time, many at once: of a range of sequences each of several readers takes a part, and who is
done takes half of what another one has left.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.wire import rfc3339
from worker.core.ports.event_log import Entry
from worker.jetstream.client.batch_get import as_query, read_batch
from worker.jetstream.client.direct_get import STORED_AT, read_answer
from worker.jetstream.events.log import NO_MESSAGE, as_entry

BATCH = 1000
"""Messages asked for at once, where the server knows batches."""
BATCH_BYTES = 4 * 2**20
CHUNK = 512
"""Sequences read together, where it doesn't: so many messages are held at most."""
IN_FLIGHT = 64
"""Gets of one message under way at once."""

Get = Callable[[int], Awaitable[Entry | None]]


@dataclass(slots=True)
class _Part:
    """Sequences that one reader has left."""

    first: int
    last: int


class Scan:
    """The messages of one stream. Every call may raise nats-py's errors."""

    def __init__(
        self, client: Client, stream: str, *, timeout: float, direct: bool, chunk: int = CHUNK, sure: bool = False
    ) -> None:
        """`direct`: the stream has direct get, and this user may use it. `timeout`: seconds for one answer.

        `sure`: single messages are asked of the leader. Of two replicas one may lag, and single answers of both would
        leave a hole; a batch is one replica's.
        """
        self._client, self._stream, self._timeout = client, stream, timeout
        self._chunk, self._sure = chunk, sure
        self._js = client.jetstream(timeout=timeout)
        self._direct = self._batches = direct

    async def read(self, subject: str, first: int, last: int) -> AsyncGenerator[list[Entry], None]:
        """Yield the messages on `subject` with sequences from `first` to `last` in order, some at a time.

        Each has the header `Nats-Time-Stamp`: when the server stored it.
        """
        more = True
        while self._batches and more and first <= last:
            batch = await read_batch(
                self._client, self._stream, subject, first, count=BATCH, max_bytes=BATCH_BYTES, timeout=self._timeout
            )
            self._batches = batch.known
            if entries := [entry for entry in batch.entries if entry.sequence <= last]:
                yield entries
            more = batch.more and bool(batch.entries)
            first = batch.entries[-1].sequence + 1 if batch.entries else first
        if not self._batches:
            async for entries in self._read_singly(subject, first, last):
                yield entries

    async def _read_singly(self, subject: str, first: int, last: int) -> AsyncGenerator[list[Entry], None]:
        async def get(sequence: int) -> Entry | None:
            if self._direct and not self._sure:
                return await self._ask_any(subject, sequence)
            return await self._ask_leader(subject, sequence)

        # Each chunk begins at a message: a work queue may have holes of any size.
        while first <= last and (head := await get(first)) is not None and head.sequence <= last:
            end = min(last, head.sequence + self._chunk - 1)
            yield [head, *await _gather(get, head.sequence + 1, end)]
            first = end + 1

    async def _ask_any(self, subject: str, sequence: int) -> Entry | None:
        query = as_query(seq=sequence, next_by_subj=subject)
        answer = await self._client.request(f"$JS.API.DIRECT.GET.{self._stream}", query, timeout=self._timeout)
        found = read_answer(answer)
        return found if isinstance(found, Entry) else None

    async def _ask_leader(self, subject: str, sequence: int) -> Entry | None:
        try:
            message = await self._js.get_msg(self._stream, seq=sequence, subject=subject, next=True)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise
        entry = as_entry(message)
        at = {} if message.time is None else {STORED_AT: rfc3339(message.time)}
        return Entry(entry.sequence, entry.data, {**entry.headers, **at}, entry.subject)


async def _gather(get: Get, first: int, last: int) -> list[Entry]:
    """Return the messages from `first` to `last` in order, by many gets at once."""
    found: list[Entry] = []
    width = max(1, -(-(last - first + 1) // IN_FLIGHT))
    parts = [_Part(start, min(last, start + width - 1)) for start in range(first, last + 1, width)]

    async def read(part: _Part) -> None:
        while True:
            while part.first <= part.last:
                entry = await get(part.first)
                if entry is None or entry.sequence > part.last:
                    part.first = part.last + 1
                    break
                found.append(entry)
                part.first = entry.sequence + 1
            richest = max(parts, key=lambda one: one.last - one.first)
            middle = (richest.first + richest.last) // 2
            if richest is part or richest.last - richest.first < 1:
                return
            # The other one asks for its first just now, so the later half is what nobody has asked for.
            part.first, part.last, richest.last = middle + 1, richest.last, middle

    tasks = [asyncio.ensure_future(read(part)) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(found, key=lambda entry: entry.sequence)
