from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Follower, FollowerPage, Progress, encode
from worker.core.errors import BadResponseError
from worker.core.eventlog.split import split

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _size(message: object) -> int:
    return len(encode(message))


def _page(notes: list[int], *, last: bool = True, before: int = 0) -> FollowerPage:
    followers = [Follower(user_id=str(index), notes=["n" * length]) for index, length in enumerate(notes)]
    return FollowerPage(
        job_id="j",
        provider="etelecom",
        account="a",
        oa_id="1",
        page=3,
        followers=followers,
        total=None,
        cursor="c",
        next_cursor=None if last else "d",
        last=last,
        fetched_at=NOW,
        progress=Progress(
            followers=before + len(followers),
            duplicates_dropped=2,
            total_first=None,
            requests=3,
            started_at=NOW,
            moved=True,
            missed_at_most=7,
        ),
    )


def _before(followers: int = 0) -> Progress:
    """The job's totals before the page."""
    return Progress(
        followers=followers, duplicates_dropped=1, total_first=None, requests=2, started_at=NOW, missed_at_most=0
    )


@given(st.lists(st.integers(0, 900), max_size=30), st.integers(2_000, 6_000), st.booleans(), st.integers(0, 500))
def test_parts_hold_every_follower_in_order_within_the_limit(notes, limit, last, before):
    page = _page(notes, last=last, before=before)

    parts = split(page, _before(before), limit, _size)

    assert [follower for part in parts for follower in part.followers] == page.followers
    assert all(_size(part) <= limit for part in parts)
    assert [(part.part, part.parts) for part in parts] == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [last]
    counts = [part.progress.followers for part in parts]
    assert counts[-1] == page.progress.followers
    assert counts == sorted(counts)


def test_what_the_page_found_counts_only_once_it_is_whole():
    """Whoever goes on behind a part reads the page anew, and finds it once more."""
    parts = split(_page([800, 800, 800]), _before(), 1_600, _size)

    found = [(part.progress.duplicates_dropped, part.progress.moved, part.progress.missed_at_most) for part in parts]
    assert found == [(1, False, 0), (1, False, 0), (2, True, 7)]
    assert {part.progress.requests for part in parts} == {3}


def test_the_numbering_goes_on_after_the_parts_that_are_published():
    page = _page([800, 800, 800])

    parts = split(page, _before(), 1_600, _size, done=1, parts=4)

    assert [(part.part, part.parts) for part in parts] == [(2, 4), (3, 4), (4, 4)]


def test_announced_parts_that_turn_out_empty_are_still_sent():
    page = _page([10])

    parts = split(page, _before(), 5_000, _size, done=1, parts=3)

    assert [len(part.followers) for part in parts] == [1, 0]
    assert [(part.part, part.parts, part.last) for part in parts] == [(2, 3, False), (3, 3, True)]


def test_more_parts_than_announced_raise_the_number():
    page = _page([800, 800, 800])

    parts = split(page, _before(), 1_600, _size, done=1, parts=2)

    assert [(part.part, part.parts) for part in parts] == [(2, 4), (3, 4), (4, 4)]


def test_one_follower_larger_than_a_message_is_an_error_that_says_what_to_raise():
    with pytest.raises(BadResponseError, match="raise `max_payload` on the NATS server"):
        split(_page([9_000]), _before(), 5_000, _size)


def _with_cursors(page: FollowerPage, cursor: str, next_cursor: str) -> FollowerPage:
    return msgspec.structs.replace(page, cursor=cursor, next_cursor=next_cursor)


def test_cursors_that_leave_no_room_for_a_follower_are_an_error_that_says_why():
    page = _with_cursors(_page([300, 300], last=False), "c" * 2_000, "d" * 2_500)

    with pytest.raises(BadResponseError) as caught:
        split(page, _before(), 5_000, _size)

    assert "the provider's cursors at page 3 take 4500 bytes" in caught.value.message
    assert "no more than 5000 fit into one" in caught.value.message
    assert "raise `max_payload` on the NATS server" in caught.value.message


def test_cursors_without_any_follower_are_an_error_only_where_they_do_not_fit():
    page = _with_cursors(_page([], last=False), "c" * 2_000, "d" * 2_500)
    bare = _size(msgspec.structs.replace(page, part=10_000, parts=10_000))

    assert len(split(page, _before(), bare, _size)) == 1
    with pytest.raises(BadResponseError, match="cursors at page 3"):
        split(page, _before(), bare - 1, _size)


def test_a_follower_too_large_beside_long_cursors_is_blamed_itself():
    page = _with_cursors(_page([4_000], last=False), "c" * 1_000, "d" * 1_000)

    with pytest.raises(BadResponseError, match="one follower of page 3 takes 4"):
        split(page, _before(), 5_000, _size)


def test_long_cursors_stand_in_every_part():
    page = _with_cursors(_page([800, 800], last=False), "c" * 1_500, "d" * 1_500)

    parts = split(page, _before(), 4_500, _size)

    assert [(len(part.cursor or ""), len(part.next_cursor or "")) for part in parts] == [(1_500, 1_500)] * 2


def test_a_page_that_just_fits_stays_whole():
    page = _page([500, 500])
    envelope = _size(msgspec.structs.replace(page, followers=[], part=10_000, parts=10_000))
    least = envelope + sum(_size(follower) + 1 for follower in page.followers)

    assert len(split(page, _before(), least, _size)) == 1
    assert len(split(page, _before(), least - 1, _size)) == 2
