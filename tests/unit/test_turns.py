"""The line at a gate: jobs take turns, and each job's requests keep their order."""

import asyncio

from worker.core.ratelimit.fair_queue import Place, Turns


def line(*jobs: str) -> tuple[Turns, list[Place]]:
    turns = Turns()
    return turns, [turns.join(job) for job in jobs]


def granted(turns: Turns, places: list[Place], *starts: float) -> list[int]:
    """Who is granted these starts, in turn."""
    order = []
    for start in starts:
        before = {number for number, place in enumerate(places) if place.granted.done()}
        turns.grant(start)
        (now,) = {number for number, place in enumerate(places) if place.granted.done()} - before
        assert places[now].start == start
        order.append(now)
    return order


async def test_jobs_take_turns_and_each_keeps_its_order() -> None:
    turns, places = line("a", "a", "a", "b", "c", "c")

    assert granted(turns, places, *range(1, 7)) == [0, 3, 4, 1, 5, 2]
    assert turns.waiting == 0


async def test_whose_grant_lapsed_is_the_first_in_line_again() -> None:
    turns, places = line("a", "a", "b", "b")
    assert granted(turns, places, 1.0) == [0]

    turns.back(places[0])

    assert (turns.waiting, places[0].granted.done()) == (4, False)
    assert [turns.ahead(place) for place in places] == [0, 2, 1, 3]
    assert granted(turns, places, 2.0, 3.0, 4.0, 5.0) == [0, 2, 1, 3]


async def test_the_last_request_of_a_job_comes_back_before_all_others() -> None:
    turns, places = line("a", "b")
    assert granted(turns, places, 1.0) == [0]

    turns.back(places[0])

    assert granted(turns, places, 2.0, 3.0) == [0, 1]


async def test_whoever_leaves_is_granted_nothing() -> None:
    turns, places = line("a", "a", "b")

    turns.remove(places[0])
    turns.remove(places[2])

    assert (turns.waiting, turns.ahead(places[2]), turns.ahead(places[0])) == (1, 0, 0)
    assert granted(turns, places, 1.0) == [1]


async def test_what_is_ahead_is_a_rotation_for_each_request_of_its_own_job() -> None:
    turns, places = line("a", "a", "a", "b", "c")

    assert [turns.ahead(place) for place in places] == [0, 3, 4, 1, 2], "never more than are in line"
    turns.grant(1.0)
    assert turns.ahead(places[0]) == 0
    assert [turns.ahead(place) for place in places[1:]] == [2, 3, 0, 1]


async def test_a_place_that_was_never_in_line_has_nobody_ahead() -> None:
    turns, _ = line("a", "b")

    assert [turns.ahead(Place(job)) for job in ("b", "z")] == [0, 0]
    assert not Place("a").claimed
    assert isinstance(Place("a").granted, asyncio.Future)
