"""Commands that the server no longer delivers, because somebody's settings gave their consumer a `max_deliver`."""

import asyncio
import base64
from collections.abc import Mapping

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from schemas.subjects import COMMANDS_STREAM
from worker.jetstream.client.headers import parse_headers
from worker.jetstream.events.delete import delete_message

_log = structlog.get_logger(__name__)


class _Advisory(msgspec.Struct):
    stream_seq: int


class ExhaustedDelivery:
    """`Delivery` of a command that is in the stream but that no consumer gives out: it ends by being deleted."""

    def __init__(self, js: JetStreamContext, message: RawStreamMsg) -> None:
        """Take the stream's own copy of the command."""
        assert message.seq is not None
        assert message.subject is not None
        assert message.time is not None
        self._js = js
        self.settled = False
        """It is deleted."""
        self.subject: str = message.subject
        self.data: bytes = message.data or b""
        self.headers: Mapping[str, str] = parse_headers(base64.b64decode(message.hdrs)) if message.hdrs else {}
        self.sequence: int = message.seq
        self.timestamp_us = round(message.time.timestamp() * 1_000_000)
        self.deliveries = 1

    async def ack(self) -> None:
        """Delete the command, however long that takes: nobody else will."""
        pause = 0.1
        while True:
            try:
                await delete_message(self._js, COMMANDS_STREAM, self.sequence)
            except (nats.errors.Error, OSError) as error:
                _log.warning("command.undeleted", sequence=self.sequence, error=type(error).__name__)
            else:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
        self.settled = True

    async def nak(self, delay: float) -> None:
        """Nothing: there is no consumer to hand it back to, so whoever holds this tries again."""

    async def in_progress(self) -> None:
        """Nothing: nobody else will get it."""


async def find_exhausted(client: Client, advisory: bytes, *, timeout: float) -> ExhaustedDelivery | None:
    """Return the command that the server's `advisory` is about, None when it is gone or can't be told.

    Asks until there is an answer, each time for `timeout` seconds.
    """
    try:
        sequence = msgspec.json.decode(advisory, type=_Advisory).stream_seq
    except msgspec.DecodeError:
        _log.warning("advisory.undecodable")
        return None
    js = client.jetstream(timeout=timeout)
    pause = 0.1
    while True:
        try:
            return ExhaustedDelivery(js, await js.get_msg(COMMANDS_STREAM, seq=sequence))
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, OSError) as error:
            _log.warning("command.unreadable", sequence=sequence, error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
