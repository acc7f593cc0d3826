"""Limits and circuits at their boundaries."""

import pytest

from worker.core.ratelimit.circuit_breaker import CAP, FAILURES, Breaker
from worker.core.ratelimit.gcra import SECOND, Limit, pushed, reserve


@pytest.mark.parametrize(
    ("rate", "interval", "burst", "grace", "horizon"),
    [
        (0.5, 2.0, 1, 1.0, 32.0),
        (2.0, 0.5, 1, 0.25, 8.0),
        (16 / 3, 0.1875, 1, 0.09375, 3.0),
        (20.0, 0.05, 2, 0.05, 3.0),
        (500.0, 0.002, 50, 0.05, 3.0),
    ],
)
def test_what_follows_from_a_rate(rate: float, interval: float, burst: int, grace: float, horizon: float) -> None:
    limit = Limit(rate)

    assert (limit.interval, limit.grace, limit.horizon) == pytest.approx((interval, grace, horizon))
    assert limit.burst == burst


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_is_above_nothing_and_finite(rate: float) -> None:
    with pytest.raises(ValueError, match="it must be above 0 and finite"):
        Limit(rate)


def test_reservations_are_whole_microseconds_apart() -> None:
    assert reserve(0, 1000, Limit(3.0), 3) == ([1000, 334_333, 667_667], 1_001_000)
    assert reserve(5000, 1000, Limit(3.0), 0) == ([], 5000)
    assert (pushed(5, 4), pushed(5, 6), SECOND) == (5, 6, 1_000_000)


def opened(dice: float = 0.0, **options: float) -> Breaker:
    breaker = Breaker(lambda: dice, **options)  # type: ignore[arg-type]
    for _ in range(FAILURES):
        breaker.failed(10.0, probe=False)
    return breaker


def test_the_fifth_failure_in_a_row_opens_it() -> None:
    breaker = Breaker(lambda: 0.0)
    for count in range(1, 5):
        breaker.failed(10.0, probe=False)
        assert (breaker.state, breaker.failures, breaker.wait(10.0)) == ("closed", count, 0.0)

    breaker.failed(10.0, probe=False)

    assert (breaker.state, breaker.failures, breaker.until) == ("open", 5, 10.5)
    assert (breaker.wait(10.0), breaker.wait(10.5), breaker.wait(99.0)) == (0.5, 0.0, 0.0)
    assert (FAILURES, CAP) == (5, 60.0)


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 0.5), (0.5, 0.75), (0.999, 0.9995)])
def test_half_of_its_time_is_the_dices(dice: float, seconds: float) -> None:
    assert opened(dice).wait(10.0) == pytest.approx(seconds)


def test_a_probe_is_out_alone_and_its_outcome_is_expected_in_time() -> None:
    breaker = opened()

    assert breaker.enter(10.5) is True

    assert (breaker.state, breaker.until) == ("half_open", 11.5)
    assert breaker.wait(99.0) == float("inf")
    assert Breaker(lambda: 0.0).enter(1.0) is False


def test_each_failed_probe_doubles_the_time_up_to_the_cap() -> None:
    breaker, times = opened(0.5), []
    for _ in range(8):
        breaker.enter(100.0)
        breaker.failed(100.0, probe=True)
        times.append(breaker.wait(100.0) / 0.75)

    assert times == [2, 4, 8, 16, 32, 60, 60, 60]
    assert breaker.failures == 13


def test_an_answer_closes_it_and_everything_begins_anew() -> None:
    breaker = opened()
    breaker.enter(11.0)
    breaker.failed(11.0, probe=True)
    breaker.enter(13.0)

    breaker.answered()

    assert (breaker.state, breaker.failures, breaker.wait(13.0), breaker.enter(13.0)) == ("closed", 0, 0.0, False)
    for _ in range(FAILURES):
        breaker.failed(20.0, probe=False)
    assert breaker.until == 20.5


def test_an_answer_among_failures_begins_the_row_anew() -> None:
    breaker = Breaker(lambda: 0.0)
    for _ in range(FAILURES - 1):
        breaker.failed(10.0, probe=False)
    breaker.answered()
    for _ in range(FAILURES - 1):
        breaker.failed(10.0, probe=False)

    assert breaker.state == "closed"


def test_what_was_under_way_when_it_opened_is_counted_and_changes_nothing() -> None:
    breaker = opened()

    breaker.failed(99.0, probe=False)

    assert (breaker.state, breaker.until, breaker.failures) == ("open", 10.5, 6)


def test_a_probe_that_tells_nothing_lets_another_out_at_once() -> None:
    breaker = opened()
    breaker.enter(10.5)

    breaker.left(probe=False)
    assert breaker.wait(10.5) == float("inf")
    breaker.left(probe=True)

    assert breaker.wait(10.5) == 0.0
    assert breaker.state == "half_open"


def test_another_threshold_and_time_may_be_asked_for() -> None:
    breaker = Breaker(lambda: 0.0, failures=1, base=8.0)

    breaker.failed(10.0, probe=False)

    assert breaker.until == 14.0
