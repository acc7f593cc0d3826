"""What is left of a command that can't be done: its dead letter, and where possible a `failed` event."""

import contextlib

from schemas import deadletters
from schemas.events import JobFailed
from schemas.jobs import JobStatus
from schemas.subjects import provider_of
from schemas.wire import rfc3339
from worker.core.errors import FetchFailure
from worker.core.eventlog.job_log import JobLog
from worker.core.eventlog.unreadable import UnreadableEventError
from worker.core.holdups import Failed
from worker.core.jobs.parse import MSG_ID_HEADER, IdTakenError, RejectedError, header, retry_of
from worker.core.ports.delivery import Delivery
from worker.core.ports.tracing import Span
from worker.core.services import World


async def bury(
    world: World,
    delivery: Delivery,
    error: FetchFailure,
    job_id: str,
    *,
    generation: int,
    attempts: int,
    failed: Failed = lambda code, words: None,
) -> None:
    """Store the dead letter of `delivery`; returns once it is stored.

    `generation`: of the job that fails by this. `attempts`: requests for the failed page. `failed`: hears of each try
    that fails.
    """
    # A header of the command's publish, such as its Nats-Expected-Stream, would speak for this one too.
    dropped = ("nats-", deadletters.GENERATION.lower())
    headers = {name: value for name, value in delivery.headers.items() if not name.lower().startswith(dropped)}
    message_id = header(delivery, MSG_ID_HEADER)
    if message_id is not None and retry_of(delivery) is None:
        headers[deadletters.MESSAGE_ID] = message_id
    if generation > 1:
        headers[deadletters.GENERATION] = str(generation)
    headers |= {
        deadletters.JOB_ID: job_id,
        deadletters.ERROR_CODE: error.code,
        deadletters.ERROR_MESSAGE: " ".join(error.message.split()),
        deadletters.ATTEMPTS: str(attempts),
        deadletters.COMMAND_SEQUENCE: str(delivery.sequence),
        deadletters.FAILED_AT: rfc3339(world.now()),
    }
    # The same command can fail in two generations: by itself, and as a duplicate of the retry.
    key = f"dead.{delivery.sequence}.{delivery.timestamp_us}" + (f".{generation}" if generation > 1 else "")
    provider = provider_of(delivery.subject)
    await world.dead_letters.store(provider, delivery.data, headers, key, failed)
    world.meter.dead_lettered(provider, error.code)


async def bury_rejected(world: World, delivery: Delivery, rejected: RejectedError, span: Span) -> None:
    """Store the dead letter of what is no valid command, and tell of it where that is possible.

    A job of its id may be under way or over: then this command's fault is not the job's end.
    """
    error, address = rejected.error, rejected.address
    if address is None:
        await bury(world, delivery, error, rejected.job_id, generation=1, attempts=0)
        return
    log = JobLog(address, address.account, delivery.sequence, world, span)
    event, is_new = None, False
    with contextlib.suppress(UnreadableEventError):  # somebody's message is there: not for this command to judge
        event = await log.last_event()
        is_new = event is None
    await bury(world, delivery, error, rejected.job_id, generation=log.generation, attempts=0)
    if is_new:
        failed = JobFailed(**log.common, error=error.to_event(attempts=0), finished_at=world.now())
        await log.end(failed, anyone=False)
        event = failed
    if isinstance(rejected, IdTakenError):
        return  # the status of an id that is another job's is that job's, whoever writes it first
    # Of an event that was there: whoever ended it may have died before its status was written.
    if isinstance(event, JobFailed) and (is_new or log.told_for == delivery.sequence):
        await _tell(world, delivery, event, log)


async def _tell(world: World, delivery: Delivery, failed: JobFailed, log: JobLog) -> None:
    if await world.status.get(failed.job_id) is None:
        status = JobStatus(
            **log.common,
            state="failed",
            worker=world.worker,
            updated_at=world.now(),
            finished_at=failed.finished_at,
            error=failed.error,
            command_sequence=delivery.sequence,
            generation=log.generation,
            event_sequence=log.end_sequence,
        )
        await world.status.settle(status)
