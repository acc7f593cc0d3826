"""Requests of many askers: how many at once, whose turn it is, and whom a full line refuses."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from schemas.jobs import ControlError
from tests.simulation.loop import run
from worker.core.ports.job_store import QueuedCommand
from worker.core.status.askers import AT_ONCE, IN_LINE, OF_ONE, Questions, asker_of
from worker.core.status.control import overloaded
from worker.core.status.searches import WAITING, QueueBusyError, Searches


class Office:
    """Answers when told to."""

    def __init__(self, **bounds: int) -> None:
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.cancelled: list[str] = []
        self.ends = asyncio.Event()
        self.line: Questions[str] = Questions(self._answer, self._refuse, **bounds)

    async def _answer(self, question: str) -> None:
        self.begun.append(question)
        try:
            await self.ends.wait()
        except asyncio.CancelledError:
            self.cancelled.append(question)
            raise

    async def _refuse(self, question: str) -> None:
        self.refused.append(question)

    async def ask(self, *questions: str) -> None:
        for question in questions:
            self.line.put(question[0], question)
            await settled()

    async def answer_all(self) -> None:
        self.ends.set()
        await settled()


async def settled() -> None:
    await asyncio.sleep(0.01)  # in virtual time: all that can happen has


def play(scene: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), scene)


def test_so_many_are_answered_at_once_and_fewer_of_one() -> None:
    async def scene() -> None:
        office = Office(at_once=3, of_one=2)
        await office.ask("a1", "a2", "a3", "b1", "b2", "c1")
        assert office.begun == ["a1", "a2", "b1"]

        await office.answer_all()
        assert sorted(office.begun) == ["a1", "a2", "a3", "b1", "b2", "c1"]
        assert office.refused == []

    play(scene())
    assert (AT_ONCE, OF_ONE, IN_LINE) == (64, 48, 4096)


def test_askers_take_turns_and_each_ones_own_come_in_order() -> None:
    async def scene() -> None:
        office = Office(at_once=1, of_one=1)
        await office.ask("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        await office.answer_all()

        assert office.begun == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]

    play(scene())


def test_a_full_line_refuses_the_newest_of_whoever_has_most_in_it() -> None:
    async def scene() -> None:
        office = Office(at_once=1, of_one=1, in_line=3)
        await office.ask("a1", "a2", "a3", "a4")
        assert office.refused == []

        await office.ask("a5")
        assert office.refused == ["a5"]
        await office.ask("b1")
        assert office.refused == ["a5", "a4"]
        await office.ask("b2")  # as many as the other one then: it is the newcomer's that goes
        assert office.refused == ["a5", "a4", "b2"]
        await office.answer_all()
        assert sorted(office.begun) == ["a1", "a2", "a3", "b1"]

    play(scene())


def test_an_asker_without_questions_is_forgotten() -> None:
    async def scene() -> None:
        office = Office(at_once=1, of_one=1)
        await office.ask("a1", "b1")
        await office.answer_all()

        assert (office.line._lines, office.line._answering, office.line._tasks) == ({}, {}, set())

    play(scene())


def test_the_end_waits_for_what_is_being_answered_as_long_as_it_is_told() -> None:
    async def scene() -> None:
        office = Office(at_once=1, of_one=1)
        await office.ask("a1", "a2")
        loop = asyncio.get_running_loop()
        began = loop.time()

        await office.line.close(2.0)
        assert loop.time() - began == pytest.approx(2.0)
        await office.ask("a3")

        assert (office.begun, office.cancelled, office.refused) == (["a1"], ["a1"], [])

    play(scene())


def test_the_end_comes_at_once_where_nothing_is_being_answered() -> None:
    async def scene() -> None:
        office = Office(at_once=1, of_one=1)
        await office.line.close(2.0)
        await office.ask("a1")
        assert office.begun == []

    play(scene())


def test_an_answer_that_fails_gives_its_place_to_the_next() -> None:
    answered: list[str] = []

    async def scene() -> None:
        async def answer(question: str) -> None:
            answered.append(question)
            raise asyncio.CancelledError

        line: Questions[str] = Questions(answer, answer, at_once=1, of_one=1)
        for question in ("a1", "a2"):
            line.put("a", question)
        await settled()

    play(scene())
    assert answered == ["a1", "a2"]


@pytest.mark.parametrize(
    ("reply", "asker"), [("_INBOX.abc.1", "_INBOX.abc"), ("_INBOX.abc", "_INBOX"), ("", ""), ("a.b.c.d", "a.b.c")]
)
def test_an_asker_is_known_by_the_inbox(reply: str, asker: str) -> None:
    assert asker_of(reply) == asker


def test_whoever_is_not_looked_at_is_told_so() -> None:
    answer = overloaded("j" * 70)

    assert isinstance(answer, ControlError)
    assert (answer.job_id, answer.error.code, answer.error.retryable) == ("j" * 64, "rate_limited", True)
    assert answer.error.message == (
        "too many requests about jobs wait in this worker: ask again in a second, and for fewer at a time"
    )


class Slow:
    """A queue that is searched for a second."""

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        await asyncio.sleep(1)
        if job_id == "broken":
            raise RuntimeError
        return None


def test_so_many_searches_wait_and_the_others_are_refused_at_once() -> None:
    async def scene() -> None:
        searches = Searches(Slow(), waiting=2)

        async def fails() -> None:
            with pytest.raises(RuntimeError):
                await searches.find("broken")

        running = asyncio.gather(searches.find("a"), fails())
        await settled()
        began = asyncio.get_running_loop().time()
        with pytest.raises(QueueBusyError, match=r"^many jobs are being looked for just now$"):
            await searches.find("c")
        assert asyncio.get_running_loop().time() == began
        assert [*await running] == [None, None]

        assert [*await asyncio.gather(searches.find("d"), searches.find("e"))] == [None, None]

    play(scene())
    assert WAITING == 8


@pytest.mark.parametrize(
    ("info", "asker"),
    [
        ('{"acc":"FOLLOWERS_PUBLISHERS","server":"N1","id":7,"rtt":5}', "FOLLOWERS_PUBLISHERS N1 7"),
        ('{"acc":"FOLLOWERS_PUBLISHERS","rtt":5}', "FOLLOWERS_PUBLISHERS  "),
        ("{}", "_R_.abc"),
        ("[]", "_R_.abc"),
        ("{", "_R_.abc"),
        (None, "_R_.abc"),
    ],
)
def test_an_asker_in_another_account_is_known_by_what_the_server_says_of_it(info: str | None, asker: str) -> None:
    assert asker_of("_R_.abc.1", info) == asker
