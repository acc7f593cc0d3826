"""One batch of direct gets: what is asked, when it is whole, and when it is given up; in virtual time."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from tests.simulation import loop
from worker.jetstream.client.batch_get import Batch, as_query, read_batch
from worker.jetstream.client.direct_get import UnreadableAnswerError

Hear = Callable[[Msg], Awaitable[None]]
Script = list[tuple[float, dict[str, str]]]


def stored(sequence: int, *, pending: int | None = 0) -> dict[str, str]:
    """The headers of an answer with a message; without `pending` it is a server's that knows no batches."""
    headers = {"Nats-Subject": "a.b", "Nats-Sequence": str(sequence)}
    return headers if pending is None else headers | {"Nats-Num-Pending": str(pending)}


def over(status: str = "204", **headers: str) -> dict[str, str]:
    return {"Status": status, **{name.replace("_", "-"): value for name, value in headers.items()}}


class Server:
    """A connection whose server answers a request with these headers, each so many seconds after the one before."""

    def __init__(self, script: Script, *, unsubscribe_fails: Exception | None = None) -> None:
        self.script, self.unsubscribe_fails = script, unsubscribe_fails
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.subscribed: list[str] = []
        self.hear: Hear
        self.saying: asyncio.Task[None]

    def new_inbox(self) -> str:
        return "_INBOX.me"

    async def subscribe(self, subject: str, cb: Hear) -> "Server":
        self.subscribed.append(subject)
        self.hear = cb
        return self

    async def unsubscribe(self) -> None:
        self.subscribed.clear()
        if self.unsubscribe_fails is not None:
            raise self.unsubscribe_fails

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        self.asked.append((subject, json.loads(data), reply))
        while self.script and self.script[0][0] == 0:
            await self.say(self.script.pop(0)[1])
        self.saying = asyncio.create_task(self.say_all())

    async def say_all(self) -> None:
        for pause, headers in self.script:
            await asyncio.sleep(pause)
            await self.say(headers)

    async def say(self, headers: dict[str, str]) -> None:
        message: Any = Msg(_client=None, subject="", data=b"x", headers=headers)  # type: ignore[arg-type]
        await self.hear(message)


def read(server: Server) -> tuple[Batch | Exception, float]:
    """What a batch of this server's comes to, and after how many seconds."""

    async def story() -> tuple[Batch | Exception, float]:
        client: Any = server
        outcome: Batch | Exception
        try:
            outcome = await read_batch(client, "S", "a.b", 7, count=3, max_bytes=1_000, timeout=2.0)
        except (TimeoutError, nats.errors.Error) as error:
            outcome = error
        seconds = asyncio.get_running_loop().time()
        assert server.subscribed == [], "nobody listens any more"
        await server.saying
        return outcome, seconds

    main: Coroutine[Any, Any, tuple[Batch | Exception, float]] = story()
    return loop.run(random.Random(1), main)


def test_a_batch_is_asked_for_by_its_first_sequence_and_its_bounds() -> None:
    server = Server([(0, over())])

    read(server)

    query = {"seq": 7, "next_by_subj": "a.b", "batch": 3, "max_bytes": 1_000}
    assert server.asked == [("$JS.API.DIRECT.GET.S", query, "_INBOX.me")]
    assert as_query(last_by_subj="a") == b'{"last_by_subj": "a"}'


@pytest.mark.parametrize(
    ("script", "sequences", "more", "known", "seconds"),
    [
        ([(0, over("404"))], [], False, True, 0.0),
        ([(0, stored(7)), (0, stored(9)), (0, over(Nats_Num_Pending="0"))], [7, 9], False, True, 0.0),
        ([(0.5, stored(7)), (0.5, stored(9)), (0.5, over(Nats_Num_Pending="1"))], [7, 9], True, True, 1.5),
        ([(0, stored(7, pending=None)), (0, stored(9))], [7], True, False, 0.0),
        # Each one that comes is a sign of life for another `timeout` seconds.
        ([(1.5, stored(7)), (1.5, stored(8)), (1.5, over())], [7, 8], False, True, 4.5),
        ([(0, stored(7)), (1.5, stored(8)), (1.0, over())], [7, 8], False, True, 2.5),
        # What comes behind the end changes nothing.
        ([(0, stored(7)), (0, over()), (0, stored(8)), (0, over("503"))], [7], False, True, 0.0),
    ],
)
def test_a_batch_is_whole_when_the_server_says_so(
    script: Script, sequences: list[int], more: bool, known: bool, seconds: float
) -> None:
    batch, after = read(Server(script, unsubscribe_fails=nats.errors.ConnectionClosedError()))

    assert isinstance(batch, Batch)
    assert ([entry.sequence for entry in batch.entries], batch.more, batch.known) == (sequences, more, known)
    assert after == seconds


@pytest.mark.parametrize(
    ("script", "seconds"),
    [([], 2.0), ([(1.0, stored(7))], 4.0), ([(0, stored(7))], 2.0), ([(0.5, stored(7)), (0.5, stored(8))], 4.0)],
)
def test_a_server_that_falls_silent_is_given_up_after_a_time_in_which_nothing_came(
    script: Script, seconds: float
) -> None:
    outcome, after = read(Server(script))

    assert isinstance(outcome, TimeoutError)
    assert after == seconds


@pytest.mark.parametrize(
    ("headers", "error"), [(over("503"), nats.errors.NoRespondersError), (over("408"), UnreadableAnswerError)]
)
def test_an_answer_that_says_nothing_ends_the_batch(headers: dict[str, str], error: type[Exception]) -> None:
    for script in ([(0.0, headers)], [(0.0, stored(7)), (1.0, headers), (1.0, headers)]):
        outcome, after = read(Server(script))

        assert isinstance(outcome, error)
        assert after == float(len(script) > 1)
