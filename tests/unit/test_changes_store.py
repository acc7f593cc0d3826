"""How long the buckets of the change feed are waited for, and what is told."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from schemas.changes import ChangeCounts, Feed, FeedClaim, FeedJob
from schemas.subjects import job_subject
from tests.changes_kit import CHANGES, FakeFeeds, FakeSnapshots, never_stop
from tests.fakes import EPOCH, FakeLog
from tests.simulation.loop import run
from worker.core.cancellation import DrainingError
from worker.core.changes import store as changes_store
from worker.core.changes.ports import FeedsAwayError, FeedsUnavailableError
from worker.core.changes.store import FeedStore, say, tell

FEED = Feed(provider="etelecom", account="shop", oa_id="1", filter={"tags": ["a"]})
COUNTS = ChangeCounts(followed=1, unfollowed=2, changed=3)
WHERE = {"provider": "etelecom", "account": "shop", "oa_id": "1", "feed": "e287f621910b1259"}


class AwaySnapshots(FakeSnapshots):
    """Snapshots of which so many calls to come are not answered."""

    failing = 0

    async def put(self, key: str, job_id: str, data: bytes) -> None:
        self._answer()
        await super().put(key, job_id, data)

    async def get(self, key: str, job_id: str) -> bytes | None:
        self._answer()
        return await super().get(key, job_id)

    async def delete(self, key: str, job_id: str) -> None:
        self._answer()
        await super().delete(key, job_id)

    def _answer(self) -> None:
        if self.failing:
            self.failing -= 1
            raise FeedsUnavailableError("no answer")


class Rig:
    """A store over fakes, with ten seconds of patience."""

    def __init__(self, patience: float = 10.0, check: Callable[[], None] = never_stop) -> None:
        self.feeds, self.snapshots, self.log = FakeFeeds(), AwaySnapshots(), FakeLog()
        self.store = FeedStore(self.feeds, self.snapshots, self.log, check, patience=patience)

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()


def timed(story: Callable[[Rig], Awaitable[Any]], rig: Rig) -> float:
    """The seconds that a story takes in virtual time."""

    async def work() -> float:
        await story(rig)
        return rig.now()

    return run(random.Random(1), work())


def stop() -> None:
    raise DrainingError


def test_a_job_waits_five_minutes_for_the_buckets() -> None:
    assert changes_store.PATIENCE == 300.0


def test_a_bucket_that_does_not_answer_is_asked_again_after_growing_pauses() -> None:
    async def read(rig: Rig) -> None:
        rig.feeds.failing = 3
        assert await rig.store.read("k") == (None, 0)

    assert timed(read, Rig()) == pytest.approx(0.05 + 0.1 + 0.2)


@pytest.mark.parametrize("act", ["read", "load", "save"])
def test_patience_ends_at_its_end(act: str) -> None:
    asks: dict[str, Callable[[Rig], Awaitable[Any]]] = {
        "read": lambda rig: rig.store.read("k"),
        "load": lambda rig: rig.store.load("k", "j"),
        "save": lambda rig: rig.store.save("k", "j", b"x"),
    }

    async def wait(rig: Rig) -> None:
        rig.feeds.failing = rig.snapshots.failing = 10**9
        with pytest.raises(FeedsAwayError):
            await asks[act](rig)

    # 0.05 + 0.1 + … + 1.6, then 2 s each: what was last asked at 9.15 s is asked once more, past the ten seconds.
    assert timed(wait, Rig()) == pytest.approx(11.15)
    assert timed(wait, Rig(patience=3.15)) == pytest.approx(3.15), "it ends at the very moment"
    assert timed(wait, Rig(patience=0.0)) == 0.0, "who has none asks once"


def test_what_is_to_stop_waits_no_more() -> None:
    async def ask(rig: Rig) -> None:
        rig.feeds.failing = rig.snapshots.failing = rig.log.reads_unavailable = 9
        for question in (
            rig.store.read("k"), rig.store.write("k", FEED, 0), rig.store.tail(FEED), rig.store.began(FEED, "j")
        ):  # fmt: skip
            with pytest.raises(DrainingError):
                await question

    assert timed(ask, Rig(check=stop)) == 0.0


def test_a_write_that_fails_pauses_and_is_to_be_read_again() -> None:
    async def write(rig: Rig) -> None:
        rig.feeds.full = True
        assert await rig.store.write("k", FEED, 0) is None
        assert rig.now() == pytest.approx(0.05)
        rig.feeds.full = False
        assert await rig.store.write("k", FEED, 7) is None, "another revision"
        assert rig.now() == pytest.approx(0.05), "which is no reason to wait"
        assert await rig.store.write("k", FEED, 0) == 1
        assert await rig.store.read("k") == (FEED, 1)

    timed(write, Rig())


@pytest.mark.parametrize("mends", ["write", "save", "read", "load"])
def test_only_what_a_bucket_takes_gives_new_patience(mends: str) -> None:
    async def wait(rig: Rig) -> None:
        await fail(rig)
        await asyncio.sleep(9)
        match mends:
            case "write":
                assert await rig.store.write("k", FEED, 0) is not None
            case "save":
                await rig.store.save("k", "j", b"x")
            case "read":
                await rig.store.read("k")
            case "load":
                await rig.store.load("k", "j")
        await asyncio.sleep(9)
        if mends in ("write", "save"):
            await fail(rig)
        else:
            with pytest.raises(FeedsAwayError):
                await fail(rig)

    async def fail(rig: Rig) -> None:
        rig.feeds.full = True
        assert await rig.store.write("other", FEED, 0) is None
        rig.feeds.full = False

    timed(wait, Rig())


def test_a_note_is_written_or_left_without_waiting() -> None:
    async def note(rig: Rig) -> None:
        assert await rig.store.note("k", FEED, 0) is True
        assert await rig.store.note("k", FEED, 0) is False, "it has changed meanwhile"
        rig.feeds.failing = 1
        assert await rig.store.note("k", FEED, 1) is True, "whoever reads the log knows"
        assert rig.feeds._revision == 1

    assert timed(note, Rig()) == 0.0


def test_a_snapshot_that_can_not_be_deleted_now_is_left() -> None:
    async def delete(rig: Rig) -> None:
        await rig.store.save("k", "j", b"x")
        rig.snapshots.failing = 1
        await rig.store.delete("k", "j")
        assert rig.snapshots.jobs == ["j"]
        await rig.store.delete("k", "j")
        assert rig.snapshots.jobs == []

    assert timed(delete, Rig()) == 0.0


def test_a_snapshot_that_is_lost_or_of_another_kind_is_none() -> None:
    async def load(rig: Rig) -> None:
        assert await rig.store.load("k", "j") is None
        await rig.store.save("k", "j", b"x")
        assert await rig.store.load("k", "j") is None

    timed(load, Rig())


def test_a_log_is_asked_where_a_feed_ends_and_where_a_job_begins() -> None:
    async def ask(rig: Rig) -> None:
        job = job_subject("etelecom", "1", "j")
        assert (await rig.store.tail(FEED), await rig.store.began(FEED, "j")) == (0, 0)
        await rig.log.publish("else", b"", {}, 0)
        first = await rig.log.publish(job, b"", {}, 0)
        await rig.log.publish(job, b"", {}, first)
        tail = await rig.log.publish(CHANGES, b"", {}, 0)
        assert (await rig.store.tail(FEED), await rig.store.began(FEED, "j")) == (tail, first) == (4, 2)
        rig.log.reads_unavailable = 2
        assert await rig.store.tail(FEED) == 4
        rig.log.reads_unavailable = 2
        assert await rig.store.began(FEED, "j") == 2

    assert timed(ask, Rig()) == pytest.approx(2 * (0.05 + 0.1))


@pytest.mark.parametrize(
    ("act", "line"),
    [
        ("baseline", {"event": "changes.baseline", "log_level": "info"}),
        ("held", {"event": "changes.held", "log_level": "warning", "followed": 1, "unfollowed": 2, "changed": 3}),
        ("changes", {"event": "changes.published", "log_level": "info", "followed": 1, "unfollowed": 2, "changed": 3}),
    ],
)
def test_a_finished_claim_is_told_with_what_it_came_to(act: Any, line: dict[str, Any]) -> None:
    job = FeedJob(job_id="j", started_at=EPOCH, followers=40)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))

    with capture_logs() as lines:
        tell(FEED, FeedClaim(job=job, act=act, counts=COUNTS, after=1))
        say("changes.else", FEED, "i", reason="r")

    assert lines == [
        {"job_id": "j", "followers": 40} | WHERE | line,
        {"event": "changes.else", "log_level": "info", "job_id": "i", "reason": "r"} | WHERE,
    ]
