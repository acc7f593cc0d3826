"""Spans of days cover a range without a gap, whatever their length."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.core.paging.day_range import Span

FIRST = date(2026, 1, 1)


@given(days=st.integers(1, 400), halvings=st.integers(0, 9), twice=st.lists(st.booleans(), min_size=400, max_size=400))
def test_a_range_is_covered_from_its_first_day_to_its_last_once(days: int, halvings: int, twice: list[bool]) -> None:
    end = FIRST + timedelta(days=days - 1)
    span: Span | None = Span(FIRST, end)
    for _ in range(halvings):
        if span is not None and span.days > 1:
            span = span.half()
            assert span is not None

    covered = []
    for double in twice:
        if span is None:
            break
        covered += [span.first + timedelta(days=day) for day in range(span.days)]
        span = span.next(end, twice=double)

    assert covered == [FIRST + timedelta(days=day) for day in range(days)]


def test_a_span_is_found_again_from_its_text() -> None:
    span = Span(date(2025, 12, 31), date(2026, 2, 1))

    assert Span.read(str(span)) == span
    assert str(span.half()) == "2025-12-31/2026-01-15"


@given(days=st.integers(1, 40), overlap=st.integers(0, 2), first=st.integers(1, 40))
def test_each_span_begins_and_ends_later_than_the_one_before_and_shares_the_overlap(
    days: int, overlap: int, first: int
) -> None:
    end = FIRST + timedelta(days=days - 1)
    spans = [Span(FIRST, min(end, FIRST + timedelta(days=first - 1)))]
    while (following := spans[-1].next(end, twice=False, overlap=overlap)) is not None:
        spans.append(following)

    for before, after in pairwise(spans):
        assert after.first > before.first
        assert after.last > before.last
        assert (before.last - after.first).days + 1 == min(overlap, before.days - 1)
    assert spans[-1].last == end


@given(days=st.integers(1, 40), overlap=st.integers(0, 2))
def test_a_half_is_longer_than_the_overlap_and_shorter_than_the_whole(days: int, overlap: int) -> None:
    span = Span(FIRST, FIRST + timedelta(days=days - 1))

    half = span.half(overlap)

    assert (half is None) is (days < overlap + 2)
    if half is not None:
        assert half.first == span.first
        assert overlap < half.days < days
