import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.paging.offset_plan import Route

FIFTY = Route(50, 9950)


@pytest.mark.parametrize(
    ("at", "total", "left", "anchored", "offset"),
    [
        (-1, None, None, True, 0),
        (-1, 500, 10, False, 0),
        (49, None, None, True, 49),
        (49, None, None, False, 50),
        (0, None, None, False, 1),
        (0, 1, None, True, 0),
        (49, 500, None, True, 49),
        # The last request: one row more than there is, and as many as it can.
        (449, 460, None, True, 411),
        (449, 499, None, True, 449),
        (449, 497, None, True, 448),
        (449, 500, None, True, 449),
        (449, 450, None, True, 449),
        (449, 451, None, True, 402),
        (29, 31, None, True, 0),
        # A ceiling that cuts the list short: no request more than without an overlap.
        (49, 500, 450, True, 49),
        (49, 500, 451, True, 49),
        (49, 500, 50, True, 50),
        (49, 500, 49, True, 49),
        (49, 500, 0, True, 49),
        (49, None, 50, True, 49),
        (9990, None, None, True, 9950),
    ],
)
def test_where_a_request_starts(at: int, total: int | None, left: int | None, anchored: bool, offset: int) -> None:
    assert FIFTY.offset(at, total, left, anchored=anchored) == offset


@pytest.mark.parametrize(
    ("at", "total", "left", "ahead", "anchored", "offsets"),
    [
        (-1, 200, None, 0, True, []),
        (-1, None, None, 5, True, [0]),
        (-1, 200, None, 9, True, [0, 49, 98, 147, 151]),
        (-1, 200, None, 3, True, [0, 49, 98]),
        (-1, 200, 0, 3, True, []),
        (-1, 200, 60, 9, True, [0, 49]),
        (-1, 50, None, 9, True, [0]),
        (-1, 51, None, 9, True, [0, 2]),
        (9900, 20_000, None, 9, True, [9900, 9949, 9950]),
    ],
)
def test_which_requests_can_be_made_ahead(
    at: int, total: int | None, left: int | None, ahead: int, anchored: bool, offsets: list[int]
) -> None:
    assert FIFTY.following(at, total, left, ahead, anchored=anchored) == offsets


@given(
    count=st.integers(2, 9),
    last=st.integers(1, 60),
    at=st.integers(-1, 70),
    total=st.none() | st.integers(0, 80),
    left=st.none() | st.integers(0, 80),
    ahead=st.integers(0, 9),
    anchored=st.booleans(),
)
def test_requests_ahead_are_those_that_come_one_after_the_other(
    count: int, last: int, at: int, total: int | None, left: int | None, ahead: int, anchored: bool
) -> None:
    route, one_by_one = Route(count, last), list[int]()
    here, wanted = at, left
    while len(one_by_one) < ahead and (wanted is None or wanted > 0):
        offset = route.offset(here, total, wanted, anchored=anchored)
        one_by_one.append(offset)
        end = offset + count - 1
        if total is None or end + 1 >= total or end <= here or offset >= last:
            break
        wanted, here = None if wanted is None else wanted - (end - here), end

    assert route.following(at, total, left, ahead, anchored=anchored) == one_by_one
