"""Commands that can't be done: the stream `FOLLOWERS_DEAD` behind the port `DeadLetters`."""

import asyncio
from collections.abc import Mapping

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import DEAD_STREAM, dead_subject
from schemas.types import Provider

HEADER_ROOM = 8192
"""Bytes of a message kept for headers."""

_log = structlog.get_logger(__name__)


class JetStreamDeadLetters:
    """`DeadLetters` on a JetStream stream."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered publish is tried again."""
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=timeout)

    async def store(self, provider: Provider, body: bytes, headers: Mapping[str, str], key: str) -> None:
        """Publish until the server has it: the command is not settled before."""
        headers = {**headers, "Nats-Msg-Id": key}
        kept = self._client.max_payload - HEADER_ROOM
        if len(body) > kept:
            # With our headers it would no longer fit, and a letter that can't be stored would block for ever.
            headers["Followers-Body-Bytes"] = str(len(body))
            body = body[:kept]
        pause = 0.1
        while True:
            try:
                await self._js.publish(dead_subject(provider), body, stream=DEAD_STREAM, headers=dict(headers))
            except (nats.errors.Error, OSError) as error:
                code = getattr(error, "err_code", None)
                _log.warning("dead_letter.unstored", error=type(error).__name__, err_code=code)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                return
