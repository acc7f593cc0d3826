"""GCRA as arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.limits_kit import worst_second
from worker.core.ratelimit.gcra import SECOND, Limit, pushed, reserve

RATES = st.sampled_from([0.3, 1.0, 5.0, 7.5, 20.0, 33.0, 100.0, 500.0])


def test_requests_are_reserved_one_interval_apart():
    times, arrival = reserve(0, 1_000_000, Limit(5), 3)

    assert times == [1_000_000, 1_200_000, 1_400_000]
    assert arrival == 1_600_000


def test_a_reservation_begins_where_the_one_before_ended():
    _, arrival = reserve(0, 1_000_000, Limit(20), 2)

    times, arrival = reserve(arrival, 1_010_000, Limit(20), 1)

    assert times == [1_100_000]
    assert arrival == 1_150_000


def test_what_was_not_reserved_in_time_is_not_made_up_for():
    times, _ = reserve(1_000_000, 9_000_000, Limit(10), 2)

    assert times == [9_000_000, 9_100_000]


def test_a_push_moves_the_arrival_forward_and_never_back():
    assert pushed(5, 9) == 9
    assert pushed(9, 5) == 9


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 1), (5, 1), (14, 1), (20, 2), (100, 10), (500, 50)])
def test_a_burst_is_a_tenth_of_a_second_and_at_least_one_request(rate: float, burst: int):
    assert Limit(rate).burst == burst


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_a_rate_that_limits_nothing_is_no_limit(rate: float):
    with pytest.raises(ValueError, match="requests a second"):
        Limit(rate)


@given(
    rate=RATES,
    asks=st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 10), st.floats(0, 1)), min_size=1, max_size=120),
)
def test_however_late_starts_are_used_no_second_sees_more_than_rate_and_burst(
    rate: float, asks: list[tuple[float, int, float]]
):
    limit = Limit(rate)
    now = arrival = 0
    used = []
    for pause, count, lateness in asks:
        now += round(pause * SECOND)
        times, arrival = reserve(arrival, now, limit, count)
        used += [time / SECOND + lateness * limit.grace for time in times]

    assert worst_second(sorted(used)) <= math.ceil(rate) + limit.burst


@given(rate=RATES, counts=st.lists(st.integers(1, 10), min_size=1, max_size=50))
def test_asked_all_the_time_the_whole_rate_is_given_out(rate: float, counts: list[int]):
    limit, arrival = Limit(rate), 0
    for count in counts:
        _, arrival = reserve(arrival, 0, limit, count)

    assert arrival == pytest.approx(sum(counts) / rate * SECOND, abs=len(counts))
