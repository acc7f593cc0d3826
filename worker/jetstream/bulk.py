"""Reading a stream in bulk, without the right to make consumers: direct gets, answered in batches.

A replica of the stream that lags may answer, so the newest messages may be missing; what is read is true. Where the
stream has no direct get, its leader is asked for one message after the other.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.subjects import EVENTS_STREAM
from worker.core.ports import Entry, LogUnavailableError
from worker.jetstream.pages import JetStreamLog

BATCH = 128
"""Messages asked for at once; a server before 2.11 gives one at a time."""
BATCH_BYTES = 4 * 2**20
"""Bounds what waits here."""
_PENDING = "Nats-Num-Pending"
_log = structlog.get_logger(__name__)


class BulkReader:
    """`PageStore` on the event stream, and the same for any other stream."""

    def __init__(self, client: Client, *, timeout: float, stream: str = EVENTS_STREAM) -> None:
        """Take a connection, and the seconds after which an unanswered call counts as unavailable."""
        self._client = client
        self._timeout = timeout
        self._stream = stream
        self._get = f"$JS.API.DIRECT.GET.{stream}"
        self._leader = JetStreamLog(client, timeout=timeout, stream=stream)

    async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
        """Ask for the next batch while the one before is taken; `sure`: ask the leader, one by one."""
        if sure:
            async for entry in self._leader.read(subject, 1, last):
                yield [entry]
            return
        request = asyncio.ensure_future(self._batch(subject, 1))
        try:
            while True:
                entries, more = await request
                more = more and bool(entries) and entries[-1].sequence < last
                if more:
                    request = asyncio.ensure_future(self._batch(subject, entries[-1].sequence + 1))
                wanted = [entry for entry in entries if entry.sequence <= last]
                if wanted:
                    yield wanted
                if not more:
                    return
        except nats.errors.NoRespondersError:
            async for entry in self._leader.read(subject, 1, last):
                yield [entry]
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    async def at(self, sequence: int) -> Entry | None:
        """Ask any replica, and the stream's leader before saying that the message isn't there."""
        try:
            answer = await self._client.request(self._get, _query(seq=sequence), timeout=self._timeout)
        except nats.errors.NoRespondersError:
            answer = None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error
        if answer is not None and _status(answer) is None:
            return _entry(answer)
        return await self._leader.at(sequence)

    async def _batch(self, subject: str, first: int) -> tuple[list[Entry], bool]:
        """Return the next messages on `subject` from `first`, and whether there may be more behind them."""
        inbox, arrived = self._client.new_inbox(), asyncio.get_running_loop().create_future()
        entries: list[Entry] = []

        async def take(message: Msg) -> None:
            status = _status(message)
            if status is None:
                entries.append(_entry(message))
                if _PENDING in (message.headers or {}):
                    return
                ended = True  # a server before 2.11: one at a time
            elif status == "503":
                if not arrived.done():
                    arrived.set_exception(nats.errors.NoRespondersError())
                return
            else:
                ended = int((message.headers or {}).get(_PENDING, "0")) > 0
            if not arrived.done():
                arrived.set_result(ended)

        subscription = await self._client.subscribe(inbox, cb=take)
        try:
            query = _query(seq=first, next_by_subj=subject, batch=BATCH, max_bytes=BATCH_BYTES)
            await self._client.publish(self._get, query, reply=inbox)
            more = await asyncio.wait_for(arrived, self._timeout)
            return entries, bool(more)
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def _unavailable(self, error: Exception) -> LogUnavailableError:
        _log.warning("log.unavailable", act="read", stream=self._stream, error=type(error).__name__)
        return LogUnavailableError(f"read on {self._stream}: {type(error).__name__}")


def _query(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def _status(message: Msg) -> str | None:
    """Return the status of what is no message of the stream; None for one that is."""
    return (message.headers or {}).get("Status")


def _entry(message: Msg) -> Entry:
    headers = message.headers or {}
    return Entry(int(headers["Nats-Sequence"]), message.data, headers)
