"""`followers cancel`: end a job wherever it is."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import FAILED, OK, USAGE, AsJson, ConfigFile, Stop, emit, examples, note, perform
from worker.cli.session import connected, load_settings
from worker.cli.wording import counted

if TYPE_CHECKING:
    from nats.aio.client import Client

    from schemas.jobs import ControlError, JobStatus

EXAMPLES = examples(
    ("followers cancel nightly-2026-11-23", "Running, waiting or still queued: it ends as cancelled."),
    ("followers cancel nightly-2026-11-23 --json | jq .state", "The job's status, for programs."),
    ("nats request followers.cancel.nightly-2026-11-23 ''", "The same from any NATS client."),
)
_ANSWER_WITHIN = 5.0
_ENDS_WITHIN = 10.0
"""Seconds in which a job should end: a running one takes two, at most."""
_OVER = ("completed", "failed", "cancelled")


def cancel(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Cancel a job.

    A running one stops within a page or a second, a queued one when it is delivered; one that is over stays as it is.
    Exit code 0: it is over, or will be when it is delivered. 1: it isn't known yet, is not over, or no worker answered.
    """

    async def work() -> int:
        import asyncio

        from schemas.jobs import ControlError
        from schemas.subjects import is_token

        if not is_token(job):
            raise Stop(f"job {job} can't exist: an id is 1 to 64 letters, digits, '_' or '-'", code=USAGE)
        settings = load_settings(context, config)
        async with connected(settings) as client:
            deadline = time.monotonic() + _ENDS_WITHIN
            answer = await _request(client, job)
            while not isinstance(answer, ControlError) and not _is_settled(answer) and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                answer = await _request(client, job)
        if json:
            emit(answer)
        if isinstance(answer, ControlError):
            raise Stop(answer.error.message)
        note(_sentence(answer))
        return OK if _is_settled(answer) else FAILED

    perform(work)


async def _request(client: "Client", job: str) -> "JobStatus | ControlError":
    import msgspec
    from nats.errors import Error, NoRespondersError

    from schemas.jobs import ControlError, JobStatus
    from schemas.subjects import cancel_subject

    try:
        reply = await client.request(cancel_subject(job), timeout=_ANSWER_WITHIN)
    except NoRespondersError as error:
        raise Stop(f"no worker is there to cancel job {job}: start one with `followers worker`") from error
    except (Error, TimeoutError) as error:
        raise Stop(f"no worker answered ({type(error).__name__}): job {job} may still run; try again") from error
    try:
        return msgspec.json.decode(reply.data, type=JobStatus)
    except msgspec.ValidationError:
        return msgspec.json.decode(reply.data, type=ControlError)


def _is_over(status: "JobStatus") -> bool:
    return status.state in _OVER


def _is_settled(status: "JobStatus") -> bool:
    """Nothing more is to be waited for: a queued job ends as cancelled, whenever that is."""
    return _is_over(status) or status.state == "queued"


def _sentence(status: "JobStatus") -> str:
    so_far = f"{counted(status.followers, 'follower')} in {counted(status.page, 'page')}"
    if status.state == "cancelled":
        return f"cancelled after {so_far}"
    if _is_over(status):
        return f"job {status.job_id} was over already: {status.state}, {so_far}"
    return f"job {status.job_id} is {status.state} and will be cancelled: see `followers status {status.job_id}`"
