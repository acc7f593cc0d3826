"""Following one job through its events, with a progress bar on a terminal and plain lines elsewhere."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from schemas.commands import FetchFollowers
from schemas.events import (
    TERMINAL,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    JobWaiting,
)
from schemas.subjects import EVENTS_STREAM
from schemas.wire import content_type, decode, next_second, why_unreadable
from worker.cli.console import FAILED, OK, USAGE, Stop, emit, note
from worker.cli.wording import clock, counted, has_time, with_times
from worker.jetstream.events.reader import EventReader
from worker.visible import visible

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from worker.core.ports.event_log import Entry

_NO_WORKER_AFTER = 5.0
"""Seconds without a sign of a worker until we say so."""
_LINE_EVERY = 1.0
"""Seconds between two lines of progress when nobody watches a bar."""

Terminal = JobCompleted | JobFailed | JobCancelled


class View(Protocol):
    """Somewhere to show a job's progress."""

    def page(self, page: FollowerPage) -> None:
        """A page was published."""
        ...

    def say(self, line: str) -> None:
        """Something else that people should know."""
        ...


async def follow(client: "Client", command: FetchFollowers) -> Terminal:
    """Show the events of `command`'s job from its beginning; return the terminal one. Raises Stop."""
    subject = f"followers.*.{command.provider}.{command.oa_id}.{command.id}"
    view = BarView() if sys.stderr.isatty() else LineView()
    patience = _NO_WORKER_AFTER
    with view:
        async with EventReader(client, subject) as reader:
            while True:
                message = await _next(reader, patience)
                if message is None:
                    if patience < float("inf"):
                        view.say("waiting for a worker to take the command (is one running? `followers worker`)")
                    patience = float("inf")
                    continue
                patience = float("inf")
                entry = as_entry(message)
                try:
                    event = read_event(entry)
                except ValueError as error:
                    view.say(f"left out: {unreadable(entry, error)}")
                    continue
                reopened = isinstance(event, JobFailed) and message.metadata.num_pending > 0
                if isinstance(event, TERMINAL) and not reopened:
                    return event
                show(event, view)


def as_entry(message: "Msg") -> "Entry":
    """Return what a consumer has delivered as a message of the stream."""
    from worker.core.ports.event_log import Entry

    return Entry(message.metadata.sequence.stream, message.data, message.headers or {}, message.subject)


def decode_event(message: "Entry") -> FollowerPage | JobEvent | None:
    """Return the page or job event in `message`; None when it is of a kind that this version doesn't know.

    Raises Stop when it can't be read.
    """
    try:
        return read_event(message)
    except ValueError as error:
        raise Stop(unreadable(message, error)) from error


def read_event(message: "Entry", front: str = "") -> FollowerPage | JobEvent | None:
    """As `decode_event`; `front`: what its subject has before `followers.`. Raises ValueError."""
    _, kind, *whose = message.subject.removeprefix(front).split(".")
    encoding = content_type(message.headers)
    if kind not in ("page", "job"):
        return None
    event: FollowerPage | JobEvent = decode(message.data, FollowerPage if kind == "page" else JobEvent, encoding)
    if [event.provider, event.oa_id, event.job_id] != whose:
        raise ValueError("Expected an event of the subject's job, got another one's")
    return event


def unreadable(message: "Entry", error: ValueError, stream: str = EVENTS_STREAM) -> str:
    """Return the line that says which message can't be read, why, and what to do; nothing of what is in it."""
    return unreadable_at(message.subject, message.sequence, error, stream)


def unreadable_at(subject: str, sequence: int, error: ValueError, stream: str = EVENTS_STREAM) -> str:
    """As `unreadable`."""
    return (
        f"message {sequence} on {subject} can't be read: {why_unreadable(error)}; is this `followers` older"
        f" than the worker? Look at it by `nats stream get {stream} {sequence}`"
    )


def show(event: FollowerPage | JobEvent | None, view: View) -> None:
    """Tell `view` of an event that isn't terminal."""
    if isinstance(event, FollowerPage):
        view.page(event)
    elif isinstance(event, JobStarted) and event.attempt > 1:
        view.say(f"another worker goes on at page {event.resumed_at_page} (attempt {event.attempt})")
    elif isinstance(event, JobWaiting):
        why = event.wait.text if event.wait else event.reason.replace("_", " ")
        until = "" if has_time(why) else f" until {clock(next_second(event.until))}"
        view.say(f"waiting{until}: {with_times(why, clock)}")


def report_end(event: Terminal, *, json: bool) -> int:
    """Say how a job ended: a line on stderr, with `json` the event on stdout. Returns the exit code."""
    if json:
        emit(event)
    note(summary(event))
    return OK if isinstance(event, JobCompleted) else FAILED


def summary(event: Terminal) -> str:
    """Return one line that says how a job ended."""
    if isinstance(event, JobFailed):
        return f"failed: {event.error.code}: {event.error.message}"
    if isinstance(event, JobCancelled):
        return "cancelled"
    seconds = (event.finished_at - event.started_at).total_seconds()
    verdict = f"{event.verdict} ({event.reason})" if event.reason else event.verdict
    if event.verdict != "complete" and event.missed_at_most is not None:
        verdict += f", {event.missed_at_most:,} missed at most" if event.missed_at_most else ", nobody missed"
    followers, pages = counted(event.followers, "follower"), counted(event.pages, "page")
    return f"completed: {followers} in {pages}, {verdict}, {seconds:.1f} s"


class LineView(AbstractContextManager["LineView"]):
    """A line a second at most, for pipes and logs."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._said = 0.0

    def page(self, page: FollowerPage) -> None:
        """Say how far the job is, unless that was said within the last second."""
        if page.last or time.monotonic() - self._said >= _LINE_EVERY:
            self._said = time.monotonic()
            note(f"page {page.page:,}: {_count(page)}")

    def say(self, line: str) -> None:
        """Say it."""
        note(line)

    def __exit__(self, *_: object) -> None:
        """There is nothing to put away."""


class BarView(AbstractContextManager["BarView"]):
    """A progress bar on stderr."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from worker.cli.terminal import Terminal

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            console=Terminal(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("waiting for a worker", total=None, count="")

    def page(self, page: FollowerPage) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            description=f"page {page.page:,}",
            count=_count(page),
            completed=page.progress.followers,
            total=max(page.total, page.progress.followers) if page.total is not None else None,
        )

    def say(self, line: str) -> None:
        """Say it above the bar."""
        self._bar.console.print(visible(line))

    def __enter__(self) -> "BarView":
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()


def _count(page: FollowerPage) -> str:
    so_far = page.progress.followers
    return counted(so_far, "follower") if page.total is None else f"{so_far:,} of {counted(page.total, 'follower')}"


async def _next(reader: EventReader, patience: float) -> "Msg | None":
    try:
        return await reader.next(patience)
    except LookupError as error:
        raise Stop(str(error), code=USAGE) from error
