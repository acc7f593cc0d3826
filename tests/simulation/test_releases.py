"""Who goes on with a released list whose worker died: the next one at once, one that is there already soon after."""

import asyncio
import random
from typing import Any

import structlog
from structlog.testing import capture_logs

from schemas.changes import Feed
from tests.changes_kit import changes, people
from tests.simulation.loop import run
from tests.unit.test_changes import Stage
from worker.core.changes.pointer import feed_key
from worker.core.changes.release import RESUME_EVERY, Releases

WHOLE = ["FeedBaseline", "Held", *["Unfollowed"] * 20, "Compared"]


async def released_by_a_worker_that_died(events: int = 2) -> Stage:
    """A held list that was released; of its changes so many events, with those before them, are out."""
    stage = Stage()
    await stage.follow("first", people(range(40)))
    await stage.follow("small", people(range(20)))
    await stage.releases.answer("small")
    while len(await changes(stage.log)) < events:
        await asyncio.sleep(0)
    stage.releases.close()
    await stage.releases.settled()
    return stage


async def kinds(stage: Stage) -> list[str]:
    return [type(event).__name__ for event in await changes(stage.log)]


def in_virtual_time(main: Any) -> list[Any]:
    structlog.reset_defaults()
    with capture_logs() as lines:
        run(random.Random(1), main)
    return lines


def test_the_next_worker_goes_on_once_the_bucket_answers() -> None:
    async def main() -> None:
        stage = await released_by_a_worker_that_died(events=7)
        stage.feeds.failing = 5
        successor = Releases(stage.changes, asyncio.Event())

        task = asyncio.create_task(successor.watch())
        await asyncio.sleep(RESUME_EVERY / 4)

        assert await kinds(stage) == WHOLE
        task.cancel()

    lines = in_virtual_time(main())

    assert [line["event"] for line in lines].count("changes.not_resumed") == 5


def test_a_worker_that_is_there_already_goes_on_with_what_it_sees_twice() -> None:
    async def main() -> None:
        stage = await released_by_a_worker_that_died(events=7)
        left, feed, key = len(await kinds(stage)), stage.feeds.only(), feed_key(stage.feeds.only())
        idle, revision = Feed(provider="etelecom", account="shop", oa_id="1"), stage.feeds.values[key][0]
        await stage.feeds.put(key, idle, revision)
        other = Releases(stage.changes, asyncio.Event())
        task = asyncio.create_task(other.watch())
        await asyncio.sleep(1)
        await stage.feeds.put(key, feed, stage.feeds.values[key][0])

        await asyncio.sleep(1.3 * RESUME_EVERY)
        once = len(await kinds(stage))
        await asyncio.sleep(1.3 * RESUME_EVERY)

        assert once == left < len(WHOLE), "its own worker may still be at it"
        assert await kinds(stage) == WHOLE
        task.cancel()

    in_virtual_time(main())


def test_a_worker_that_is_to_stop_looks_no_more() -> None:
    async def main() -> None:
        stage = await released_by_a_worker_that_died()
        stage.feeds.failing = 1_000_000
        draining = asyncio.Event()
        task = asyncio.create_task(Releases(stage.changes, draining).watch())
        await asyncio.sleep(10)
        draining.set()

        await asyncio.wait_for(task, 2 * RESUME_EVERY)

    in_virtual_time(main())


def test_without_its_bucket_a_worker_says_what_to_do_and_looks_again_later() -> None:
    async def main() -> None:
        stage = await released_by_a_worker_that_died()
        stage.feeds.missing = True
        task = asyncio.create_task(Releases(stage.changes, asyncio.Event()).watch())
        await asyncio.sleep(5 * RESUME_EVERY)
        stage.feeds.missing = False
        await asyncio.sleep(3 * RESUME_EVERY)

        assert await kinds(stage) == WHOLE
        task.cancel()

    lines = in_virtual_time(main())

    missing = [line for line in lines if line["event"] == "changes.not_resumed"]
    assert 4 <= len(missing) <= 8
    assert {line["advice"] for line in missing} == {"run `followers setup`"}
