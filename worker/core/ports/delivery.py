"""A command in hand, and where it goes when it can't be done."""

from collections.abc import Mapping
from typing import Protocol

from schemas.types import Provider
from worker.core.holdups import Failed


class DeadLetters(Protocol):
    """Commands that can't be done."""

    async def store(
        self,
        provider: Provider,
        body: bytes,
        headers: Mapping[str, str],
        key: str,
        failed: Failed = lambda code, words: None,
    ) -> None:
        """Store a command's own bytes under the idempotency key `key`; returns once the server has it.

        Tries until it is stored; `failed` is called with each try that fails.
        """
        ...


class CommandMessage(Protocol):
    """A command as it stands in the stream."""

    @property
    def subject(self) -> str:
        """The subject it was published on."""
        ...

    @property
    def data(self) -> bytes:
        """Its body, as published."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, as published; empty when it has none."""
        ...

    @property
    def sequence(self) -> int:
        """Its sequence in the command stream."""
        ...

    @property
    def timestamp_us(self) -> int:
        """When the stream stored it, in microseconds since 1970 UTC."""
        ...


class Delivery(CommandMessage, Protocol):
    """A command in hand. Every call may fail silently when the delivery is stale or the server is away."""

    @property
    def deliveries(self) -> int:
        """How often it was delivered, with this time: 1 or more. For the log only: a crashed server counts anew."""
        ...

    async def ack(self) -> None:
        """Settle it for good; returns once the server has confirmed."""
        ...

    async def nak(self, delay: float) -> None:
        """Hand it back, to be delivered again after `delay` seconds."""
        ...

    async def in_progress(self) -> None:
        """Keep hold of it for another `ack_wait`."""
        ...
