"""Retry or give up: arithmetic only, the clock and the dice come in as numbers."""

import math
from dataclasses import dataclass

from schemas.types import WaitReason
from worker.core.errors import (
    FetchFailure,
    ProviderUnavailableError,
    RateLimitedError,
    UnknownRefusalError,
)

UNKNOWN_ATTEMPTS = 6
"""A refusal under a code that nobody documented is tried this often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """When to stop trying one page. All values are seconds, of a clock that only goes forward.

    They count from the page's first failure at this worker: one that takes the job over begins anew, for the clocks of
    two workers have nothing in common but the server's, which nobody asks for at each failure.
    """

    base: float = 0.5
    cap: float = 60.0
    """The longest backoff; a longer `Retry-After` is honoured all the same, within what is left of the time below."""
    retry_for: float = 900.0
    """Give up on an unavailable provider this long after the page's first failure."""
    rate_limited_for: float = 86_400.0
    """Give up on a provider that answers "too many requests" this long after the page's first failure."""

    def patience(self, error: FetchFailure) -> float:
        """Return for how long pages that fail with `error` are tried."""
        return self.rate_limited_for if isinstance(error, RateLimitedError) else self.retry_for


@dataclass(frozen=True, slots=True)
class Retry:
    """Wait `delay` seconds, then ask again."""

    delay: float
    reason: WaitReason
    asked: float | None = None
    """The seconds that the provider asked for, where that is longer than the job's patience."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The page can't be had."""

    error: FetchFailure


def decide(
    error: FetchFailure, *, attempt: int, failing_for: float, dice: float, policy: RetryPolicy
) -> Retry | GiveUp:
    """Return what to do about `error`.

    `attempt` counts the requests for this page (1 or more), `failing_for` is the seconds since its first failure,
    `dice` is a number in [0, 1): full jitter, so that replicas don't come back together.
    """
    if not error.retryable:
        return GiveUp(error)
    if isinstance(error, UnknownRefusalError) and attempt >= UNKNOWN_ATTEMPTS:
        return GiveUp(error)
    limited = isinstance(error, RateLimitedError)
    left = policy.patience(error) - failing_for
    named = error.retry_after if isinstance(error, RateLimitedError | ProviderUnavailableError) else None
    if left <= 0:
        return GiveUp(error.going_on(_in_vain(error, failing_for, named, policy)))
    reason: WaitReason = "rate_limited" if limited else "provider_unavailable"
    # The exponent is bounded: a float overflows long before the cap stops mattering.
    backoff = dice * min(policy.cap, policy.base * 2 ** min(attempt - 1, 30))
    if named is None:
        return Retry(min(backoff, left), reason)
    # At the very end it is asked once more: no provider knows how much patience we have.
    return Retry(min(named + min(backoff, 1.0), left), reason, asked=named if named > left else None)


def _in_vain(error: FetchFailure, failing_for: float, named: float | None, policy: RetryPolicy) -> str:
    setting = "rate_limited_for" if isinstance(error, RateLimitedError) else "retry_for"
    text = f"given up after {failing_for:.0f} s: worker.{setting} is {policy.patience(error):g} s"
    return text if named is None else f"{text}, and the provider asked to wait {math.ceil(named)} s more"
