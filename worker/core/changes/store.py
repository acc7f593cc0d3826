"""Pointers and snapshots with patience: a bucket that doesn't answer is asked again, until we are to stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog

from schemas.changes import Feed, FeedClaim
from schemas.subjects import change_subject, job_subject
from worker.core.backoff import Pause
from worker.core.changes.pointer import feed_key
from worker.core.changes.ports import Feeds, FeedsAwayError, FeedsUnavailableError, Snapshots
from worker.core.changes.snapshot import Snapshot, UnreadableSnapshotError, decode_snapshot
from worker.core.ports.event_log import EventLog, LogUnavailableError, WrongSequenceError

PATIENCE = 300.0
"""Seconds for which a job waits for the buckets. A full one would else hold its slot for ever."""

T = TypeVar("T")
_END = 2**63 - 1
_OUTCOMES = {"baseline": "changes.baseline", "held": "changes.held", "changes": "changes.published"}
_log = structlog.get_logger(__name__)


class FeedStore:
    """What one attempt asks of the buckets.

    Everything raises FeedsMissingError, FeedsAwayError, and what `check` raises.
    """

    def __init__(
        self,
        feeds: Feeds,
        snapshots: Snapshots,
        log: EventLog,
        check: Callable[[], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        """Take the ports. `check` is called again and again, and may raise to stop."""
        self._patience = patience
        self.check = check
        self._feeds = feeds
        self._snapshots = snapshots
        self._log = log
        self._failing_since: float | None = None

    async def read(self, key: str) -> tuple[Feed | None, int]:
        """Return the feed and its revision."""
        return await self._ask(lambda: self._feeds.get(key))

    async def write(self, key: str, feed: Feed, revision: int) -> int | None:
        """Write the feed; return its new revision, None when it must be read again: it may stand there or not."""
        try:
            written = await self._feeds.put(key, feed, revision)
        except WrongSequenceError:
            return None
        except FeedsUnavailableError as error:
            self._bear(error)
            await Pause()()
            return None
        self._failing_since = None
        return written

    async def note(self, key: str, feed: Feed, revision: int) -> bool:
        """Write the feed if the bucket takes it now; return False when it has changed meanwhile."""
        try:
            await self._feeds.put(key, feed, revision)
        except WrongSequenceError:
            return False
        except FeedsUnavailableError as error:
            _log.warning("changes.not_noted", feed=key, error=type(error).__name__)  # the log has it, too
        return True

    async def save(self, key: str, job_id: str, data: bytes) -> None:
        """Store a snapshot."""
        await self._ask(lambda: self._snapshots.put(key, job_id, data))
        self._failing_since = None

    async def load(self, key: str, job_id: str) -> Snapshot | None:
        """Return a snapshot, None when it is lost or of another kind."""
        data = await self._ask(lambda: self._snapshots.get(key, job_id))
        if data is None:
            return None
        try:
            return decode_snapshot(data)
        except UnreadableSnapshotError as error:
            _log.error("changes.snapshot_unreadable", job_id=job_id, reason=str(error))
            return None

    async def delete(self, key: str, job_id: str) -> None:
        """Remove a snapshot if the bucket answers now; else the feed's `gone` names it, and in the end it ages out."""
        try:
            await self._snapshots.delete(key, job_id)
        except FeedsUnavailableError as error:
            _log.warning("changes.not_deleted", job_id=job_id, error=type(error).__name__)

    async def tail(self, feed: Feed) -> int:
        """Return the last sequence on the feed's subject; 0 when it is empty."""
        subject = change_subject(feed.provider, feed.oa_id)

        async def last() -> int:
            entry = await self._log.last(subject)
            return entry.sequence if entry is not None else 0

        return await self._ask_log(last)

    async def began(self, feed: Feed, job_id: str) -> int:
        """Return where in the log a job of the feed begins: the sequence of its first event; 0 when none is left.

        Two lists are ordered by this, never by workers' clocks. What has left the log is older than what is there.
        """
        subject = job_subject(feed.provider, feed.oa_id, job_id)

        async def first() -> int:
            async for entry in self._log.read(subject, 1, _END):
                return entry.sequence
            return 0

        return await self._ask_log(first)

    async def _ask_log(self, question: Callable[[], Awaitable[T]]) -> T:
        pause = Pause()
        while True:
            try:
                return await question()
            except LogUnavailableError:
                self.check()
                await pause()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        pause = Pause()
        while True:
            try:
                return await question()
            except FeedsUnavailableError as error:
                self._bear(error)
                await pause()

    def _bear(self, error: FeedsUnavailableError) -> None:
        """Go on in spite of it, but not for ever: a bucket that can be read may still take nothing."""
        self.check()
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience:
            raise FeedsAwayError(str(error)) from error


def tell(feed: Feed, claim: FeedClaim) -> None:
    """Log what a finished claim came to."""
    counts = msgspec.to_builtins(claim.counts) if claim.act != "baseline" else {}
    level = "warning" if claim.act == "held" else "info"
    say(_OUTCOMES[claim.act], feed, claim.job.job_id, level=level, followers=claim.job.followers, **counts)


def say(event: str, feed: Feed, job_id: str, *, level: str = "info", **fields: object) -> None:
    """Log what happened to a job in a feed, without what the feed's filter says."""
    where = {"provider": feed.provider, "account": feed.account, "oa_id": feed.oa_id}
    getattr(_log, level)(event, job_id=job_id, **where, feed=feed_key(feed).rpartition(".")[2], **fields)
