"""Reading a job's own events, where somebody else's message, or one from the future, may stand among them."""

from typing import Any

from schemas.events import FollowerPage, JobEvent
from schemas.subjects import EVENTS_STREAM
from schemas.wire import content_type, decode, why_unreadable
from worker.core.ports.event_log import Entry


class UnreadableEventError(Exception):
    """A message on a job's own subject is in the way; the text says which one and what to do, not what is in it."""

    def __init__(self, subject: str, sequence: int, why: str, before: JobEvent | None = None) -> None:
        """Keep where it is. `before`: of job events, the newest one before it that can be read."""
        super().__init__(
            f"message {sequence} of stream {EVENTS_STREAM} on {subject} is in the way of this job: {why}. Look at it by"
            f" `nats stream get {EVENTS_STREAM} {sequence}`. A newer version wrote it: upgrade the workers. Somebody"
            f" else did: delete it by `nats stream rmm {EVENTS_STREAM} {sequence}`. Then retry the dead letter, and the"
            " job goes on behind its last page"
        )
        self.subject, self.sequence, self.why, self.before = subject, sequence, why, before


class EventDecoder:
    """Decodes what is on one subject of one job."""

    def __init__(self, subject: str, provider: str, oa_id: str, job_id: str) -> None:
        """Take the subject and whose it is."""
        self._subject = subject
        self._whose = provider, oa_id, job_id

    def page(self, entry: Entry) -> FollowerPage:
        """Return the page in `entry`. Raises UnreadableEventError."""
        page: FollowerPage = self._decode(entry, FollowerPage)
        return page

    def event(self, entry: Entry) -> JobEvent:
        """Return the job event in `entry`. Raises UnreadableEventError."""
        event: JobEvent = self._decode(entry, JobEvent)
        return event

    def number(self, entry: Entry, header: str, default: int) -> int:
        """Return the number in a header of ours, `default` where there is none. Raises UnreadableEventError."""
        text = entry.headers.get(header)
        if text is None:
            return default
        if not (text.isdecimal() and text.isascii() and len(text) < 20):
            raise UnreadableEventError(self._subject, entry.sequence, f"its header {header} is no number")
        return int(text)

    def _decode(self, entry: Entry, kind: Any) -> Any:
        try:
            event = decode(entry.data, kind, content_type(entry.headers))
        except ValueError as error:
            why = f"it can't be decoded ({why_unreadable(error)})"
            # Without its cause, which may quote people's data into a log.
            raise UnreadableEventError(self._subject, entry.sequence, why) from None
        if (event.provider, event.oa_id, event.job_id) != self._whose:
            raise UnreadableEventError(self._subject, entry.sequence, "it is an event of another job")
        return event
