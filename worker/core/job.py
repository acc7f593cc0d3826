"""A job, as its command asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.commands import (
    FetchFollowers,
)
from schemas.types import Provider


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Whose job it is: where its events go."""

    provider: Provider
    oa_id: str
    job_id: str
    account: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """A job's failure, as its dead letter names it."""

    sequence: int
    """Of the failed command in the command stream."""
    generation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A valid command with its identity."""

    command: FetchFollowers
    address: Address
    sequence: int
    """The command's sequence in the command stream."""
    traceparent: str | None = None
    retry_of: Failure | None = None
    """What it retries."""
