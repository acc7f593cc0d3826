import time
from typing import Any

import pytest

from worker.jetstream.client.pull_backoff import _SHORTEST, paced

SHORT = 0.05


class Line:
    """A connection that comes back after so many looks."""

    def __init__(self, looks: int = 0, *, closed: bool = False) -> None:
        self.looks, self.is_closed = looks, closed

    @property
    def is_connected(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def fetching(line: Line, outcome: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    asked: list[tuple[Any, Any]] = []

    async def fetch(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    client: Any = line
    return paced(fetch, client, shortest=SHORT), asked


async def test_messages_come_at_once_and_arguments_are_passed_on() -> None:
    fetch, asked = fetching(Line(), ["message"])
    began = time.monotonic()

    assert await fetch(5, timeout=2) == ["message"]

    assert time.monotonic() - began < 10 * SHORT
    assert asked == [((5,), {"timeout": 2})]


async def test_a_pull_that_fails_at_once_takes_a_while() -> None:
    fetch, asked = fetching(Line(), LookupError("no consumer"))
    began = time.monotonic()

    with pytest.raises(LookupError, match="no consumer"):
        await fetch()

    assert time.monotonic() - began >= 0.9 * SHORT
    assert len(asked) == 1
    assert _SHORTEST == 1.0


async def test_nothing_is_asked_while_the_server_is_away() -> None:
    line = Line(looks=4)
    fetch, asked = fetching(line, [])
    began = time.monotonic()

    await fetch()

    assert line.looks < 0
    assert len(asked) == 1
    assert time.monotonic() - began >= 0.9 * 4 * SHORT / 10


async def test_a_closed_connection_is_not_waited_for() -> None:
    fetch, asked = fetching(Line(looks=10**6, closed=True), [])

    await fetch()

    assert len(asked) == 1


async def test_many_are_asked_for_together_for_a_short_time_where_there_may_be_many() -> None:
    asked: list[dict[str, Any]] = []

    async def fetch(**options: Any) -> Any:
        asked.append(options)
        if options["batch"] > 1 and len(asked) > 1:
            raise TimeoutError
        return ["message"] * options["batch"]

    client: Any = Line()
    many = paced(fetch, client, shortest=SHORT, at_once=lambda: 3)

    assert await many(batch=1, timeout=2.0) == ["message"] * 3
    assert await many(batch=1, timeout=2.0) == ["message"], "none came: one is waited for"
    assert asked == [{"batch": 3, "timeout": 0.1}] * 2 + [{"batch": 1, "timeout": 2.0}]
