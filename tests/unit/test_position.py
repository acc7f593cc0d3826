from datetime import date
from typing import Any

import pytest
from msgspec.structs import replace

from worker.core.errors import InternalError
from worker.core.paging.day_range import Span
from worker.core.paging.position import ANCHORS, Position

SPAN = Span(date(2026, 1, 1), date(2026, 1, 31))


@pytest.mark.parametrize(
    ("position", "cursor"),
    [
        (Position(), "@-1::0:"),
        (Position(at=0, total=0, gap=None), "@0:0::"),
        (Position(span=SPAN, at=49, total=120, gap=3, anchors=("a", "b-1", "c_2")),
         "2026-01-01/2026-01-31@49:120:3:a,b-1,c_2"),
        (Position(at=9, anchors=tuple("abcdefghij")), "@9::0:c,d,e,f,g,h,i,j"),
        (Position(at=9, anchors=("a", "b b", "c,d", "é", "e")), "@9::0:a,e"),
    ],
)  # fmt: skip
def test_a_position_is_written_into_a_cursor(position: Position, cursor: str) -> None:
    assert position.write() == cursor
    assert ANCHORS == 8


@pytest.mark.parametrize(
    "position",
    [
        Position(),
        Position(at=0, total=0, gap=None, settled=None),
        Position(span=SPAN, at=49, total=120, gap=3, anchors=("a", "b-1", "c_2")),
        Position(at=999_999_998, total=999_999_999, gap=999_999_999),
    ],
)
def test_what_was_written_is_read_again(position: Position) -> None:
    assert Position().resumed(position.write()) == position


def test_what_stands_in_the_progress_is_kept_and_the_spans_before_are_told_apart() -> None:
    progress = Position(settled=10, moved=True, dropped=4, day="2026-01-02", at=3, gap=9)

    resumed = progress.resumed("@49:120:3:a")

    assert resumed == Position(
        at=49, total=120, gap=3, settled=7, anchors=("a",), moved=True, dropped=4, day="2026-01-02"
    )
    assert replace(progress, settled=2).resumed("@49::3:").settled == 0
    assert replace(progress, settled=None).resumed("@49::3:").settled is None
    assert progress.resumed("@49:::").settled is None


@pytest.mark.parametrize(("cursor", "moved"), [("0", False), ("1", True), ("999999999", True)])
def test_the_row_number_of_an_older_version_says_that_all_before_it_may_be_missed(cursor: str, moved: bool) -> None:
    row = int(cursor)

    assert Position(settled=5).resumed(cursor) == Position(at=row - 1, gap=row, settled=0, moved=moved)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "@",
        "-1",
        "1000000000",
        "@-2::0:",
        "@1:2:3",
        "@1:2:3:a b",
        "x@1:2:3:",
        "2026-01-01@1:2:3:",
        "@1:2:3:a\n",
        "٣",
    ],
)
def test_another_shape_is_a_fault_of_ours(cursor: str) -> None:
    with pytest.raises(InternalError, match="start the job anew under another id") as raised:
        Position().resumed(cursor)

    assert raised.value.requests == 0


@pytest.mark.parametrize(
    ("gap", "settled", "missed"), [(0, 0, 0), (2, 3, 5), (None, 0, None), (0, None, None), (None, None, None)]
)
def test_what_may_be_missed_is_both_or_unknown(gap: Any, settled: Any, missed: int | None) -> None:
    assert Position(gap=gap, settled=settled).missed == missed
