"""Answers to a release, word by word, and who goes on with what."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.changes import Feed, FeedClaim
from schemas.events import FetchError
from schemas.jobs import ControlError
from tests.changes_kit import CHANGES, changes, people
from tests.simulation.loop import run
from tests.unit.test_changes import Stage
from worker.core.changes import release as changes_release
from worker.core.changes.pointer import feed_key
from worker.core.changes.release import Releases


async def held() -> Stage:
    """A stage whose list `small` is held back."""
    stage = Stage()
    await stage.follow("first", people(range(40)))
    await stage.follow("small", people(range(20)))
    return stage


def key(stage: Stage) -> str:
    return feed_key(stage.feeds.only())


async def write(stage: Stage, **fields: Any) -> None:
    """Change the feed, as somebody else would."""
    await stage.feeds.put(key(stage), replace(stage.feeds.only(), **fields), stage.feeds.values[key(stage)][0])


def refusal(job_id: str, code: Any, message: str, *, retryable: bool = False) -> ControlError:
    return ControlError(job_id=job_id, error=FetchError(code=code, message=message, retryable=retryable))


def play(story: Callable[[], Awaitable[Any]]) -> Any:
    return run(random.Random(1), story())  # type: ignore[arg-type]


async def test_a_subject_that_names_no_job_is_refused_with_its_beginning() -> None:
    asked = "x" * 63 + ".yz"

    assert await Stage().release(asked) == refusal(
        "x" * 63 + ".", "invalid_command", "this can't be a job's id: correct the subject"
    )


async def test_a_job_that_no_feed_knows_is_not_found() -> None:
    stage = await held()

    assert await stage.release("other") == refusal(
        "other", "not_found", "no list of job other is held back: see `followers changes list`"
    )


async def test_without_buckets_it_is_said_what_to_run() -> None:
    stage = await held()
    stage.feeds.missing = True

    assert await stage.release("small") == refusal(
        "small", "not_found", "the buckets of the change feed are missing: run `followers setup`"
    )


async def test_a_feed_that_does_not_answer_is_to_be_asked_again() -> None:
    unsure = refusal(
        "small", "internal", "nothing is certain about job small, its feed doesn't answer: ask again", retryable=True
    )
    stage = await held()
    stage.feeds.failing = 1

    assert await stage.release("small") == unsure
    stage.draining.set()
    stage.feeds.full = True
    assert await stage.release("small") == unsure


async def test_a_job_beside_one_whose_changes_are_being_published_is_to_be_asked_for_again() -> None:
    stage = await held()
    current = stage.feeds.only().current
    assert current is not None
    counts = stage.feeds.only().held.counts  # type: ignore[union-attr]
    await write(stage, next=FeedClaim(job=replace(current, job_id="third"), act="changes", counts=counts, after=0))

    assert await stage.release("small") == refusal(
        "small", "internal", "changes of job third are being published in the same feed: ask again", retryable=True
    )


async def test_a_release_claims_the_feed_and_publishes_then_the_same_answer_says_that_it_is_done() -> None:
    stage = await held()
    before = stage.feeds.only()
    assert before.held is not None

    first = await stage.releases.answer("small")
    second = await stage.releases.answer("small")
    await stage.releases.settled()
    third = await stage.release("small")

    tail = stage.log.on(CHANGES)[1].sequence
    claim = FeedClaim(job=before.held.job, act="changes", counts=before.held.counts, after=tail, released=True)
    assert first == replace(before, next=claim)
    assert isinstance(second, Feed)
    assert second.next == claim
    assert third == stage.feeds.only()
    assert third.current == before.held.job
    assert len(await changes(stage.log)) == 2 + 20 + 1


async def test_what_is_held_where_no_list_is_left_begins_the_feed() -> None:
    stage = await held()
    await write(stage, current=None)

    answer = await stage.releases.answer("small")

    assert isinstance(answer, Feed)
    assert answer.next is not None
    assert answer.next.act == "baseline"
    stage.releases.close()
    await stage.releases.settled()


@pytest.mark.parametrize(("beaten", "done"), [(4, True), (5, False)])
async def test_a_feed_that_keeps_changing_is_tried_five_times(beaten: int, done: bool) -> None:
    stage = await held()
    put = stage.feeds.put

    async def race(key: str, feed: Feed, revision: int) -> int:
        nonlocal beaten
        if beaten:
            beaten -= 1
            await put(key, stage.feeds.only(), revision)
        return await put(key, feed, revision)

    stage.feeds.put = race  # type: ignore[method-assign]
    answer = await stage.releases.answer("small")

    if done:
        assert isinstance(answer, Feed)
    else:
        message = "the feed of job small keeps changing: ask again"
        assert answer == refusal("small", "internal", message, retryable=True)
    stage.releases.close()
    await stage.releases.settled()


@pytest.mark.parametrize("released", [True, False])
async def test_only_what_was_released_is_gone_on_with(released: bool) -> None:
    stage = await held()
    feed = stage.feeds.only()
    assert feed.held is not None
    claim = FeedClaim(job=feed.held.job, act="changes", counts=feed.held.counts, after=3, released=released)
    await write(stage, next=claim)

    found = await stage.releases.resume()
    await stage.releases.settled()

    assert found == ({(key(stage), "small")} if released else set())
    assert len(await changes(stage.log)) == (2 + 20 + 1 if released else 2)


@pytest.mark.parametrize(("among", "done"), [("same", True), ("other", False), ("none", False)])
async def test_of_what_is_found_only_what_was_there_before_is_gone_on_with(among: str, done: bool) -> None:
    stage = await held()
    await stage.releases.answer("small")
    stage.releases.close()
    await stage.releases.settled()
    seen: set[tuple[str, str]] = {"same": {(key(stage), "small")}, "other": {(key(stage), "other")}, "none": set()}[
        among
    ]

    successor = Releases(stage.changes, asyncio.Event())
    found = await successor.resume(among=seen)
    await successor.settled()

    assert found == {(key(stage), "small")}
    assert len(await changes(stage.log)) == (2 + 20 + 1 if done else 2)


def test_looks_for_what_is_left_come_a_minute_apart_more_or_less() -> None:
    async def story() -> list[float]:
        stage = await held()
        looks: list[float] = []
        all_, loop = stage.feeds.all, asyncio.get_running_loop()

        async def look() -> Any:
            looks.append(loop.time())
            if len(looks) == 40:
                stage.draining.set()
            return await all_()

        stage.feeds.all = look  # type: ignore[method-assign]
        await stage.releases.watch()
        return looks

    random.seed(1)
    looks = play(story)
    pauses = [after - before for before, after in itertools.pairwise(looks)]

    assert (len(looks), looks[0]) == (40, 0.0)
    assert 48 <= min(pauses) < 52
    assert 68 < max(pauses) <= 72
    assert (changes_release.RESUME_EVERY, changes_release.RELEASE_TRIES) == (60.0, 5)


def test_a_look_goes_on_with_what_the_look_before_saw_too() -> None:
    async def story() -> list[int]:
        stage = await held()
        watching = asyncio.create_task(stage.releases.watch())
        await asyncio.sleep(10)
        await stage.releases.answer("small")
        stage.releases.close()  # as if another worker had begun that and died
        seen: list[int] = []
        for _ in range(2):
            await asyncio.sleep(73 - 10 * len(seen))
            seen.append(len(await changes(stage.log)))
        stage.draining.set()
        await watching
        return seen

    first, second = play(story)

    assert (first, second) == (2, 2 + 20 + 1), "seen once, then gone on with"


def test_buckets_that_are_away_are_looked_at_again_and_missing_ones_are_not() -> None:
    async def story() -> tuple[float, float, float]:
        stage, now = await held(), asyncio.get_running_loop().time
        began = now()
        stage.feeds.failing = 3
        assert await stage.releases.resume() == set()
        away = now()
        stage.feeds.missing = True
        assert await stage.releases.resume() == set()
        missing = now()
        stage.feeds.missing, stage.feeds.failing = False, 10**9
        stage.draining.set()
        assert await stage.releases.resume() == set()
        return away - began, missing - away, now() - missing

    assert play(story) == pytest.approx((0.05 + 0.1 + 0.2, 0.0, 0.0))


async def test_a_release_that_can_not_go_on_ends_and_can_be_asked_for_again() -> None:
    stage = await held()
    await stage.releases.answer("small")
    stage.feeds.missing = True
    await stage.releases.settled()
    stage.feeds.missing = False

    assert len(await changes(stage.log)) == 2
    await stage.release("small")
    assert len(await changes(stage.log)) == 2 + 20 + 1


async def test_a_release_that_fails_unexpectedly_is_told_once_and_can_be_asked_for_again(faults: list[str]) -> None:
    stage = await held()
    objects, stage.snapshots.objects = stage.snapshots.objects, None  # type: ignore[assignment]
    await stage.release("small")
    stage.snapshots.objects = objects

    assert len(faults) == 1
    await stage.release("small")
    assert len(await changes(stage.log)) == 2 + 20 + 1
