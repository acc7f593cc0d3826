"""What time it is at the server, reckoned from the loop's clock and the stamps on our own writes."""

import pytest

from worker.jetstream.kv.rate_limits import GOOD_ENOUGH, MEASURE_EVERY, ServerClock, _step_aside


class Loop:
    """A loop's clock that a test sets."""

    now = 100.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr("worker.jetstream.kv.rate_limits._now", made.time)
    return made


def test_a_clock_that_was_never_measured_is_due_and_unknown(loop: Loop) -> None:
    clock = ServerClock()

    assert (clock.is_known, clock.is_due) == (False, True)
    assert (clock.at_server(1.5), clock.here(1_500_000)) == (1_500_000, 1.5)


def test_the_servers_stamp_belongs_to_the_middle_of_the_round_trip(loop: Loop) -> None:
    clock = ServerClock()
    clock.measured(1000.0, sent=99.0, received=101.0)

    assert clock.at_server(100.0) == 1_000_000_000
    assert clock.at_server(100.5) == 1_000_500_000
    assert clock.here(1_000_500_000) == 100.5
    assert clock.is_known


@pytest.mark.parametrize(("took", "seconds"), [(0.0, 30.0), (0.015625, 30.0), (0.02, 1.0), (0.5, 1.0)])
def test_a_quick_measurement_is_good_for_30_seconds_and_a_slow_one_for_one(
    loop: Loop, took: float, seconds: float
) -> None:
    clock = ServerClock()
    clock.measured(1000.0, sent=0.0, received=took)

    loop.now = took + seconds - 0.001
    assert not clock.is_due
    loop.now = took + seconds
    assert clock.is_due
    assert (MEASURE_EVERY, GOOD_ENOUGH) == (30.0, 0.02)


async def test_whoever_steps_aside_waits_longer_each_time_up_to_50_milliseconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return 0.0

    monkeypatch.setattr("worker.jetstream.kv.rate_limits.random.uniform", uniform)
    pause = 0.002
    for _ in range(7):
        pause = await _step_aside(pause)

    assert bounds == [(0, high) for high in (0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05)]
