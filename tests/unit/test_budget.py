"""The bytes that a replica holds: who gets room, who waits, and that nobody waits for ever."""

import asyncio

import pytest

from worker.core.memory import COST, FEW, LOOK_EVERY, ROW, Budget, Hold

LIMIT = 100 * COST


class Line:
    """A budget of 100 bytes of bodies, and what was told."""

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.budget, self.told = Budget(limit), 0

    def open(self, *, urgent: bool = True, receives: bool = False) -> Hold:
        hold = self.budget.open(self._tell)
        if urgent:
            hold.urge(0)
        if receives:
            hold.receive()
        return hold

    def has(self, body: int, *, receives: bool = True) -> Hold:
        hold = self.open(receives=receives)
        assert hold.take(body)
        return hold

    def waits(self, body: int, *, urgent: bool = True, receives: bool = False) -> "asyncio.Future[None]":
        hold = self.open(urgent=urgent, receives=receives)
        assert not hold.take(body)
        return hold.line_up()

    def _tell(self) -> None:
        self.told += 1


async def test_what_fits_is_taken_at_once_and_given_back() -> None:
    line = Line()
    hold = line.has(100)

    assert (hold.size, line.budget.used) == (100 * COST, LIMIT)
    assert not line.open().take(1)
    hold.drop()
    assert (hold.size, line.budget.used) == (0, 0)
    hold.drop()
    assert line.budget.used == 0


async def test_a_byte_of_a_body_counts_as_four_and_a_row_as_512() -> None:
    line = Line(4_000)
    hold = line.open()

    assert not hold.take(1_001)
    assert hold.take(1_000)
    hold.settle(100, 2)
    assert (hold.size, line.budget.used) == (1_424, 1_424)
    assert (COST, ROW, FEW) == (4, 512, 16)


async def test_an_answer_that_grows_takes_what_it_lacks_only() -> None:
    line = Line()
    hold = line.has(60)

    assert hold.take(100)
    assert line.budget.used == LIMIT
    assert hold.take(10)
    assert hold.size == LIMIT


async def test_what_an_answer_turned_out_to_be_corrects_what_was_taken() -> None:
    line = Line()
    hold = line.has(100)
    waiting = line.waits(50)

    hold.settle(25, 3)

    assert (hold.size, hold.body) == (25 * COST + 3 * ROW, 25)
    hold.settle(25, 0)
    assert waiting.done()
    assert line.budget.used == 75 * COST


async def test_those_who_wait_are_served_in_order_and_nobody_passes_them_by() -> None:
    line = Line()
    hold = line.has(90)
    first, second = line.waits(60), line.waits(30)

    assert not line.open().take(1)
    hold.drop()

    assert (first.done(), second.done(), line.budget.waiting) == (True, True, 0)
    assert line.budget.used == 90 * COST


async def test_the_first_in_line_holds_up_smaller_ones_behind_it() -> None:
    line = Line()
    kept, hold = line.has(50), line.has(40)
    first, second = line.waits(60), line.waits(10)

    hold.drop()

    assert (first.done(), second.done()) == (False, False)
    kept.drop()
    assert (first.done(), second.done()) == (True, True)


async def test_pages_that_are_waited_for_come_before_pages_read_ahead() -> None:
    line = Line()
    hold = line.has(90)
    ahead, urgent = line.waits(60, urgent=False), line.waits(70)

    hold.drop()

    assert (ahead.done(), urgent.done()) == (False, True)


async def test_a_page_read_ahead_does_not_keep_room_from_one_that_is_waited_for() -> None:
    line = Line()
    line.has(50)
    line.waits(60, urgent=False)

    assert not line.open(urgent=False).take(1)
    assert line.open().take(50)


async def test_a_page_read_ahead_that_becomes_waited_for_is_served_as_one() -> None:
    line = Line()
    line.has(90, receives=False)
    hold = line.open(urgent=False, receives=True)
    hold.take(60)
    granted = hold.line_up()
    assert not granted.done()

    hold.urge(0)

    assert granted.done()


async def test_a_page_read_ahead_takes_its_turn_behind_those_that_jobs_wait_for_already() -> None:
    line = Line()
    holder = line.has(100)
    ahead = line.open(urgent=False, receives=True)
    assert not ahead.take(60)
    granted, other = ahead.line_up(), line.waits(60, receives=True)

    ahead.urge(0)
    holder.drop()

    assert (granted.done(), other.done()) == (False, True)


@pytest.mark.parametrize(("parked", "first"), [(LIMIT // FEW, False), (LIMIT // FEW + 1, True)])
async def test_a_few_rows_that_a_job_has_left_do_not_put_it_first(parked: int, first: bool) -> None:
    line = Line()
    holder = line.has(100)
    nothing, having = line.waits(60, receives=True), line.open(receives=True)
    having.urge(parked)
    assert not having.take(60)
    granted = having.line_up()

    holder.drop()

    assert (granted.done(), nothing.done()) == (first, not first)


async def test_a_page_that_found_no_room_is_asked_for_again_when_its_job_waits_for_it() -> None:
    line = Line()
    refused, ahead = line.open(urgent=False), line.open(urgent=False)
    refused.refused = True
    assert not refused.take(1)
    granted = refused.line_up()
    assert not ahead.take(1)

    assert ahead.line_up().done()
    assert not granted.done()
    refused.urge(0)
    assert granted.done()


async def test_an_answer_larger_than_everything_goes_when_nothing_moves() -> None:
    line = Line()
    hold = line.has(1)
    large = line.waits(1000, receives=True)

    assert not large.done()
    hold.drop()
    assert large.done()
    assert line.budget.used == 1000 * COST


async def test_beyond_the_limit_goes_one_at_a_time_and_the_one_that_holds_most() -> None:
    line = Line()
    holds = [line.has(30), line.has(40), line.has(30)]
    for hold in holds:
        assert not hold.take(200)
    granted = [hold.line_up() for hold in holds]

    assert [one.done() for one in granted] == [False, True, False]
    assert line.budget.used == (30 + 200 + 30) * COST
    assert not holds[1].take(500)
    again = holds[1].line_up()
    assert (again.done(), granted[0].done()) == (True, False)
    holds[1].drop()
    assert [one.done() for one in granted] == [True, True, False]


async def test_who_has_a_connection_comes_before_who_has_none() -> None:
    line = Line()
    hold = line.has(100)
    without, having = line.waits(60), line.waits(60, receives=True)

    hold.drop()

    assert (without.done(), having.done()) == (False, True)


async def test_one_at_a_time_may_ask_although_nothing_fits_and_takes_nothing_until_its_answer_comes() -> None:
    line = Line()
    line.has(100, receives=False).park()
    first, second = line.open(), line.open()
    granted = []
    for hold in (first, second):
        assert not hold.take(60)
        granted.append(hold.line_up())

    assert ([one.done() for one in granted], first.size, line.budget.used) == ([True, False], 0, LIMIT)
    first.receive()
    line.budget.serve()
    assert not granted[1].done(), "the first one's answer moves"
    first.drop()
    assert granted[1].done()


async def test_what_a_job_holds_while_it_asks_for_more_does_not_count_as_moving() -> None:
    line = Line()
    hold = line.has(90)
    waiting = line.waits(50, receives=True)
    assert not waiting.done()

    hold.park()

    assert waiting.done()


async def test_a_job_that_holds_something_comes_before_those_that_hold_nothing() -> None:
    line = Line()
    holder = line.has(100)
    nothing = line.waits(80, receives=True)
    having = line.open(receives=True)
    having.urge(40)
    assert not having.take(80)
    granted = having.line_up()

    holder.drop()

    assert (nothing.done(), granted.done()) == (False, True)


async def test_whoever_leaves_the_line_lets_the_next_one_have_its_place() -> None:
    line = Line()
    line.has(50)
    hold = line.open()
    assert not hold.take(80)
    hold.line_up()
    second = line.waits(20)

    hold.drop()

    assert (second.done(), line.budget.waiting) == (True, 0)


async def test_without_a_limit_everything_fits() -> None:
    line = Line(None)

    assert line.open(urgent=False).take(10**12)


@pytest.mark.parametrize(("urgent", "told"), [(True, 1), (False, 0)])
async def test_a_job_is_told_of_when_its_page_waits_for_longer_than_a_look(
    monkeypatch: pytest.MonkeyPatch, urgent: bool, told: int
) -> None:
    monkeypatch.setattr("worker.core.memory.LOOK_EVERY", 0.05)
    line = Line()
    hold, waiting = line.has(90), line.open(urgent=urgent, receives=True)
    assert not waiting.take(60)

    task = asyncio.create_task(waiting.wait())
    await asyncio.sleep(0.08)
    assert line.told == told
    hold.drop()
    await task

    assert LOOK_EVERY == 1.0
