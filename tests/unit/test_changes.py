"""The change feed over fakes: what becomes an event, what doesn't, and when a list is held back."""

import asyncio
from typing import Any

import msgspec
import pytest

from schemas.changes import ChangeCounts, Changed, Compared, Feed, FieldChange, Followed, Held, Unfollowed
from schemas.commands import EtelecomFilter
from schemas.follower import Follower, SharedInfo
from schemas.jobs import ControlError
from schemas.subjects import page_subject
from tests.changes_kit import (
    CHANGES,
    OA,
    FakeFeeds,
    FakeSnapshots,
    changes,
    fake_feeds,
    never_stop,
    people,
    problems,
    publish_list,
    told,
    user,
)
from tests.fakes import EPOCH, FakeLog, FakeMeter, make_world
from worker.core.cancellation import DrainingError
from worker.core.changes import feeds as changes_module
from worker.core.changes.feeds import ChangeFeeds
from worker.core.changes.pointer import EndedJob, feed_key
from worker.core.changes.ports import FeedsMissingError
from worker.core.changes.release import Releases
from worker.core.changes.snapshot import UnreadableSnapshotError, decode_snapshot

ALONE = people([1])[0]


class Stage:
    """One replica with a change feed over fakes."""

    def __init__(self, **world: Any) -> None:
        self.log = FakeLog()
        self.meter = FakeMeter()
        self.world = make_world(log=self.log, meter=self.meter, **world)
        self.feeds, self.snapshots = FakeFeeds(), FakeSnapshots()
        self.changes = fake_feeds(self.world, self.feeds, self.snapshots)
        self.draining = asyncio.Event()
        self.releases = Releases(self.changes, self.draining)
        self._day = 0

    async def follow(self, job_id: str, followers: list[Follower], **job: Any) -> list[Any]:
        """Complete a job with that list, a day after the one before; return the events that it gave."""
        self._day += 1
        before = len(self.log.on(CHANGES))
        ended = await publish_list(self.world, job_id, followers, **{"day": self._day} | job)
        await self.changes.follow(ended, never_stop)
        return (await changes(self.log))[before:]

    async def release(self, job_id: str) -> Feed | ControlError:
        answer = await self.releases.answer(job_id)
        await self.releases.settled()
        return answer


async def test_the_first_list_of_a_feed_is_a_baseline():
    stage = Stage()

    events = await stage.follow("first", people(range(3)))

    assert told(events) == [("FeedBaseline", 3)]
    assert (events[0].number, events[0].of, events[0].previous_job_id) == (1, 1, None)


async def test_the_next_list_gives_who_came_who_went_and_what_changed_then_says_how_many():
    stage = Stage()
    await stage.follow("first", people([1, 2, 3]))

    events = await stage.follow("second", [*people([4, 1]), *people([2], display_name="Mận")])

    assert told(events) == [
        ("Followed", user(4)),
        ("Unfollowed", user(3)),
        ("Changed", user(2), "display_name"),
        ("Compared", 3),
    ]
    assert events[0].follower == people([4])[0]
    assert events[2].fields == [FieldChange(name="display_name", old="Người 2", new="Mận")]
    assert events[3].counts == ChangeCounts(followed=1, unfollowed=1, changed=1)
    assert [(event.job_id, event.previous_job_id, event.number, event.of) for event in events] == [
        ("second", "first", number, 4) for number in (1, 2, 3, 4)
    ]
    assert stage.meter.changes["etelecom", "followed"] == 1


async def test_a_list_without_a_change_says_so_in_one_event():
    stage = Stage()
    await stage.follow("first", people([1]))

    assert told(await stage.follow("second", people([1]))) == [("Compared", 1)]


async def test_a_row_that_turns_to_unfollow_has_left_then_comes_back():
    stage = Stage()
    left = msgspec.structs.replace(ALONE, state="unfollow", updated_at=EPOCH)
    await stage.follow("first", [ALONE])

    gone = await stage.follow("second", [left])
    still_gone = await stage.follow("third", [left])
    back = await stage.follow("fourth", [ALONE])

    assert isinstance(gone[0], Unfollowed)
    assert gone[0].at == EPOCH
    assert told(still_gone) == [("Compared", 0)]
    assert told(back) == [("Followed", ALONE.user_id), ("Compared", 1)]


async def test_a_new_row_of_somebody_who_has_left_is_nothing():
    stage = Stage()
    await stage.follow("first", people([1]))

    assert told(await stage.follow("second", [*people([1]), *people([2], state="unfollow")])) == [("Compared", 1)]


async def test_somebody_with_two_rows_follows_when_one_of_them_says_so():
    stage = Stage()
    await stage.follow("first", people([1]))

    assert told(await stage.follow("second", [*people([1], state="unfollow"), *people([1])])) == [("Compared", 1)]


@pytest.mark.parametrize(
    "field",
    [
        {"avatar": "https://avatar.example/renewed"},
        {"avatars": {"120": "https://avatar.example/renewed"}},
        {"phone_raw": "0900 000 001"},
        {"updated_at": EPOCH},
        {"created_at": EPOCH},
        {"tags": ["b", "a"]},
    ],
)
async def test_what_changes_without_news_is_no_change(field: dict[str, Any]):
    stage = Stage()
    before = msgspec.structs.replace(ALONE, tags=["a", "b"])
    await stage.follow("first", [before])

    assert told(await stage.follow("second", [msgspec.structs.replace(before, **field)])) == [("Compared", 1)]


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ({"phone": None}, "+84900000001", None),
        ({"gender": "female"}, None, "female"),
        ({"tags": ["VIP"]}, [], ["VIP"]),
        ({"notes": ["gọi lại"]}, [], ["gọi lại"]),
        ({"has_conversation": False}, None, False),
        ({"assigned_user_id": "9"}, None, "9"),
        ({"shared_info": SharedInfo(city="Huế")}, None, {"city": "Huế"}),
    ],
)
async def test_a_changed_field_has_its_old_and_its_new_value(field: dict[str, Any], old: Any, new: Any):
    stage = Stage()
    await stage.follow("first", [ALONE])

    changed, _ = await stage.follow("second", [msgspec.structs.replace(ALONE, **field)])

    assert changed.fields == [FieldChange(name=next(iter(field)), old=old, new=new)]


@pytest.mark.parametrize("ids", [["7", "007", "x", "18446744073709551616"], ["0", "00", "é"]])
async def test_ids_that_are_no_numbers_are_compared_too(ids: list[str]):
    stage = Stage()
    await stage.follow("first", [Follower(user_id=id) for id in ids])

    events = await stage.follow("second", [Follower(user_id=id) for id in [*ids[1:], "new"]])

    assert told(events) == [("Followed", "new"), ("Unfollowed", ids[0]), ("Compared", len(ids))]


@pytest.mark.parametrize(
    "job",
    [
        {"verdict": "drifted"},
        {"verdict": "truncated"},
        {"max_pages": 100},
        {"max_followers": 1000},
        {"filter": EtelecomFilter(phone="0900000000")},
        {"filter": EtelecomFilter(name="Mận")},
    ],
)
async def test_a_list_that_may_not_be_whole_gives_nothing_and_changes_nothing(job: dict[str, Any]):
    stage = Stage()
    await stage.follow("first", people([1, 2]))

    assert await stage.follow("partial", people([1]), **job) == []
    assert told(await stage.follow("second", people([1, 2]))) == [("Compared", 2)]


async def test_each_filter_and_account_is_a_feed_of_its_own_whatever_the_order_of_its_lists():
    stage = Stage()
    await stage.follow("all", people([1, 2, 3]))
    tagged = await stage.follow("tagged", people([1]), filter=EtelecomFilter(tags=["b", "a"]))
    other = await stage.follow("other", people([2]), account="branch")

    again = await stage.follow("again", people([1, 2]), filter=EtelecomFilter(tags=["a", "b"]))

    assert told(tagged) == [("FeedBaseline", 1)]
    assert told(other) == [("FeedBaseline", 1)]
    assert told(again) == [("Followed", user(2)), ("Compared", 2)]
    assert again[0].filter == {"tags": ["a", "b"]}
    assert (again[0].account, other[0].account) == ("shop", "branch")


async def test_the_same_job_again_gives_nothing_more():
    stage = Stage()
    ended = await publish_list(stage.world, "first", people([1]))

    for _ in range(3):
        await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log)) == [("FeedBaseline", 1)]


async def test_only_the_current_lists_snapshot_is_kept():
    stage = Stage()
    for number in range(4):
        await stage.follow(f"job-{number}", people(range(number)))

    assert stage.snapshots.jobs == ["job-3"]


async def test_a_snapshot_holds_no_persons_data():
    stage = Stage()
    await stage.follow("first", [msgspec.structs.replace(ALONE, notes=["secret note"])])

    (data,) = stage.snapshots.objects.values()

    for text in ("Người", "84900000001", "secret"):
        assert text.encode() not in data
    with pytest.raises(UnreadableSnapshotError):
        decode_snapshot(data[:-1])
    with pytest.raises(UnreadableSnapshotError):
        decode_snapshot(b"something else")


# Held back


async def test_a_list_that_lacks_too_many_is_held_back_and_the_one_before_stays():
    stage = Stage()
    await stage.follow("first", people(range(40)))

    events = await stage.follow("broken", people(range(20)))

    assert told(events) == [("Held", 20)]
    assert (events[0].previous_count, events[0].counts.unfollowed) == (40, 20)
    assert "followers changes release broken" in events[0].message
    assert told(await stage.follow("mended", people(range(41)))) == [("Followed", user(40)), ("Compared", 41)]
    assert stage.snapshots.jobs == ["mended"]
    assert stage.feeds.only().held is None


@pytest.mark.parametrize(("before", "after", "held"), [(40, 28, False), (40, 27, True), (9, 0, False), (12, 3, False)])
async def test_a_list_is_held_back_above_the_threshold_and_from_ten_people_on(before: int, after: int, held: bool):
    stage = Stage()
    await stage.follow("first", people(range(before)))

    events = await stage.follow("second", people(range(after)))

    assert isinstance(events[0], Held) == held
    assert len(events) == (1 if held else before - after + 1)


async def test_a_released_list_gives_its_changes_once():
    stage = Stage()
    await stage.follow("first", people(range(40)))
    await stage.follow("small", people(range(20)))

    answer = await stage.release("small")
    again = await stage.release("small")

    events = (await changes(stage.log))[2:]
    assert isinstance(answer, Feed)
    assert answer.next is not None
    assert isinstance(again, Feed)
    assert again.current is not None
    assert again.current.job_id == "small"
    assert [type(event) for event in events] == [Unfollowed] * 20 + [Compared]
    assert problems(events) == []
    assert stage.snapshots.jobs == ["small"]
    assert told(await stage.follow("next", people(range(21)))) == [("Followed", user(20)), ("Compared", 21)]


async def test_a_later_list_that_lacks_as_many_takes_the_place_of_the_held_one():
    stage = Stage()
    await stage.follow("first", people(range(40)))
    await stage.follow("small", people(range(20)))

    assert told(await stage.follow("smaller", people(range(19)))) == [("Held", 19)]
    refused = await stage.release("small")
    await stage.release("smaller")

    assert isinstance(refused, ControlError)
    assert refused.error.code == "not_found"
    assert len(await changes(stage.log)) == 3 + 21 + 1


async def test_a_release_that_a_worker_began_goes_on_in_the_next():
    stage = Stage()
    await stage.follow("first", people(range(40)))
    await stage.follow("small", people(range(20)))
    await stage.releases.answer("small")
    stage.releases.close()
    await stage.releases.settled()

    successor = Releases(stage.changes, asyncio.Event())
    await successor.resume()
    await successor.settled()

    assert [type(event) for event in (await changes(stage.log))[2:]] == [Unfollowed] * 20 + [Compared]


@pytest.mark.parametrize("job_id", ["nobody", "no.token"])
async def test_a_job_that_is_not_held_can_not_be_released(job_id: str):
    answer = await Stage().release(job_id)

    assert isinstance(answer, ControlError)
    assert answer.error.code in ("not_found", "invalid_command")


async def test_a_release_without_buckets_says_what_to_run():
    stage = Stage()
    stage.feeds.missing = True

    answer = await stage.release("small")

    assert isinstance(answer, ControlError)
    assert "followers setup" in answer.error.message


# What is lost or away


async def test_when_the_old_pages_have_aged_out_a_change_names_its_fields_alone():
    stage = Stage()
    await stage.follow("first", people([1, 2]))
    stage.log.purge(page_subject("etelecom", OA, "first"))

    changed, *_ = await stage.follow("second", people([1, 2], display_name="Mới"))

    assert isinstance(changed, Changed)
    assert changed.fields == [FieldChange(name="display_name", new="Mới")]


async def test_a_list_whose_pages_have_aged_out_gives_nothing():
    stage = Stage()
    ended = await publish_list(stage.world, "late", people([1]))
    stage.log.purge(page_subject("etelecom", OA, "late"))

    await stage.changes.follow(ended, never_stop)

    assert await changes(stage.log) == []


async def test_where_the_current_snapshot_is_lost_the_feed_begins_anew():
    stage = Stage()
    await stage.follow("first", people([1]))
    stage.snapshots.objects.clear()

    assert told(await stage.follow("second", people([1, 2]))) == [("FeedBaseline", 2)]
    assert told(await stage.follow("third", people([1]))) == [("Unfollowed", user(2)), ("Compared", 1)]


@pytest.mark.parametrize("lost", ["first", "second"])
async def test_where_a_snapshot_is_lost_while_changes_are_published_the_feed_begins_anew(lost: str):
    stage = Stage()
    await stage.follow("first", people([1, 2]))
    ended = await publish_list(stage.world, "second", people([2, 3]), day=5)

    async def lose(subject: str) -> None:
        if subject == CHANGES and len(stage.log.on(CHANGES)) == 2:
            stage.snapshots.objects = {key: one for key, one in stage.snapshots.objects.items() if key[1] != lost}
            raise DrainingError

    stage.log.before_publish = lose
    with pytest.raises(DrainingError):
        await stage.changes.follow(ended, never_stop)
    stage.log.before_publish = None
    await stage.changes.follow(ended, never_stop)

    events = await changes(stage.log)
    assert told(events)[1:] == [("Followed", user(3)), ("FeedBaseline", 2)]
    assert told(await stage.follow("third", people([2, 3]), day=6)) == [("Compared", 2)]


async def test_a_missing_bucket_is_told_to_the_caller():
    stage = Stage()
    ended = await publish_list(stage.world, "first", people([1]))
    stage.feeds.missing = True

    with pytest.raises(FeedsMissingError):
        await stage.changes.follow(ended, never_stop)


async def test_a_bucket_or_log_that_is_away_for_a_while_is_waited_for():
    stage = Stage()
    ended = await publish_list(stage.world, "first", people([1]))
    stage.feeds.failing = 2
    stage.log.reads_unavailable = 2
    stage.log.fail_next("lost", "ack_lost")

    await stage.changes.follow(ended, never_stop)

    assert told(await changes(stage.log)) == [("FeedBaseline", 1)]


async def test_a_change_too_large_for_the_server_goes_without_its_values():
    stage = Stage()
    (before,) = people([1], notes=["a" * 3000])
    await stage.follow("first", [before])
    ended = await publish_list(stage.world, "second", people([1], notes=["b" * 3000]), day=5)
    stage.log.max_payload = 4000

    await stage.changes.follow(ended, never_stop)

    changed = (await changes(stage.log))[1]
    assert isinstance(changed, Changed)
    assert changed.fields == [FieldChange(name="notes")]


# How they are written


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_changes_come_in_each_encoding_and_mode(encoding: str, mode: str):
    stage = Stage(encoding=encoding, cloudevents=mode)
    await stage.follow("first", people([1, 2]))

    events = await stage.follow("second", [*people([2], display_name="Mận"), *people([3])])

    assert told(events) == [
        ("Followed", user(3)), ("Unfollowed", user(1)), ("Changed", user(2), "display_name"), ("Compared", 2)
    ]  # fmt: skip
    headers = stage.log.on(CHANGES)[-1].headers
    assert headers["Nats-Msg-Id"] == "etelecom.1.second:change.4"
    assert mode == "structured" or headers["ce-type"] == "vn.followers.change.compared.v1"


async def test_two_workers_at_the_same_job_give_each_change_once():
    stage = Stage()
    await stage.follow("first", people(range(30)))
    ended = await publish_list(stage.world, "second", people(range(5, 60)), day=5)
    rival = fake_feeds(make_world(log=stage.log, worker="rival"), stage.feeds, stage.snapshots)

    await asyncio.gather(stage.changes.follow(ended, never_stop), rival.follow(ended, never_stop))

    events = (await changes(stage.log))[1:]
    assert problems(events) == []
    assert len(events) == 5 + 30 + 1


async def test_two_feeds_on_one_subject_do_not_disturb_each_other():
    stage = Stage()
    await stage.follow("shop-1", people(range(30)))
    await stage.follow("branch-1", people(range(30)), account="branch")
    jobs = [
        await publish_list(stage.world, f"{account}-2", people(range(40)), day=5, account=account)
        for account in ("shop", "branch")
    ]

    await asyncio.gather(*(stage.changes.follow(job, never_stop) for job in jobs))

    events = (await changes(stage.log))[2:]
    assert problems(events) == []
    for name in ("shop", "branch"):
        assert sum(isinstance(one, Followed) and one.account == name for one in events) == 10


async def test_a_claim_that_somebody_left_is_finished_before_ones_own():
    stage = Stage()
    await stage.follow("first", people(range(5)))
    second = await publish_list(stage.world, "second", people(range(8)), day=5)

    async def die(subject: str) -> None:
        if subject == CHANGES and len(stage.log.on(CHANGES)) == 3:
            raise DrainingError

    stage.log.before_publish = die
    with pytest.raises(DrainingError):
        await stage.changes.follow(second, never_stop)
    stage.log.before_publish = None

    await stage.follow("third", people(range(9)), day=6)

    events = (await changes(stage.log))[1:]
    assert problems(events) == []
    assert [event.job_id for event in events] == ["second"] * 4 + ["third"] * 2


def test_a_feeds_key_is_a_key_and_says_who():
    feed = Feed(provider="esms", account="my-shop", oa_id="1", filter={"tag": "VIP"})

    assert feed_key(msgspec.structs.replace(feed, filter={})) == "esms.my-shop.1.all"
    assert feed_key(feed).startswith("esms.my-shop.1.")
    assert len(feed_key(feed)) == len("esms.my-shop.1.") + 16


@pytest.mark.parametrize(("large_from", "at_once"), [(1, 1), (3, 1), (4, 4)])
async def test_so_many_lists_are_compared_at_once_and_of_large_ones_a_single_one(
    monkeypatch: pytest.MonkeyPatch, large_from: int, at_once: int
):
    monkeypatch.setattr(changes_module, "LARGE", large_from)
    under_way, most = 0, 0

    async def compare(self: ChangeFeeds, job: EndedJob, check: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    monkeypatch.setattr(ChangeFeeds, "_follow", compare)
    stage = Stage()
    jobs = [await publish_list(stage.world, f"j{number}", people(range(3)), day=number) for number in range(1, 9)]

    await asyncio.gather(*(stage.changes.follow(job, never_stop) for job in jobs))

    assert most == at_once
