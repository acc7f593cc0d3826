"""Reading what a stream holds on a subject, from its beginning to its end, without the right to make consumers."""

import asyncio
import time
from collections.abc import AsyncGenerator

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.subjects import EVENTS_STREAM
from worker.core.ports.event_log import Entry
from worker.jetstream.events.log import NO_MESSAGE
from worker.jetstream.events.scan import Scan

CHUNK = 64
"""Messages that are held at most where the server knows no batches; a page may take a megabyte."""
_TIMEOUT = 5.0
_AGAIN_AFTER = 0.2


class SilentError(Exception):
    """Nothing more came, though there is more."""


async def read_stored(
    client: Client, subject: str, *, stream: str = EVENTS_STREAM, patience: float
) -> AsyncGenerator[Entry, None]:
    """Yield the messages that are on `subject` (wildcards allowed) now, in order, each once.

    Goes on where the server was away. Raises SilentError when nothing came for `patience` seconds, NotFoundError when
    the stream is missing.
    """
    here, last, direct, heard = 0, None, True, time.monotonic()
    while last is None or here < last:
        try:
            if last is None:
                last = await _last(client, stream, subject)
                direct = bool((await client.jetstream(timeout=_TIMEOUT).stream_info(stream)).config.allow_direct)
            scan = Scan(client, stream, timeout=_TIMEOUT, direct=direct, chunk=CHUNK, sure=True)
            async for entries in scan.read(subject, here + 1, last):
                for entry in entries:
                    here = entry.sequence
                    yield entry
                heard = time.monotonic()
            if not direct:
                return  # what was last has left the stream meanwhile
            direct = False  # a replica that lags has answered, so its leader is asked for the rest
        except nats.js.errors.NotFoundError:
            raise
        except (nats.errors.Error, TimeoutError, OSError) as error:
            if client.is_closed or time.monotonic() - heard >= patience:
                raise SilentError(subject) from error
            await asyncio.sleep(_AGAIN_AFTER)


async def _last(client: Client, stream: str, subject: str) -> int:
    """Return the sequence of the newest message, as the leader has it; 0 when there is none."""
    try:
        return (await client.jetstream(timeout=_TIMEOUT).get_last_msg(stream, subject)).seq or 0
    except nats.js.errors.NotFoundError as error:
        if error.err_code == NO_MESSAGE:
            return 0
        raise
