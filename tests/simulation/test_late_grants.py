"""A start that was granted and not used in time: it lapses, and whoever let it lapse is the first in line again."""

import asyncio
import itertools
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.limits_kit import FakeSharedLimit, SharedState
from tests.simulation.loop import run
from tests.simulation.test_gate import Replica, now
from worker.core.errors import RateLimitedError
from worker.core.ratelimit.circuit_breaker import FAILURES
from worker.core.ratelimit.fair_queue import Place, Turns
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.reservations import EARLY, Starts
from worker.core.ratelimit.shared import Share

RATE = 2.0
GRACE = Limit(RATE).grace


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), main)


def set_time(seconds: float) -> None:
    """Let the process have been stopped until then."""
    loop: Any = asyncio.get_running_loop()
    assert seconds >= loop.now
    loop.now = seconds


async def granted(replica: Replica, job: str = "a") -> Place:
    """A place whose turn has just come."""
    while replica.gate.enter() is not None:
        pass
    place = replica.gate.queue(job)
    assert not place.granted.done()
    await place.granted
    return place


def test_a_grant_may_be_claimed_as_late_as_its_grace():
    async def main() -> None:
        replica = Replica(RATE)
        place = await granted(replica)

        set_time(place.start + GRACE + EARLY)

        assert replica.gate.claim(place) is not None

    in_virtual_time(main())


def test_a_grant_that_comes_too_late_lapses_and_the_next_one_is_waited_for():
    async def main() -> None:
        replica = Replica(RATE)
        place = await granted(replica)
        first = place.start

        set_time(first + GRACE + EARLY + 0.001)

        assert replica.gate.claim(place) is None
        assert not place.granted.done()
        assert replica.gate.state().waiting == 1
        await place.granted
        assert place.start >= first + 1 / RATE - EARLY
        assert replica.gate.claim(place) is not None
        assert replica.gate.state().waiting == 0

    in_virtual_time(main())


def test_whoever_let_a_grant_lapse_is_served_before_those_who_came_later():
    async def main() -> None:
        replica = Replica(RATE)
        place = await granted(replica)
        own, other = replica.gate.queue("a"), replica.gate.queue("b")

        set_time(place.start + GRACE + EARLY + 0.001)
        assert replica.gate.claim(place) is None

        assert [replica.gate.outlook(one).ahead for one in (place, other, own)] == [0, 1, 2]
        served = []
        for one in (place, other, own):
            await one.granted
            served.append(replica.gate.claim(one))
        assert None not in served
        starts = [place.start, other.start, own.start]
        assert starts == sorted(starts)
        assert min(after - before for before, after in itertools.pairwise(starts)) >= 1 / RATE - EARLY

    in_virtual_time(main())


def test_a_grant_lapses_too_when_the_provider_must_not_be_asked_any_more():
    async def main() -> None:
        for rate in (0.0, RATE):
            replica = Replica(rate)
            admission = await replica.enter()
            place = await granted(replica) if rate else replica.gate.queue("a")
            assert place.granted.done()
            told = now()
            replica.gate.failed(admission, RateLimitedError("slow down", retry_after=30.0))

            assert replica.gate.claim(place) is None
            await place.granted
            assert now() - told >= 30.0
            assert replica.gate.claim(place) is not None

    in_virtual_time(main())


def test_a_probe_that_was_granted_and_not_claimed_is_anothers_a_little_later():
    async def main() -> None:
        replica = Replica(0)
        await replica.fail(FAILURES)
        silent, other = replica.gate.queue("a"), replica.gate.queue("b")
        await silent.granted
        since = now()
        assert not other.granted.done()

        await other.granted

        assert now() - since == pytest.approx(5.0, abs=0.01)

    in_virtual_time(main())


# The reserved starts themselves.


def starts() -> Starts:
    limit = Limit(RATE)
    share = Share("shop", limit, FakeSharedLimit(limit, SharedState()), lambda: 0.5)
    return Starts("shop", share, lambda: 0.5, lambda: None)


def test_a_start_is_taken_from_when_it_is_due_until_its_grace_is_over():
    for at, expected in (
        (10.0 - 2 * EARLY, None),
        (10.0 - EARLY, 10.0),
        (10.0, 10.0),
        (10.0 + GRACE + EARLY, 10.0),
        (10.0 + GRACE + 2 * EARLY, None),
    ):
        held = starts()
        held.give_back(10.0)

        assert held.take(at) == expected, at


def test_a_late_start_is_dropped_and_pays_for_nothing():
    held = starts()
    held.owe(1)
    for start in (12.0, 11.0, 10.0):
        held.give_back(start)

    assert held.take(11.0 + GRACE) is None, "10 is late and pays nothing; 11 pays what is owed; 12 isn't due"
    assert held.take(12.0) == 12.0
    assert held.take(12.0) is None


def test_what_is_late_says_the_grace() -> None:
    held = starts()

    assert not held.is_late(10.0, 10.0 + GRACE + EARLY)
    assert held.is_late(10.0, 10.0 + GRACE + EARLY + 1e-6)


# The line.


async def test_a_place_that_comes_back_is_the_first_of_its_job_and_its_job_the_first_of_all():
    turns = Turns()
    first, second, other = turns.join("a"), turns.join("a"), turns.join("b")
    turns.grant(1.0)
    assert (first.granted.done(), first.start, turns.waiting) == (True, 1.0, 2)

    turns.back(first)

    assert (first.granted.done(), turns.waiting) == (False, 3)
    assert [turns.ahead(place) for place in (first, other, second)] == [0, 1, 2]
    served = []
    for start in (2.0, 3.0, 4.0):
        turns.grant(start)
        served.append([place.start for place in (first, other, second)])
    assert served == [[2.0, 0.0, 0.0], [2.0, 3.0, 0.0], [2.0, 3.0, 4.0]]
    assert turns.waiting == 0


async def test_a_place_whose_job_has_nobody_else_in_line_comes_back_too():
    turns = Turns()
    only, other = turns.join("a"), turns.join("b")
    turns.grant(1.0)

    turns.back(only)

    assert [turns.ahead(place) for place in (only, other)] == [0, 1]
    turns.remove(only)
    assert (turns.waiting, turns.ahead(other)) == (1, 0)
