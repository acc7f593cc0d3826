"""Ends a test that stands still, also one that waits on the event loop that all tests share.

`pytest-timeout` raises what fails a test from the handler of SIGALRM. uvloop hands whatever such a handler raises to
the loop's exception handler and goes on waiting, except SystemExit. The other method, a thread, would end the whole
run and leave the servers that it started.
"""

import asyncio
import signal
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest


class StandsStillError(SystemExit):
    """The test took longer than its time-out."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """Let the alarm raise what every event loop lets through."""
    outcome = yield
    fail = signal.getsignal(signal.SIGALRM)
    if settings.method == "signal" and callable(fail):

        def alarm(number: int, frame: FrameType | None) -> None:
            try:
                fail(number, frame)
            except pytest.fail.Exception as failed:
                raise StandsStillError("\n".join([str(failed), *_waiting()])) from None

        signal.signal(signal.SIGALRM, alarm)
    return outcome


def _waiting() -> list[str]:
    """Where each task of the running loop waits."""
    loop = asyncio._get_running_loop()
    stacks = [(task, task.get_stack()) for task in asyncio.all_tasks(loop)] if loop else []
    return [
        f"{task.get_name()}: {stack[-1].f_code.co_qualname} at {stack[-1].f_code.co_filename}:{stack[-1].f_lineno}"
        for task, stack in stacks
        if stack
    ]
