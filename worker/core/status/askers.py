"""Requests of many askers: some at once, each asker in turn, and no more in line than can be answered soon."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from worker.core.tasks import begin

AT_ONCE = 64
"""Requests that are answered at the same time; most of it is waiting."""
OF_ONE = 48
"""Of these at most so many are of one asker, so that another one's are begun without waiting."""
IN_LINE = 4096
"""Requests that may wait, of all askers: some seconds' work, and some MB."""

Q = TypeVar("Q")
Act = Callable[[Q], Coroutine[Any, Any, None]]


class Questions(Generic[Q]):
    """The line of one kind of request. Belongs to one event loop."""

    def __init__(
        self, answer: Act[Q], shed: Act[Q], *, at_once: int = AT_ONCE, of_one: int = OF_ONE, in_line: int = IN_LINE
    ) -> None:
        """Take how to answer, and how to say that a request gets no answer now: that should take no time."""
        self._answer, self._shed = answer, shed
        self._at_once, self._of_one, self._in_line = at_once, of_one, in_line
        self._waiting = 0
        self._lines: dict[str, deque[Q]] = {}
        """Who waits, in rotation, with what."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: Counter[str] = Counter()
        self._over = False

    def put(self, asker: str, question: Q) -> None:
        """Take a question in. Where the line is full, whoever has most in it is refused the newest of that."""
        if self._over:
            return  # whoever asks another replica, or again, gets an answer
        self._lines.setdefault(asker, deque()).append(question)
        self._waiting += 1
        self._next()
        if self._waiting > self._in_line:
            longest = max(self._lines, key=lambda one: (len(self._lines[one]), one == asker))
            self._begin(self._shed(self._take(longest, newest=True)), "question.shed")

    async def close(self, within: float) -> None:
        """Take nothing more in, and give up after `within` seconds what is being answered."""
        self._over = True
        self._lines.clear()
        self._waiting = 0
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within)
            for task in late:
                task.cancel()

    def _next(self) -> None:
        """Begin the answer of whoever's turn it is, if there is a place for it."""
        asker = next((one for one in self._lines if self._answering[one] < self._of_one), None)
        if asker is None or self._answering.total() >= self._at_once:
            return
        question = self._take(asker)
        if asker in self._lines:
            self._lines[asker] = self._lines.pop(asker)  # the last in the rotation now
        self._answering[asker] += 1
        self._begin(self._answer(question), "question.answer").add_done_callback(lambda _: self._answered(asker))

    def _answered(self, asker: str) -> None:
        self._answering[asker] -= 1
        if not self._answering[asker]:
            del self._answering[asker]
        self._next()

    def _take(self, asker: str, *, newest: bool = False) -> Q:
        line = self._lines[asker]
        question = line.pop() if newest else line.popleft()
        self._waiting -= 1
        if not line:
            del self._lines[asker]
        return question

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = begin(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def asker_of(reply: str, info: str | None = None) -> str:
    """Return who asks, as far as that is told.

    `info`: what the server says of one from another account, whose reply subjects are all alike; else clients have an
    inbox each, with a number behind it.
    """
    try:
        told = json.loads(info) if info else None
    except ValueError:
        told = None
    if isinstance(told, dict) and "acc" in told:
        return " ".join(str(told.get(key, "")) for key in ("acc", "server", "id"))
    return reply.rpartition(".")[0]
