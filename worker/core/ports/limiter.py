"""A request limit that replicas share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class LimitUnavailableError(Exception):
    """The shared limit did not answer, so what others have reserved is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """Starts that were reserved. Times are seconds of the event loop's clock."""

    times: Sequence[float]
    """When each request may start, ascending; empty when nothing can be reserved yet."""
    free_at: float
    """From when on nothing is reserved or blocked, as far as is known."""


class SharedLimit(Protocol):
    """One account's request limit, shared by all replicas. Times are seconds of the event loop's clock."""

    async def take(self, count: int) -> Taken:
        """Reserve `count` starts, or none when the limit is spoken for too far ahead (a provider's Retry-After).

        No two replicas get the same start, and starts lie as far apart as the limit says, up to the difference of
        their clocks. Raises LimitUnavailableError; what was asked for may be reserved then all the same.
        """
        ...

    async def push(self, until: float) -> None:
        """Reserve nothing more before `until`, in any replica. Raises LimitUnavailableError."""
        ...
