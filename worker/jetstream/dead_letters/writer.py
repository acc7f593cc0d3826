"""Commands that can't be done: the stream `FOLLOWERS_DEAD` behind the port `DeadLetters`."""

import asyncio
from collections.abc import Mapping

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import deadletters
from schemas.subjects import DEAD_STREAM, dead_subject
from schemas.types import Provider
from worker.core.holdups import Failed
from worker.jetstream.client.headers import MAX_HEADER_BYTES, can_be_published, message_bytes
from worker.jetstream.client.writes import Writes

HEADER_ROOM = 8192
"""Bytes to which the headers are brought down when they or the message would be too large."""
KEPT = deadletters.ALWAYS | {"Nats-Msg-Id"}
"""Headers of ours (CONTRACT 3): short, and never left out."""

_log = structlog.get_logger(__name__)


class JetStreamDeadLetters:
    """`DeadLetters` on a JetStream stream."""

    def __init__(self, client: Client, *, timeout: float, writes: Writes | None = None) -> None:
        """Take a connection, the seconds after which an unanswered publish is tried again, and who hears of that."""
        self._writes = writes or Writes()
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=timeout)

    async def store(
        self,
        provider: Provider,
        body: bytes,
        headers: Mapping[str, str],
        key: str,
        failed: Failed = lambda code, words: None,
    ) -> None:
        """Publish until the server has it: the command is not settled before."""
        body, kept = _fit(body, {**headers, "Nats-Msg-Id": key}, self._client.max_payload)
        pause = 0.1
        while True:
            try:
                await self._js.publish(dead_subject(provider), body, stream=DEAD_STREAM, headers=dict(kept))
            except (nats.errors.Error, OSError) as error:
                code, words = self._writes.refused(DEAD_STREAM, error)
                failed(code, words)
                _log.warning("dead_letter.unstored", error=type(error).__name__, err_code=code, reason=words)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                self._writes.stored(DEAD_STREAM)
                return


def _fit(body: bytes, headers: Mapping[str, str], limit: int) -> tuple[bytes, dict[str, str]]:
    """Return what of a letter can be stored: one that can't would be tried for ever, and hold up all others.

    Headers go first, the largest ones, then the end of the body; each loss is told in a header.
    """
    limit -= 256  # what is added below, and the stream's name
    kept = {name: value for name, value in headers.items() if can_be_published(name)}
    total = message_bytes(b"", kept)
    if total + len(body) > limit or total > MAX_HEADER_BYTES - 256:
        empty = message_bytes(b"", {})
        sizes = {name: message_bytes(b"", {name: kept[name]}) - empty for name in kept.keys() - KEPT}
        for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= HEADER_ROOM:
                break
            total -= sizes[name]
            del kept[name]
    dropped = len(headers) - len(kept)
    if dropped:
        kept[deadletters.HEADERS_DROPPED] = str(dropped)
    room = limit - message_bytes(b"", kept)
    if len(body) > room:
        kept[deadletters.BODY_BYTES] = str(len(body))
        body = body[:room]
    return body, kept
