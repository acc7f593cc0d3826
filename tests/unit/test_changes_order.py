"""Which of two lists is the later one, and what becomes of a list that a feed doesn't take."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from schemas.changes import Changed, Feed, FieldChange, SetAside
from schemas.commands import EtelecomFilter
from schemas.subjects import job_subject, page_subject
from tests.changes_kit import CHANGES, OA, begin_list, changes, never_stop, people, publish_list, told, user
from tests.fakes import EPOCH
from tests.unit.test_changes import Stage
from worker.core.changes.pointer import feed_key, reset
from worker.core.changes.ports import FeedsMissingError
from worker.core.changes.snapshot import UnreadableSnapshotError, decode_snapshot, encode

OLDER = "it began to be read before the list of job {}, which the feed has: nothing to do"


@contextmanager
def heard() -> Iterator[list[Any]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as lines:
        yield lines


def warned(lines: list[Any], event: str) -> list[str]:
    """The reasons in the warnings of that name."""
    return [line["reason"] for line in lines if (line["event"], line["log_level"]) == (event, "warning")]


@pytest.mark.parametrize("clock", [-1, 0, 1, 365])
async def test_a_workers_clock_orders_nothing(clock: float):
    stage = Stage()
    await stage.follow("first", people([1]), day=clock)

    second = await stage.follow("second", people([1, 2]), day=-clock)

    assert told(second) == [("Followed", user(2)), ("Compared", 2)]


async def test_a_list_that_began_before_the_current_one_in_the_log_is_set_aside_and_that_is_told():
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    await stage.follow("first", people([1]), day=1)

    with heard() as lines:
        older = await stage.follow("older", people([1, 2]), day=2, begun=begun)

    assert older == []
    assert warned(lines, "changes.stale") == [OLDER.format("first")]
    assert stage.feeds.only().set_aside == SetAside(job_id="older", reason="older", message=OLDER.format("first"))
    assert stage.snapshots.jobs == ["first"]
    newer = await stage.follow("newer", people([1, 2]), day=3)
    assert told(newer) == [("Followed", user(2)), ("Compared", 2)]
    assert stage.feeds.only().set_aside is None


async def test_a_list_that_began_before_the_held_one_is_set_aside_too():
    stage = Stage()
    await stage.follow("first", people(range(40)))
    begun = await begin_list(stage.world, "older")
    await stage.follow("held", people(range(5)))

    assert await stage.follow("older", people(range(39)), begun=begun) == []

    feed = stage.feeds.only()
    assert feed.held is not None
    assert feed.set_aside is not None
    assert (feed.held.job.job_id, feed.set_aside.message) == ("held", OLDER.format("held"))


async def test_a_held_list_is_later_than_what_was_set_aside():
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    await stage.follow("first", people(range(40)))
    await stage.follow("older", people(range(40)), begun=begun)

    await stage.follow("held", people(range(5)))

    assert stage.feeds.only().held is not None
    assert stage.feeds.only().set_aside is None


async def test_what_has_left_the_log_is_older_than_what_is_there_as_where_the_stream_was_made_anew():
    stage = Stage()
    for number in range(20):
        await begin_list(stage.world, f"other-{number}")
    await stage.follow("first", people([1]), day=9)
    stage.log.stored.clear()
    stage.log._sequences = iter(range(1, 1000))  # type: ignore[assignment]
    stage.log._ids.clear()

    ended = await publish_list(stage.world, "second", people([1, 2]), day=1)
    await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log)) == [("Followed", user(2)), ("Compared", 2)]


async def test_a_list_whose_own_beginning_has_left_the_log_counts_from_its_end():
    stage = Stage()
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people([1, 2]))
    stage.log.purge(job_subject("etelecom", OA, "second"))

    await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log))[1:] == [("Followed", user(2)), ("Compared", 2)]


async def test_a_log_that_is_away_when_two_lists_are_to_be_ordered_is_waited_for():
    stage = Stage()
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people([1, 2]))
    stage.log.reads_unavailable = 3

    await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log))[1:] == [("Followed", user(2)), ("Compared", 2)]


async def test_an_older_list_delivered_again_is_noted_once():
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "older", people([1, 2]), begun=begun)
    for _ in range(3):
        await stage.changes.follow(ended, never_stop)

    assert stage.feeds._revision == 3, "two for the first list, one for the note"


async def test_a_feed_that_changes_while_it_is_noted_is_looked_at_again():
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "older", people([1, 2]), begun=begun)
    put, key = stage.feeds.put, feed_key(stage.feeds.only())

    async def beaten(*arguments: Any) -> int:
        stage.feeds.put = put  # type: ignore[method-assign]
        await put(key, reset(stage.feeds.only()), stage.feeds.values[key][0])
        return await put(*arguments)

    stage.feeds.put = beaten  # type: ignore[method-assign, assignment]
    await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log)) == [("FeedBaseline", 1), ("FeedBaseline", 2)]


async def test_a_full_bucket_holds_up_no_job_for_a_note():
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    await stage.follow("first", people([1]))
    stage.feeds.full = True

    with heard() as lines:
        await stage.follow("older", people([1, 2]), begun=begun)

    assert warned(lines, "changes.stale") == [OLDER.format("first")]
    assert [line["event"] for line in lines if line["event"] == "changes.not_noted"] == ["changes.not_noted"]


@pytest.mark.parametrize(
    ("missed", "verdict", "says"),
    [
        (None, "drifted", "people may be missing from it (nobody knows how many; verdict drifted): fetch it again"),
        (1200, "complete", "people may be missing from it (at most 1,200; verdict complete): fetch it again"),
        (0, "drifted", "it moved while it was read: fetch it again, or set changes.drifted = true to take such lists"),
        (0, "truncated", "it is truncated: fetch it again"),
    ],
)
async def test_a_list_that_proves_nothing_is_told_where_a_feed_waits_for_one(missed: Any, verdict: Any, says: str):
    stage = Stage()
    await stage.follow("first", people([1]))

    with heard() as lines:
        assert await stage.follow("second", people([1, 2]), verdict=verdict, missed_at_most=missed) == []

    assert warned(lines, "changes.unproven") == [says]
    assert stage.feeds.only().set_aside == SetAside(job_id="second", reason="unproven", message=says)


@pytest.mark.parametrize("command", [{"max_pages": 1}, {"max_followers": 1}, {"filter": EtelecomFilter(name="x")}])
async def test_a_list_that_was_never_to_be_whole_is_told_to_nobody(command: dict[str, Any]):
    stage = Stage()
    await stage.follow("first", people([1]))

    with heard() as lines:
        await stage.follow("second", people([1, 2]), verdict="truncated", **command)

    assert lines == []
    assert stage.feeds.only().set_aside is None


async def test_an_unproven_list_that_nobody_follows_begins_no_feed_and_waits_for_no_bucket():
    stage = Stage()
    with heard() as lines:
        await stage.follow("first", people([1]), verdict="drifted")
        stage.feeds.failing = 1
        await stage.follow("second", people([1]), verdict="drifted")
        stage.feeds.missing = True
        await stage.follow("third", people([1]), verdict="drifted")

    assert lines == []
    assert stage.feeds.values == {}


@pytest.mark.parametrize("first", [True, False])
async def test_a_list_with_a_message_that_can_not_be_read_is_set_aside_and_the_message_named(first: bool):
    stage = Stage()
    if not first:
        await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people([1, 2]))
    page = stage.log.on(page_subject("etelecom", OA, "second"))[0]
    spoilt = replace(page, data=b'{"job_id":"Nguyen"')
    stage.log.stored = [replace(one, entry=spoilt) if one.entry is page else one for one in stage.log.stored]

    with heard() as lines:
        await stage.changes.follow(ended, never_stop)

    (reason,) = warned(lines, "changes.unreadable")
    assert reason.startswith(f"message {page.sequence} of FOLLOWERS_EVENTS can't be read (")
    assert reason.endswith("): fetch the list again")
    assert "Nguyen" not in reason
    assert [why_set_aside(value) for _, value in stage.feeds.values.values()] == ([] if first else [reason])


def why_set_aside(value: bytes) -> str | None:
    """Why the last list was set aside, by a value in the bucket."""
    feed = msgspec.json.decode(value, type=Feed)
    return feed.set_aside.message if feed.set_aside else None


async def test_a_list_whose_pages_have_left_the_log_is_set_aside():
    stage = Stage()
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people([1, 2]))
    stage.log.purge(page_subject("etelecom", OA, "second"))

    with heard() as lines:
        await stage.changes.follow(ended, never_stop)

    assert warned(lines, "changes.unreadable") == ["not all of its pages are in the log any more: fetch the list again"]


async def test_a_feed_that_was_reset_begins_anew_with_the_next_list_whatever_that_is():
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    await stage.follow("first", people(range(40)))
    await stage.follow("held", people(range(5)))
    key = feed_key(stage.feeds.only())

    before = stage.feeds.only()
    await stage.feeds.put(key, reset(before), stage.feeds.values[key][0])

    after = stage.feeds.only()
    assert (after.current, after.held, after.next, after.set_aside) == (None, None, None, None)
    assert after.gone == ["first", "held"]
    assert told(await stage.follow("older", people([1, 2]), begun=begun)) == [("FeedBaseline", 2)]
    assert stage.snapshots.jobs == ["older"]
    assert told(await stage.follow("next", people([1, 3])))[-1] == ("Compared", 2)


async def test_a_change_event_that_nobody_can_read_holds_up_no_feed():
    stage = Stage()
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people([2, 3]))

    async def forge(subject: str) -> None:
        if subject == CHANGES and len(stage.log.on(CHANGES)) == 2:
            stage.log.before_publish = None
            await stage.log.publish(CHANGES, b"forged", {}, stage.log.on(CHANGES)[-1].sequence)

    stage.log.before_publish = forge
    with heard() as lines:
        await stage.changes.follow(ended, never_stop)

    (said,) = [line for line in lines if line["event"] == "changes.undecodable"]
    forged = next(entry for entry in stage.log.on(CHANGES) if entry.data == b"forged")
    assert (said["subject"], said["sequence"], said["log_level"]) == (CHANGES, forged.sequence, "warning")
    stage.log.stored = [one for one in stage.log.stored if one.entry is not forged]
    assert told(await changes(stage.log))[1:] == [
        ("Followed", user(2)), ("Followed", user(3)), ("Unfollowed", user(1)), ("Compared", 2)
    ]  # fmt: skip
    current = stage.feeds.only().current
    assert current is not None
    assert current.job_id == "second"


# Snapshots and values that can't be had


async def test_where_the_stream_was_made_anew_an_old_value_is_left_out_not_taken_from_another_job():
    stage = Stage()
    await stage.follow("first", people([1], display_name="A"))
    old_page = stage.log.on(page_subject("etelecom", OA, "first"))[0]
    ended = await publish_list(stage.world, "second", people([1], display_name="B"))
    # In the new stream the number of the old page is that of another job's, which has the same person.
    await publish_list(stage.world, "other", people([1], display_name="C"))
    other = stage.log.on(page_subject("etelecom", OA, "other"))[0]
    stage.log.stored = [
        replace(one, entry=replace(other, sequence=old_page.sequence)) if one.entry is old_page else one
        for one in stage.log.stored
    ]

    await stage.changes.follow(ended, never_stop)

    changed = (await changes(stage.log))[1]
    assert isinstance(changed, Changed)
    assert changed.fields == [FieldChange(name="display_name", new="B")]


@pytest.mark.parametrize("which", ["first", "second"])
async def test_with_a_snapshot_that_can_not_be_read_the_feed_begins_anew(which: str):
    stage = Stage()
    await stage.follow("first", people([1]))
    key = feed_key(stage.feeds.only())
    if which == "first":
        stage.snapshots.objects[key, "first"] = b"FLSNAP9\n" + stage.snapshots.objects[key, "first"][8:]

        with heard() as lines:
            events = await stage.follow("second", people([2]))

        assert told(events) == [("FeedBaseline", 1)]
    else:
        ended = await publish_list(stage.world, "second", people([2]))

        async def spoil(subject: str) -> None:
            if subject == CHANGES:
                stage.log.before_publish = None
                stage.snapshots.objects[key, "second"] = b""
                raise FeedsMissingError

        stage.log.before_publish = spoil
        with pytest.raises(FeedsMissingError):
            await stage.changes.follow(ended, never_stop)
        with heard() as lines:
            await stage.changes.follow(ended, never_stop)

        assert told(await changes(stage.log))[1:] == [("FeedBaseline", 1)]
    (said,) = [line for line in lines if line["event"] == "changes.snapshot_unreadable"]
    assert (said["job_id"], said["log_level"]) == (which, "error")


async def snapshot() -> bytes:
    stage = Stage()
    await stage.follow("first", [*people([1, 2]), *people([3])])
    return next(iter(stage.snapshots.objects.values()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"FLSNAP1", b"FLSNAP2"),
        (b'"pages":1', b'"pages":9'),
        (b'"pages":1', b'"pages":0'),
        (b'"pages":1', b'"pages":-'),
        (b'"numbers":3', b'"numbers":4'),
        (b'"job_id":"first"', b'"job_id":12345 '),
        (b'"texts":[]', b'"texts":{}'),
        (b'"texts"', b'"teXts"'),
        (b'"first"', b'"fir\xfft"'),
    ],
)
async def test_bytes_that_are_no_snapshot_are_refused_in_one_way(old: bytes, new: bytes):
    data = await snapshot()
    assert old in data

    with pytest.raises(UnreadableSnapshotError):
        decode_snapshot(data.replace(old, new))


async def test_a_snapshot_is_read_as_it_was_written_and_refused_when_it_is_cut_anywhere():
    data = await snapshot()

    assert encode(decode_snapshot(data)) == data
    for end in range(len(data)):
        with pytest.raises(UnreadableSnapshotError):
            decode_snapshot(data[:end])


def test_a_pointer_of_the_version_before_is_read():
    old = {
        "provider": "etelecom",
        "account": "shop",
        "oa_id": "1",
        "current": {"job_id": "j", "started_at": EPOCH, "followers": 3},
        "unknown": 1,
    }

    assert msgspec.json.decode(msgspec.json.encode(old), type=Feed).set_aside is None
