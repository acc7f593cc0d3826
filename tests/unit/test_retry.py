import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import errors
from worker.core.errors import FatalError, FetchFailure, RetryableError
from worker.core.retry import UNKNOWN_ATTEMPTS, GiveUp, Retry, RetryPolicy, decide

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


@given(after=st.floats(0, 86_399), attempt=st.integers(1, 100), dice=st.floats(0, 1, exclude_max=True))
def test_a_named_wait_is_kept_in_full_and_hardly_exceeded(after: float, attempt: int, dice: float):
    limited = errors.RateLimitedError("slow down", retry_after=after)

    decision = _decide(limited, attempt=attempt, dice=dice)

    assert isinstance(decision, Retry)
    assert after <= decision.delay <= after + 1.0
    assert (decision.reason, decision.asked) == ("rate_limited", None)


@pytest.mark.parametrize(
    ("error", "patience", "setting"),
    [
        (errors.RateLimitedError("slow down", retry_after=31_536_000.5), 86_400.0, "rate_limited_for"),
        (errors.ProviderUnavailableError("down", retry_after=31_536_000.5), 900.0, "retry_for"),
    ],
)
def test_a_named_wait_ends_with_the_patience_that_is_left_and_says_so(
    error: FetchFailure, patience: float, setting: str
):
    for passed in (0.0, 100.25, patience - 0.5):
        decision = _decide(error, failing_for=passed)

        assert isinstance(decision, Retry)
        assert (decision.delay, decision.asked) == (patience - passed, 31_536_000.5)
    given_up = _decide(error, failing_for=patience)

    assert isinstance(given_up, GiveUp)
    assert type(given_up.error) is type(error)
    assert given_up.error.message == (
        f"{error.message}; given up after {patience:.0f} s: worker.{setting} is {patience:g} s, and the provider asked "
        "to wait 31536001 s more"
    )
    assert "given up" not in error.message


def test_a_named_wait_that_just_fits_is_kept_and_its_spread_is_cut():
    limited = errors.RateLimitedError("slow down", retry_after=400.0)

    assert _decide(limited, failing_for=86_000.0, dice=0.9) == Retry(400.0, "rate_limited")
    assert _decide(limited, failing_for=85_999.5, dice=0.9) == Retry(400.5, "rate_limited")
    assert _decide(limited, failing_for=86_000.5, dice=0.0) == Retry(399.5, "rate_limited", asked=400.0)


def test_a_backoff_ends_with_the_patience_that_is_left():
    down = errors.ProviderUnavailableError("down")

    assert _decide(down, attempt=9, dice=1.0, failing_for=890.0) == Retry(10.0, "provider_unavailable")
    given_up = _decide(down, failing_for=900.0)
    assert isinstance(given_up, GiveUp)
    assert given_up.error.message == "down; given up after 900 s: worker.retry_for is 900 s"


def test_an_unavailable_provider_is_given_up_after_its_time():
    down = errors.ProviderUnavailableError("down")

    assert isinstance(_decide(down, failing_for=899.0), Retry)
    assert isinstance(_decide(down, failing_for=900.0), GiveUp)


def test_a_rate_limit_is_waited_for_much_longer():
    limited = errors.RateLimitedError("slow down")

    assert isinstance(_decide(limited, failing_for=86_399.0), Retry)
    assert isinstance(_decide(limited, failing_for=86_400.0), GiveUp)


def test_a_refusal_that_nobody_documented_is_given_up_after_some_tries():
    unknown = errors.UnknownRefusalError("code 777")

    assert isinstance(_decide(unknown, attempt=UNKNOWN_ATTEMPTS - 1), Retry)
    assert _decide(unknown, attempt=UNKNOWN_ATTEMPTS) == GiveUp(unknown)
    assert UNKNOWN_ATTEMPTS == 6
