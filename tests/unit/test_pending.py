"""Rows in line: what each cut takes, and where whoever goes on behind it begins."""

import pytest

from schemas import Follower
from worker.core.paging.position import ANCHORS, Position
from worker.core.paging.row_buffer import Pending

KNOWN = [f"k{row}" for row in range(10)]


def people(ids: str) -> list[Follower]:
    return [Follower(user_id=id) for id in ids]


def put(line: Pending, ids: str, first: int | None, known: list[str] | None = None) -> Position:
    """Append people whose rows begin at `first`; None: they stand elsewhere."""
    numbers = None if first is None else list(range(first, first + len(ids)))
    position = Position(at=first + len(ids) - 1 if first is not None else 77, total=99)
    line.put(position, known if known is not None else [*KNOWN, *ids], people(ids), numbers)
    return position


def taken(line: Pending, count: int) -> tuple[str, int | None, str]:
    """Take `count`; return who they are, the row after which the cut is, and its anchors."""
    rows, cut = line.take(count)
    ids = "".join(row.user_id for row in rows)
    return ids, None if cut is None else cut.at, "" if cut is None else " ".join(cut.anchors)


def test_nothing_in_line_is_nothing_taken() -> None:
    line = Pending(set())

    assert (len(line), line.take(5)) == (0, ([], None))


def test_a_cut_within_a_reading_stands_at_its_row_with_the_rows_taken_before_it() -> None:
    line = Pending(set())
    put(line, "abcde", 10)

    assert taken(line, 2) == ("ab", 11, "a b")
    assert len(line) == 3
    assert taken(line, 1) == ("c", 12, "a b c")
    assert taken(line, 9) == ("de", None, "")
    assert len(line) == 0


def test_a_cut_between_readings_stands_at_the_end_of_the_first() -> None:
    line = Pending(set())
    put(line, "abc", 0)
    put(line, "def", 3)

    assert taken(line, 3) == ("abc", 2, "k5 k6 k7 k8 k9 a b c")
    assert taken(line, 1) == ("d", 3, "k6 k7 k8 k9 a b c d")
    assert taken(line, 2) == ("ef", None, "")


def test_one_cut_may_go_through_several_readings() -> None:
    line = Pending(set())
    put(line, "abc", 0)
    put(line, "def", 3)
    put(line, "ghi", 6)

    assert taken(line, 7) == ("abcdefg", 6, "k6 k7 k8 k9 d e f g")
    assert len(line) == 2


def test_people_met_elsewhere_leave_the_position_where_it_is() -> None:
    line = Pending(set())
    put(line, "abc", None)

    assert taken(line, 2) == ("ab", 77, "k5 k6 k7 k8 k9 a b c")
    put(line, "def", 3)
    assert taken(line, 1) == ("c", 77, "k5 k6 k7 k8 k9 a b c")
    assert taken(line, 1) == ("d", 3, "k6 k7 k8 k9 a b c d")


def test_no_more_rows_than_a_cursor_holds_are_kept_as_anchors() -> None:
    line = Pending(set())
    put(line, "abcdefghijkl", 0)

    assert ANCHORS == 8
    assert taken(line, 9) == ("abcdefghi", 8, "b c d e f g h i")
    assert taken(line, 1) == ("j", 9, "c d e f g h i j")


def test_row_numbers_may_have_gaps() -> None:
    line = Pending(set())
    line.put(Position(at=9), [], people("abc"), [2, 5, 9])

    assert taken(line, 2) == ("ab", 5, "a b")


@pytest.mark.parametrize(("first", "cut"), [(10, 13), (None, 77)])
def test_people_who_are_published_already_are_left_out_with_their_numbers(first: int | None, cut: int) -> None:
    line = Pending({"a", "c"})
    put(line, "abcde", first)

    assert len(line) == 3
    ids, at, _ = taken(line, 2)
    assert (ids, at) == ("bd", cut)


def test_a_reading_without_anybody_new_is_no_place_to_cut() -> None:
    line = Pending({"d"})
    put(line, "abc", 0)
    put(line, "d", 3)
    put(line, "", 4)

    assert len(line) == 3
    assert taken(line, 3) == ("abc", None, "")
