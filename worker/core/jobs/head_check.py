"""A list read by cursors whose rows may have moved to its head, behind the reader's back (PROVIDERS 1.4)."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import structlog

from schemas.follower import Follower
from worker.core.errors import FetchFailure
from worker.core.jobs.checkpoint import Standing
from worker.core.ports.provider import Order, ProviderPage

_log = structlog.get_logger(__name__)

_CLOCKS = timedelta(days=1)
"""So far the provider's clock and ours may be apart."""


async def look_back(
    order: Order,
    standing: Standing,
    job_id: str,
    read_head: Callable[[], Awaitable[ProviderPage]],
    first_page: Callable[[], Awaitable[Sequence[Follower]]],
    *,
    alone: bool,
) -> None:
    """Note in `standing` what may have been missed; to be done at the list's end, before its last page is published.

    `read_head` reads the first page anew; `first_page` gives the followers on page 1 as it was read, or published.
    `alone`: one answer holds the whole list. Raises what they raise, but for a FetchFailure.
    """
    if order in ("still", "rises"):
        return
    if alone:
        standing.missed_at_most = 0
        return
    try:
        head = (await read_head()).followers
    except FetchFailure as error:
        # The list is read, and nobody gains from a failure now: it only can't be told what was missed.
        _log.warning("fetch.head_unread", job_id=job_id, code=error.code, http_status=error.http_status)
        standing.missed_at_most = None
        return
    same = _places(head) == _places(await first_page())
    standing.moved = standing.moved or not same
    shown = same and order == "falls" and _shows_who_comes(head, standing.started_at)
    standing.missed_at_most = 0 if shown else None


def _places(rows: Sequence[Follower]) -> list[tuple[str, datetime | None]]:
    # Ids alone show nothing: whoever stood first is there again once they change after the others.
    return [(row.user_id, row.updated_at) for row in rows]


def _shows_who_comes(head: Sequence[Follower], since: datetime) -> bool:
    """Say whether nobody can have come to `head`, the newest of a list read `since`, and left its times as they were.

    Whoever changes stands before all who changed earlier. Only of those with the same time, to the second perhaps,
    nobody knows who comes first: that time may be the one at which the list was read.
    """
    times = [row.updated_at for row in head if row.updated_at is not None]
    if not times or head[0].updated_at is None or times != sorted(times, reverse=True):
        return False  # the list isn't in that order, or doesn't show it
    return times[-1] < times[0] or times[0] < since - _CLOCKS
