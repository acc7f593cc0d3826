"""A live list keeps its order while people come, leave and change (PROVIDERS 1.4, 2.6)."""

import random

import pytest

from worker.simulators.data import People
from worker.simulators.listing import Listing

FIELDS = ("id", "created_at", "updated_at")


def lively(count: int = 150) -> Listing:
    listing = Listing(People(5, "2801000000000000001", count, unfollowed_every=10), count)
    listing.unfollow([str(listing.people.user_id(index)) for index in (3, 70, 149)])
    listing.follow(7)
    listing.update([str(listing.people.user_id(index)) for index in (0, 152)])
    listing.follow([str(listing.people.user_id(3))])
    return listing


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("field", FIELDS)
def test_a_walk_visits_everybody_once_in_order(field: str, descending: bool) -> None:
    listing = lively()

    walked = list(listing.walk(field, descending=descending, beyond=None))

    assert walked == sorted(range(157), key=lambda index: listing.place(field, index), reverse=descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("field", FIELDS)
def test_a_walk_from_any_place_gives_the_rest_without_that_row(field: str, descending: bool) -> None:
    listing = lively()
    whole = list(listing.walk(field, descending=descending, beyond=None))

    for start in random.Random(1).sample(range(157), 20):
        beyond = listing.place(field, whole[start])
        assert list(listing.walk(field, descending=descending, beyond=beyond)) == whole[start + 1 :]


def test_a_walk_from_a_place_where_no_row_is_starts_at_the_next_one() -> None:
    listing = lively()
    value, row_id = listing.place("id", 80)

    assert next(listing.walk("id", descending=True, beyond=(value + 1, row_id + 1))) == 80
    assert next(listing.walk("id", descending=False, beyond=(value + 1, row_id + 1))) == 81


def test_leaving_takes_a_follower_off_the_roll_and_coming_back_puts_it_in_its_old_place() -> None:
    listing = Listing(People(5, "oa", 10), 10)
    assert list(listing.followed()) == list(range(10))
    third = str(listing.people.user_id(3))

    listing.unfollow([third])
    assert list(listing.followed()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]

    listing.follow([third])
    assert list(listing.followed()) == list(range(10))


def test_a_number_makes_the_newest_leave_and_new_people_come() -> None:
    listing = Listing(People(5, "oa", 10), 10)

    assert listing.unfollow(2) == [str(listing.people.user_id(index)) for index in (9, 8)]
    assert listing.follow(1) == [str(listing.people.user_id(10))]
    assert list(listing.followed()) == [0, 1, 2, 3, 4, 5, 6, 7, 10]


def test_the_roll_is_the_same_whether_read_before_or_after_the_changes() -> None:
    early, late = lively(), lively()
    early.followed()
    for listing in (early, late):
        listing.unfollow(4)
        listing.follow(2)

    assert list(early.followed()) == list(late.followed())
    assert list(early.followed()) == [index for index in range(159) if early.state(index) == "follow"]


def test_a_stranger_cannot_leave() -> None:
    with pytest.raises(KeyError, match="no follower 42"):
        lively().unfollow(["42"])
