"""Hears what nobody foresaw: an exception that our code logs and goes on after, or that a task takes into its grave."""

import asyncio
import re
import sys
import weakref
from typing import Any

import structlog

from tests.schedule_kit import KilledError
from worker.core.cancellation import CancelledJobError, DrainingError
from worker.core.changes.ports import FeedsAwayError, FeedsUnavailableError
from worker.core.errors import FetchFailure
from worker.core.eventlog.appender import FencedError
from worker.core.jobs.parse import RejectedError
from worker.core.ports.event_log import LogUnavailableError, WrongSequenceError
from worker.core.ports.job_store import BoardUnavailableError
from worker.core.ports.limiter import LimitUnavailableError
from worker.core.schedules.ports import ScheduleUnavailableError

FAULT = (".fault", "task.failed")
"""How the names of our log events end that tell an exception which nobody foresaw: `command.fault`."""
FORESEEN = (
    *(FetchFailure, RejectedError, FencedError, DrainingError, CancelledJobError, WrongSequenceError),
    *(LogUnavailableError, BoardUnavailableError, LimitUnavailableError, ScheduleUnavailableError),
    *(FeedsUnavailableError, FeedsAwayError, KilledError),
)
"""What a task of a simulated worker may end with: whoever awaits it deals with it."""
LOOK_AFTER = 1_000
"""Tasks; those that ended well are let go then."""

_TOLD = re.compile(
    r"^.*(?:\b[a-z_]+\.fault\b|\btask\.failed\b|exception was never retrieved).*$"
    r"|^Fatal Python error: .*(?:\n.*){0,20}",  # a process that broke, and where: faulthandler's words
    re.MULTILINE,
)

heard: list[str] = []
"""What was unforeseen in the current test, outside simulated loops."""
_ears: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, "Ear"] = weakref.WeakKeyDictionary()


class Ear:
    """Listens to one simulated event loop, from its first task on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._heard: list[str] = []
        self._tasks: list[asyncio.Task[Any]] = []
        _ears[loop] = self
        loop.set_exception_handler(self._complained)
        loop.set_task_factory(self._make)

    def heard(self) -> list[str]:
        """Return what was unforeseen until now."""
        self._look()
        return self._heard

    def note(self, text: str) -> None:
        """Remember one thing more."""
        self._heard.append(text)

    def _make(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        self._tasks.append(task)
        if len(self._tasks) >= LOOK_AFTER:
            self._look()
        return task

    def _look(self) -> None:
        ended = [task for task in self._tasks if task.done()]
        self._tasks = [task for task in self._tasks if not task.done()]
        for task in ended:
            # Nothing public tells it, and waiting for the garbage collector would cost more than the simulation.
            was_lost = task._log_traceback
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, FORESEEN):
                self.note(_text(f"{_name(task)} failed", error))
            elif was_lost:
                self.note(_text(f"nobody learnt that {_name(task)} failed", error))

    def _complained(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.note(_text(str(context.get("message")), context.get("exception")))


def hear(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Note a fault that our code logs, as a structlog processor."""
    if str(event["event"]).endswith(FAULT):
        text = _text(str(event["event"]), sys.exception())
        loop = asyncio._get_running_loop()
        ear = _ears.get(loop) if loop is not None else None
        ear.note(text) if ear is not None else heard.append(text)
    return event


def drop(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """End a chain of structlog processors: the line is written nowhere."""
    raise structlog.DropEvent


def faults_in(log: str) -> list[str]:
    """Return the lines of a worker's log that tell of an exception which nobody foresaw."""
    return _TOLD.findall(log)


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", repr(task))


def _text(what: str, error: BaseException | None) -> str:
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{what}: {error!r}{where}"
