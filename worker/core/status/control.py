"""Answers to requests about a job: cancel it, say how it is doing."""

import asyncio
from datetime import timedelta

import msgspec

from schemas.events import FetchError
from schemas.jobs import ControlError, JobStatus
from schemas.subjects import is_token
from schemas.types import ErrorCode
from worker.core.ports.job_store import BoardUnavailableError, QueueUnavailableError
from worker.core.services import World
from worker.core.status.end_in_log import with_end
from worker.core.status.searches import QueueBusyError
from worker.core.status.view import OVER, explained
from worker.core.status.wait_reasons import cancelling, queued_status, waits_for_nats

ENDS_WITHIN = 2.0
"""Seconds that a request to cancel waits for the job's end."""
APPEARS_WITHIN = 0.5
"""Seconds that it waits for a job of which nobody has heard: it may just be on its way to a worker."""
LOOK_EVERY = 0.1
ON_ITS_WAY = 120.0
"""Seconds that a command may still come after its id was cancelled, where it is known nowhere and in no queue."""
UNSEARCHED = 7 * 86_400.0
"""Seconds that the same is kept where the queue couldn't be searched: as long as a command may be in it."""
OLD = 2.0
"""Seconds: the bucket has news of a job that moves each second."""
GIVES_WAY = 0.25
"""Seconds that an answer from the bucket waits for the worker that has the job: the first answer counts."""

Answer = JobStatus | ControlError


class Control:
    """Answers for all replicas; any of them can, whoever has the job."""

    def __init__(self, world: World) -> None:
        """Take the board and the place where cancellations are noted."""
        self._world = world

    async def cancel(self, job_id: str) -> Answer:
        """Note that the job is to be cancelled, and return its status, if possible after it has ended.

        A job that is completed or cancelled is left alone. One that failed is too, but a retry of it that is queued
        is not run. An unknown one is noted all the same: its command may be queued, or on its way. Where it isn't
        queued the note is kept for `ON_ITS_WAY` only: anybody may ask for any id.
        """
        if not is_token(job_id):
            return _no_id(job_id)
        try:
            known = await self._world.status.look(job_id)
            if known is not None and known.state in ("completed", "cancelled"):
                return known
            if known is None:
                # First: its command may be delivered while we look for it.
                await self._world.cancellations.request_unknown(job_id, ON_ITS_WAY)
            else:
                await self._world.cancellations.request(job_id)
            was_known, known = known is not None, await self._await_end(job_id, known)
            if not was_known:
                known = await self._note_unknown(job_id, known)
            if known is not None:
                known = await with_end(known, self._world.log, self._world.now)
            if known is not None and not _is_over(known) and not waits_for_nats(known):
                known = msgspec.structs.replace(known, wait=cancelling(self._world.now()))
        except BoardUnavailableError:
            return _unavailable(job_id)
        except QueueBusyError:
            return _busy(job_id)
        except QueueUnavailableError:
            return _unknown(job_id, "if its command is queued, it ends as cancelled when it is delivered")
        within = f"within {ON_ITS_WAY / 60:g} minutes"
        return known or _unknown(job_id, f"its command isn't queued; if it comes {within}, it ends as cancelled")

    async def _note_unknown(self, job_id: str, known: JobStatus | None) -> JobStatus | None:
        """Note for as long as it takes what was noted for a while; return its status. Raises as `CommandQueue`."""
        if known is None:
            try:
                known = await self._look_in_queue(job_id)
            except QueueBusyError:
                raise
            except QueueUnavailableError:
                await self._world.cancellations.request_unknown(job_id, UNSEARCHED)
                raise
            # It may have been taken and finished between the two looks.
            known = known or await self._world.status.look(job_id)
        if known is not None and known.state not in ("completed", "cancelled"):
            await self._world.cancellations.request(job_id)
        return known

    async def _look_in_queue(self, job_id: str) -> JobStatus | None:
        if self._world.queue is None:
            raise QueueUnavailableError("nobody can look into the queue")
        # What was seen before a moment ago is no answer: the command may have come since.
        command = await self._world.queue.find(job_id, anew=True)
        return None if command is None else queued_status(command)

    async def status(self, job_id: str) -> Answer:
        """Return the job's status, from memory when it is in hand here: the bucket may not take what we say.

        Of one that no worker has seen yet, return where its command is in the queue.
        """
        if not is_token(job_id):
            return _no_id(job_id)
        if (held := self._world.status.in_hand(job_id)) is not None:
            return await with_end(held, self._world.log, self._world.now)
        try:
            known = await self._look(job_id)
            known = await explained(
                job_id,
                known,
                look_again=lambda: self._world.status.look(job_id),
                queue=self._world.queue,
                cancellations=self._world.cancellations,
                now=self._world.now(),
                silent_after=self._world.ack_wait,
            )
        except BoardUnavailableError:
            return _unavailable(job_id)
        except QueueBusyError:
            return _busy(job_id)
        except QueueUnavailableError:
            return _unknown(job_id, "its command may be queued, but the queue can't be searched now: ask again")
        if known is None:
            return _unknown(job_id, "its command isn't in the queue: it was never published, or is too long ago")
        return await with_end(known, self._world.log, self._world.now)

    async def _look(self, job_id: str) -> JobStatus | None:
        """Read the bucket; give way to the worker that has the job where the bucket has no news. Raises as `look`."""
        try:
            known = await self._world.status.look(job_id)
        except BoardUnavailableError:
            await asyncio.sleep(GIVES_WAY)
            raise
        goes_on = known is not None and known.state in ("running", "waiting")
        if known is not None and goes_on and self._world.now() - known.updated_at > timedelta(seconds=OLD):
            await asyncio.sleep(GIVES_WAY)
        return known

    async def _await_end(self, job_id: str, known: JobStatus | None) -> JobStatus | None:
        waited = 0.0
        while not _is_over(known) and waited < (APPEARS_WITHIN if known is None else ENDS_WITHIN):
            await asyncio.sleep(LOOK_EVERY)
            waited += LOOK_EVERY
            known = await self._world.status.look(job_id)
        return known


def overloaded(job_id: str) -> ControlError:
    """Return the answer to a request that is not looked at, since too many wait."""
    message = "too many requests about jobs wait in this worker: ask again in a second, and for fewer at a time"
    return _refusal(job_id[:64], "rate_limited", message, retryable=True)


def _is_over(status: JobStatus | None) -> bool:
    return status is not None and status.state in OVER


def _no_id(job_id: str) -> ControlError:
    message = "this can't be a job's id, which has 1 to 64 letters, digits, '_' or '-': correct the subject"
    return _refusal(job_id[:64], "invalid_command", message)


def _unknown(job_id: str, meaning: str) -> ControlError:
    return _refusal(job_id, "not_found", f"no worker has seen job {job_id}: {meaning}")


def _busy(job_id: str) -> ControlError:
    message = (
        f"no worker has seen job {job_id}, and its command isn't looked for in the queue, where too many others"
        " are being looked for: ask again in a second, and for fewer jobs at a time"
    )
    return _refusal(job_id, "rate_limited", message, retryable=True)


def _unavailable(job_id: str) -> ControlError:
    message = f"the bucket of job status doesn't answer, so nothing is certain about job {job_id}: ask again"
    return _refusal(job_id, "internal", message, retryable=True)


def _refusal(job_id: str, code: ErrorCode, message: str, *, retryable: bool = False) -> ControlError:
    return ControlError(job_id=job_id, error=FetchError(code=code, message=message, retryable=retryable))
