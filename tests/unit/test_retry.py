from hypothesis import given
from hypothesis import strategies as st

from worker.core import errors
from worker.core.errors import FatalError, FetchFailure, RetryableError
from worker.core.retry import GARBLED_ATTEMPTS, GiveUp, Retry, RetryPolicy, decide

POLICY = RetryPolicy(base=1.0, cap=60.0, retry_for=900.0, rate_limited_for=86_400.0)


def _decide(error: FetchFailure, **given_: float) -> Retry | GiveUp:
    arguments = {"attempt": 1, "failing_for": 0.0, "dice": 0.5} | given_
    return decide(error, policy=POLICY, **arguments)  # type: ignore[arg-type]


def test_every_error_is_either_retryable_or_fatal():
    leaves = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FetchFailure)]

    for kind in leaves:
        if kind is not FetchFailure:
            assert issubclass(kind, RetryableError) != issubclass(kind, FatalError), kind
            assert kind.retryable is issubclass(kind, RetryableError), kind


def test_a_fatal_error_is_never_retried():
    decision = _decide(errors.UnauthorizedError("wrong key"))

    assert isinstance(decision, GiveUp)


def test_the_backoff_doubles_up_to_the_cap_and_is_spread_over_its_whole_length():
    down = errors.ProviderUnavailableError("down")

    assert [_decide(down, attempt=attempt, dice=1.0) for attempt in (1, 2, 3, 7, 500)] == [
        Retry(delay, "provider_unavailable") for delay in (1.0, 2.0, 4.0, 60.0, 60.0)
    ]
    assert _decide(down, attempt=3, dice=0.0) == Retry(0.0, "provider_unavailable")


@given(after=st.floats(0, 10**9), attempt=st.integers(1, 100), dice=st.floats(0, 1, exclude_max=True))
def test_a_named_wait_is_kept_in_full_and_hardly_exceeded(after: float, attempt: int, dice: float):
    limited = errors.RateLimitedError("slow down", retry_after=after)

    decision = _decide(limited, attempt=attempt, dice=dice)

    assert isinstance(decision, Retry)
    assert after <= decision.delay <= after + 1.0
    assert decision.reason == "rate_limited"


def test_an_unavailable_provider_is_given_up_after_its_time():
    down = errors.ProviderUnavailableError("down")

    assert isinstance(_decide(down, failing_for=899.0), Retry)
    assert isinstance(_decide(down, failing_for=900.0), GiveUp)


def test_a_rate_limit_is_waited_for_much_longer():
    limited = errors.RateLimitedError("slow down")

    assert isinstance(_decide(limited, failing_for=86_399.0), Retry)
    assert isinstance(_decide(limited, failing_for=86_400.0), GiveUp)


def test_an_answer_that_stays_garbled_is_given_up_after_some_tries():
    garbled = errors.GarbledResponseError("html")

    assert isinstance(_decide(garbled, attempt=GARBLED_ATTEMPTS - 1), Retry)
    assert _decide(garbled, attempt=GARBLED_ATTEMPTS) == GiveUp(garbled)
