"""`followers jobs` and `followers status`: what the bucket of job status says."""

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.console import OK, AsJson, ConfigFile, Stop, complain, emit, examples, perform, say, table
from worker.cli.refusals import bearing_refusals
from worker.cli.session import connected, jobs_bucket, load_settings
from worker.cli.wording import counted, moment, with_times

if TYPE_CHECKING:
    from nats.aio.client import Client

    from schemas.jobs import JobStatus
    from schemas.types import Provider

JOBS_EXAMPLES = examples(
    ("followers jobs", "The newest jobs."),
    ("followers jobs --state failed --provider esms", "Only those."),
    ("followers jobs --state queued", "What waits for a worker, in the order in which it is taken."),
    ("followers jobs --json | jq -r '.[].job_id'", "For programs: a JSON array of job statuses."),
)
STATUS_EXAMPLES = examples(
    ("followers status nightly-2026-11-23", "How one job is doing."),
    ("followers status nightly-2026-11-23 --json | jq .percent", "For programs."),
    ("followers status JOB --json | jq -r .wait.text", "Why it doesn't move, and what to do."),
)

_NEWS = 2
"""Seconds: what is older of a job that goes on is told with its age, and asked of its worker."""
_ANSWERED_WITHIN = 1.5
_SILENCE = 10.0
"""Seconds without an entry, while more are known to be there, until we give up."""
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def jobs(
    context: typer.Context,
    state: Annotated[
        Literal["queued", "running", "waiting", "completed", "failed", "cancelled"] | None,
        typer.Option(help="Only jobs in this state."),
    ] = None,
    provider: Annotated[Literal["etelecom", "esms"] | None, typer.Option(help="Only jobs of this provider.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most this many.")] = 50,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List jobs, the newest first; those in the queue in the order in which they are taken.

    Jobs that no worker has seen yet are only in the queue: `--state queued` reads it, else it is counted.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        async with connected(settings) as client:
            known = await _statuses(client)
            found = [job for job in known if state in (None, job.state) and provider in (None, job.provider)]
            found.sort(key=_newness, reverse=True)
            if state == "queued":
                found, more = await _with_waiting(client, found, known, provider, limit)
            else:
                more = max(0, len(found) - limit)
            waiting = 0 if json or state is not None else await _count_waiting(client, provider)
        if json:
            emit(found[:limit])
            return OK
        table(_COLUMNS, [_row(job) for job in found[:limit]])
        if more:
            complain(f"{more:,} more: use --limit")
        if waiting:
            what = counted(waiting, "command waits", "commands wait")
            complain(f"{what} in the queue for a worker: `followers jobs --state queued`")
        return OK

    perform(work)


def status(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show one job: how far it is, and why it doesn't move when it doesn't.

    A job that no worker has seen yet is looked for in the queue of commands. Programs without the right to read
    that can ask a worker: a NATS request on `followers.status.JOB`.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        async with connected(settings) as client:
            found = await _explained(client, job, settings.worker.ack_wait)
        if json:
            emit(found)
            return OK
        for name, text in _lines(found):
            say(f"{name:12} {text}")
        return OK

    perform(work)


_COLUMNS = ("JOB", "PROVIDER", "OA", "STATE", "PAGES", "FOLLOWERS", "TOTAL", "UPDATED", "NOTE")


def _row(job: "JobStatus") -> tuple[str, ...]:
    total = "" if job.total is None else f"{job.total:,}"
    pages, followers = f"{job.page:,}", f"{job.followers:,}"
    return (job.job_id, job.provider, job.oa_id, job.state, pages, followers, total, moment(job.updated_at), _note(job))


def _lines(job: "JobStatus") -> list[tuple[str, str]]:
    of = "" if job.total is None else f" of {job.total:,}"
    percent = "" if job.percent is None else f" ({job.percent:.0f} %)"
    known = {
        "job": job.job_id,
        "provider": job.provider,
        "account": job.account,
        "oa": job.oa_id,
        "state": job.state,
        "verdict": job.verdict,
        "reason": job.reason,
        "waits": job.wait and with_times(job.wait.text, moment),
        "since": job.wait and moment(job.wait.since),
        "until": moment(job.until or (job.wait.until if job.wait else None)),
        "pages": f"{job.page:,}",
        "followers": f"{job.followers:,}{of}{percent}",
        "attempt": str(job.attempt),
        "worker": job.worker,
        "eta": moment(job.eta),
        "started": moment(job.started_at),
        "updated": moment(job.updated_at) + _age(job),
        "finished": moment(job.finished_at),
        "error": job.error and f"{job.error.code}: {job.error.message}",
        "labels": ", ".join(f"{key}={value}" for key, value in job.labels.items()),
    }
    return [(name, text) for name, text in known.items() if text]


def _note(job: "JobStatus") -> str:
    if job.error is not None:
        return f"{job.error.code}: {job.error.message}"
    if job.wait is not None:
        return with_times(job.wait.text, moment)
    return " ".join(text for text in (job.verdict, job.reason) if text)


def _newness(job: "JobStatus") -> tuple[datetime, str]:
    # Neither when it was updated, nor in the order of the bucket: rows would change places at every look.
    return job.started_at or job.finished_at or job.updated_at, job.job_id


async def _with_waiting(
    client: "Client", handed_back: "list[JobStatus]", known: "list[JobStatus]", provider: "Provider | None", limit: int
) -> "tuple[list[JobStatus], int]":
    """Return `handed_back` and then the oldest commands that no worker has taken, and how many more there are."""
    from worker.core.ports.job_store import QueueUnavailableError
    from worker.core.status.wait_reasons import queued_status
    from worker.jetstream.commands.queue import JetStreamCommandQueue

    try:
        commands, more = await JetStreamCommandQueue(client, timeout=5).waiting(limit, provider)
    except QueueUnavailableError as error:
        complain(f"what no worker has taken yet can't be shown: {error}")
        commands, more = [], 0
    # A command beside a job that moves, or was handed back, is a duplicate of it; beside one that is over, a retry.
    shown = {job.job_id for job in known if job.state in ("queued", "running", "waiting")}
    waiting = {command.job_id: queued_status(command) for command in reversed(commands) if command.job_id not in shown}
    found = [*reversed(handed_back), *reversed(waiting.values())]
    return found, more + max(0, len(found) - limit)


async def _count_waiting(client: "Client", provider: "Provider | None") -> int:
    """Return how many commands no worker has taken, 0 where that can't be known."""
    from schemas.subjects import PROVIDERS
    from worker.jetstream.commands.lag import queued

    counts = [await queued(client, one, timeout=2) for one in ([provider] if provider else PROVIDERS)]
    return sum(count[0] for count in counts if count is not None)


def _age(job: "JobStatus") -> str:
    """Say how old the news of a job is that goes on."""
    from worker.core.status.view import OVER

    seconds = int((datetime.now(UTC) - job.updated_at).total_seconds())
    if job.state in OVER or seconds <= _NEWS:
        return ""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= 2 * size or size == 1)
    return f" ({seconds // size} {unit} ago)"


async def _statuses(client: "Client") -> "list[JobStatus]":
    import msgspec

    from schemas.jobs import JobStatus
    from schemas.subjects import JOBS_BUCKET
    from schemas.wire import decode
    from worker.jetstream.events.stored import SilentError, read_stored

    await jobs_bucket(client)
    found: list[JobStatus] = []
    unreadable = 0
    try:
        async for entry in read_stored(client, f"$KV.{JOBS_BUCKET}.*", stream=f"KV_{JOBS_BUCKET}", patience=_SILENCE):
            if not entry.data:
                continue  # the mark of a key that was deleted
            try:
                found.append(decode(entry.data, JobStatus))
            except msgspec.DecodeError:
                unreadable += 1
    except SilentError as error:
        raise Stop("NATS has fallen silent in the middle of the jobs: try again") from error
    if unreadable:
        what = counted(unreadable, "entry is no job status", "entries are no job status")
        complain(f"{what} of this version and left out")
    return found


async def queued_job(client: "Client", job: str) -> "JobStatus | None":
    """Return the status of a job that no worker has seen and whose command is in the queue, else None."""
    from worker.core.ports.job_store import QueueUnavailableError
    from worker.core.status.wait_reasons import queued_status
    from worker.jetstream.commands.queue import JetStreamCommandQueue

    try:
        known = await _status(client, job)
        with bearing_refusals():
            command = None if known is not None else await JetStreamCommandQueue(client, timeout=5).find(job)
    except (QueueUnavailableError, Stop):
        return None
    return None if command is None else queued_status(command)


async def _explained(client: "Client", job: str, ack_wait: float) -> "JobStatus":
    """Return the job's status, with why it doesn't move. Raises Stop."""
    from schemas.subjects import is_token
    from worker.core.ports.job_store import QueueUnavailableError
    from worker.core.status.view import explained
    from worker.jetstream.commands.queue import JetStreamCommandQueue
    from worker.jetstream.kv.cancellations import JetStreamCancellations

    if not is_token(job):
        raise Stop(f"job {job} isn't known: an id is 1 to 64 letters, digits, '_' or '-'")
    unknown = f"job {job} isn't known: no worker has seen it yet"
    known, problem = None, None
    try:
        known = await _status(client, job)
    except Stop as error:
        problem = error
    told = await _told_by_worker(client, job) if problem or _is_old(known) else None
    if told is not None and (known is None or told.updated_at >= known.updated_at):
        return told
    if problem is not None:
        raise problem
    try:
        with bearing_refusals() if known is not None else contextlib.nullcontext():
            found = await explained(
                job,
                known,
                look_again=lambda: _status(client, job),
                queue=JetStreamCommandQueue(client, timeout=5),
                cancellations=JetStreamCancellations(client, timeout=5),
                now=datetime.now(UTC),
                silent_after=ack_wait,
            )
    except QueueUnavailableError as error:
        raise Stop(f"{unknown}; its command may be queued, but {error}") from error
    if found is None:
        raise Stop(f"{unknown}, or it is older than the bucket keeps; its command is not in the queue")
    return found


def _is_old(known: "JobStatus | None") -> bool:
    """Say whether the worker that has the job may know more than the bucket."""
    return known is not None and known.state in ("running", "waiting") and bool(_age(known))


async def _told_by_worker(client: "Client", job: str) -> "JobStatus | None":
    """Ask whoever has the job; None where nobody answers with a status, or this user may not ask."""
    from nats.errors import Error

    from schemas.jobs import JobStatus
    from schemas.subjects import status_subject
    from schemas.wire import decode

    try:
        with bearing_refusals():
            answer = await client.request(status_subject(job), timeout=_ANSWERED_WITHIN)
        return decode(answer.data, JobStatus)
    except (Error, OSError, ValueError):
        return None


async def _status(client: "Client", job: str) -> "JobStatus | None":
    """Return what the bucket has. Raises Stop when that can't be read."""
    from nats.js.errors import KeyNotFoundError

    from schemas.jobs import JobStatus
    from schemas.wire import decode

    try:
        entry = await (await jobs_bucket(client)).get(job)
    except KeyNotFoundError:
        return None
    try:
        return decode(entry.value or b"", JobStatus)
    except ValueError as error:
        raise Stop(
            f"the status of job {job} can't be read: {error}; is this `followers` older than the worker?"
        ) from error
