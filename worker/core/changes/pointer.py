"""What a feed's pointer says, and how it moves on: plain functions from values to values."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from schemas.changes import ChangeCounts, Feed, FeedClaim, FeedJob, HeldJob, SetAside
from schemas.commands import FetchFollowers
from schemas.events import JobCompleted
from worker.core.changes.events import SetFields

HELD_FROM = 10
"""So many must be gone before a list is held back: in a small list a few people are a large share."""
Reason = Literal["older", "unreadable", "unproven"]
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


def is_comparable(job: EndedJob, *, drifted: bool) -> bool:
    """Say whether the job's list is all of what its filter asks for, and something to follow.

    `drifted`: one that moved while it was read will do, where nobody who was there throughout is missing.
    """
    return is_wanted(job) and why_unproven(job, drifted=drifted) is None


def is_wanted(job: EndedJob) -> bool:
    """Say whether the command asks for a whole list, and not for somebody in particular."""
    command = job.command
    given = _filter(command)
    unbounded = command.max_pages is None and command.max_followers is None
    return unbounded and not any(name in given for name in ABOUT_ONE)


def why_unproven(job: EndedJob, *, drifted: bool) -> str | None:
    """Return why nobody can say that the list is all of what its filter asks for, None when it is proven."""
    ended = job.ended
    # `complete` by itself is not enough: of a list in an order that may move, nobody knows whom it passed over.
    if ended.missed_at_most != 0:
        missed = "nobody knows how many" if ended.missed_at_most is None else f"at most {ended.missed_at_most:,}"
        return f"people may be missing from it ({missed}; verdict {ended.verdict}): fetch it again"
    if ended.verdict == "complete" or (drifted and ended.verdict == "drifted"):
        return None
    if ended.verdict == "drifted":
        return "it moved while it was read: fetch it again, or set changes.drifted = true to take such lists"
    return f"it is {ended.verdict}: fetch it again"


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


def set_aside(feed: Feed, job_id: str, reason: Reason, message: str) -> Feed:
    """Return the feed that has not taken the list of `job_id`."""
    return msgspec.structs.replace(feed, set_aside=SetAside(job_id=job_id, reason=reason, message=message))


def reset(feed: Feed) -> Feed:
    """Return the feed without any list: the next complete one is a baseline. Nothing may be claimed."""
    assert feed.next is None, "what is being published is finished first, or it would go on behind the baseline"
    gone = sorted({*feed.gone, *kept(feed)})
    return msgspec.structs.replace(feed, current=None, held=None, gone=gone, set_aside=None)


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
    return msgspec.structs.replace(
        feed, current=claim.job, next=None, held=None, gone=_all_but(feed, claim.job), set_aside=None
    )


def held_back(feed: Feed, claim: FeedClaim) -> Feed:
    """Return the feed with the claimed job held, in the place of one that was."""
    superseded = [feed.held.job.job_id] if feed.held is not None else []
    held = HeldJob(job=claim.job, counts=claim.counts)
    return msgspec.structs.replace(feed, next=None, held=held, gone=superseded, set_aside=None)


def forgotten(feed: Feed) -> Feed:
    """Return the feed after the claimed job's snapshot was lost: the next complete list is a baseline."""
    return msgspec.structs.replace(feed, current=None, next=None, held=None, gone=_all_but(feed, None))


def begun_anew(feed: Feed, claim: FeedClaim) -> Feed:
    """Return the feed after the current list's snapshot was lost: the claimed job's list is a baseline."""
    return msgspec.structs.replace(feed, next=msgspec.structs.replace(claim, act="baseline"))


def is_held(feed: Feed, counts: ChangeCounts, threshold: float) -> bool:
    """Say whether so many are gone that the list may be wrong."""
    before = feed.current
    return before is not None and counts.unfollowed >= HELD_FROM and counts.unfollowed > threshold * before.followers


def _all_but(feed: Feed, job: FeedJob | None) -> list[str]:
    claimed = {feed.next.job.job_id} if feed.next is not None else set()
    return sorted((kept(feed) | claimed) - ({job.job_id} if job is not None else set()))
