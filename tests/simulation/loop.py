"""An event loop in virtual time whose order of callbacks is shuffled by a seed: a run replays exactly."""

import asyncio
import random
import selectors
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from tests.ear import Ear

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
        self.ear = Ear(self)

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


def run(rng: random.Random, main: Coroutine[Any, Any, T], *, unforeseen: list[str] | None = None) -> T:
    """Return what `main` returns on a loop of its own, and end what it leaves behind.

    What nobody foresaw is appended to `unforeseen`; without such a list it is an AssertionError.
    """
    loop = VirtualLoop(rng)
    try:
        result = loop.run_until_complete(main)
    finally:
        end(loop)
    heard = loop.ear.heard()
    if unforeseen is None:
        assert not heard, heard
    else:
        unforeseen += heard
    return result


def end(loop: VirtualLoop) -> None:
    """End what is left on `loop`, and close it."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


async def stop(running: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what would run on for ever. Raises what one of them failed with."""
    tasks = list(running)
    for task in tasks:
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end
