"""What NATS has not taken is told after a second, until it is taken, and never of something else."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.subjects import EVENTS_STREAM
from tests.fakes import FakeLog
from tests.simulation.loop import run
from worker.core.cures import DUPLICATE, NO_ANSWER, NO_STREAM, NOT_CONNECTED, cure, paused_text, resume
from worker.core.eventlog.appender import Chain, FencedError
from worker.core.holdups import TELL_AFTER, Holdup, Holdups
from worker.core.ports.event_log import LogUnavailableError
from worker.core.status.wait_reasons import held_up, paused

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Told:
    """What people saw, and when."""

    def __init__(self) -> None:
        self.holdups = Holdups(lambda: AT, self._note)
        self.seen: list[tuple[float, Holdup | None]] = []

    def _note(self) -> None:
        self.seen.append((round(asyncio.get_running_loop().time(), 3), self.holdups.current))


def test_what_fails_for_less_than_a_second_is_not_told() -> None:
    async def main() -> Told:
        told = Told()
        with told.holdups.trying("S", writes=True) as failed:
            await asyncio.sleep(TELL_AFTER - 0.001)
            failed(10077, "full")
            assert told.holdups.current is None
        return told

    assert run(random.Random(1), main()).seen == []
    assert TELL_AFTER == 1.0


def test_what_fails_for_a_second_is_told_once_until_its_words_change_and_until_it_succeeds() -> None:
    async def main() -> Told:
        told = Told()
        with told.holdups.trying("S", writes=True) as failed:
            await asyncio.sleep(TELL_AFTER)
            failed(10077, "full")
            failed(10077, "full")
            await asyncio.sleep(1)
            failed(None, NO_ANSWER)
            await asyncio.sleep(1)
        return told

    first = Holdup(since=AT, stream="S", writes=True, code=10077, words="full")
    second = Holdup(since=AT, stream="S", writes=True, code=None, words=NO_ANSWER)
    assert run(random.Random(1), main()).seen == [(1.0, first), (2.0, second), (3.0, None)]


def test_of_two_the_older_one_is_told_and_the_other_when_that_is_over() -> None:
    async def main() -> list[str | None]:
        holdups = Holdups(lambda: AT)
        with holdups.trying("A", writes=True) as older:
            await asyncio.sleep(1)
            older(1, "a")
            with holdups.trying("B", writes=False) as newer:
                await asyncio.sleep(1)
                newer(2, "b")
                both = holdups.current
            rest = holdups.current
        assert holdups.current is None
        return [one.stream if one else None for one in (both, rest)]

    assert run(random.Random(1), main()) == ["A", "A"]


class Refusing(FakeLog):
    """A log that refuses the first publishes with the server's own error."""

    refusals = 8

    async def publish(self, *arguments: Any, **options: Any) -> int:
        if self.refusals:
            self.refusals -= 1
            raise LogUnavailableError("publish", code=10077, words="maximum bytes exceeded")
        return await super().publish(*arguments, **options)


def test_a_chain_tells_the_servers_own_error_and_stops_telling_when_the_message_is_in() -> None:
    async def main() -> tuple[Told, int]:
        told, log = Told(), Refusing()
        await Chain(log, "s", 1, lambda: "t", told.holdups).append(b"x", {})
        return told, len(log.on("s"))

    told, stored = run(random.Random(1), main())
    assert stored == 1
    first, last = told.seen[0], told.seen[-1]
    # 50 ms, doubling: the sixth try comes 1.55 s after the first.
    assert first == (1.55, Holdup(AT, EVENTS_STREAM, True, 10077, "maximum bytes exceeded"))
    assert last[1] is None
    assert len(told.seen) == 2


def test_a_chain_tells_what_it_cannot_read() -> None:
    async def main() -> Told:
        told, log = Told(), FakeLog()
        log.reads_unavailable = 6
        await Chain(log, "s", 1, lambda: "t", told.holdups).load()
        return told

    seen = run(random.Random(1), main()).seen
    assert [(at, one and (one.writes, one.words)) for at, one in seen] == [
        (1.55, (False, "read: no answer")), (3.15, None),
    ]  # fmt: skip


def test_a_message_id_that_the_server_remembers_of_what_is_gone_is_told() -> None:
    async def main() -> Told:
        told, log = Told(), FakeLog()
        await Chain(log, "s", 1, lambda: "t1").append(b"x", {"Nats-Msg-Id": "1"})
        log.purge("s")
        chain = Chain(log, "s", 1, lambda: "t2", told.holdups)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(chain.append(b"x", {"Nats-Msg-Id": "1"}), 3)
        return told

    first = run(random.Random(1), main()).seen[0][1]
    assert first is not None
    assert (first.writes, first.code, first.words) == (True, None, DUPLICATE)


def test_whoever_is_fenced_leaves_nothing_told() -> None:
    async def main() -> Told:
        told, log = Told(), Refusing()
        chain = Chain(log, "s", 1, lambda: "t", told.holdups)
        log._store("s", b"other", {}, 0)
        with pytest.raises(FencedError):
            await chain.append(b"x", {})
        return told

    assert run(random.Random(1), main()).seen[-1][1] is None


@pytest.mark.parametrize(
    ("code", "words", "stream", "text"),
    [
        (10077, "maximum bytes exceeded", EVENTS_STREAM,
         "make room in FOLLOWERS_EVENTS, or raise streams.events_max_bytes and run `followers setup`"),
        (10077, "maximum bytes exceeded", "KV_FOLLOWERS_JOBS",
         "make room in KV_FOLLOWERS_JOBS, or raise its max_bytes"),
        (10077, "write error", EVENTS_STREAM, "see the log of nats-server; restart it when its disk was full"),
        *((code, "x", EVENTS_STREAM, "make room, or give the server or its account more JetStream storage")
          for code in (10002, 10023, 10028, 10047)),
        (None, NO_ANSWER, EVENTS_STREAM,
         "where all else is answered its disk was full; make room there, then restart nats-server"),
        (None, NOT_CONNECTED, EVENTS_STREAM, "it goes on when NATS is back"),
        (None, DUPLICATE, EVENTS_STREAM,
         "after a purge the job goes on when the duplicate window of FOLLOWERS_EVENTS is over, 2 minutes by default"),
        (None, NO_STREAM, EVENTS_STREAM, "run `followers setup`"),
        (None, "NATS does not let this user publish", EVENTS_STREAM, "run `followers doctor`"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_cure(code: int | None, words: str, stream: str, text: str) -> None:
    assert cure(code, words, stream) == text


@pytest.mark.parametrize(
    ("writes", "code", "text"),
    [
        (True, 10077, "NATS takes nothing for FOLLOWERS_EVENTS (error 10077: maximum bytes exceeded), and it is tried"
         " again: make room in FOLLOWERS_EVENTS, or raise streams.events_max_bytes and run `followers setup`"),
        (False, None, "NATS gives nothing of FOLLOWERS_EVENTS (no answer), and it is tried again: where all else is"
         " answered its disk was full; make room there, then restart nats-server"),
    ],
)  # fmt: skip
def test_a_wait_for_nats_has_its_words_and_code(writes: bool, code: int | None, text: str) -> None:
    words = "maximum bytes exceeded" if code else NO_ANSWER
    wait = held_up(Holdup(AT, EVENTS_STREAM, writes, code, words))

    assert (wait.owner, wait.reason, wait.since, wait.until) == ("nats", "nats", AT, None)
    assert (wait.nats_code, wait.nats_error, wait.text) == (code, words, text)


def test_a_paused_consumer_says_until_when_and_how_to_resume_it() -> None:
    until = AT + timedelta(hours=1, microseconds=5)
    wait = paused("esms", AT, until)

    assert (wait.owner, wait.since, wait.until, wait.nats_error) == ("nats", AT, until, "consumer paused")
    assert wait.text == f"{paused_text('esms', until)}: {resume('esms')}"
    assert wait.text == (
        "the consumer worker-esms is paused until 2026-03-01T01:00:00Z: resume it by"
        " `nats consumer resume FOLLOWERS_COMMANDS worker-esms`"
    )
