"""Breakages of the product, to show that a run notices each. Planted in the launcher's process only.

`CHAOS_MUTANT=no_fence python -m tests.chaos …`
"""

import contextlib
import contextvars
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import nats.errors
import nats.js.errors

from worker.core.ports.delivery import Delivery
from worker.core.ports.event_log import Entry, LogUnavailableError, WrongSequenceError

_delivery: contextvars.ContextVar[Delivery] = contextvars.ContextVar("delivery")


def no_fence() -> None:
    """Publish without `Nats-Expected-Last-Subject-Sequence`."""
    from worker.jetstream.events import log as pages

    async def publish(self: Any, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        ack = await _store(self, subject, data, headers)
        if ack.duplicate:
            raise WrongSequenceError
        return int(ack.seq)

    pages.JetStreamLog.publish = publish  # type: ignore[method-assign]


def trust_duplicate() -> None:
    """Take `duplicate: true` for success."""
    from worker.jetstream.events import log as pages

    async def publish(self: Any, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        ack = await _store(self, subject, data, {**headers, pages.EXPECTED_SEQUENCE: str(expected)})
        return int(ack.seq)

    pages.JetStreamLog.publish = publish  # type: ignore[method-assign]


def ack_before_end() -> None:
    """Acknowledge the command after the last page, just before the terminal event."""
    from worker.core.eventlog import job_log as joblog
    from worker.core.jobs import handler as consume

    handle, end = consume.CommandHandler.handle, joblog.JobLog.end

    async def remember(self: Any, delivery: Delivery, doom: Any = None) -> None:
        _delivery.set(delivery)
        await handle(self, delivery, doom)

    async def ack_first(self: Any, event: Any, *, anyone: bool) -> Any:
        await _delivery.get().ack()
        return await end(self, event, anyone=anyone)

    consume.CommandHandler.handle = remember  # type: ignore[method-assign]
    joblog.JobLog.end = ack_first  # type: ignore[method-assign]


def checkpoint_in_kv() -> None:
    """Go on where a key-value entry says, written after each page; the log has message ids and no fence."""
    from worker.jetstream.events import log as pages

    bucket = "$KV.FOLLOWERS_LIMITS.checkpoint"
    read_tail = pages.JetStreamLog.last

    async def last(self: Any, subject: str) -> Entry | None:
        if not subject.startswith("followers.page."):
            return await read_tail(self, subject)
        try:
            message = await self._js.get_msg("KV_FOLLOWERS_LIMITS", subject=f"{bucket}.{subject}")
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, OSError) as error:
            raise LogUnavailableError from error
        sequence, data, headers = msgspec.json.decode(message.data, type=tuple[int, bytes, dict[str, str]])
        return Entry(sequence, data, headers)

    async def publish(self: Any, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        if not subject.startswith("followers.page."):
            return await fenced(self, subject, data, headers, expected)
        ack = await _store(self, subject, data, headers)
        try:
            await self._js.publish(f"{bucket}.{subject}", msgspec.json.encode((ack.seq, data, dict(headers))))
        except (nats.errors.Error, OSError) as error:
            raise LogUnavailableError from error
        return int(ack.seq)

    fenced = pages.JetStreamLog.publish
    pages.JetStreamLog.last = last  # type: ignore[method-assign]
    pages.JetStreamLog.publish = publish  # type: ignore[method-assign]


def status_after_end() -> None:
    """Write the status that was posted last once more behind the end, without a condition: a heart that beats on."""
    from schemas.wire import encode
    from worker.jetstream.kv import job_status as status

    board: Any = status.JetStreamStatusBoard
    posted: dict[str, Any] = {}
    post, settle = board.post, board.settle

    def remember(self: Any, told: Any) -> None:
        posted[told.job_id] = told
        post(self, told)

    async def beat_on(self: Any, ended: Any) -> None:
        await settle(self, ended)
        if (told := posted.pop(ended.job_id, None)) is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._js.publish(self._key(ended.job_id), encode(told))

    board.post, board.settle = remember, beat_on


MUTANTS: dict[str, Callable[[], None]] = {
    breakage.__name__: breakage
    for breakage in (no_fence, trust_duplicate, ack_before_end, checkpoint_in_kv, status_after_end)
}


def plant(name: str) -> None:
    """Break the product in this process and its children. Raises KeyError for an unknown breakage."""
    MUTANTS[name]()


async def _store(log: Any, subject: str, data: bytes, headers: Mapping[str, str]) -> Any:
    from worker.jetstream.events import log as pages

    try:
        return await log._js.publish(subject, data, headers=dict(headers))
    except nats.js.errors.APIError as error:
        if error.err_code in pages.WRONG_SEQUENCE_CODES:
            raise WrongSequenceError from error
        raise LogUnavailableError from error
    except (nats.errors.Error, OSError) as error:
        raise LogUnavailableError from error
