"""What is counted."""

from typing import Literal, Protocol

from schemas.types import ErrorCode, JobState, Provider, WaitReason

Outcome = Literal["ok"] | ErrorCode
"""Of a request: it gave a page, or the contract's word for why not; `cancelled` when nobody needed the answer."""


Circuit = Literal["closed", "open", "half_open"]
"""Of an account's circuit breaker."""


class Meter(Protocol):
    """Counts what happened. Must not raise."""

    def page_published(self, provider: Provider, followers: int) -> None:
        """Count a page, with its number of followers."""
        ...

    def request_ended(self, provider: Provider, outcome: Outcome, seconds: float) -> None:
        """Count a request that gave a page or an error after so many seconds."""
        ...

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """Count a job that came to `completed`, `failed`, `cancelled`, or back to `queued`."""
        ...

    def dead_lettered(self, provider: Provider, code: str) -> None:
        """Count a command that was stored among the dead letters, for the contract's `code`."""
        ...

    def change_published(self, provider: Provider, kind: str) -> None:
        """Count a change event that this replica appended, by its type."""
        ...

    def redelivered(self, provider: Provider) -> None:
        """Count a command that had been delivered before."""
        ...

    def faulted(self, provider: Provider) -> None:
        """Count an unexpected error while working on a command."""
        ...

    def request_waited(self, provider: Provider, reason: WaitReason, seconds: float) -> None:
        """Add up the seconds that a request waited before it could start."""
        ...

    def circuit_changed(self, provider: Provider, account: str, state: Circuit) -> None:
        """Take note of the state that an account's circuit breaker came to."""
        ...

    def limit_shared(self, provider: Provider, account: str, *, shared: bool) -> None:
        """Take note that an account's limit can be shared with the other replicas, or no longer."""
        ...
