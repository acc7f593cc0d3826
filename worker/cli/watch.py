"""`followers watch`: jobs as they move, live on a terminal, a line a change in a pipe."""

import contextlib
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.console import FAILED, OK, AsJson, ConfigFile, Stop, emit, examples, perform, say
from worker.cli.jobs import queued_job
from worker.cli.session import connected, jobs_bucket, load_settings
from worker.cli.wording import clock, counted, with_times

if TYPE_CHECKING:
    from nats.aio.client import Client
    from rich.table import Table

    from schemas.jobs import JobStatus

EXAMPLES = examples(
    ("followers watch", "All jobs, live, until Ctrl-C."),
    ("followers watch nightly-2026-11-23", "One job, to its end: exit code 0 when it completed."),
    ("followers watch | tee jobs.log", "A line for each change."),
    ("followers watch --json | jq -r 'select(.state == \"failed\") | .job_id'", "JSON lines, for programs."),
)
OVER = ("completed", "failed", "cancelled")
_SHOWN_FOR = timedelta(minutes=10)
"""How long a job that is over stays on the screen while others run."""
_COLORS = {"running": "cyan", "waiting": "yellow", "completed": "green", "failed": "red", "cancelled": "bright_black"}
_FRAME = 0.25
_GATHER = 0.05
"""Seconds that changes are gathered: of a job that moves faster, what stands then is shown."""
_TIMEOUT = 2.0


def watch(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(help="Only this job, to its end.", metavar="[JOB]")] = None,
    provider: Annotated[Literal["etelecom", "esms"] | None, typer.Option(help="Only jobs of this provider.")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show jobs as they move, until Ctrl-C.

    First each job as it stands, then what changes. With JOB it ends with that job: exit code 0 completed, 1 not.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        if job is not None:
            from schemas.subjects import is_token

            if not is_token(job):
                raise Stop(f"job {job} isn't known: an id is 1 to 64 letters, digits, '_' or '-'")
        live = sys.stdout.isatty() and not json
        async with connected(settings) as client:
            await jobs_bucket(client)
            statuses = _statuses(client, job or "*", provider)
            last = await (_live(statuses) if live else _lines(statuses, json=json))
        return OK if last is None or last.state == "completed" else FAILED

    perform(work)


async def _statuses(client: "Client", key: str, provider: str | None) -> "AsyncGenerator[JobStatus, None]":
    """Yield each job as it stands, then every change; with a job's id, up to its end."""
    import msgspec
    import nats.errors

    from schemas.jobs import JobStatus
    from schemas.wire import decode
    from worker.jetstream.kv.watch import JobsWatch

    # Not nats-py's watch: that one needs the right to make consumers, and is deaf after a restart of the server.
    if key != "*" and (queued := await queued_job(client, key)) is not None:
        yield queued
    async with JobsWatch(client, timeout=_TIMEOUT, key=key, gather=_GATHER, warns=False).watching() as jobs:
        while True:
            told = await jobs.next()
            if told is None:
                with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                    await jobs_bucket(client)  # says so when it is gone
                continue
            for change in told.changes:
                try:
                    status = decode(change.data or b"", JobStatus)
                except msgspec.DecodeError:
                    continue  # deleted, of another version, or not ours: `followers jobs` counts these
                if provider is None or status.provider == provider:
                    yield status
                if key != "*" and status.state in OVER:
                    return


async def _lines(statuses: "AsyncGenerator[JobStatus, None]", *, json: bool) -> "JobStatus | None":
    status = None
    async with contextlib.aclosing(statuses) as changes:
        async for status in changes:
            if json:
                emit(status)
            else:
                say(line(status))
            sys.stdout.flush()
    return status


def line(status: "JobStatus") -> str:
    """One change as text."""
    at = status.updated_at.astimezone(UTC).strftime("%H:%M:%SZ")
    return f"{at} {status.job_id} {status.provider} {status.oa_id} {status.state}: {_progress(status)}{_why(status)}"


async def _live(statuses: "AsyncGenerator[JobStatus, None]") -> "JobStatus | None":
    import asyncio

    from rich.live import Live

    from worker.cli.terminal import Terminal

    jobs: dict[str, JobStatus] = {}
    console = Terminal()
    last: JobStatus | None = None

    async def follow() -> None:
        nonlocal last
        async with contextlib.aclosing(statuses) as changes:
            async for last in changes:
                jobs[last.job_id] = last

    with Live(console=console, auto_refresh=False, transient=False) as screen:
        following = asyncio.ensure_future(follow())
        try:
            while not following.done():
                await asyncio.wait([following], timeout=_FRAME)
                screen.update(drawing(jobs, datetime.now(UTC), console.height - 4), refresh=True)
            following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    return last


def drawing(jobs: "dict[str, JobStatus]", now: datetime, height: int) -> "Table":
    """The screen: what runs and waits first, then what ended lately, at most `height` rows."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    for name in [name for name, job in jobs.items() if job.state in OVER and now - job.updated_at > _SHOWN_FOR]:
        if len(jobs) > height:
            del jobs[name]
    chosen = sorted(jobs.values(), key=_place)
    active = sum(job.state not in OVER for job in chosen)
    table = Table(
        box=None, header_style="bold", pad_edge=False, title_justify="left", caption_justify="left",
        caption=f"{active} in hand, {len(chosen) - active} over, {now:%H:%M:%S} UTC. Ctrl-C ends.",
    )  # fmt: skip
    for column in ("JOB", "PROVIDER", "OA", "STATE", "", "FOLLOWERS", "NOTE"):
        table.add_column(column, no_wrap=True, justify="right" if column == "FOLLOWERS" else "left")
    for job in chosen[: max(height, 1)]:
        share = 100.0 if job.state == "completed" else job.percent or 0.0
        table.add_row(
            *map(Text, (job.job_id, job.provider, job.oa_id)),
            Text(job.state, style=_COLORS.get(job.state, "")),
            ProgressBar(total=100, completed=share, width=20),
            Text(_progress(job)),
            Text(_why(job).removeprefix(", ")),
        )
    return table


def _place(job: "JobStatus") -> tuple[bool, float, str]:
    # By what doesn't change while a job moves: its row must stay where somebody reads it.
    at = (job.finished_at if job.state in OVER else None) or job.started_at or job.updated_at
    return job.state in OVER, -at.timestamp(), job.job_id


def _progress(job: "JobStatus") -> str:
    if job.total is None:
        return counted(job.followers, "follower")
    return f"{job.followers:,} of {counted(job.total, 'follower')}"


def _why(job: "JobStatus") -> str:
    from schemas.wire import next_second

    if job.error is not None:
        return f", {job.error.code}: {job.error.message}"
    if job.wait is not None:
        return f", {with_times(job.wait.text, clock)}"
    words = " ".join(text for text in (job.verdict, job.reason and job.reason.replace("_", " ")) if text)
    ends = next_second(job.until) if job.state == "waiting" and job.until else None
    until = f" until {clock(ends)}" if ends else ""
    eta = f"ready about {clock(job.eta)}" if job.state == "running" and job.eta else ""
    said = f"{words}{until}" or eta
    return f", {said}" if said else ""
