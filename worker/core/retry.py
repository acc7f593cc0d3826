"""Retry or give up: arithmetic only, the clock and the dice come in as numbers."""

from dataclasses import dataclass

from schemas.types import WaitReason
from worker.core.errors import (
    FetchFailure,
    GarbledResponseError,
    ProviderUnavailableError,
    RateLimitedError,
)

GARBLED_ATTEMPTS = 6
"""An answer that can't be read is tried this often: a proxy's page passes, a changed API doesn't."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """When to stop trying one page. All values are seconds."""

    base: float = 0.5
    cap: float = 60.0
    """The longest backoff; a longer `Retry-After` is honoured all the same."""
    retry_for: float = 900.0
    """Give up on an unavailable provider this long after the page's first failure."""
    rate_limited_for: float = 86_400.0
    """Give up on a provider that answers "too many requests" this long after the page's first failure."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Wait `delay` seconds, then ask again."""

    delay: float
    reason: WaitReason


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
    if isinstance(error, GarbledResponseError) and attempt >= GARBLED_ATTEMPTS:
        return GiveUp(error)
    limited = isinstance(error, RateLimitedError)
    if failing_for >= (policy.rate_limited_for if limited else policy.retry_for):
        return GiveUp(error)
    # The exponent is bounded: a float overflows long before the cap stops mattering.
    backoff = dice * min(policy.cap, policy.base * 2 ** min(attempt - 1, 30))
    named = error.retry_after if isinstance(error, RateLimitedError | ProviderUnavailableError) else None
    delay = backoff if named is None else named + min(backoff, 1.0)
    return Retry(delay, "rate_limited" if limited else "provider_unavailable")
