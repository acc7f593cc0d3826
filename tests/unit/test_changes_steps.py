"""What one list goes through until a feed has it: waits, races, and what is said of each."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.changes import Feed, FeedClaim, SetAside
from schemas.subjects import page_subject
from tests.changes_kit import (
    CHANGES,
    OA,
    PlainPages,
    begin_list,
    changes,
    fake_feeds,
    inline,
    never_stop,
    people,
    publish_list,
    told,
    user,
)
from tests.simulation.loop import run
from tests.unit.test_changes import Stage
from tests.unit.test_changes_order import OLDER, heard
from worker.core.cancellation import DrainingError
from worker.core.changes.feeds import LARGE, ChangeFeeds
from worker.core.changes.pointer import feed_key
from worker.core.changes.ports import FeedsAwayError
from worker.core.ports.event_log import Entry, LogUnavailableError

KEY = "etelecom.shop.1.all"


def play(story: Callable[[], Awaitable[Any]]) -> Any:
    return run(random.Random(1), story())  # type: ignore[arg-type]


def stop() -> None:
    raise DrainingError


def counted(calls: list[None], at: int) -> Callable[[], None]:
    """A check that stops at its call number `at`."""

    def check() -> None:
        calls.append(None)
        if len(calls) == at:
            raise DrainingError

    return check


def test_lists_are_large_from_fifty_thousand_on() -> None:
    assert LARGE == 50_000


async def test_lists_that_moved_are_left_unless_it_is_said() -> None:
    stage = Stage()
    feeds = ChangeFeeds(stage.world, stage.feeds, stage.snapshots, PlainPages(stage.log), threshold=0.3, offload=inline)

    await feeds.follow(
        await publish_list(stage.world, "a", people([1]), verdict="drifted", missed_at_most=0), never_stop
    )

    assert await changes(stage.log) == []


def test_buckets_that_took_nothing_for_long_are_waited_for_no_more_until_they_do() -> None:
    async def story() -> list[float]:
        stage, now = Stage(), asyncio.get_running_loop().time
        jobs = [await publish_list(stage.world, f"j{number}", people([number])) for number in range(5)]
        waited = []

        async def follow(number: int, *, full: bool) -> None:
            stage.feeds.full, began = full, now()
            if full:
                with pytest.raises(FeedsAwayError):
                    await stage.changes.follow(jobs[number], never_stop)
            else:
                await stage.changes.follow(jobs[number], never_stop)
            waited.append(now() - began)

        for number, full in enumerate([True, True, False, True, True]):
            await follow(number, full=full)
        return waited

    long, none, works, long_again, none_again = play(story)

    assert 300 <= long < 302
    assert 300 <= long_again < 302
    assert none == none_again == works == 0.0


async def test_who_is_to_stop_asks_nothing_and_reads_no_further_page() -> None:
    stage = Stage()
    ended = await publish_list(stage.world, "a", people(range(5)), page_size=1)
    with pytest.raises(DrainingError):
        await stage.changes.follow(ended, stop)

    read = []

    class Counted(PlainPages):
        async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
            async for entries in super().read(subject, last, sure=sure):
                read.append(entries)
                yield entries

    feeds = fake_feeds(stage.world, stage.feeds, stage.snapshots, pages=Counted(stage.log))
    calls: list[None] = []
    with pytest.raises(DrainingError):
        await feeds.follow(ended, counted(calls, 4))

    assert len(read) == 3, "one look at the feed, then one for each page"
    assert stage.feeds.values == {}


async def test_pages_that_come_incomplete_are_read_once_more_for_sure() -> None:
    stage = Stage()
    ended = await publish_list(stage.world, "a", people(range(5)), page_size=2)
    surely: list[bool] = []

    class Hasty(PlainPages):
        async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
            surely.append(sure)
            async for entries in super().read(subject, last, sure=sure):
                if sure or b'"page":2,' not in entries[0].data:
                    yield entries

    await fake_feeds(stage.world, stage.feeds, stage.snapshots, pages=Hasty(stage.log)).follow(ended, never_stop)

    assert surely == [False, True]
    assert told(await changes(stage.log)) == [("FeedBaseline", 5)]


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_list_that_lacks_a_page_for_sure_is_set_aside(lost: int) -> None:
    stage = Stage()
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people(range(5)), page_size=2)
    page = stage.log.on(page_subject("etelecom", OA, "second"))[lost - 1]
    stage.log.stored = [one for one in stage.log.stored if one.entry is not page]

    await stage.changes.follow(ended, never_stop)

    message = "not all of its pages are in the log any more: fetch the list again"
    assert stage.feeds.only().set_aside == SetAside(job_id="second", reason="unreadable", message=message)


def test_a_log_whose_pages_can_not_be_read_is_waited_for_and_read_from_the_beginning() -> None:
    async def story() -> tuple[float, list[Any]]:
        stage = Stage()
        ended = await publish_list(stage.world, "a", people(range(3)), page_size=1)
        times = 0

        class Away(PlainPages):
            async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
                nonlocal times
                times += 1
                async for entries in super().read(subject, last, sure=sure):
                    yield entries
                    if times < 4:
                        raise LogUnavailableError("no answer")

        feeds = fake_feeds(stage.world, stage.feeds, stage.snapshots, pages=Away(stage.log))
        await feeds.follow(ended, never_stop)
        return asyncio.get_running_loop().time(), told(await changes(stage.log))

    seconds, events = play(story)

    assert (seconds, events) == (pytest.approx(0.05 + 0.1 + 0.2), [("FeedBaseline", 3)])


async def test_who_is_to_stop_waits_for_no_log() -> None:
    stage = Stage()
    ended = await publish_list(stage.world, "a", people([1]))

    class Away(PlainPages):
        async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
            raise LogUnavailableError("no answer")
            yield []

    calls: list[None] = []
    with pytest.raises(DrainingError):
        await fake_feeds(stage.world, stage.feeds, stage.snapshots, pages=Away(stage.log)).follow(
            ended, counted(calls, 2)
        )

    assert len(calls) == 2


async def test_a_list_that_is_overtaken_while_it_is_stored_leaves_no_snapshot() -> None:
    stage = Stage()
    begun = await begin_list(stage.world, "older")
    ended = await publish_list(stage.world, "older", people([1, 2]), begun=begun)
    put = stage.snapshots.put

    async def overtaken(key: str, job_id: str, data: bytes) -> None:
        stage.snapshots.put = put  # type: ignore[method-assign]
        await put(key, job_id, data)
        await stage.follow("later", people([1]))

    stage.snapshots.put = overtaken  # type: ignore[method-assign]
    await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log)) == [("FeedBaseline", 1)]
    assert stage.snapshots.jobs == ["later"]
    assert stage.feeds.only().set_aside == SetAside(job_id="older", reason="older", message=OLDER.format("later"))


async def test_a_list_whose_claim_was_lost_before_keeps_its_snapshot_when_it_is_claimed_again() -> None:
    stage = Stage()
    await stage.follow("first", people([1]))
    stage.snapshots.objects[KEY, "stale"] = b"x"
    revision = stage.feeds.values[KEY][0]
    await stage.feeds.put(KEY, replace(stage.feeds.only(), gone=["second", "stale"]), revision)
    seen: list[list[str]] = []

    async def look(subject: str) -> None:
        if subject == CHANGES:
            seen.append(stage.snapshots.jobs)

    stage.log.before_publish = look
    await stage.follow("second", people([2]))

    assert seen == [["first", "second"]] * 3
    assert stage.snapshots.jobs == ["second"]
    assert stage.feeds.only().gone == ["first"]


@pytest.mark.parametrize("act", ["baseline", "changes", "held"])
async def test_a_claim_says_whose_list_it_is_what_is_done_and_behind_which_sequence(act: str) -> None:
    stage = Stage()
    if act != "baseline":
        await stage.follow("first", people(range(40)))
    tail = stage.log.on(CHANGES)[-1].sequence if act != "baseline" else 0
    claims: list[FeedClaim] = []
    put = stage.feeds.put

    async def note(key: str, feed: Feed, revision: int) -> int:
        claims.extend([feed.next] if feed.next is not None else [])
        return await put(key, feed, revision)

    stage.feeds.put = note  # type: ignore[method-assign]
    with heard() as lines:
        (event, *_) = await stage.follow("second", people(range(39 if act != "held" else 20)))

    (claim,) = claims
    assert (claim.job.job_id, claim.job.followers, claim.act, claim.after, claim.released) == (
        "second", 20 if act == "held" else 39, act, tail, False
    )  # fmt: skip
    assert claim.counts.unfollowed == {"baseline": 0, "changes": 1, "held": 20}[act]
    assert event.of == (2 if act == "changes" else 1)
    said = {"baseline": "changes.baseline", "changes": "changes.published", "held": "changes.held"}[act]
    assert [(line["event"], line["job_id"], line["followers"]) for line in lines] == [
        (said, "second", claim.job.followers)
    ]
    assert stage.meter.changes["etelecom", event.__struct_config__.tag] == 1


async def test_an_event_that_holds_back_says_how_many_there_were() -> None:
    stage = Stage()
    await stage.follow("first", people(range(40)))

    (event,) = await stage.follow("second", people(range(20)))

    assert (event.count, event.previous_count, event.counts.unfollowed) == (20, 40, 20)
    assert (event.previous_job_id, event.number, event.of) == ("first", 1, 1)


@pytest.mark.parametrize("lost", ["first", "second"])
async def test_a_snapshot_that_is_lost_while_its_changes_are_published_is_told_and_its_claim_is_let_go(
    lost: str,
) -> None:
    stage = Stage()
    await stage.follow("first", people([1, 2]))
    ended = await publish_list(stage.world, "second", people([2, 3]))

    async def lose(subject: str) -> None:
        if subject == CHANGES:
            stage.log.before_publish = None
            del stage.snapshots.objects[KEY, lost]
            raise DrainingError

    stage.log.before_publish = lose
    with pytest.raises(DrainingError):
        await stage.changes.follow(ended, never_stop)
    feed, revision = await stage.feeds.get(KEY)
    assert feed is not None
    with heard() as lines:
        await stage.changes.finish(stage.changes.store(never_stop), feed, revision)

    where = {"provider": "etelecom", "account": "shop", "oa_id": "1", "feed": "all"}
    assert lines == [
        {"event": "changes.snapshot_lost", "log_level": "error", "job_id": "second", "advice": "the feed begins anew"}
        | where
    ]
    after = stage.feeds.only()
    if lost == "second":
        assert (after.current, after.next, after.gone) == (None, None, ["first", "second"])
        assert stage.snapshots.jobs == []
    else:
        assert after.next is not None
        assert (after.next.act, after.gone) == ("baseline", [])
        assert stage.snapshots.jobs == ["second"]


async def test_a_claim_that_somebody_else_finished_meanwhile_deletes_and_tells_nothing() -> None:
    stage = Stage()
    await stage.follow("first", people([1]))
    ended = await publish_list(stage.world, "second", people([2]))

    async def overtaken(subject: str) -> None:
        if subject == CHANGES:
            stage.log.before_publish = None
            await stage.changes.follow(ended, never_stop)
            stage.snapshots.objects[KEY, "first"] = b"x"

    stage.log.before_publish = overtaken
    with heard() as lines:
        await stage.changes.follow(ended, never_stop)

    assert [line["event"] for line in lines] == ["changes.published"]
    assert stage.snapshots.jobs == ["first", "second"]
    assert told((await changes(stage.log))[1:]) == [("Followed", user(2)), ("Unfollowed", user(1)), ("Compared", 1)]


@pytest.mark.parametrize(
    ("reason", "event"),
    [("older", "changes.stale"), ("unreadable", "changes.unreadable"), ("unproven", "changes.unproven")],
)
async def test_what_is_set_aside_is_told_each_time_and_written_once(reason: str, event: str) -> None:
    stage = Stage()
    begun = await begin_list(stage.world, "second")
    await stage.follow("first", people([1]))
    verdict: Any = "truncated" if reason == "unproven" else "complete"
    late: dict[str, Any] = {} if reason == "unreadable" else {"begun": begun}
    if reason == "unreadable":
        stage.log.purge("followers.job.etelecom.1.second")
    ended = await publish_list(stage.world, "second", people([1, 2]), verdict=verdict, missed_at_most=0, **late)
    if reason == "unreadable":
        stage.log.purge(page_subject("etelecom", OA, "second"))

    with heard() as lines:
        for _ in range(2):
            await stage.changes.follow(ended, never_stop)

    aside = stage.feeds.only().set_aside
    assert aside is not None
    assert (aside.job_id, aside.reason) == ("second", reason)
    assert [(line["event"], line["log_level"], line["job_id"], line["reason"]) for line in lines] == [
        (event, "warning", "second", aside.message)
    ] * 2
    assert stage.feeds._revision == 3
    assert feed_key(stage.feeds.only()) == KEY
