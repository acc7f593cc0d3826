"""What a feed's pointer says, and how it moves on: plain functions from values to values."""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.changes import ChangeCounts, Feed, FeedClaim, FeedJob, HeldJob
from schemas.commands import FetchFollowers
from schemas.events import JobCompleted
from worker.core.changes_values import SetFields

HELD_FROM = 10
"""So many must be gone before a list is held back: in a small list a few people are a large share."""
ABOUT_ONE = ("name", "phone")
"""Filters that look somebody up: no list to follow, and nothing of theirs belongs into a pointer."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job whose `completed` event is in the log."""

    command: FetchFollowers
    account: str
    ended: JobCompleted
    sequence: int
    """That of the event."""
    traceparent: str | None = None


def feed_key(feed: Feed) -> str:
    """Return the key of the feed in its bucket: who, and a hash of the filter."""
    which = hashlib.sha256(msgspec.json.encode(feed.filter, order="sorted")).hexdigest()[:16] if feed.filter else "all"
    return f"{feed.provider}.{feed.account}.{feed.oa_id}.{which}"


def is_comparable(job: EndedJob, *, drifted: bool = False) -> bool:
    """Say whether the job's list is all of what its filter asks for, and something to follow.

    `drifted`: one that moved while it was read will do, where nobody who was there throughout is missing.
    """
    command, ended = job.command, job.ended
    given = _filter(command)
    unbounded = command.max_pages is None and command.max_followers is None
    # `complete` by itself is not enough: of a list in an order that may move, nobody knows whom it passed over.
    whole = ended.missed_at_most == 0 and ended.verdict in (("complete", "drifted") if drifted else ("complete",))
    return whole and unbounded and not any(name in given for name in ABOUT_ONE)


def _filter(command: FetchFollowers) -> dict[str, Any]:
    given: dict[str, Any] = msgspec.to_builtins(command.filter) if command.filter is not None else {}
    return {name: sorted(set(value)) if isinstance(value, list) else value for name, value in sorted(given.items())}


def blank(job: EndedJob) -> Feed:
    """Return the job's feed as it is before any list."""
    ended = job.ended
    return Feed(provider=ended.provider, account=job.account, oa_id=ended.oa_id, filter=_filter(job.command))


def kept(feed: Feed) -> set[str]:
    """Return the jobs whose snapshots the feed needs, but for a claim's."""
    return {job.job_id for job in (feed.current, feed.held.job if feed.held else None) if job is not None}


def is_stale(feed: Feed, job: EndedJob) -> bool:
    """Say whether the feed has a list that began to be read later, or at the same moment."""
    newest = [one.started_at for one in (feed.current, feed.held.job if feed.held else None) if one is not None]
    return bool(newest) and job.ended.started_at <= max(newest)


def common_fields(feed: Feed, claim: FeedClaim, of: int) -> SetFields:
    """Return what all `of` events of the claimed set share."""
    compared = feed.current is not None and claim.act != "baseline"
    return SetFields(
        job_id=claim.job.job_id,
        provider=feed.provider,
        account=feed.account,
        oa_id=feed.oa_id,
        labels=claim.job.labels,
        previous_job_id=feed.current.job_id if compared and feed.current is not None else None,
        filter=feed.filter,
        of=of,
    )


def moved(feed: Feed, claim: FeedClaim) -> Feed:
    """Return the feed with the claimed job's list as the current one; one that was held before is out of date."""
    return msgspec.structs.replace(feed, current=claim.job, next=None, held=None, gone=_all_but(feed, claim.job))


def held_back(feed: Feed, claim: FeedClaim) -> Feed:
    """Return the feed with the claimed job held, in the place of one that was."""
    superseded = [feed.held.job.job_id] if feed.held is not None else []
    return msgspec.structs.replace(feed, next=None, held=HeldJob(job=claim.job, counts=claim.counts), gone=superseded)


def forgotten(feed: Feed) -> Feed:
    """Return the feed after the claimed job's snapshot was lost: the next complete list is a baseline."""
    return msgspec.structs.replace(feed, current=None, next=None, held=None, gone=_all_but(feed, None))


def begun_anew(feed: Feed, claim: FeedClaim) -> Feed:
    """Return the feed after the current list's snapshot was lost: the claimed job's list is a baseline."""
    return msgspec.structs.replace(feed, next=msgspec.structs.replace(claim, act="baseline"))


def is_held(feed: Feed, counts: ChangeCounts, threshold: float) -> bool:
    """Say whether so many are gone that the list may be wrong."""
    before = feed.current.followers if feed.current is not None else 0
    return counts.unfollowed >= HELD_FROM and counts.unfollowed > threshold * before


def _all_but(feed: Feed, job: FeedJob | None) -> list[str]:
    claimed = {feed.next.job.job_id} if feed.next is not None else set()
    return sorted((kept(feed) | claimed) - ({job.job_id} if job is not None else set()))
