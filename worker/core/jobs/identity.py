"""Whose job an id is: that of the first command which came with it, over all providers, OAs and accounts.

Each id has a subject of its own on the event stream. Whoever takes a command writes there for which provider, OA and
account, on condition that nothing is there, before anything is asked or published; the loser reads the winner's record.

Why there: the record has to be as lasting, and as near, as the events that it keeps apart. On their stream it is
there when they can be, is lost only with them, ages out with them (then the id is free again) and costs one publish a
job. The bucket of job status would not do: no page depends on it, it may be away, it has another TTL, and others write
to its keys.

A redelivery, a duplicate and the retry of a dead letter find their own record, or write it anew where it has aged out.
Jobs of versions before this one left none: there the status tells, as it did then.
"""

import msgspec

from schemas.jobs import JobStatus
from schemas.subjects import EVENTS_STREAM, id_subject
from worker.core.errors import FatalError, InternalError, InvalidCommandError
from worker.core.eventlog.appender import Chain, FencedError
from worker.core.job import Job
from worker.core.jobs.parse import IdTakenError
from worker.core.ports.event_log import Entry
from worker.core.services import World


class IdHolder(msgspec.Struct, frozen=True, kw_only=True):
    """The job that an id stands for."""

    provider: str
    oa_id: str
    account: str | None = None

    def is_job(self, job: Job) -> bool:
        """Say whether `job` is this one. A command that names no account means whichever the job has."""
        asked = job.address.account
        return self.is_list_of(job) and (None in (self.account, asked) or self.account == asked)

    def is_list_of(self, job: Job) -> bool:
        """Say whether `job` is about the same OA at the same provider."""
        return (self.provider, self.oa_id) == (job.address.provider, job.address.oa_id)


async def take_id(job: Job, account: str, known: JobStatus | None, world: World) -> None:
    """Make the job's id its own, or raise IdTakenError when it is another's.

    `account`: the one whose credentials the job uses. `known`: the job's status. Waits for as long as the log is away.
    """
    holder = None
    if known is not None:
        holder = IdHolder(provider=known.provider, oa_id=known.oa_id, account=known.account)
    if world.keeps_ids:
        record = _Record(job, world)
        if holder is None or holder.is_job(job):
            holder = await record.take(account)
        else:
            # A status is no proof, so the record decides; written now, it would make an older job's id ours.
            holder = await record.read() or holder
    if holder is not None and not holder.is_job(job):
        raise _taken(job, InvalidCommandError(_whose(job, holder)))


class _Record:
    """What is written about one id."""

    def __init__(self, job: Job, world: World) -> None:
        self._job, self._token = job, world.token
        self._subject = id_subject(job.address.job_id)
        self._chain = Chain(world.log, self._subject, job.sequence, world.token)

    async def take(self, account: str) -> IdHolder:
        """Return whose the id is: from now on the job's, unless it was somebody's."""
        address = self._job.address
        holder = IdHolder(provider=address.provider, oa_id=address.oa_id, account=account)
        # Never the same message id: the condition is what keeps it from being stored twice, and a record that was
        # purged must be written anew at once.
        headers = {"Content-Type": "application/json", "Nats-Msg-Id": f"id:{address.job_id}:{self._token()}"}
        try:
            await self._chain.append(msgspec.json.encode(holder), headers)
        except FencedError as fenced:
            return holder if fenced.tail is None else self._decode(fenced.tail)
        return holder

    async def read(self) -> IdHolder | None:
        """Return whose the id is, None when nobody has taken it."""
        entry = await self._chain.load()
        return None if entry is None else self._decode(entry)

    def _decode(self, entry: Entry) -> IdHolder:
        try:
            return msgspec.json.decode(entry.data, type=IdHolder)
        except ValueError:
            raise _taken(
                self._job,
                InternalError(
                    f"message {entry.sequence} of stream {EVENTS_STREAM} on {self._subject} should say whose the id is"
                    f" and can't be read: delete it by `nats stream rmm {EVENTS_STREAM} {entry.sequence}` unless a"
                    " newer version wrote it, then retry the dead letter"
                ),
            ) from None


def _whose(job: Job, holder: IdHolder) -> str:
    account = f", account {holder.account}" if holder.is_list_of(job) else ""
    return (
        f"the id {job.address.job_id!r} is already that of a job for OA {holder.oa_id} at {holder.provider}{account}: "
        "an id stands for one job, so publish this command under another"
    )


def _taken(job: Job, error: FatalError) -> IdTakenError:
    return IdTakenError(error, job.address.job_id, job.address)
