"""A list read by cursors whose rows may have moved to its head, behind the reader's back (PROVIDERS 1.4)."""

from collections.abc import Awaitable, Callable

import structlog

from worker.core.errors import FetchFailure
from worker.core.ports import Order, ProviderPage
from worker.core.progress import Standing

_log = structlog.get_logger(__name__)


async def look_back(
    order: Order,
    standing: Standing,
    job_id: str,
    read_head: Callable[[], Awaitable[ProviderPage]],
    first_page: Callable[[], Awaitable[list[str]]],
) -> None:
    """Note in `standing` what may have been missed; to be done at the list's end, before its last page is published.

    `read_head` reads the first page anew; `first_page` gives the user ids on page 1 as it was published. Where both
    are the same, nobody has moved to the head. Raises what they raise, but for a FetchFailure.
    """
    if order in ("still", "rises"):
        return
    if standing.page == 0:
        standing.missed_at_most = 0  # one answer holds it all
        return
    try:
        head = await read_head()
    except FetchFailure as error:
        # The list is read, and nobody gains from a failure now: it only can't be told what was missed.
        _log.warning("fetch.head_unread", job_id=job_id, code=error.code, http_status=error.http_status)
        standing.missed_at_most = None
        return
    same = [follower.user_id for follower in head.followers] == await first_page()
    standing.moved = standing.moved or not same
    standing.missed_at_most = 0 if same and order == "falls" else None
