"""What is left of a command that can't be done: its dead letter, and where possible a `failed` event."""

from schemas import deadletters
from schemas.events import JobFailed
from schemas.jobs import JobStatus
from schemas.subjects import provider_of
from schemas.wire import rfc3339
from worker.core.commands import MSG_ID_HEADER, Address, header, retry_of, traceparent
from worker.core.errors import FatalError, FetchFailure
from worker.core.joblog import JobLog
from worker.core.ports import Delivery
from worker.core.world import World


async def bury(world: World, delivery: Delivery, error: FetchFailure, job_id: str, attempts: int) -> None:
    """Store the dead letter of `delivery`; returns once it is stored. `attempts`: requests for the failed page."""
    # A header of the command's publish, such as its Nats-Expected-Stream, would speak for this one too.
    headers = {name: value for name, value in delivery.headers.items() if not name.lower().startswith("nats-")}
    message_id = header(delivery, MSG_ID_HEADER)
    if message_id is not None and retry_of(delivery) is None:
        headers[deadletters.MESSAGE_ID] = message_id
    headers |= {
        deadletters.JOB_ID: job_id,
        deadletters.ERROR_CODE: error.code,
        deadletters.ERROR_MESSAGE: " ".join(error.message.split()),
        deadletters.ATTEMPTS: str(attempts),
        deadletters.COMMAND_SEQUENCE: str(delivery.sequence),
        deadletters.FAILED_AT: rfc3339(world.now()),
    }
    key = f"dead.{delivery.sequence}.{delivery.timestamp_us}"
    await world.dead_letters.store(provider_of(delivery.subject), delivery.data, headers, key)


async def tell_rejected(world: World, delivery: Delivery, error: FatalError, address: Address) -> None:
    """Append a `failed` event and write a status, unless there is a job of that id.

    Such a job is under way or over, and this command's fault is not its end.
    """
    log = JobLog(address, address.account, delivery.sequence, world, traceparent(delivery))
    if await log.last_event() is not None:
        return
    now = world.now()
    failed = JobFailed(**log.common, error=error.to_event(attempts=0), finished_at=now)
    await log.end(failed, anyone=False)
    if await world.status.get(address.job_id) is None:
        status = JobStatus(
            **log.common,
            state="failed",
            worker=world.worker,
            updated_at=now,
            finished_at=now,
            error=failed.error,
            command_sequence=delivery.sequence,
        )
        await world.status.settle(status)
