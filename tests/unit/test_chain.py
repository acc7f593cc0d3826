"""One subject as a chain: who may append, who is fenced, and how long a log that is away is asked again."""

import asyncio
import itertools
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.fakes import FakeLog
from tests.simulation.loop import run
from worker.core.backoff import Pause
from worker.core.eventlog.appender import Chain, FencedError
from worker.core.ports.event_log import COMMAND_HEADER, TOKEN_HEADER, Entry

SUBJECT = "s"


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), main)


def chain(log: FakeLog, command: int = 7) -> Chain:
    tokens = itertools.count(1)
    return Chain(log, SUBJECT, command, lambda: f"{command}-{next(tokens)}")


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_pause_doubles_from_a_twentieth_of_a_second_to_two_seconds() -> None:
    async def main() -> None:
        pause, slept = Pause(), []
        for _ in range(8):
            began = now()
            await pause()
            slept.append(round(now() - began, 3))
        assert slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]

    in_virtual_time(main())


async def test_messages_follow_each_other_with_a_token_and_the_commands_sequence() -> None:
    log = FakeLog()
    mine = chain(log)

    assert await mine.load() is None
    assert mine.sequence == 0
    await mine.append(b"a", {"h": "1"})
    await mine.append(b"b", {})
    await mine.confirm()

    assert [(entry.data, entry.headers) for entry in log.on(SUBJECT)] == [
        (b"a", {"h": "1", TOKEN_HEADER: "7-1", COMMAND_HEADER: "7"}),
        (b"b", {TOKEN_HEADER: "7-2", COMMAND_HEADER: "7"}),
    ]
    assert mine.sequence == 2
    assert (TOKEN_HEADER, COMMAND_HEADER) == ("Followers-Publish-Token", "Followers-Command-Sequence")


async def test_who_loads_stands_behind_the_tail() -> None:
    log = FakeLog()
    await log.publish(SUBJECT, b"a", {}, 0)
    mine = chain(log)

    tail = await mine.load()

    assert tail is not None
    assert (tail.data, mine.sequence) == (b"a", 1)
    await mine.append(b"b", {})
    assert mine.sequence == 2


async def test_another_ones_message_fences() -> None:
    log = FakeLog()
    mine, other = chain(log), chain(log, command=8)
    await mine.load()
    await other.load()
    await other.append(b"theirs", {})

    for attempt in (mine.confirm(), mine.append(b"mine", {})):
        with pytest.raises(FencedError, match="another worker owns this job") as fenced:
            await attempt
        assert fenced.value.tail == log.on(SUBJECT)[-1]
        assert fenced.value.same_command is False
    assert [entry.data for entry in log.on(SUBJECT)] == [b"theirs"]


async def test_a_message_that_is_gone_fences_too() -> None:
    log = FakeLog()
    mine = chain(log)
    await mine.load()
    await mine.append(b"a", {})
    log.purge(SUBJECT)

    for attempt in (mine.confirm(), mine.append(b"b", {})):
        with pytest.raises(FencedError) as fenced:
            await attempt
        assert fenced.value.tail is None
        assert fenced.value.same_command is True


@pytest.mark.parametrize(
    ("header", "same"), [({COMMAND_HEADER: "7"}, True), ({COMMAND_HEADER: "8"}, False), ({}, True)]
)
def test_whether_the_winner_works_on_the_same_command(header: dict[str, str], same: bool) -> None:
    assert FencedError(Entry(1, b"", header, SUBJECT), 7).same_command is same


def test_a_log_that_is_away_is_asked_again_after_growing_pauses() -> None:
    async def main() -> None:
        log = FakeLog()
        mine = chain(log)
        log.reads_unavailable = 2
        await mine.load()
        assert now() == pytest.approx(0.15)

        log.fail_next("lost", "lost", None)
        await mine.append(b"a", {})
        assert now() == pytest.approx(0.30)
        assert (log.publishes, mine.sequence) == (3, 1)

    in_virtual_time(main())


def test_a_message_whose_answer_was_lost_is_found_and_not_appended_again() -> None:
    async def main() -> None:
        log = FakeLog()
        mine = chain(log)
        log.fail_next("ack_lost")

        await mine.append(b"a", {})

        assert now() == pytest.approx(0.05)
        assert ([entry.data for entry in log.on(SUBJECT)], mine.sequence) == ([b"a"], 1)
        await mine.append(b"b", {})
        assert mine.sequence == 2

    in_virtual_time(main())


def test_a_refusal_that_the_log_does_not_explain_is_tried_again_after_a_pause() -> None:
    """A known message id may be answered before the expectation is looked at, while the tail is still ours."""

    async def main() -> None:
        log = FakeLog(window=0.12)
        await log.publish("other", b"", {"Nats-Msg-Id": "m"}, 0)
        mine = chain(log)
        clock = log._clock
        began = clock.time

        async def pass_time(subject: str) -> None:
            clock.time = began
            clock.advance(now())

        log.before_publish = pass_time
        await mine.append(b"a", {"Nats-Msg-Id": "m"})

        assert (log.publishes - 1, mine.sequence) == (3, 2)
        assert now() == pytest.approx(0.15)

    in_virtual_time(main())
