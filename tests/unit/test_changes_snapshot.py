"""Snapshots to the byte, and what two of them differ in: a kept one must be read by the next version."""

import hashlib
import random
import sys
from array import array
from typing import Any

import pytest

from schemas.events import FollowerPage, Progress
from schemas.follower import Follower
from schemas.wire import encode as message
from tests.fakes import EPOCH
from worker.core.changes import snapshot as module
from worker.core.changes.fingerprint import COMPARED
from worker.core.changes.snapshot import (
    Builder,
    Change,
    Snapshot,
    Table,
    UnreadablePageError,
    UnreadableSnapshotError,
    compare,
    decode_snapshot,
    encode,
)
from worker.core.ports.event_log import Entry

NO_PAGE = Table(array("Q")), Table([])


def page(sequence: int, *rows: Follower, last: bool = False) -> Entry:
    event = FollowerPage(
        job_id="j",
        provider="etelecom",
        account="shop",
        oa_id="1",
        page=1,
        followers=list(rows),
        total=None,
        cursor=None,
        next_cursor=None,
        last=last,
        fetched_at=EPOCH,
        progress=Progress(followers=0, duplicates_dropped=0, total_first=None, requests=1, started_at=EPOCH),
    )
    return Entry(sequence, message(event), {}, "followers.page.etelecom.1.j")


def person(user_id: str, **fields: Any) -> Follower:
    return Follower(user_id=user_id, **fields)


def gone(user_id: str) -> Follower:
    return Follower(user_id=user_id, state="unfollow")


def build(*pages: Entry) -> Snapshot:
    builder = Builder("j")
    builder.add(pages)
    return builder.finish()


def same(one: Snapshot, other: Snapshot) -> bool:
    return (one.job_id, tuple(one.fields), one.pages, one.numbers, one.texts) == (
        other.job_id, tuple(other.fields), other.pages, other.numbers, other.texts
    )  # fmt: skip


def mixed() -> Snapshot:
    return build(page(5, person("30", display_name="C"), person("x")), page(9, person("4"), gone("200")))


# Building


def test_a_builder_knows_how_many_rows_it_has_and_whether_the_last_page_was_among_them() -> None:
    builder = Builder("j")
    seen = [(builder.rows, builder.whole)]
    for entry in (page(1, person("1"), person("2")), page(2, person("3"), last=True)):
        builder.add([entry])
        seen.append((builder.rows, builder.whole))

    assert seen == [(0, False), (2, False), (3, True)]


def test_rows_are_sorted_by_number_or_else_by_text_with_the_page_of_each() -> None:
    built = build(page(5, person("30"), person("x")), page(9, person("4"), person("07"), gone("200")))

    assert (built.job_id, built.fields, list(built.pages)) == ("j", COMPARED, [5, 9])
    assert list(built.numbers.keys) == [4, 30, 200]
    assert list(built.numbers.pages) == [1, 0, 1]
    assert (built.texts.keys, list(built.texts.pages)) == (["07", "x"], [1, 0])
    assert [digest == 0 for digest in built.numbers.digests] == [False, False, True]
    assert built.followers == 4


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([gone("1"), person("1"), gone("1")], 1),
        ([person("1"), gone("1"), person("1")], 0),
        ([person("1"), person("1")], 0),
        ([gone("1"), gone("1")], 0),
        ([gone("1"), person("1"), person("1")], 1),
    ],
)
@pytest.mark.parametrize("id", ["7", "x"])
def test_of_several_rows_of_a_person_one_that_follows_counts_else_the_first(
    rows: list[Follower], kept: int, id: str
) -> None:
    named = [Follower(user_id=id, state=row.state) for row in rows]

    built = build(*(page(10 + number, row) for number, row in enumerate(named)))

    table = built.numbers if id == "7" else built.texts
    assert (list(table.keys), list(table.pages)) == ([7 if id == "7" else "x"], [kept])
    assert built.followers == any(row.state != "unfollow" for row in rows)


@pytest.mark.parametrize(("count", "at_a_time"), [(0, 16_384), (1, 16_384), (5_000, 16_384), (5_000, 100)])
def test_any_number_of_rows_is_sorted(count: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_A_TIME", at_a_time)
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)

    built = build(
        *(page(1 + start, *map(person, map(str, numbers[start : start + 100]))) for start in range(0, count, 100))
    )

    assert list(built.numbers.keys) == list(range(count))
    where = {number: place // 100 for place, number in enumerate(numbers)}
    assert list(built.numbers.pages) == [where[number] for number in range(count)]
    assert built.followers == count


def test_a_message_that_is_no_page_is_named() -> None:
    with pytest.raises(UnreadablePageError, match=r"^message 7 of FOLLOWERS_EVENTS can't be read \(.+\)$"):
        Builder("j").add([Entry(7, b"[]", {}, "")])


# As bytes


def test_the_bytes_of_a_snapshot_are_those_of_every_version() -> None:
    data = encode(mixed())

    assert data.startswith(b'FLSNAP1\n\xc9\x00\x00\x00{"job_id":"j","fields":["user_id_by_app",')
    assert b'"pages":2,"numbers":3,"texts":["x"]}\x05' in data
    assert hashlib.sha256(data).hexdigest() == "e644b3b2aa506a384ff06df34b5e03da2b42b9166ed2e9eb607a8601a000d92d"
    assert same(decode_snapshot(data), mixed())


def test_a_machine_that_counts_from_the_other_end_writes_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    little = mixed()
    data = encode(little)
    monkeypatch.setattr(sys, "byteorder", "big")  # the arrays are still little-endian: each is turned

    assert encode(little) != data
    assert same(little, mixed()), "nothing is turned in place"
    assert same(decode_snapshot(encode(little)), little)


def test_the_snapshot_of_no_page_at_all_comes_back() -> None:
    nothing = Snapshot("j", (), array("Q"), *NO_PAGE)

    back = decode_snapshot(encode(nothing))

    assert (list(back.pages), list(back.numbers.keys), back.texts.keys, back.followers) == ([], [], [], 0)


@pytest.mark.parametrize(("pages", "says"), [([0, 1], None), ([2, 0], "pages that"), ([0, 2], "pages that")])
def test_a_row_on_a_page_that_is_not_there_is_no_snapshot(pages: list[int], says: str | None) -> None:
    table = Table(array("Q", [1, 2]), array("Q", [1, 1]), [], array("I", pages))
    data = encode(Snapshot("j", (), array("Q", [5, 6]), table, Table([])))

    if says is None:
        assert list(decode_snapshot(data).numbers.pages) == pages
        return
    with pytest.raises(UnreadableSnapshotError, match="ValueError: it names pages that it doesn't have"):
        decode_snapshot(data)


def test_bytes_that_are_no_snapshot_say_why() -> None:
    data = encode(mixed())

    with pytest.raises(UnreadableSnapshotError, match=r"^ValueError: it begins otherwise$"):
        decode_snapshot(b"X" + data[1:])
    with pytest.raises(UnreadableSnapshotError, match=r"^ValueError: it is cut$"):
        decode_snapshot(data[:-1])


# Comparing


def test_each_difference_says_on_which_page_the_person_is_in_either_list() -> None:
    old = build(
        page(11, person("1"), person("2", phone="a"), person("3"), person("4"), person("a")),
        page(12, gone("5"), gone("6"), person("b", phone="a"), gone("7"), person("9")),
    )
    new = build(
        page(21, person("2", phone="b", notes=["n"]), gone("3"), person("5"), person("a")),
        page(22, person("9"), person("8"), gone("10"), person("0"), person("b", phone="c"), person("c"), gone("7")),
    )

    assert compare(old, new) == [
        Change("followed", "5", 21, 12),
        Change("followed", "0", 22, 0),
        Change("followed", "8", 22, 0),
        Change("followed", "c", 22, 0),
        Change("unfollowed", "1", 0, 11),
        Change("unfollowed", "4", 0, 11),
        Change("unfollowed", "3", 21, 11),
        Change("changed", "2", 21, 11, ("phone", "notes")),
        Change("changed", "b", 22, 12, ("phone",)),
    ]
    assert compare(new, new) == compare(old, old) == []


def test_lists_that_one_side_has_none_of_are_all_new_or_all_gone() -> None:
    nobody, somebody = build(page(1, last=True)), build(page(2, person("1"), person("2"), person("x")))

    assert [(one.kind, one.user_id, one.new, one.old) for one in compare(nobody, somebody)] == [
        ("followed", "1", 2, 0), ("followed", "2", 2, 0), ("followed", "x", 2, 0)
    ]  # fmt: skip
    assert [(one.kind, one.user_id, one.new, one.old) for one in compare(somebody, nobody)] == [
        ("unfollowed", "1", 0, 2), ("unfollowed", "2", 0, 2), ("unfollowed", "x", 0, 2)
    ]  # fmt: skip


def table(digest: int, *marks: int) -> Table:
    return Table(array("Q", [7]), array("Q", [digest]), [array("H", [mark]) for mark in marks], array("I", [0]))


@pytest.mark.parametrize(
    ("old_fields", "new_fields", "changes"),
    [
        # A version that compares one field more: its digests are others, but only what both have is news.
        (("phone", "gone"), ("new", "phone"), []),
        (("gone", "gender"), ("gender", "new"), [Change("changed", "7", 6, 5, ("gender",))]),
        # Of the same fields, where the short marks are the same by chance, the digest has the last word.
        (("phone", "x"), ("phone", "x"), [Change("changed", "7", 6, 5)]),
    ],
)
def test_between_versions_that_compare_other_fields_only_those_of_both_count(
    old_fields: tuple[str, ...], new_fields: tuple[str, ...], changes: list[Change]
) -> None:
    marks = {"phone": (1, 1), "gone": (2, 0), "new": (0, 3), "gender": (4, 5), "x": (6, 6)}
    old = Snapshot("a", old_fields, array("Q", [5]), table(3, *(marks[name][0] for name in old_fields)), Table([]))
    new = Snapshot("b", new_fields, array("Q", [6]), table(5, *(marks[name][1] for name in new_fields)), Table([]))

    assert compare(old, new) == changes
