"""The circuit breaker as a state machine."""

from hypothesis import given
from hypothesis import strategies as st

from worker.core.ratelimit.circuit_breaker import CAP, FAILURES, Breaker


def make_breaker(dice: float = 0.0) -> Breaker:
    return Breaker(lambda: dice, base=2.0)


def broken(breaker: Breaker, now: float = 0.0) -> Breaker:
    for _ in range(FAILURES):
        breaker.failed(now, probe=False)
    return breaker


def test_fewer_failures_in_a_row_than_the_threshold_change_nothing():
    breaker = make_breaker()

    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0, probe=False)
        breaker.answered()

    assert breaker.state == "closed"
    assert breaker.wait(0.0) == 0.0


def test_failures_in_a_row_open_it_for_a_while():
    breaker = broken(make_breaker(), now=10.0)

    assert breaker.state == "open"
    assert breaker.wait(10.0) == 1.0
    assert breaker.wait(11.0) == 0.0


def test_one_probe_is_out_at_a_time():
    breaker = broken(make_breaker())

    assert breaker.enter(1.0) is True

    assert breaker.state == "half_open"
    assert breaker.wait(1.0) == float("inf")


def test_an_answered_probe_closes_it():
    breaker = broken(make_breaker())
    breaker.enter(1.0)

    breaker.answered()

    assert breaker.state == "closed"
    assert breaker.enter(1.0) is False


def test_each_failed_probe_doubles_the_time_until_the_next_up_to_the_cap():
    breaker, now, waits = broken(make_breaker(dice=1.0)), 0.0, []
    for _ in range(8):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        breaker.enter(now)
        breaker.failed(now, probe=True)

    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, CAP, CAP, CAP]


def test_half_of_the_time_is_left_to_the_dice():
    assert broken(make_breaker(0.0)).wait(0.0) == 1.0
    assert broken(make_breaker(1.0)).wait(0.0) == 2.0


def test_a_probe_that_was_cancelled_lets_another_one_out():
    breaker = broken(make_breaker())
    breaker.enter(1.0)

    breaker.left(probe=True)

    assert breaker.wait(1.0) == 0.0
    assert breaker.enter(1.0) is True


def test_failures_of_requests_that_were_under_way_do_not_prolong_it():
    breaker = broken(make_breaker())
    until = breaker.until

    for _ in range(100):
        breaker.failed(0.5, probe=False)

    assert breaker.until == until


@given(st.lists(st.sampled_from(["enter", "answer", "fail", "leave", "late"]), max_size=200))
def test_there_is_never_more_than_one_probe_out_and_never_none_for_ever(steps: list[str]):
    breaker, now, out = make_breaker(0.5), 0.0, 0
    for step in steps:
        now += 0.3
        if step == "enter" and breaker.wait(now) == 0 and breaker.enter(now):
            out += 1
            assert out == 1
        elif step == "answer" and out:
            breaker.answered()
            out = 0
        elif step == "fail":
            breaker.failed(now, probe=out > 0)
            out = 0
        elif step == "leave" and out:
            breaker.left(probe=True)
            out = 0
        elif step == "late" and not out:
            breaker.failed(now, probe=False)
        assert (breaker.wait(now) == float("inf")) is (out == 1)
        assert out or breaker.wait(now) <= CAP
