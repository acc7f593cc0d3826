"""A right that the command's user lacks ends the command at once, with its name.

NATS tells of it behind everybody's back, and whoever asked waits for an answer that doesn't come: without this the
command would time out, take the server for silent, or wait for ever.
"""

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from worker.cli.failures import USAGE, Stop

if TYPE_CHECKING:
    from worker.jetstream.client.monitor import Refusal

_GOES_BY_ITSELF = "$JS.API.CONSUMER.DELETE."
"""A reader's consumer ends without us, too."""
_INVENTED = re.compile(r"\.read-[0-9a-f]{32}$")
"""How `EventReader` calls its consumer."""


class Refusals:
    """What the server refuses on one connection while a command's task runs."""

    def __init__(self) -> None:
        """Belong to the task that runs now."""
        import asyncio

        self._task = asyncio.current_task()
        self._reason: str | None = None
        self._is_open = False
        self._borne = 0

    def hear(self, error: Exception) -> None:
        """Take what nats-py hands to `error_cb`; cut the command off when it is the lack of a right."""
        # Loaded by then: whoever is connected has it.
        from worker.jetstream.client.monitor import refusal

        refused = refusal(error)
        if refused is None or not self._is_open or self._borne or refused.subject.startswith(_GOES_BY_ITSELF):
            return
        if self._reason is None and self._task is not None:
            self._reason = _line(refused)
            self._task.cancel()

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Around what the command does: raises Stop in place of whatever a refusal makes of it."""
        import asyncio

        mark = _current.set(self)
        self._is_open = True
        try:
            yield
        except asyncio.CancelledError:
            # Somebody else's cancellation, such as Ctrl-C, comes first.
            if self._reason is None or self._task is None or self._task.uncancel() > 0:
                raise
            raise Stop(self._reason, code=USAGE) from None
        except Exception as error:
            if self._reason is None:
                raise
            if self._task is not None:
                self._task.uncancel()
            raise Stop(self._reason, code=USAGE) from error
        finally:
            self._is_open = False
            _current.reset(mark)


def _line(refused: "Refusal") -> str:
    """Say it of the subject that can be granted: a name that we made up is another one the next time."""
    if refused.act == "subscription" and refused.subject.startswith("_INBOX"):
        prefix = refused.subject.partition(".")[0]
        text = refused._replace(subject=f"{prefix}.>").text
        return f"{text}, or set nats.inbox_prefix to the one that it may use"
    text = refused._replace(subject=_INVENTED.sub(".*", refused.subject)).text
    return f"{text}, or use another user in [nats]"


_current: ContextVar[Refusals | None] = ContextVar("_current", default=None)


@contextlib.contextmanager
def bearing_refusals() -> Iterator[None]:
    """Around what a command can do without: a right that it lacks for this doesn't end it."""
    refusals = _current.get()
    if refusals is None:
        yield
        return
    refusals._borne += 1
    try:
        yield
    finally:
        refusals._borne -= 1
