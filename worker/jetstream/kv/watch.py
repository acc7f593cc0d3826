"""Watching the bucket `FOLLOWERS_JOBS` without the right to make consumers.

A key-value watch of a NATS client makes a consumer, and whoever may do that can have the server write anywhere. So
this one is made of two smaller rights: a plain subscription says that something has changed, and reads by revision
say what. Nothing is missed: what a read finds depends on the last revision alone, and one is made every few seconds
without being told.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.subjects import JOBS_BUCKET
from worker.core.ports.event_log import Entry
from worker.jetstream.client.direct_get import PENDING, Nothing, read_answer

BATCH = 256
"""Entries asked for at once; a server before 2.11 gives one at a time."""
EARLY = 0.001
"""Seconds: what timers are exact to."""
LOOK_EVERY = 5.0
"""Seconds after which the bucket is read without being told that it has changed, and asked for its first revision."""
GATHER = 0.2
"""Seconds that changes are gathered, so that a busy bucket costs few reads."""

BREATH = 0.005
"""Seconds between two reads while there is more, so that a big bucket doesn't hold the event loop up."""

_STREAM = f"KV_{JOBS_BUCKET}"
_PREFIX = f"$KV.{JOBS_BUCKET}."
_GET = f"$JS.API.DIRECT.GET.{_STREAM}"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobChange:
    """A job's newest status, or that it has none any more."""

    revision: int
    job_id: str
    data: bytes | None
    """The status as JSON; None when the key was deleted."""


@dataclass(frozen=True, slots=True)
class JobChanges:
    """What has changed since the last time."""

    changes: list[JobChange]
    """In the order of their revisions."""
    more: bool = False
    """There are others, which the next call gives at once."""
    first: int | None = None
    """The bucket's oldest revision, now and then: older ones have expired."""
    anew: bool = False
    """The bucket was made anew: what was known before is void."""


class JobsWatch:
    """The bucket from its beginning, then every change."""

    def __init__(
        self, client: Client, *, timeout: float, key: str = "*", gather: float = GATHER, warns: bool = True
    ) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up.

        `key`: one job's id, else all are watched. `warns`: a server that doesn't answer is logged.
        """
        self._client = client
        self._entries, self._gather, self._warns = f"{_PREFIX}{key}", gather, warns
        self._js = client.jetstream(timeout=timeout)
        self._timeout = timeout
        self._revision = 0
        self._told = asyncio.Event()
        self._behind = False
        self._batches = True
        self._look_at = 0.0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator["JobsWatch"]:
        """Listen for changes."""

        async def hear(message: Msg) -> None:
            self._told.set()

        subscription = await self._client.subscribe(self._entries, cb=hear)
        self._told.set()
        try:
            yield self
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def next(self) -> JobChanges | None:
        """Return what has changed, waiting for it up to `LOOK_EVERY`; None while the server doesn't answer."""
        loop = asyncio.get_running_loop()
        if self._behind:
            await asyncio.sleep(BREATH)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at):
                    await self._told.wait()
                    await asyncio.sleep(self._gather)
        self._told.clear()
        try:
            first = await self._oldest() if loop.time() >= self._look_at - EARLY else None
            if first is not None and first < 0:
                self._revision = 0
                self._behind = True
                return JobChanges([], more=True, anew=True)
            changes, self._behind = await self._read()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if self._warns:
                _log.warning("jobs.unwatchable", error=type(error).__name__)
            self._look_at = loop.time() + 1.0
            return None
        if first is not None:
            self._look_at = loop.time() + LOOK_EVERY
        if changes:
            self._revision = changes[-1].revision
        return JobChanges(changes, more=self._behind, first=first)

    async def _oldest(self) -> int:
        """Return the oldest revision; -1 when the newest one is older than what was read: it is another bucket."""
        state = (await self._js.stream_info(_STREAM)).state
        return -1 if state.last_seq < self._revision else state.first_seq

    async def _read(self) -> tuple[list[JobChange], bool]:
        """Return the next entries, and whether there are more."""
        if self._batches:
            return await self._read_batch()
        changes: list[JobChange] = []
        while len(changes) < BATCH:
            start = changes[-1].revision if changes else self._revision
            message = await self._client.request(_GET, self._query(start + 1), timeout=self._timeout)
            found = read_answer(message)
            if isinstance(found, Nothing):
                return changes, False
            changes.append(_change(found))
        return changes, True

    async def _read_batch(self) -> tuple[list[JobChange], bool]:
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox)
        changes: list[JobChange] = []
        try:
            await self._client.publish(_GET, self._query(self._revision + 1), reply=inbox)
            while True:
                message = await answers.next_msg(self._timeout)
                found = read_answer(message)
                if isinstance(found, Nothing):
                    return changes, found.pending > 0
                changes.append(_change(found))
                if PENDING not in found.headers:
                    self._batches = False  # a server before 2.11
                    return changes, True
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await answers.unsubscribe()

    def _query(self, revision: int) -> bytes:
        return json.dumps({"seq": revision, "batch": BATCH, "next_by_subj": self._entries}).encode()


def _change(entry: Entry) -> JobChange:
    gone = entry.headers.get("KV-Operation") in ("DEL", "PURGE") or not entry.data
    return JobChange(entry.sequence, entry.subject.removeprefix(_PREFIX), None if gone else entry.data)
