"""`JobStatus`: a job at a glance, in the bucket `FOLLOWERS_JOBS` under the job id, always JSON; and its refusal."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.events import FetchError
from schemas.types import Count, JobState, Labels, Provider, Timestamp, Token, Verdict


class JobStatus(Struct, frozen=True, kw_only=True):
    """A projection for people: the events are the truth, this may lag behind them by a second."""

    job_id: Token
    provider: Provider
    account: str | None
    oa_id: Token
    state: JobState
    page: Annotated[Count, Meta(description="The last page published; 0 before the first.")] = 0
    followers: Annotated[Count, Meta(description="Followers published so far.")] = 0
    total: Annotated[int, Meta(description="The list's length as the provider said it.")] | None = None
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    attempt: Count = 0
    reason: Annotated[str, Meta(description="Why it waits or was truncated.")] | None = None
    until: Annotated[Timestamp, Meta(description="When the wait ends.")] | None = None
    eta: Annotated[Timestamp, Meta(description="Estimated end at the present rate.")] | None = None
    worker: Annotated[str, Meta(description="The replica that has it.")] | None = None
    started_at: Timestamp | None = None
    updated_at: Timestamp
    finished_at: Timestamp | None = None
    error: FetchError | None = None
    labels: Labels = {}
    verdict: Verdict | None = None
    command_sequence: Annotated[int, Meta(description="The command's sequence in FOLLOWERS_COMMANDS.")] | None = None


class ControlError(Struct, frozen=True, kw_only=True):
    """The answer to a request about a job when there is no status to answer with: it has no `state`."""

    job_id: str
    error: FetchError
