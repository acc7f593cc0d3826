"""The event log: the stream `FOLLOWERS_EVENTS` behind the port `EventLog`."""

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from schemas.subjects import EVENTS_STREAM
from worker.core.ports.event_log import Entry, LogUnavailableError, PayloadTooLargeError, WrongSequenceError
from worker.jetstream.client.headers import message_bytes, parse_headers
from worker.jetstream.client.writes import Writes

EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
WRONG_SEQUENCE_CODES = frozenset({10071, 10164, 10158})
"""Wrong last sequence, the same on a cluster, and "duplicate message id is in process"."""
NO_MESSAGE = 10037
TOO_LARGE_CODES = frozenset({10054, 10097})
"""The message, or its headers, are larger than the stream takes."""

_log = structlog.get_logger(__name__)


class _Ack(msgspec.Struct, gc=False):
    """What the server answers to a publish; `js.publish` takes longer to read it than to send the request."""

    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


_ack = msgspec.json.Decoder(_Ack)


class JetStreamLog:
    """`EventLog` on a JetStream stream."""

    def __init__(
        self, client: Client, *, timeout: float, stream: str = EVENTS_STREAM, writes: Writes | None = None
    ) -> None:
        """Take a connection, and the seconds after which an unanswered call counts as unavailable.

        `writes` hears what becomes of each publish.
        """
        self._writes = writes or Writes()
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=timeout)
        self._timeout = timeout
        self._stream = stream

    @property
    def max_payload(self) -> int:
        """As the server that we are connected to says."""
        return self._client.max_payload

    async def last(self, subject: str) -> Entry | None:
        """Ask the stream's leader: a direct get may be answered by a replica that lags."""
        return await self._get(subject=subject)

    async def at(self, sequence: int) -> Entry | None:
        """Return the message with that sequence, None when it is no longer there. Raises LogUnavailableError."""
        return await self._get(seq=sequence)

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        """Publish on condition that `expected` is still the subject's last sequence."""
        conditional = {**headers, EXPECTED_SEQUENCE: str(expected)}
        if message_bytes(data, conditional) > self.max_payload:
            raise PayloadTooLargeError(f"{len(data)} bytes and headers on {subject}")
        try:
            ack = await self._append(subject, data, conditional)
        except nats.errors.MaxPayloadError as error:
            raise PayloadTooLargeError(f"{len(data)} bytes on {subject}") from error
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE_CODES:
                raise WrongSequenceError from error
            if error.err_code in TOO_LARGE_CODES:
                raise PayloadTooLargeError(f"{len(data)} bytes on {subject}") from error
            raise self._unstored(error) from error
        except (nats.errors.Error, OSError) as error:
            raise self._unstored(error) from error
        self._writes.stored(self._stream)
        if ack.duplicate:
            # Says that this id was stored before, not that it was stored with this content: see RELIABILITY 1.
            raise WrongSequenceError
        return ack.seq

    async def read(self, subject: str, first: int, last: int) -> AsyncIterator[Entry]:
        """Fetch one message after the other, so that one is in memory at a time."""
        while first <= last:
            entry = await self._get(seq=first, subject=subject, next=True)
            if entry is None or entry.sequence > last:
                return
            yield entry
            first = entry.sequence + 1

    async def _append(self, subject: str, data: bytes, headers: dict[str, str]) -> _Ack:
        answer = await self._client.request(subject, data, timeout=self._timeout, headers=headers)
        try:
            ack = _ack.decode(answer.data)
        except msgspec.DecodeError as error:
            raise nats.errors.Error("nats: an answer to a publish that is no acknowledgement") from error
        if ack.error is not None:
            raise nats.js.errors.APIError.from_error(ack.error)
        return ack

    async def _get(self, **query: Any) -> Entry | None:
        try:
            message = await self._js.get_msg(self._stream, **query)
        except nats.js.errors.NotFoundError as error:
            # 404 also stands for a missing stream: only this code says that there is no message.
            if error.err_code == NO_MESSAGE:
                return None
            raise self._unavailable("get", error) from error
        except (nats.errors.Error, OSError) as error:
            raise self._unavailable("get", error) from error
        return as_entry(message)

    def _unstored(self, error: Exception) -> LogUnavailableError:
        self._writes.refused(self._stream, error)
        return self._unavailable("publish", error)

    def _unavailable(self, act: str, error: Exception) -> LogUnavailableError:
        code, words = self._writes.explain(error)
        name = type(error).__name__
        _log.warning("log.unavailable", act=act, stream=self._stream, error=name, err_code=code, reason=words)
        return LogUnavailableError(f"{act} on {self._stream}: {name}", code=code, words=words)


def as_entry(message: RawStreamMsg) -> Entry:
    """Return what the stream's leader gave as our own kind of message."""
    # nats-py's own reading is that of an e-mail: text beyond ASCII comes out as an object that is no text.
    headers = parse_headers(base64.b64decode(message.hdrs)) if message.hdrs else {}
    return Entry(message.seq or 0, message.data or b"", headers, message.subject or "")
