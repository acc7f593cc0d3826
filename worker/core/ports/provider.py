"""A provider's client, as the core uses it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

from schemas.commands import FetchFollowers
from schemas.follower import Follower


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderPage:
    """One page as a provider gave it, normalised."""

    followers: Sequence[Follower]
    """In the provider's order; the same user id may come twice. None may come although the list goes on."""
    next_cursor: str | None
    """Where the next page starts; None at the list's end, and always where the list is read by row numbers."""
    total: int | None = None
    """The list's length as the provider said it."""
    capped: bool = False
    """The provider gives no more although the list goes on; only with `next_cursor` None."""
    requests: int = 1
    """HTTP requests that this page took."""
    steady: bool = False
    """Rows don't shift between pages, so the same rows on another page mean that the provider's paging is broken."""
    ids_alone: bool = False
    """The rows are ids and nothing else: however long the answer was, they take little."""


Order = Literal["still", "rises", "falls", "unknown"]
"""`still`: rows keep their places. `rises`: one that changes can only move on, to where it is read later. `falls`: it
can only move to the list's head, and be missed; the rows stand by their `updated_at`, newest first. `unknown`: it may
move anywhere, or nothing in the rows shows that it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offsets:
    """How to read a list that is asked for by row numbers.

    A cursor is then the number of the first row wanted (None: 0), after `2026-01-01/2026-01-31@` where only people of
    those days are; `total` counts the same people. A page is an answer as it is: its `next_cursor` and `capped` say
    nothing, for where such a list ends is for its reader to find out.
    """

    count: int
    """Rows asked for at once, at least 2; the provider may give fewer."""
    last: int
    """The highest row number that a request may start at."""
    days: tuple[date, date] | None = None
    """The list's first and last day, both included; None where it can't be asked for by days."""


class ProviderClient(Protocol):
    """One account at one provider."""

    def check(self, command: FetchFollowers) -> None:
        """Raise UnsupportedError naming the field, or InvalidCommandError, when this account can't do `command`."""
        ...

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """Return the page at `cursor` (None: the first; see Offsets for lists of that kind). One attempt, no retries.

        Raises a RetryableError or a FatalError, and nothing else besides CancelledError. Safe to run many at once.
        """
        ...

    def order(self, command: FetchFollowers) -> Order:
        """Return where rows of a list that names its next page may move; see Order."""
        ...

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        """Return how the list is read by row numbers; None where each page names the next one."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
