"""What a gate says of itself: why a request waits and until when, and how it stands with the account."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.fakes import FakeMeter, make_world
from tests.limits_kit import FakeSharedLimit, SharedState
from tests.simulation.loop import run
from worker.core.errors import ProviderUnavailableError, RateLimitedError, UnauthorizedError
from worker.core.ratelimit.admission import PROBE_LOST, SLOWEST, Gate, GateState, Outlook, open_gate
from worker.core.ratelimit.circuit_breaker import Breaker
from worker.core.ratelimit.fair_queue import Place
from worker.core.ratelimit.gcra import SECOND, Limit
from worker.core.ratelimit.shared import Share
from worker.core.retry import RetryPolicy

DOWN = ProviderUnavailableError("down", http_status=503)


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(random.Random(1), main())


def now() -> float:
    return asyncio.get_running_loop().time()


class Rig:
    """A gate, its limit in memory, and what it told."""

    def __init__(self, rate: float = 0.0, *, dice: float = 0.0, **options: float) -> None:
        self.meter, self.state = FakeMeter(), SharedState()
        share = None
        if rate:
            limit = Limit(rate)
            share = Share("shop", limit, FakeSharedLimit(limit, self.state), lambda: dice)
        breaker = Breaker(lambda: dice)
        self.gate = Gate("shop", "etelecom", breaker, share, meter=self.meter, dice=lambda: dice, **options)

    def fails(self, error: Any = DOWN, times: int = 1) -> None:
        for _ in range(times):
            admission = self.gate.enter()
            assert admission is not None
            self.gate.failed(admission, error)

    async def has_to_wait(self, job: str = "a") -> Place:
        assert self.gate.enter() is None
        place = self.gate.queue(job)
        await asyncio.sleep(0)
        return place


def test_without_a_limit_a_request_waits_for_nothing_but_a_turn_of_the_loop() -> None:
    async def main() -> None:
        rig = Rig()
        await asyncio.sleep(3)
        place = rig.gate.queue("a")

        assert rig.gate.outlook(place) == Outlook(3.0, "rate_limited", True)

    in_virtual_time(main)


@pytest.mark.parametrize(
    ("asked", "until", "longer"), [(30.0, 32.0, None), (100.0, 102.0, None), (100.5, 102.0, 100.5)]
)
def test_a_provider_that_wants_patience_is_left_alone_as_long_as_it_asks_and_as_is_set(
    asked: float, until: float, longer: float | None
) -> None:
    async def main() -> None:
        rig = Rig(longest=100.0)
        await asyncio.sleep(2)
        error = RateLimitedError("slow down", retry_after=asked)
        rig.fails(error)
        first, second = await rig.has_to_wait("a"), await rig.has_to_wait("b")

        blocked = Outlook(until, "rate_limited", False, failure=error, asked=longer)
        assert rig.gate.outlook(first) == blocked
        assert rig.gate.outlook(second).ahead == 1
        assert rig.gate.state() == GateState("closed", 0.0, until, 2, True, heard=True)
        await asyncio.sleep(until - now() - 0.001)
        assert not first.granted.done()
        await asyncio.sleep(0.002)
        assert (first.granted.done(), second.granted.done()) == (True, True)

    in_virtual_time(main)


@pytest.mark.parametrize(
    ("dice", "pauses"),
    [(0.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]), (1.0, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])],
)
def test_without_a_time_the_pauses_double_up_to_a_minute_and_half_of_each_is_the_dices(
    dice: float, pauses: list[float]
) -> None:
    async def main() -> None:
        rig, found = Rig(dice=dice, pause=1.0), []
        for _ in range(8):
            await asyncio.sleep(1)
            rig.fails(RateLimitedError("slow down"))
            found.append(rig.gate.state().blocked_until - now())
            await asyncio.sleep(found[-1])

        assert found == pytest.approx(pauses)
        assert SLOWEST == 60.0

    in_virtual_time(main)


def test_a_shorter_time_that_is_named_later_shortens_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        under_way = [rig.gate.enter() for _ in range(4)]
        for admission, asked in zip(under_way, (10.0, 5.0, 10.9, 11.5), strict=True):
            assert admission is not None
            rig.gate.failed(admission, RateLimitedError("slow down", retry_after=asked))
            assert rig.gate.state().blocked_until == (11.5 if asked == 11.5 else 10.0)

    in_virtual_time(main)


def test_an_open_circuit_says_how_many_failed_and_how_and_when_one_may_try() -> None:
    async def main() -> None:
        rig = Rig()
        assert rig.gate.state() == GateState("closed", 0.0, 0.0, 0, True, heard=False)
        await asyncio.sleep(2)
        rig.fails(times=5)
        place, other = await rig.has_to_wait("a"), await rig.has_to_wait("b")

        assert rig.gate.outlook(place) == Outlook(2.5, "circuit_open", False, failures=5, failure=DOWN)
        assert rig.gate.state() == GateState("open", 2.5, 0.0, 2, True, heard=False)
        await asyncio.sleep(0.501)
        assert (place.granted.done(), other.granted.done()) == (True, False)
        admission = rig.gate.claim(place)
        assert admission is not None
        assert admission.probe
        assert rig.gate.outlook(other) == Outlook(now() + 1.0, "circuit_open", False, failures=5, failure=DOWN)
        assert rig.gate.state().circuit == "half_open"

        rig.gate.failed(admission, UnauthorizedError("no"))
        await asyncio.sleep(0)
        assert rig.gate.state() == GateState("closed", 0.0, 0.0, 0, True, heard=True)
        assert other.granted.done()
        assert rig.meter.circuits == [("shop", "open"), ("shop", "half_open"), ("shop", "closed")]

    in_virtual_time(main)


def test_a_probe_that_nobody_claims_is_somebody_elses_after_five_seconds() -> None:
    async def main() -> None:
        rig = Rig()
        rig.fails(times=5)
        lost, other = await rig.has_to_wait("a"), await rig.has_to_wait("b")
        await asyncio.sleep(0.501)
        assert lost.granted.done()

        await asyncio.sleep(4.9)
        assert not other.granted.done()
        await asyncio.sleep(0.2)

        assert other.granted.done()
        assert PROBE_LOST == 5.0

    in_virtual_time(main)


def test_a_limit_says_its_rate_what_is_ahead_and_when_the_turn_comes() -> None:
    async def main() -> None:
        rig = Rig(5.0)
        rig.state.arrival = int(1.0 * SECOND)
        places = [await rig.has_to_wait(job) for job in ("a", "b", "c")]
        await asyncio.sleep(0.01)

        assert [rig.gate.outlook(place) for place in places] == [
            Outlook(pytest.approx(1.0 + 0.2 * ahead), "rate_limited", True, 5.0, ahead)  # type: ignore[arg-type]
            for ahead in range(3)
        ]
        assert rig.gate.state() == GateState("closed", 0.0, 0.0, 3, True, heard=False)

    in_virtual_time(main)


@pytest.mark.parametrize(("ahead", "ours"), [(3.3, True), (3.5, False)])
def test_a_limit_that_is_further_ahead_than_anybody_reserves_is_the_providers(ahead: float, ours: bool) -> None:
    async def main() -> None:
        rig = Rig(5.0)  # 3.2 seconds are reserved at most, and one interval behind that
        rig.state.arrival = int(ahead * SECOND)
        place = await rig.has_to_wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        outlook = rig.gate.outlook(place)

        assert (outlook.ours, outlook.rate, outlook.ahead) == (ours, 5.0, 0)
        assert outlook.until == pytest.approx(ahead)

    in_virtual_time(main)


def test_a_limit_that_cannot_be_shared_says_so() -> None:
    async def main() -> None:
        rig = Rig(5.0)
        rig.state.up = False
        place = await rig.has_to_wait()
        await asyncio.sleep(0.01)

        assert not rig.gate.outlook(place).shared
        assert not rig.gate.state().shared
        assert rig.meter.shared == {"shop": False}
        rig.state.up = True
        await asyncio.sleep(10)
        later = rig.gate.queue("b")
        await asyncio.sleep(0.01)
        rig.gate.queue("c")
        await asyncio.sleep(10)
        assert later.granted.done()
        assert rig.meter.shared == {"shop": True}
        assert rig.gate.state().shared

    in_virtual_time(main)


def test_a_gate_of_ours_begins_with_twice_the_base_and_is_as_patient_as_is_set() -> None:
    async def main() -> None:
        world = make_world(policy=RetryPolicy(base=3.0, rate_limited_for=50.0), dice=lambda: 0.0)
        gate = open_gate("shop", "etelecom", world, None)
        for error in (RateLimitedError("x"), RateLimitedError("x", retry_after=99.0)):
            admission = gate.enter()
            assert admission is not None
            gate.failed(admission, error)
            blocked = gate.state().blocked_until - now()
            assert blocked == (3.0 if error.retry_after is None else 50.0)
            await asyncio.sleep(blocked + 0.001)
        for _ in range(5):
            admission = gate.enter()
            assert admission is not None
            gate.failed(admission, DOWN)
        assert gate.state().circuit_until - now() == pytest.approx(3.0)

    in_virtual_time(main)
