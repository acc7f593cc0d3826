"""One set, on a subject that others write too: exactly once, and with patience."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from schemas.changes import ChangeCounts, ChangeEvent, Feed, FeedBaseline, FeedClaim, FeedJob, Followed
from schemas.follower import Follower
from tests.changes_kit import CHANGES, change_of, never_stop
from tests.fakes import EPOCH, FakeLog, FakeMeter, make_world
from tests.simulation.loop import run
from worker.core.cancellation import DrainingError
from worker.core.changes.events import baseline
from worker.core.changes.pointer import common_fields
from worker.core.changes.publisher import ChangeLog
from worker.core.ports.event_log import PayloadTooLargeError, WrongSequenceError

FEED = Feed(provider="etelecom", account="shop", oa_id="1")


def claim(act: Any = "changes", after: int = 0, job_id: str = "j") -> FeedClaim:
    job = FeedJob(job_id=job_id, started_at=EPOCH, followers=3)
    return FeedClaim(job=job, act=act, counts=ChangeCounts(), after=after)


class Rig:
    """A set of three on its way, over a fake log in virtual time."""

    def __init__(self, check: Callable[[], None] = never_stop, **made: Any) -> None:
        self.log, self.meter = FakeLog(), FakeMeter()
        self.world = make_world(log=self.log, meter=self.meter)
        self.claim = claim(**made)
        self.set = ChangeLog(FEED, self.claim, self.world, check)
        self.asked: list[int] = []

    async def event(self, number: int) -> ChangeEvent:
        self.asked.append(number)
        common = common_fields(FEED, self.claim, 3)
        if self.claim.act == "baseline":
            return baseline(common, 3)
        return Followed(**common, number=number, user_id=str(number), follower=Follower(user_id=str(number)))

    async def publish(self, of: int = 3) -> float:
        await self.set.publish(of, self.event, "00-trace")
        return asyncio.get_running_loop().time()

    async def put(self, data: bytes, *, subject: str = CHANGES) -> int:
        """Store somebody else's message."""
        entries = self.log.on(subject)
        expected = entries[-1].sequence if entries else 0
        hook, self.log.before_publish = self.log.before_publish, None
        sequence = await self.log.publish(subject, data, {}, expected)
        self.log.before_publish = hook
        return sequence

    @property
    def numbers(self) -> list[int]:
        return [change_of(entry).number for entry in self.log.on(CHANGES) if b"trace" not in entry.data]


def play(story: Callable[[Rig], Awaitable[Any]], rig: Rig | None = None) -> Any:
    return run(random.Random(1), story(rig or Rig()))  # type: ignore[arg-type]


def test_each_event_is_appended_once_with_its_id_its_time_and_who_wrote_it() -> None:
    rig = Rig()

    assert play(Rig.publish, rig) == 0.0

    stored = rig.log.on(CHANGES)
    assert (rig.numbers, rig.asked, rig.set.done) == ([1, 2, 3], [1, 2, 3], 3)
    assert [entry.headers["Nats-Msg-Id"] for entry in stored] == [f"etelecom.1.j:change.{n}" for n in (1, 2, 3)]
    assert [entry.headers["Followers-Publish-Token"] for entry in stored] == [f"worker-1-{n}" for n in (1, 2, 3)]
    assert {entry.headers["traceparent"] for entry in stored} == {"00-trace"}
    assert rig.meter.changes == {("etelecom", "followed"): 3}


def test_an_event_of_one_has_its_act_as_its_id() -> None:
    rig = Rig(act="baseline")

    async def story(rig: Rig) -> None:
        await rig.publish(of=1)

    play(story, rig)

    (entry,) = rig.log.on(CHANGES)
    assert isinstance(change_of(entry), FeedBaseline)
    assert entry.headers["ce-id"] == "j:baseline"
    assert rig.meter.changes == {("etelecom", "baseline"): 1}


@pytest.mark.parametrize(
    ("act", "there", "done"),
    [
        ("changes", b'{"job_id":"j","type":"followed","number":2}', 2),
        ("changes", b'{"job_id":"j","type":"compared","number":1}', 1),
        ("changes", b'{"job_id":"j","type":"followed"}', 1),
        ("changes", b'{"job_id":"i","type":"followed","number":2}', 0),
        ("changes", b'{"job_id":"j","type":"baseline","number":1}', 0),
        ("changes", b'{"job_id":"j","type":"held","number":1}', 0),
        ("changes", b"no event", 0),
        ("held", b'{"job_id":"j","type":"held","number":1}', 1),
        ("held", b'{"job_id":"j","type":"baseline","number":1}', 0),
        ("baseline", b'{"job_id":"j","type":"baseline","number":1}', 1),
        ("baseline", b'{"job_id":"j","type":"followed","number":1}', 0),
    ],
)
def test_what_of_the_set_is_there_is_not_published_again(act: str, there: bytes, done: int) -> None:
    async def story(rig: Rig) -> None:
        of = 3 if act == "changes" else 1
        await rig.put(there)
        await rig.publish(of)
        assert rig.asked == list(range(done + 1, of + 1))

    play(story, Rig(act=act))


def test_only_what_is_behind_the_claims_sequence_is_the_sets() -> None:
    async def story(rig: Rig) -> None:
        for number in (3, 1):
            await rig.put(b'{"job_id":"j","type":"followed","number":%d}' % number)
        await rig.publish()
        assert rig.asked == [2, 3]

    play(story, Rig(after=1))


def test_a_lower_number_that_comes_later_does_not_set_the_set_back() -> None:
    async def story(rig: Rig) -> None:
        for number in (2, 1):
            await rig.put(b'{"job_id":"j","type":"followed","number":%d}' % number)
        await rig.publish()
        assert rig.asked == [3]

    play(story)


def test_others_events_in_between_cost_no_pause_and_a_log_that_only_refuses_does() -> None:
    async def story(rig: Rig) -> float:
        refused = 0

        async def disturb(subject: str) -> None:
            nonlocal refused
            if len(rig.log.on(CHANGES)) in (0, 2):
                await rig.put(b'{"job_id":"i","type":"followed"}')
            elif refused < 3:
                refused += 1
                raise WrongSequenceError

        rig.log.before_publish = disturb
        return await rig.publish()

    rig = Rig()
    assert play(story, rig) == pytest.approx(0.05 + 0.1 + 0.2)
    assert rig.set.done == 3


def test_a_lost_answer_is_found_in_the_log_after_a_pause_that_begins_anew_with_each_event() -> None:
    rig = Rig()
    rig.log.fail_next("lost", "lost", "ack_lost", "lost", None, None)

    assert play(Rig.publish, rig) == pytest.approx(0.05 + 0.1 + 0.2 + 0.05)
    assert (rig.numbers, rig.asked) == ([1, 2, 3], [1, 1, 1, 2, 2, 3])
    assert rig.meter.changes == {("etelecom", "followed"): 2}, "whose answer was lost, nobody counts"


def test_a_log_that_can_not_be_read_is_asked_again_after_growing_pauses_unless_we_are_to_stop() -> None:
    rig = Rig()
    rig.log.reads_unavailable = 3

    assert play(Rig.publish, rig) == pytest.approx(0.05 + 0.1 + 0.2)

    def stop() -> None:
        raise DrainingError

    rig = Rig(stop)
    rig.log.reads_unavailable = 1
    with pytest.raises(DrainingError):
        play(Rig.publish, rig)
    assert rig.log.reads_unavailable == 0


def test_what_was_read_before_the_log_went_away_is_not_read_again() -> None:
    async def story(rig: Rig) -> list[tuple[int, int]]:
        for number in (1, 2):
            await rig.put(b'{"job_id":"j","type":"followed","number":%d}' % number)
        read, firsts = rig.log.read, []

        def tell(subject: str, first: int, last: int) -> Any:
            firsts.append((first, last))
            if len(firsts) == 1:
                rig.log.reads_unavailable = 0
            return broken(subject, first, last) if len(firsts) == 1 else read(subject, first, last)

        async def broken(subject: str, first: int, last: int) -> Any:
            async for entry in read(subject, first, last):
                yield entry
                rig.log.reads_unavailable = 1

        rig.log.read = tell  # type: ignore[method-assign]
        await rig.publish()
        return firsts

    assert play(story) == [(1, 2), (2, 2)]


def test_a_set_goes_on_where_all_that_was_before_it_has_left_the_log() -> None:
    rig = Rig(after=9)

    assert play(Rig.publish, rig) == 0.0
    assert rig.numbers == [1, 2, 3]


def test_an_event_that_fits_in_no_way_says_what_to_raise() -> None:
    rig = Rig()
    rig.log.max_payload = 100

    with pytest.raises(
        PayloadTooLargeError,
        match=r"^a change event on followers\.change\.etelecom\.1: raise max_payload on the server$",
    ):
        play(Rig.publish, rig)
    assert rig.log.publishes == 2, "with its data, and without"


def test_who_is_to_stop_publishes_no_further_event() -> None:
    rig = Rig()

    def stop() -> None:
        if rig.set.done == 2:
            raise DrainingError

    rig.set = ChangeLog(FEED, rig.claim, rig.world, stop)
    with pytest.raises(DrainingError):
        play(Rig.publish, rig)
    assert rig.numbers == [1, 2]
