"""What a job publishes: follower pages, then one terminal job event."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.follower import Follower
from schemas.types import (
    Count,
    Digest,
    ErrorCode,
    FinishedAt,
    JobId,
    Labels,
    OaId,
    Ordinal,
    ProviderName,
    Timestamp,
    TruncatedReason,
    Verdict,
    WaitReason,
)
from schemas.wait import Wait


class FetchError(Struct, frozen=True, kw_only=True):
    """Why a job failed: what happened and what to do, without secrets or people's data."""

    code: Annotated[ErrorCode, Meta(description="What kind of fault, for programs.")]
    message: Annotated[str, Meta(description="What happened and what to do, for people.")]
    retryable: Annotated[bool, Meta(description="Whether the same command may succeed later.")]
    provider_code: Annotated[str, Meta(description="The provider's own code, as text.")] | None = None
    http_status: Annotated[int, Meta(description="Of the provider's answer.")] | None = None
    attempts: Annotated[Count, Meta(description="Requests made for the page that failed.")] = 0


class Progress(Struct, frozen=True, kw_only=True):
    """The job's totals up to and with this page: all that a successor needs to go on."""

    followers: Annotated[Count, Meta(description="Followers published so far.")]
    duplicates_dropped: Annotated[Count, Meta(description="Rows left out because their user id was published before.")]
    total_first: Annotated[int, Meta(description="The provider's total when the first page was read.")] | None
    requests: Annotated[Count, Meta(description="Requests made to the provider so far, failed ones included.")]
    started_at: Annotated[Timestamp, Meta(description="When the job's first attempt began.")]
    truncated: (
        Annotated[TruncatedReason, Meta(description="Why the list is cut after this page; null when it isn't.")] | None
    ) = None
    moved: Annotated[bool, Meta(description="Whether the list was seen to move so far.")] = False
    missed_at_most: Annotated[Count, Meta(description="As `completed` will say it, up to here.")] | None = None
    window: Annotated[str, Meta(description="As `completed` will say it, up to here.")] | None = None


class _Event(Struct, frozen=True, kw_only=True):
    job_id: JobId
    provider: ProviderName
    account: Annotated[str, Meta(description="Null when the command's account can't be read.")] | None
    oa_id: OaId
    labels: Labels = {}


class FollowerPage(_Event, frozen=True, kw_only=True):
    """One page of followers, on `followers.page.<provider>.<oa_id>.<job_id>`: in order, each exactly once, no gap."""

    page: Annotated[Ordinal, Meta(description="1, 2, 3… without a gap.")]
    part: Annotated[Ordinal, Meta(description="1 unless the page exceeds the server's `max_payload`.")] = 1
    parts: Annotated[Ordinal, Meta(description="How many parts the page has; it is whole at `part == parts`.")] = 1
    followers: Annotated[list[Follower], Meta(description="In the provider's order; empty at an empty list's end.")]
    total: Annotated[int, Meta(description="The list's length as the provider said it.")] | None
    cursor: Annotated[str, Meta(description="Opaque: where this page was read; null at the start.")] | None
    next_cursor: Annotated[str, Meta(description="Opaque; null on the last page.")] | None
    last: Annotated[bool, Meta(description="True on the last part of the last page only.")]
    fetched_at: Annotated[Timestamp, Meta(description="When the provider gave the page.")]
    progress: Annotated[Progress, Meta(description="The job's totals up to and with this page.")]
    count: Annotated[Count, Meta(description="Followers in this message; null from older versions.")] | None = None
    digest: (
        Annotated[
            Digest,
            Meta(
                description="SHA-256 over the digest before (its 32 bytes; zeros before the first message) and each"
                " user id of this message, followed by a newline. Null in a job that an older version began."
            ),
        ]
        | None
    ) = None


class _JobEvent(_Event, frozen=True, kw_only=True, tag_field="type"):
    attempt: Annotated[Ordinal, Meta(description="1 on the first start, one more each time a worker takes over.")] = 1
    generation: Annotated[
        Ordinal,
        Meta(description="1; one more each time a retry reopens the failed job: each has its own end."),
    ] = 1


class JobStarted(_JobEvent, frozen=True, kw_only=True, tag="started"):
    """A worker began, or went on with, the job."""

    resumed_at_page: Annotated[Ordinal, Meta(description="The page that is read next; 1 on a fresh start.")]
    started_at: Annotated[Timestamp, Meta(description="When this attempt began.")]


class JobWaiting(_JobEvent, frozen=True, kw_only=True, tag="waiting"):
    """The job stands still until `until`, for `reason`."""

    reason: Annotated[WaitReason, Meta(description="Why it stands still.")]
    until: Annotated[Timestamp, Meta(description="When it goes on; an estimate where it waits for our own limit.")]
    wait: Annotated[Wait | None, Meta(description="Who owns the wait, in numbers and in a sentence.")] = None


class JobCompleted(_JobEvent, frozen=True, kw_only=True, tag="completed"):
    """Terminal: the list was read to its end or to the command's ceiling."""

    pages: Annotated[Count, Meta(description="Provider pages published.")]
    followers: Annotated[Count, Meta(description="Followers published.")]
    distinct: Annotated[Count, Meta(description="Different user ids among them.")]
    duplicates_dropped: Annotated[Count, Meta(description="Rows left out because their user id was published before.")]
    total_first: Annotated[int, Meta(description="The provider's total when the first page was read.")] | None
    total_last: Annotated[int, Meta(description="The provider's total when the last page was read.")] | None
    requests: Annotated[Count, Meta(description="Requests made to the provider, failed ones included.")]
    started_at: Annotated[Timestamp, Meta(description="When the job's first attempt began.")]
    finished_at: FinishedAt
    verdict: Annotated[
        Verdict,
        Meta(description="`drifted`: it moved, or isn't shown to be whole. `truncated`: `reason` says what cut it."),
    ]
    reason: (
        Annotated[TruncatedReason, Meta(description="What cut the list; null unless `verdict` is `truncated`.")] | None
    ) = None
    digest: Annotated[Digest, Meta(description="That of the last page: of all user ids, in order.")] | None = None
    missed_at_most: (
        Annotated[
            Count,
            Meta(
                description="So many of those who were in the list throughout may be missing: 0 when it is proven that "
                "nobody is, also where it `drifted`; null when it can't be told, or when the command's ceiling cut it."
            ),
        ]
        | None
    ) = None
    window: (
        Annotated[
            str,
            Meta(
                description="The first day (in Vietnam) on which more people came than the provider gives, so that "
                "some are missing; null when there is none.",
                examples=["2026-01-31"],
            ),
        ]
        | None
    ) = None


class JobFailed(_JobEvent, frozen=True, kw_only=True, tag="failed"):
    """Terminal: the job can't be done; its command is in the dead letters. Only a retry of that reopens the job."""

    error: Annotated[FetchError, Meta(description="Why, and what to do.")]
    finished_at: FinishedAt


class JobCancelled(_JobEvent, frozen=True, kw_only=True, tag="cancelled"):
    """Terminal: somebody cancelled the job."""

    finished_at: FinishedAt


JobEvent = JobStarted | JobWaiting | JobCompleted | JobFailed | JobCancelled
TERMINAL = (JobCompleted, JobFailed, JobCancelled)
