"""The change feed: a complete list is compared with the last one, and what differs is published, exactly once.

A feed's pointer is changed by compare-and-set: a job is claimed there before its changes are published, and becomes the
current one after. Whoever finds a claim finishes it first, so no lock and no owner is needed; the log itself keeps two
that do so at once apart (`changes_publish`). Every step may run twice and be given up anywhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.changes import Feed, FeedClaim, FeedJob
from schemas.subjects import page_subject
from worker.core.backoff import Pause
from worker.core.changes import snapshot as changes_snapshot
from worker.core.changes.events import ChangeSet, baseline, counts_of, held
from worker.core.changes.pointer import (
    EndedJob,
    Reason,
    begun_anew,
    blank,
    common_fields,
    feed_key,
    forgotten,
    held_back,
    is_comparable,
    is_held,
    is_wanted,
    kept,
    moved,
    set_aside,
    why_unproven,
)
from worker.core.changes.ports import (
    Feeds,
    FeedsAwayError,
    FeedsMissingError,
    FeedsUnavailableError,
    PageStore,
    Snapshots,
)
from worker.core.changes.publisher import ChangeLog
from worker.core.changes.snapshot import Builder, Change, Snapshot, UnreadablePageError, compare
from worker.core.changes.store import PATIENCE, FeedStore, say, tell
from worker.core.ports.event_log import LogUnavailableError
from worker.core.services import World

AT_ONCE = 4
"""Lists that one replica compares at the same time: each takes some 250 bytes a follower for that while."""
LARGE = 50_000
"""Followers from which on a list is compared only while no other large one is."""

_SET_ASIDE: dict[Reason, str] = {
    "older": "changes.stale",
    "unreadable": "changes.unreadable",
    "unproven": "changes.unproven",
}

Offload = Callable[..., Awaitable[Any]]


class _UnreadableListError(Exception):
    """A list can't be read back from the log; the text says why."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    old: str | None
    """The job with which was compared; None: there is no such list."""
    new: str
    changes: list[Change]


class ChangeFeeds:
    """All feeds, as one replica works on them."""

    def __init__(
        self,
        world: World,
        feeds: Feeds,
        snapshots: Snapshots,
        pages: PageStore,
        *,
        threshold: float,
        drifted: bool = False,
        offload: Offload = asyncio.to_thread,
    ) -> None:
        """Take the ports. `threshold`: the share of followers that may be gone. `offload` runs what would block.

        `drifted`: follow lists that moved while they were read, too, where it is proven that nobody is missing.
        """
        self.feeds = feeds
        self._world = world
        self._snapshots = snapshots
        self._pages = pages
        self._threshold = threshold
        self._drifted = drifted
        self._offload = offload
        self._away = False
        """The buckets did nothing for as long as a job may wait: until they do, no other job waits for them."""
        self._room, self._large_room = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(1)

    def store(self, check: Callable[[], None]) -> FeedStore:
        """Return the buckets for one attempt, which ends with what `check` raises."""
        patience = 0.0 if self._away else PATIENCE
        return FeedStore(self.feeds, self._snapshots, self._world.log, check, patience=patience)

    async def follow(self, job: EndedJob, check: Callable[[], None]) -> None:
        """Publish what `job` has changed, unless that is done, or its list can't be compared.

        `check` is called again and again, and may raise to stop. Raises FeedsMissingError, FeedsAwayError.
        """
        if not is_comparable(job, drifted=self._drifted):
            if is_wanted(job):
                await self._tell_unproven(job, check)
            return
        large = job.ended.followers >= LARGE
        # A large one waits before it takes a place that a small one could have.
        async with self._large_room if large else nullcontext(), self._room:
            try:
                await self._follow(job, check)
            except FeedsAwayError:
                self._away = True
                raise
            self._away = False

    async def _follow(self, job: EndedJob, check: Callable[[], None]) -> None:
        store, feed, snapshot = self.store(check), blank(job), None
        key, job_id = feed_key(feed), job.ended.job_id
        began: dict[str, int] = {job_id: await store.began(feed, job_id) or job.sequence}
        while True:
            check()
            found, revision = await store.read(key)
            feed = found or feed
            if feed.next is not None:
                await self.finish(store, feed, revision, traceparent=job.traceparent)
            elif job_id in kept(feed):
                return
            elif (later := await self._later(store, feed, job_id, began)) is not None:
                if snapshot is not None:
                    await store.delete(key, job_id)
                why = f"it began to be read before the list of job {later}, which the feed has: nothing to do"
                if await _set_aside(store, feed, revision, job_id, "older", why):
                    return
            elif snapshot is None:
                try:
                    snapshot = await self._build(job, check)
                except _UnreadableListError as error:
                    if await _set_aside(store, feed, revision, job_id, "unreadable", str(error)):
                        return
                    continue
                await store.save(key, job_id, await self._offload(changes_snapshot.encode, snapshot))
            else:
                comparison = await self._compare(store, feed, snapshot)
                claimed, revision = await self._claim(store, feed, revision, job, snapshot, comparison)
                if claimed is not None:
                    await self.finish(store, claimed, revision, comparison=comparison, traceparent=job.traceparent)

    async def _later(self, store: FeedStore, feed: Feed, job_id: str, began: dict[str, int]) -> str | None:
        """Return the feed's list that began to be read after that of `job_id`, None when there is none.

        `began`: where each job begins in the log, as far as it was looked up.
        """
        for other in kept(feed):
            if other not in began:
                began[other] = await store.began(feed, other)
            if began[other] > began[job_id]:
                return other
        return None

    async def _tell_unproven(self, job: EndedJob, check: Callable[[], None]) -> None:
        """Let people see that a list of a feed was not taken; for a list that nobody follows there is nobody to tell.

        Waits for nothing: it changes no list.
        """
        key, reason = feed_key(blank(job)), why_unproven(job, drifted=self._drifted)
        assert reason is not None
        try:
            feed, revision = await self.feeds.get(key)
        except (FeedsMissingError, FeedsUnavailableError):
            return
        if feed is not None:
            await _set_aside(self.store(check), feed, revision, job.ended.job_id, "unproven", reason)

    async def finish(
        self,
        store: FeedStore,
        feed: Feed,
        revision: int,
        *,
        comparison: _Comparison | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Publish what is left of the feed's claim, whoever made it, and let the feed go on from there.

        Returns early when the feed has been changed meanwhile: read it again.
        """
        claim, key = feed.next, feed_key(feed)
        assert claim is not None
        if claim.act == "changes":
            after = await self._publish_changes(store, feed, claim, comparison, traceparent)
        else:
            after = await self._publish_one(store, feed, claim, traceparent)
        if await store.write(key, after, revision) is None:
            return
        if after.next is None and claim.job.job_id in kept(after):
            tell(after, claim)
        else:
            # Only now: until the feed was written, a snapshot may be gone because somebody else has finished the claim.
            say("changes.snapshot_lost", feed, claim.job.job_id, level="error", advice="the feed begins anew")
        for job_id in after.gone:
            await store.delete(key, job_id)

    async def release(self, store: FeedStore, feed: Feed, revision: int) -> Feed | None:
        """Claim the feed for the job that is held; return it then, None when the feed has been changed meanwhile."""
        assert feed.held is not None
        claim = FeedClaim(
            job=feed.held.job,
            act="changes" if feed.current is not None else "baseline",
            counts=feed.held.counts,
            after=await store.tail(feed),
            released=True,
        )
        claimed = msgspec.structs.replace(feed, next=claim)
        return claimed if await store.write(feed_key(feed), claimed, revision) is not None else None

    async def _publish_one(self, store: FeedStore, feed: Feed, claim: FeedClaim, traceparent: str | None) -> Feed:
        common, count = common_fields(feed, claim, 1), claim.job.followers
        before = feed.current.followers if feed.current is not None else 0
        one = baseline(common, count) if claim.act == "baseline" else held(common, claim.counts, count, before)

        async def event(number: int) -> Any:
            return one

        await ChangeLog(feed, claim, self._world, store.check).publish(1, event, traceparent)
        return held_back(feed, claim) if claim.act == "held" else moved(feed, claim)

    async def _publish_changes(
        self,
        store: FeedStore,
        feed: Feed,
        claim: FeedClaim,
        comparison: _Comparison | None,
        traceparent: str | None,
    ) -> Feed:
        """Publish the set; return the feed after it, or as it must be where a snapshot is lost."""
        assert feed.current is not None
        if comparison is None:
            new = await store.load(feed_key(feed), claim.job.job_id)
            if new is None:
                return forgotten(feed)
            comparison = await self._compare(store, feed, new)
        if comparison.old is None or counts_of(comparison.changes) != claim.counts:
            return begun_anew(feed, claim)
        common = common_fields(feed, claim, len(comparison.changes) + 1)
        events = ChangeSet(common, comparison.old, comparison.changes, self._pages, claim.job.followers)
        try:
            await ChangeLog(feed, claim, self._world, store.check).publish(common["of"], events.event, traceparent)
        finally:
            events.close()
        return moved(feed, claim)

    async def _claim(
        self,
        store: FeedStore,
        feed: Feed,
        revision: int,
        job: EndedJob,
        snapshot: Snapshot,
        comparison: _Comparison,
    ) -> tuple[Feed | None, int]:
        """Claim the feed for `job`; return it and its revision, (None, …) when it must be read again."""
        key, counts, ended = feed_key(feed), counts_of(comparison.changes), job.ended
        for job_id in feed.gone:
            if job_id != ended.job_id:  # its claim was lost before, and it is stored anew
                await store.delete(key, job_id)
        listed = FeedJob(
            job_id=ended.job_id, started_at=ended.started_at, followers=snapshot.followers, labels=ended.labels
        )
        held_now = is_held(feed, counts, self._threshold)
        claim = FeedClaim(
            job=listed,
            act="baseline" if comparison.old is None else "held" if held_now else "changes",
            counts=counts,
            after=await store.tail(feed),
        )
        claimed = msgspec.structs.replace(feed, next=claim, gone=[])
        written = await store.write(key, claimed, revision)
        return (claimed, written) if written is not None else (None, revision)

    async def _build(self, job: EndedJob, check: Callable[[], None]) -> Snapshot:
        """Return the job's snapshot. Raises _UnreadableListError when the log doesn't have all of its pages."""
        ended, pause, sure = job.ended, Pause(), False
        subject = page_subject(ended.provider, ended.oa_id, ended.job_id)
        while True:
            builder = Builder(ended.job_id)
            try:
                async for entries in self._pages.read(subject, job.sequence, sure=sure):
                    check()
                    await self._offload(builder.add, entries)
            except UnreadablePageError as error:
                raise _UnreadableListError(f"{error}: fetch the list again") from None
            except LogUnavailableError:
                check()
                await pause()
                continue
            if builder.whole and builder.rows == ended.followers:
                snapshot: Snapshot = await self._offload(builder.finish)
                return snapshot
            if sure:
                raise _UnreadableListError("not all of its pages are in the log any more: fetch the list again")
            sure = True

    async def _compare(self, store: FeedStore, feed: Feed, new: Snapshot) -> _Comparison:
        """Compare with the current list; without one, or where its snapshot is lost, there is nothing to compare."""
        old = await store.load(feed_key(feed), feed.current.job_id) if feed.current is not None else None
        if old is None:
            return _Comparison(None, new.job_id, [])
        return _Comparison(old.job_id, new.job_id, await self._offload(compare, old, new))


async def _set_aside(store: FeedStore, feed: Feed, revision: int, job_id: str, reason: Reason, message: str) -> bool:
    """Tell, in the log and in the feed, that a list was not taken; return False when the feed has changed meanwhile."""
    after = set_aside(feed, job_id, reason, message)
    # A feed begins with a list: one that never had any (0) is not begun to say that there is none.
    if revision and after != feed and not await store.note(feed_key(feed), after, revision):
        return False
    say(_SET_ASIDE[reason], feed, job_id, level="warning", reason=message)
    return True
