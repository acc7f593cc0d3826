"""Changes as events: whose data are read from where, and how often."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from schemas.changes import ChangeCounts, Changed, ChangeEvent, Compared, FeedBaseline, FieldChange, Followed, Held
from schemas.changes import Unfollowed as Left
from schemas.follower import Follower
from tests.fakes import EPOCH
from tests.simulation.loop import run
from tests.unit.test_changes_snapshot import page
from worker.core.changes import events as module
from worker.core.changes.events import ChangeSet, SetFields, baseline, counts_of, held, leaner
from worker.core.changes.snapshot import Change
from worker.core.ports.event_log import Entry, LogUnavailableError

COMMON = SetFields(
    job_id="j",
    provider="etelecom",
    account="shop",
    oa_id="1",
    labels={"a": "b"},
    previous_job_id="j",
    filter={"tag": "VIP"},
    of=9,
)


class Pages:
    """A `PageStore` that counts what is asked of it."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = {entry.sequence: entry for entry in entries}
        self.asked: list[int] = []
        self.away = 0
        """So many questions to come are not answered."""
        self.open = 0
        self.most = 0

    async def at(self, sequence: int) -> Entry | None:
        self.asked.append(sequence)
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0.01)
        self.open -= 1
        if self.away:
            self.away -= 1
            raise LogUnavailableError("no answer")
        return self.entries.get(sequence)

    def read(self, subject: str, last: int, *, sure: bool = False) -> Any:
        raise AssertionError("lists are not read again")


def changes(pages: Pages, *found: Change, previous: str = "j") -> ChangeSet:
    return ChangeSet(COMMON, previous, found, pages, 77)


async def all_of(events: ChangeSet, count: int) -> list[ChangeEvent]:
    found = [await events.event(number) for number in range(1, count + 1)]
    events.close()
    return found


async def test_a_set_has_each_change_with_the_data_of_both_lists_and_ends_with_the_counts() -> None:
    new, old = Follower(user_id="1", phone="b", tags=["t"]), Follower(user_id="1", phone="a", tags=["t"])
    came, back = Follower(user_id="2", display_name="Mới"), Follower(user_id="3", state="follow")
    gone = Follower(user_id="4", state="unfollow", updated_at=EPOCH)
    pages = Pages(page(6, new, came, back, gone), page(5, old, Follower(user_id="5")))

    found = await all_of(
        changes(
            pages,
            Change("followed", "2", 6, 0),
            Change("followed", "3", 6, 5),
            Change("unfollowed", "4", 6, 5),
            Change("unfollowed", "5", 0, 5),
            Change("changed", "1", 6, 5, ("gender",)),
        ),
        6,
    )

    phone = FieldChange(name="phone", old="a", new="b")  # the digest's short marks said another: the data decide
    assert found == [
        Followed(**COMMON, number=1, user_id="2", follower=came),
        Followed(**COMMON, number=2, user_id="3", follower=back),
        Left(**COMMON, number=3, user_id="4", at=EPOCH),
        Left(**COMMON, number=4, user_id="5", at=None),
        Changed(**COMMON, number=5, user_id="1", fields=[phone]),
        Compared(**COMMON, number=6, counts=ChangeCounts(followed=2, unfollowed=2, changed=1), count=77),
    ]
    assert sorted(pages.asked) == [5, 6]


async def test_of_several_rows_the_first_that_says_what_is_told_counts() -> None:
    first, second = Follower(user_id="1", phone="a"), Follower(user_id="1", phone="b")
    left, later = (
        Follower(user_id="1", state="unfollow", updated_at=EPOCH.replace(year=year)) for year in (2020, 2021)
    )
    pages = Pages(page(6, left, later, first, second))

    found = await all_of(changes(pages, Change("followed", "1", 6, 0)), 1)
    gone = await all_of(changes(pages, Change("unfollowed", "1", 6, 0)), 1)

    assert isinstance(found[0], Followed)
    assert found[0].follower == first
    assert isinstance(gone[0], Left)
    assert gone[0].at == left.updated_at


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (Change("followed", "1", 6, 0), [6]),
        (Change("followed", "1", 6, 5), [6]),
        (Change("unfollowed", "1", 0, 5), []),
        (Change("unfollowed", "1", 6, 5), [6]),
        (Change("changed", "1", 6, 5), [5, 6]),
    ],
)
async def test_only_pages_whose_data_are_told_are_read(change: Change, asked: list[int]) -> None:
    pages = Pages()

    await all_of(changes(pages, change), 1)

    assert sorted(pages.asked) == asked


@pytest.mark.parametrize(
    ("there", "field"),
    [
        ((5, 6), FieldChange(name="phone", old="a", new="b")),
        ((5,), FieldChange(name="phone", old="a")),
        ((6,), FieldChange(name="phone", new="b")),
        ((), FieldChange(name="phone")),
    ],
)
async def test_a_value_that_has_left_the_log_is_left_out(there: Sequence[int], field: FieldChange) -> None:
    rows = {5: Follower(user_id="1", phone="a"), 6: Follower(user_id="1", phone="b")}
    pages = Pages(*(page(sequence, rows[sequence]) for sequence in there))

    (changed,) = await all_of(changes(pages, Change("changed", "1", 6, 5, ("phone",))), 1)

    assert isinstance(changed, Changed)
    assert changed.fields == [field]


async def test_a_page_of_another_job_or_what_is_no_page_gives_nothing() -> None:
    pages = Pages(page(5, Follower(user_id="1", phone="a")), Entry(6, b"{", {}, ""))

    (changed,) = await all_of(changes(pages, Change("changed", "1", 6, 5, ("phone",)), previous="other"), 1)

    assert isinstance(changed, Changed)
    assert changed.fields == [FieldChange(name="phone")]


async def test_pages_are_read_ahead_once_each_and_what_is_past_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    pages = Pages()
    events = changes(pages, *(Change("followed", str(number), number, 0) for number in range(1, 11)))
    asked = {}

    for number in range(1, 11):
        await events.event(number)
        await asyncio.sleep(0.02)
        asked[number] = sorted(pages.asked)

    assert asked == {number: list(range(1, min(10, (number + 1) // 2 * 2 + 2) + 1)) for number in range(1, 11)}
    await events.event(9)
    assert len(pages.asked) == 10, "the part in hand is kept"
    await events.event(7)
    assert Counter(pages.asked)[7] == 2, "the one before isn't"
    events.close()


async def test_a_set_that_is_closed_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    pages = Pages()
    events = changes(pages, *(Change("followed", str(number), number, 0) for number in range(1, 4)))
    await events.event(1)

    events.close()
    await asyncio.gather(*events._people.values(), return_exceptions=True)

    assert [task.cancelled() for task in events._people.values()] == [False, True]


async def test_eight_pages_are_asked_for_at_a_time() -> None:
    pages = Pages()

    await all_of(changes(pages, *(Change("followed", str(number), number, 0) for number in range(1, 31))), 1)

    assert (pages.most, len(pages.asked)) == (8, 30)


def test_a_log_that_is_away_is_asked_again_after_longer_and_longer_pauses() -> None:
    async def story() -> tuple[list[ChangeEvent], float]:
        pages = Pages(page(6, Follower(user_id="1")))
        pages.away = 3
        found = await all_of(changes(pages, Change("followed", "1", 6, 0)), 1)
        return found, asyncio.get_running_loop().time()

    found, seconds = run(random.Random(1), story())

    assert isinstance(found[0], Followed)
    assert found[0].follower == Follower(user_id="1")
    assert seconds == pytest.approx(4 * 0.01 + 0.05 + 0.1 + 0.2)


def test_changes_are_counted_by_their_kind() -> None:
    kinds = ["followed"] * 3 + ["unfollowed"] * 2 + ["changed"]

    assert counts_of([Change(kind, "1", 1, 1) for kind in kinds]) == ChangeCounts(followed=3, unfollowed=2, changed=1)
    assert counts_of([]).total == 0
    assert counts_of([Change(kind, "1", 1, 1) for kind in kinds]).total == 6


def test_an_event_that_is_too_large_goes_without_values_and_then_not_at_all() -> None:
    followed = Followed(**COMMON, number=2, user_id="1", follower=Follower(user_id="1"))
    fields = [FieldChange(name="notes", old=["a"], new=["b"]), FieldChange(name="phone")]
    changed = Changed(**COMMON, number=3, user_id="1", fields=fields)
    bare = (
        Followed(**COMMON, number=2, user_id="1"),
        Changed(**COMMON, number=3, user_id="1", fields=[FieldChange(name="notes"), FieldChange(name="phone")]),
    )

    assert (leaner(followed), leaner(changed)) == bare
    assert [leaner(one) for one in (*bare, Left(**COMMON, user_id="1"), baseline(COMMON, 3))] == [None] * 4


def test_the_events_of_a_set_of_one_say_what_to_do() -> None:
    counts = ChangeCounts(unfollowed=1200)

    assert baseline(COMMON, 3) == FeedBaseline(**COMMON, count=3)
    assert held(COMMON, counts, 800, 2000) == Held(
        **COMMON,
        counts=counts,
        count=800,
        previous_count=2000,
        message="1,200 of 2,000 followers are gone from the list, more than changes.threshold allows: if that is right,"
        " publish it with `followers changes release j`; if not, nothing needs to be done, the next complete list is"
        " compared with the previous one",
    )
