"""`JobStatus`: a job at a glance, in the bucket `FOLLOWERS_JOBS` under the job id, always JSON; and its refusal."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.events import FetchError
from schemas.types import Count, FinishedAt, JobId, JobState, Labels, OaId, Ordinal, ProviderName, Timestamp, Verdict
from schemas.wait import Wait


class JobStatus(Struct, frozen=True, kw_only=True):
    """A projection for people: the events are the truth, this may lag behind them by a second."""

    job_id: JobId
    provider: ProviderName
    account: Annotated[str, Meta(description="Null when the command's account can't be read.")] | None
    oa_id: OaId
    state: Annotated[JobState, Meta(description="`queued`: no worker has it, or the one that had handed it back.")]
    page: Annotated[Count, Meta(description="The last page published; 0 before the first.")] = 0
    followers: Annotated[Count, Meta(description="Followers published so far.")] = 0
    total: Annotated[int, Meta(description="The list's length as the provider said it.")] | None = None
    percent: Annotated[float, Meta(ge=0, le=100, description="Of the total, or of the command's ceiling.")] | None = (
        None
    )
    attempt: Annotated[Count, Meta(description="1 on the first start, one more each time a worker takes over.")] = 0
    reason: Annotated[str, Meta(description="Why it waits or was truncated.")] | None = None
    until: Annotated[Timestamp, Meta(description="When the wait ends.")] | None = None
    eta: Annotated[Timestamp, Meta(description="Estimated end at the present rate.")] | None = None
    worker: Annotated[str, Meta(description="The replica that has it.")] | None = None
    started_at: Annotated[Timestamp, Meta(description="When the job's first attempt began.")] | None = None
    updated_at: Annotated[Timestamp, Meta(description="When this was written.")]
    finished_at: FinishedAt | None = None
    error: Annotated[FetchError | None, Meta(description="Why it failed, and what to do.")] = None
    labels: Labels = {}
    verdict: (
        Annotated[Verdict, Meta(description="Of a completed job. `drifted`: moved, or not shown to be whole.")] | None
    ) = None
    wait: Annotated[Wait | None, Meta(description="Why it doesn't move, and what to do; null when it does.")] = None
    command_sequence: Annotated[int, Meta(description="The command's sequence in FOLLOWERS_COMMANDS.")] | None = None
    generation: Annotated[Ordinal, Meta(description="1, and one more with each retry of a failed job.")] = 1
    event_sequence: Annotated[
        Count, Meta(description="The newest job event that this rests on, in FOLLOWERS_EVENTS; 0 before the first.")
    ] = 0
    faults: Annotated[Count, Meta(description="Times that this command made a worker fail unexpectedly.")] = 0


class ControlError(Struct, frozen=True, kw_only=True):
    """The answer to a request about a job when there is no status to answer with: it has no `state`."""

    job_id: Annotated[str, Meta(description="As in the request's subject; cut when it is no id.")]
    error: Annotated[FetchError, Meta(description="Why there is no status, and what to do.")]
