"""Background tasks with an owner: a failure that nobody awaits is logged, and what must go on is begun anew."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

AGAIN_AFTER = 1.0
"""Seconds until work that failed is begun anew; each time twice as long."""
AGAIN_AT_MOST = 60.0
CANCEL_EVERY = 0.5
"""Seconds until a task that goes on is cancelled again: what it does in the end, such as handing back, takes less."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def begin(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start `work`; should it fail, say so as `task.failed` with `name`. For work that nobody awaits.

    Keep the task: the event loop itself holds it only weakly.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_look)
    return task


def begin_lasting(work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
    """As `begin`, for work that must go on: whenever it fails, it is begun anew after a pause."""
    return begin(_last(work, name), name)


async def end(tasks: Iterable[asyncio.Task[Any]], *, within: float) -> set[asyncio.Task[Any]]:
    """Cancel `tasks`, again and again until all have ended or `within` seconds are over; return those that go on.

    Once isn't enough: Python 3.11's `wait_for` drops a cancellation that comes when what it waits for has just ended.
    """
    loop = asyncio.get_running_loop()
    deadline, left = loop.time() + within, {task for task in tasks if not task.done()}
    while left and (seconds := deadline - loop.time()) > 0:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=min(CANCEL_EVERY, seconds))
    return left


async def _last(work: Callable[[], Awaitable[None]], name: str) -> None:
    loop, pause = asyncio.get_running_loop(), AGAIN_AFTER
    while True:
        began = loop.time()
        try:
            await work()
        except Exception:
            # What went well for long has not failed in a row.
            pause = AGAIN_AFTER if loop.time() - began > AGAIN_AT_MOST else pause
            _log.exception("task.failed", task=name, again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_AT_MOST)
        else:
            return


def _look(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task.failed", task=task.get_name(), exc_info=error)
