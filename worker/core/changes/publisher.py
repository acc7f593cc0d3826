"""Publishing a set of changes exactly once, in order, on a subject that feeds share.

The log says how far a set is: its events lie behind the sequence that its claim names. Each is appended on condition
that nothing has been since we looked, so whoever else publishes, another feed or the same set, is seen first.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import structlog

from schemas.changes import ChangeEvent, Feed, FeedClaim
from schemas.subjects import change_subject
from schemas.wire import content_type, decode, event_message, why_unreadable
from worker.core.backoff import Pause
from worker.core.changes.events import leaner
from worker.core.ports.event_log import (
    TOKEN_HEADER,
    Entry,
    LogUnavailableError,
    PayloadTooLargeError,
    WrongSequenceError,
)
from worker.core.services import World

Act = Literal["baseline", "changes", "held"]
_log = structlog.get_logger(__name__)


class _Seen(msgspec.Struct):
    """As much of a change event as tells which one it is."""

    job_id: str
    type: str
    number: int = 1


class ChangeLog:
    """One attempt at publishing one set."""

    def __init__(self, feed: Feed, claim: FeedClaim, world: World, check: Callable[[], None]) -> None:
        """Take the feed and its claim. `check` is called before each event, and may raise to stop."""
        self.done = 0
        """Events of the set that are in the log, as far as we know."""
        self._subject = change_subject(feed.provider, feed.oa_id)
        self._job_id = claim.job.job_id
        self._act: Act = claim.act
        self._tail = claim.after
        self._world = world
        self._check = check

    async def publish(self, of: int, event: Callable[[int], Awaitable[ChangeEvent]], traceparent: str | None) -> None:
        """Return once all `of` events of the set are in the log; `event` gives each by its number."""
        pause = Pause()
        await self._catch_up()
        while self.done < of:
            self._check()
            one, before = await event(self.done + 1), self.done
            try:
                self._tail = await self._append(one, traceparent)
            except WrongSequenceError:
                # Another feed's event, this set's by somebody else, or our own whose answer was lost.
                tail = self._tail
                await self._catch_up()
                if self._tail == tail:
                    await pause()
            except LogUnavailableError:
                await pause()
                await self._catch_up()
            else:
                self.done += 1
                self._world.meter.change_published(one.provider, str(one.__struct_config__.tag))
            if self.done > before:
                pause = Pause()

    async def _append(self, event: ChangeEvent, traceparent: str | None) -> int:
        lean: ChangeEvent | None = event
        while lean is not None:
            data, headers = event_message(
                lean,
                id=f"change.{lean.number}" if self._act == "changes" else self._act,
                time=self._world.now(),
                encoding=self._world.encoding,
                mode=self._world.cloudevents,
                traceparent=traceparent,
            )
            headers[TOKEN_HEADER] = self._world.token()
            try:
                return await self._world.log.publish(self._subject, data, headers, self._tail)
            except PayloadTooLargeError:
                lean = leaner(lean)
        raise PayloadTooLargeError(f"a change event on {self._subject}: raise max_payload on the server")

    async def _catch_up(self) -> None:
        """Look at everything since the last look."""
        pause = Pause()
        while True:
            try:
                tail = await self._world.log.last(self._subject)
                last = tail.sequence if tail is not None else 0
                if last > self._tail:
                    async for entry in self._world.log.read(self._subject, self._tail + 1, last):
                        self._see(entry)
                        self._tail = entry.sequence  # what is read need not be read again
            except LogUnavailableError:
                self._check()
                await pause()
            else:
                self._tail = last  # 0 when all of them have aged out
                return

    def _see(self, entry: Entry) -> None:
        try:
            seen = decode(entry.data, _Seen, content_type(entry.headers))
        except ValueError as error:
            # Nobody's set has it: ours are readable, and whoever wrote it, it holds up no feed.
            why = why_unreadable(error)
            _log.warning("changes.undecodable", subject=self._subject, sequence=entry.sequence, reason=why)
            return
        act = seen.type if seen.type in ("baseline", "held") else "changes"
        if seen.job_id == self._job_id and act == self._act:
            self.done = max(self.done, seen.number)
