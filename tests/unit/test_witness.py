"""What an answer's total is worth beside its rows: each thing that is noticed, and on which side of its boundary."""

from typing import Any

import pytest

from worker.core.paging.totals import STEADY, Witness

ROWS = [str(row) for row in range(100)]


def heard(*answers: tuple[int, int, int | None], whole: bool = True, **start: Any) -> Witness:
    """A witness of answers, each a row number, how many rows came, and the total."""
    witness = Witness(**start)
    for offset, rows, total in answers:
        witness.hear(offset, ROWS[offset : offset + rows], total, whole=whole)
    return witness


def test_nothing_is_doubted_or_known_at_first() -> None:
    witness = Witness()

    assert (witness.doubt, witness.largest, witness.steady, witness.uneven) == (False, 0, False, False)
    assert witness.missed(3, 0, joined=False, moved=False) == 3
    assert witness.missed(0, 0, joined=False, moved=False) == 0
    assert Witness(doubt=True).doubt is True
    assert Witness(largest=7).largest == 7


@pytest.mark.parametrize(
    ("offset", "ids", "total", "doubt"),
    [
        (0, "abc", 3, False),
        (0, "abc", 2, True),
        (4, "abc", 7, False),
        (4, "abc", 6, True),
        (4, "abc", None, True),
        (4, "", None, True),
        (9, "", 4, False),
        (0, "abb", 5, True),
        (0, "a", 5, False),
    ],
)
def test_an_answer_that_does_not_fit_itself_is_doubted(offset: int, ids: str, total: int | None, doubt: bool) -> None:
    witness = Witness()

    witness.hear(offset, ids, total, whole=True)

    assert witness.doubt is doubt
    assert witness.missed(0, 100, joined=True, moved=False) == (None if doubt else 0)


def test_who_doubted_once_goes_on_doubting() -> None:
    assert heard((0, 5, None), (0, 5, 10)).doubt is True


def test_the_most_rows_of_one_answer_are_kept() -> None:
    assert heard((0, 3, 9), (3, 5, 9), (8, 1, 9)).largest == 5
    assert heard((0, 3, 9), largest=5).largest == 5


@pytest.mark.parametrize(
    ("totals", "moved", "steady"),
    [
        ([], False, False),
        ([9], False, True),
        ([9, 9], False, True),
        ([9, 8], False, False),
        ([9, 8, 8], False, False),
        ([9, 8, 8, 8], False, True),
        ([9, 8, 9, 9], False, False),
        ([9, None, 9], False, True),
        ([9], True, False),
        ([9, 9], True, False),
        ([9, 9, 9], True, True),
    ],
)
def test_a_total_that_changed_stands_once_it_came_three_times(totals: list[Any], moved: bool, steady: bool) -> None:
    assert heard(*((0, 5, total) for total in totals), moved=moved).steady is steady
    assert STEADY == 3


def test_the_highest_total_and_a_fall_within_a_span_are_noted() -> None:
    rising = heard((0, 3, 5), (3, 2, 5), (0, 5, 7))
    falling = heard((0, 3, 7), (3, 2, 5), (0, 5, 6))

    assert (Witness().most, Witness().fell, Witness(most=9).most) == (0, False, 9)
    assert (rising.most, rising.fell) == (7, False)
    assert (falling.most, falling.fell) == (7, True)
    falling.begin()
    falling.hear(0, ROWS[:3], 3, whole=False)
    assert (falling.most, falling.fell) == (7, False)
    assert heard((0, 3, None), (0, 3, 9), most=8).most == 9


def test_another_spans_total_is_no_change() -> None:
    witness = heard((0, 5, 9), whole=False)

    witness.begin()
    assert witness.steady is False
    witness.hear(0, ROWS[:4], 4, whole=False)
    assert witness.steady is True


def test_a_span_whose_total_changes_is_counted_anew_in_the_next_one() -> None:
    witness = heard((0, 5, 9), (0, 5, 8), (0, 5, 8), (0, 5, 8))
    assert witness.steady

    witness.begin()
    for steady in (False, False, True):
        witness.hear(0, ROWS[:4], 8, whole=False)
        assert witness.steady is steady


@pytest.mark.parametrize(
    ("answers", "start", "credible"),
    [
        ([(0, 5, 5)], {}, False),  # it may count the rows beside it
        ([(0, 5, 5), (4, 1, 5)], {}, True),
        ([(0, 5, 5), (0, 4, 4)], {}, False),
        ([(0, 5, 9)], {}, True),
        ([(0, 0, 0)], {}, True),
        ([(0, 5, 5), (0, 0, 0)], {}, False),
        ([(0, 5, 5)], {"largest": 5}, True),
        ([(0, 5, 5), (4, 5, 9)], {}, False),  # it may say where they end, and has changed
        ([(0, 5, 9), (4, 5, 10)], {}, True),
        ([(0, 5, 5), (4, 5, 9)], {"largest": 5}, True),
        ([(4, 5, 9)], {}, True),
        ([(4, 5, 9)], {"moved": True}, False),
    ],
)
def test_a_total_that_says_no_more_than_its_answer_is_not_believed(
    answers: list[Any], start: dict[str, Any], credible: bool
) -> None:
    assert heard(*answers, **start).credible is credible


@pytest.mark.parametrize(
    ("answers", "uneven"),
    [
        ([(0, 5, 9)], False),
        ([(0, 5, 9), (4, 5, 9)], False),
        ([(0, 5, 9), (4, 4, 9)], True),
        ([(0, 4, 9), (3, 5, 9)], True),
        ([(0, 5, 9), (5, 4, 9)], False),  # nobody was to come
        ([(0, 5, 9), (4, 4, 9), (3, 5, 9)], True),
        ([(0, 5, 9), (4, 4, 9), (0, 5, 20)], True),
        ([(0, 0, 0), (0, 5, 5)], False),
        ([(0, 0, 5), (0, 5, 5)], True),
    ],
)
def test_answers_of_different_sizes_before_others_are_uneven(answers: list[Any], uneven: bool) -> None:
    assert heard(*answers).uneven is uneven


@pytest.mark.parametrize(
    ("totals", "distinct", "joined", "missed"),
    [
        ([9], 9, False, 2),
        ([9], 8, False, 2),
        ([9], 7, False, 2),
        ([9], 6, False, 3),
        ([9, 12], 9, False, 3),
        ([9, 12], 9, True, 2),  # who came meanwhile need not be found
        ([9, 12], 6, True, 3),
        ([9, 12, 9, 12], 3, True, 3),
        ([12, 9], 6, True, 3),
        ([9, None], 6, True, None),
    ],
)
def test_people_whom_the_total_tells_of_are_missing(
    totals: list[Any], distinct: int, joined: bool, missed: int | None
) -> None:
    answers = [(0, 5, total) for total in totals]

    assert heard(*answers).missed(2, distinct, joined=joined, moved=False) == missed
    assert heard(*answers).missed(None, distinct, joined=joined, moved=False) is None


def test_of_a_list_that_moved_a_total_that_is_too_high_tells_nothing_more() -> None:
    witness = heard((0, 5, 9))

    assert witness.missed(2, 7, joined=True, moved=True) == 2
    assert witness.missed(2, 6, joined=True, moved=True) is None


def test_only_totals_of_the_whole_list_are_held_against_the_people_found() -> None:
    witness = heard((0, 5, 9), whole=False)
    assert witness.missed(0, 1, joined=False, moved=False) == 0

    witness.hear(0, ROWS[:5], 9, whole=True)
    witness.hear(0, ROWS[:5], 12, whole=False)
    assert witness.missed(0, 1, joined=True, moved=False) == 8
