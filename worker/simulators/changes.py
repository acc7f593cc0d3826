"""Follows and unfollows, at once or before a chosen request."""

from collections import Counter
from collections.abc import Callable

import msgspec

from worker.simulators.listing import Listing


class ListChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to the list of one OA: first people leave, then people come, then some change."""

    oa_id: str
    before_request: int = 0
    """Just before the n-th list request of this OA since the start or reset (1 is the first); 0: now."""
    unfollow: int | list[str] = 0
    """So many of the newest followers, or these user ids."""
    follow: int | list[str] = 0
    """So many new people, or these user ids again."""
    update: list[str] = []
    """User ids whose `updated_at` moves to now."""


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """Who was affected, as user ids; all empty for a change that waits for its request."""

    unfollowed: list[str] = []
    followed: list[str] = []
    updated: list[str] = []


class Changes:
    """Applies changes, and counts list requests for those that wait."""

    def __init__(self, listing: Callable[[str], Listing]) -> None:
        self._listing = listing
        self._waiting: list[ListChange] = []
        self._requests: Counter[str] = Counter()
        self.done: list[Changed] = []
        """What scripted changes did, in order."""

    def apply(self, change: ListChange) -> Changed:
        """Now, or keep it for its request.

        Raises KeyError for an unknown OA or follower, ValueError for a request that has already come.
        """
        listing = self._listing(change.oa_id)
        if change.before_request:
            if change.before_request <= self._requests[change.oa_id]:
                raise ValueError(f"list request {change.before_request} of {change.oa_id} has already come")
            self._waiting.append(change)
            return Changed()
        return Changed(
            unfollowed=listing.unfollow(change.unfollow),
            followed=listing.follow(change.follow),
            updated=listing.update(change.update),
        )

    def before_request(self, oa_id: str) -> None:
        """A list request has come: do what was scripted before it."""
        self._requests[oa_id] += 1
        due = [c for c in self._waiting if c.oa_id == oa_id and c.before_request <= self._requests[oa_id]]
        for change in due:
            self._waiting.remove(change)
            self.done.append(self.apply(msgspec.structs.replace(change, before_request=0)))

    def clear(self) -> None:
        """Forget what waits, what was done and the count."""
        self._waiting.clear()
        self._requests.clear()
        self.done.clear()
