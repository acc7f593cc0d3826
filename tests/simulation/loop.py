"""An event loop in virtual time whose order of callbacks is shuffled by a seed: a run replays exactly."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlockError(AssertionError):
    """Nothing is ready and no timer is set: everybody waits for somebody else."""


class _NoIo(selectors.SelectSelector):
    """Never waits: it moves the clock to the next timer instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise DeadlockError("the simulation stands still")
        self.loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeps cost nothing; what is ready at the same moment runs in an order that the seed decides."""

    def __init__(self, rng: random.Random) -> None:
        selector = _NoIo()
        self.now = 0.0
        self._rng = rng
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            order = list(ready)
            self._rng.shuffle(order)
            ready.clear()
            ready.extend(order)
        super()._run_once()  # type: ignore[misc]


def run(rng: random.Random, main: Coroutine[Any, Any, T]) -> T:
    """Return what `main` returns on a loop of its own, and end what it leaves behind."""
    loop = VirtualLoop(rng)
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
