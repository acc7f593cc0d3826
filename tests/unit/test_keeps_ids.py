"""Whether ids can be taken, from the answers that servers give; in virtual time."""

import asyncio
import json
import random
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest

from tests.jetstream_kit import answer
from tests.simulation import loop
from worker.jetstream.events.identity import keeps_ids


class Server:
    """A connection whose stream has these subjects, once it has answered with `errors`."""

    def __init__(
        self, subjects: list[str] | None, allowed: tuple[str, ...] = (">",), errors: tuple[Exception, ...] = ()
    ) -> None:
        self.subjects, self.allowed, self.errors = subjects, allowed, [*errors]
        self.asked: list[tuple[float, str]] = []

    def jetstream(self) -> "Server":
        return self

    async def request(self, subject: str, body: bytes, timeout: float) -> Any:
        rights = {"data": {"permissions": {"publish": {"allow": [*self.allowed]}}}}
        return answer(None, json.dumps(rights).encode())

    async def stream_info(self, stream: str) -> Any:
        self.asked.append((asyncio.get_running_loop().time(), stream))
        if self.errors:
            raise self.errors.pop(0)
        return SimpleNamespace(config=SimpleNamespace(subjects=self.subjects))


def kept(server: Any) -> bool:
    return loop.run(random.Random(1), keeps_ids(server))


@pytest.mark.parametrize(
    ("subjects", "keeps"),
    [
        (["followers.page.>", "followers.id.*"], True),
        (["followers.>"], True),
        (["followers.page.>", "followers.id.one"], False),
        ([], False),
        (None, False),
    ],
)
def test_ids_are_taken_where_the_event_stream_has_their_subject(subjects: list[str] | None, keeps: bool) -> None:
    server = Server(subjects)

    assert kept(server) is keeps
    assert server.asked == [(0.0, "FOLLOWERS_EVENTS")]


def test_whoever_may_not_publish_them_does_not_try() -> None:
    server = Server(["followers.>"], allowed=("followers.page.>",))

    assert kept(server) is False
    assert server.asked == []


def test_a_server_that_does_not_answer_is_asked_again_each_second() -> None:
    server = Server(["followers.>"], errors=(nats.errors.TimeoutError(), nats.errors.Error(), OSError()))

    assert kept(server) is True
    assert [at for at, _ in server.asked] == [0.0, 1.0, 2.0, 3.0]
