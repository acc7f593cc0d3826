"""Reading a stream in bulk, without the right to make consumers: direct gets, answered in batches.

A replica of the stream that lags may answer, so the newest messages may be missing; what is read is true. Where the
stream has no direct get, its leader is asked for one message after the other.
"""

import asyncio
from collections.abc import AsyncIterator

import nats.errors
import structlog
from nats.aio.client import Client

from schemas.subjects import EVENTS_STREAM
from worker.core.ports.event_log import Entry, LogUnavailableError
from worker.jetstream.client.batch_get import as_query, read_batch
from worker.jetstream.client.direct_get import read_answer
from worker.jetstream.events.log import JetStreamLog

BATCH = 128
"""Messages asked for at once; a server before 2.11 gives one at a time."""
BATCH_BYTES = 4 * 2**20
"""Bounds what waits here."""
WITHOUT_DIRECT = 60.0
"""Seconds for which the leader is asked after a direct get had no answer."""
_log = structlog.get_logger(__name__)


class BulkReader:
    """`PageStore` on the event stream, and the same for any other stream."""

    def __init__(self, client: Client, *, timeout: float, stream: str = EVENTS_STREAM) -> None:
        """Take a connection, and the seconds after which an unanswered call counts as unavailable."""
        self._client = client
        self._timeout = timeout
        self._stream = stream
        self._direct_from = 0.0
        self._get = f"$JS.API.DIRECT.GET.{stream}"
        self._leader = JetStreamLog(client, timeout=timeout, stream=stream)

    async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
        """Ask for the next batch while the one before is taken; `sure`: ask the leader, one by one."""
        first = 1
        if sure or not self._is_direct():
            async for entry in self._leader.read(subject, first, last):
                yield [entry]
            return
        request = asyncio.ensure_future(self._batch(subject, first))
        try:
            while True:
                entries, more = await request
                first = entries[-1].sequence + 1 if entries else last + 1
                if more and first <= last:
                    request = asyncio.ensure_future(self._batch(subject, first))
                wanted = [entry for entry in entries if entry.sequence <= last]
                if wanted:
                    yield wanted
                if not more or first > last:
                    return
        except (nats.errors.NoRespondersError, TimeoutError):
            self._avoid_direct()
            async for entry in self._leader.read(subject, first, last):
                yield [entry]
        except (nats.errors.Error, OSError) as error:
            raise self._unavailable(error) from error
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    async def at(self, sequence: int) -> Entry | None:
        """Ask any replica, and the stream's leader before saying that the message isn't there."""
        try:
            if self._is_direct():
                answer = await self._client.request(self._get, as_query(seq=sequence), timeout=self._timeout)
                found = read_answer(answer)
                if isinstance(found, Entry):
                    return found
        except (nats.errors.NoRespondersError, TimeoutError):
            self._avoid_direct()
        except (nats.errors.Error, OSError) as error:
            raise self._unavailable(error) from error
        return await self._leader.at(sequence)

    async def _batch(self, subject: str, first: int) -> tuple[list[Entry], bool]:
        """Return the next messages on `subject` from `first`, and whether there may be more behind them."""
        batch = await read_batch(
            self._client,
            self._stream,
            subject,
            first,
            count=BATCH,
            max_bytes=BATCH_BYTES,
            timeout=self._timeout,
        )
        return batch.entries, batch.more

    def _is_direct(self) -> bool:
        return asyncio.get_running_loop().time() >= self._direct_from

    def _avoid_direct(self) -> None:
        """Older servers don't say that a stream has no direct get: they are silent."""
        self._direct_from = asyncio.get_running_loop().time() + WITHOUT_DIRECT

    def _unavailable(self, error: Exception) -> LogUnavailableError:
        _log.warning("log.unavailable", act="read", stream=self._stream, error=type(error).__name__)
        return LogUnavailableError(f"read on {self._stream}: {type(error).__name__}")
