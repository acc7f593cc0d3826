"""What comes to the inbox of a pull: a message of the stream, or the server's word about the pull.

Each pull has an inbox of its own, so what is said of one ends no other. Headers of stored messages are data, even one
that is called `Status`: only a delivery has a reply that begins with `$JS.ACK`, and a status has none.
"""

from enum import Enum
from typing import Any, Protocol

_DELIVERY = "$JS.ACK."
_TOO_LARGE = "Message Size Exceeds MaxBytes"
_GONE = ("Consumer Deleted", "Consumer is push based", "Server Shutdown")
_OVER = ("Batch Completed", "Leadership Change")


class Said(Enum):
    """What a message in a pull's inbox means."""

    MESSAGE = "a message of the stream"
    ALIVE = "the pull goes on"
    OVER = "the pull has ended; make another"
    TOO_LARGE = "the pull has ended, since the next message is larger than what was left of `max_bytes`"
    GONE = "the consumer is gone, or nobody answers for it"
    REFUSED = "the server doesn't take the pull; make another after a while"


class Arrival(Protocol):
    """A message as nats-py gives it."""

    @property
    def reply(self) -> str:
        """Where its acknowledgement goes; empty when it needs none."""
        ...

    @property
    def headers(self) -> Any:
        """A mapping of texts, or None."""
        ...


def said(arrival: Arrival) -> Said:
    """Return what `arrival` means."""
    if arrival.reply.startswith(_DELIVERY):
        return Said.MESSAGE
    headers = arrival.headers or {}
    status, description = headers.get("Status"), headers.get("Description", "")
    if status == "100":
        return Said.ALIVE
    if status in ("404", "408"):
        return Said.OVER
    if status == "503":
        return Said.GONE
    return _conflict(description) if status == "409" else Said.REFUSED


def _conflict(description: str) -> Said:
    """Tell apart what 409 stands for: most of what may end a pull."""
    if description.startswith(_TOO_LARGE):
        return Said.TOO_LARGE
    if description.startswith(_GONE):
        return Said.GONE
    return Said.OVER if description.startswith(_OVER) else Said.REFUSED
