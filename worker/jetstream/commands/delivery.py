"""A command in hand: a NATS message behind the port `Delivery`."""

import asyncio
import time
from collections.abc import Mapping

import nats.errors
import structlog
from nats.aio.msg import Msg

_log = structlog.get_logger(__name__)


class JetStreamDelivery:
    """`Delivery` on a message that a pull consumer gave us."""

    def __init__(self, message: Msg, *, ack_wait: float) -> None:
        """Take the message, and the seconds for which it is ours without a heartbeat."""
        self._message = message
        self._ack_wait = ack_wait
        metadata = message.metadata
        self.sequence = metadata.sequence.stream
        self.deliveries = metadata.num_delivered
        # The reply subject has nanoseconds; nats-py's datetime has microseconds of the same instant.
        self.timestamp_us = round(metadata.timestamp.timestamp() * 1_000_000)

    @property
    def subject(self) -> str:
        """As the publisher named it."""
        return self._message.subject

    @property
    def data(self) -> bytes:
        """As published."""
        return self._message.data

    @property
    def headers(self) -> Mapping[str, str]:
        """As published."""
        return self._message.headers or {}

    async def ack(self) -> None:
        """Ask for confirmation, again and again for one `ack_wait`; after that another delivery will do it."""
        deadline = time.monotonic() + self._ack_wait
        pause = 0.05
        while True:
            try:
                await self._message.ack_sync(timeout=max(1.0, self._ack_wait / 4))
            except nats.errors.MsgAlreadyAckdError:
                return
            except (nats.errors.Error, OSError) as error:
                if time.monotonic() >= deadline:
                    _log.warning("command.ack_unconfirmed", sequence=self.sequence, error=type(error).__name__)
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
            else:
                return

    async def nak(self, delay: float) -> None:
        """Say it once: when it is lost, `ack_wait` brings the command back."""
        try:
            await self._message.nak(delay)
        except (nats.errors.Error, OSError) as error:
            _log.warning("command.nak_failed", sequence=self.sequence, error=type(error).__name__)

    async def in_progress(self) -> None:
        """Say it once: the next heartbeat comes well before `ack_wait` ends."""
        try:
            await self._message.in_progress()
        except (nats.errors.Error, OSError) as error:
            _log.warning("command.heartbeat_failed", sequence=self.sequence, error=type(error).__name__)
