"""Which page of a job may come next."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from schemas import Follower, FollowerPage, Progress
from schemas import order as orders
from schemas.digest import START, next_digest
from schemas.order import AlteredError, GapError, Order, Place, UnreadableError

JOB = "followers.page.esms.1.job"
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def page(number: int, part: int = 1, parts: int = 1) -> FollowerPage:
    return FollowerPage(
        job_id="job",
        provider="esms",
        account="a",
        oa_id="1",
        page=number,
        part=part,
        parts=parts,
        followers=[],
        total=None,
        cursor=None,
        next_cursor=None,
        last=False,
        fetched_at=NOW,
        progress=Progress(followers=0, duplicates_dropped=0, total_first=None, requests=1, started_at=NOW),
    )


def take(order: Order, *pages: FollowerPage, subject: str = JOB) -> list[bool]:
    answers = []
    for each in pages:
        new = order.admit(subject, each)
        answers.append(new)
        if new:
            order.took(subject, each)
    return answers


def test_pages_and_parts_in_order_are_new() -> None:
    assert take(Order(), page(1), page(2, 1, 2), page(2, 2, 2), page(3)) == [True] * 4


def test_what_came_before_is_not_new() -> None:
    assert take(Order(), page(1), page(1), page(2, 1, 2), page(2, 1, 2), page(1)) == [True, False, True, False, False]


def test_each_job_has_an_order_of_its_own() -> None:
    order = Order()

    assert take(order, page(1), page(2)) == [True, True]
    assert take(order, page(1), subject="followers.page.esms.2.job") == [True]


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ([], page(2)),
        ([], page(1, 2, 2)),
        ([page(1)], page(3)),
        ([page(1)], page(1, 2, 2)),
        ([page(1, 1, 2)], page(2)),
        ([page(1)], page(2, 2, 2)),
    ],
)
def test_a_page_or_part_that_is_missing_is_a_gap(before: list[FollowerPage], found: FollowerPage) -> None:
    order = Order()
    take(order, *before)

    with pytest.raises(GapError, match=f"{JOB}: page {found.page} part {found.part}/{found.parts} comes after"):
        order.admit(JOB, found)


def test_behind_a_stored_place_the_next_page_is_expected() -> None:
    order = Order({JOB: Place(4)}, from_start=False)

    assert take(order, page(4), page(5)) == [False, True]
    with pytest.raises(GapError, match="comes after page 5 part 1/1"):
        order.admit(JOB, page(7))


def test_a_job_that_is_met_in_the_middle_is_taken_as_it_comes_unless_the_start_is_known() -> None:
    assert take(Order(from_start=False), page(7), page(8)) == [True, True]


def test_after_somebody_else_has_read_any_page_may_be_next() -> None:
    order = Order()
    take(order, page(1))

    order.forget()

    assert take(order, page(5), page(6)) == [True, True]


def test_only_so_many_jobs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "REMEMBERED", 2)
    order = Order()
    for subject in ("a", "b", "a", "c"):
        order.took(subject, page(1))

    assert take(order, page(1), subject="a") == [False]
    assert take(order, page(1), subject="b") == [True]


def test_ten_thousand_jobs_are_remembered_and_the_first_goes_for_one_more() -> None:
    order, first = Order(), page(1)
    for number in range(10_000):
        order.took(str(number), first)

    assert [order.admit(str(number), first) for number in (0, 1, 9_999)] == [False] * 3
    order.took("one more", first)
    assert [order.admit(str(number), first) for number in (0, 1, 9_999)] == [True, False, False]


def test_what_is_missing_is_told_with_both_places_and_what_to_do() -> None:
    order = Order()
    with pytest.raises(GapError) as first:
        order.admit(JOB, page(3, 2, 4))
    order.took(JOB, replace(page(1, 2, 3), digest="a" * 64))
    with pytest.raises(GapError) as later:
        order.admit(JOB, page(2))

    assert str(first.value) == (
        f"{JOB}: page 3 part 2/4 comes after nothing: what was between has left the stream (streams.events_max_age)."
        " Fetch the list again under another id, and let on_error return to go on behind the gap"
    )
    assert (first.value.subject, first.value.after, first.value.found) == (JOB, None, Place(3, 2, 4))
    assert f"{JOB}: page 2 part 1/1 comes after page 1 part 2/3: what was between" in str(later.value)
    assert (later.value.after, later.value.found) == (Place(1, 2, 3), Place(2)), "a place without its digest"


def test_a_place_without_more_is_a_page_in_one_part_and_a_message_is_one_of_the_event_stream() -> None:
    unreadable = UnreadableError(JOB, 42, "no page")

    assert Place(7) == (7, 1, 1, None)
    assert (unreadable.subject, unreadable.sequence, unreadable.stream) == (JOB, 42, "FOLLOWERS_EVENTS")
    assert "by `nats stream get FOLLOWERS_EVENTS 42`" in str(unreadable)


def with_digest(each: FollowerPage, before: str) -> FollowerPage:
    return replace(each, count=len(each.followers), digest=next_digest(before, each.followers))


def somebody(each: FollowerPage) -> FollowerPage:
    return replace(each, followers=[Follower(user_id="1")])


def test_pages_that_are_as_they_were_published_pass() -> None:
    order, digest = Order(), START
    for each in (page(1), page(2, 1, 2), page(2, 2, 2)):
        chained = with_digest(each, digest)
        order.check(JOB, chained)
        order.took(JOB, chained)
        assert chained.digest
        digest = chained.digest


def test_an_altered_page_is_named_and_so_is_one_with_another_count() -> None:
    order, first = Order(), with_digest(page(1), START)
    order.took(JOB, first)
    second = with_digest(page(2), first.digest or "")

    with pytest.raises(AlteredError, match=f"{JOB}: page 2 has other user ids") as caught:
        order.check(JOB, replace(somebody(second), count=1))
    with pytest.raises(AlteredError, match="page 2 says 0 followers, but has 1"):
        order.check(JOB, somebody(second))

    assert (caught.value.subject, caught.value.found) == (JOB, Place(2))


def test_a_page_whose_predecessor_is_not_known_is_the_beginning_of_the_chain() -> None:
    order, third = Order(from_start=False), with_digest(page(3), "a" * 64)

    order.check(JOB, third)
    order.took(JOB, third)

    with pytest.raises(AlteredError, match="page 4 has other user ids"):
        order.check(JOB, with_digest(page(4), "b" * 64))
    order.check(JOB, with_digest(page(4), third.digest or ""))


def test_a_stored_place_with_its_digest_shows_an_altered_page_across_a_restart() -> None:
    order = Order({JOB: Place(4, digest="a" * 64)}, from_start=False)

    order.check(JOB, with_digest(page(5), "a" * 64))
    with pytest.raises(AlteredError, match="page 5 has other user ids"):
        order.check(JOB, with_digest(page(5), "b" * 64))
    order.check(JOB, with_digest(page(6), "b" * 64))  # behind a gap nothing is known


def test_pages_of_an_older_version_are_taken_without_a_digest() -> None:
    order = Order()

    order.check(JOB, page(1))
    order.took(JOB, page(1))
    order.check(JOB, page(2))


def test_behind_a_page_without_a_digest_and_out_of_its_turn_nothing_is_checked() -> None:
    order = Order()
    order.took(JOB, page(1))

    order.check(JOB, with_digest(page(2), "b" * 64))
    order.took(JOB, with_digest(page(2), START))
    order.check(JOB, with_digest(page(4), "c" * 64))
    with pytest.raises(AlteredError, match="page 3 has other user ids"):
        order.check(JOB, with_digest(page(3), "c" * 64))


def test_the_first_page_of_a_job_is_checked_against_the_beginning_of_the_chain() -> None:
    with pytest.raises(AlteredError, match="page 1 has other user ids"):
        Order().check(JOB, with_digest(page(1), "a" * 64))
