"""`followers export`: a job's followers as one file, whole or not at all."""

import contextlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.console import OK, USAGE, AsJson, ConfigFile, Stop, emit, examples, note, perform
from worker.cli.session import connected, load_settings
from worker.cli.which_job import choose
from worker.cli.wording import counted

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import RawStreamMsg

    from schemas.events import FollowerPage, JobCompleted
    from schemas.subjects import JobSubject
    from worker.cli.export_files import Format
    from worker.cli.export_target import Sink

EXAMPLES = examples(
    ("followers export JOB followers.parquet", "The format is told by the ending: .parquet .duckdb .csv .jsonl"),
    ("followers export JOB -o today.db --format duckdb", "Or by name; the table is `followers`."),
    ("followers export JOB - --format csv | gzip > list.csv.gz", "- is stdout, for JSON lines and CSV."),
    ("followers export JOB so-far.csv --partial", "A job that still runs, or failed, as far as it has come."),
)

_SILENCE = 10.0
"""Seconds without an event, while more are known to be there, until we give up."""
_SAY_EVERY = 1.0


def export(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    file: Annotated[str | None, typer.Argument(help="The file to write; - is stdout.", metavar="FILE")] = None,
    output: Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="The same as FILE.")] = None,
    format: Annotated[
        Literal["parquet", "csv", "jsonl", "duckdb"] | None, typer.Option(help="Else the file's ending tells.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Also a job that is not complete.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it is there.")] = False,
    oa: Annotated[str | None, typer.Option(metavar="OA_ID", help="When several jobs share the id.")] = None,
    provider: Annotated[Literal["etelecom", "esms"] | None, typer.Option(help="When several share the id.")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Write a job's followers to a Parquet, CSV, JSON lines or DuckDB file, one row a follower.

    The file appears when it is whole. A link is followed: what it leads to is written. Stdout (-), a named pipe and a
    device such as /dev/stdout get JSON lines and CSV as they are read; folders and other devices are refused.

    Exit code 1: the job is not complete (see --partial), or pages have left the stream.
    """

    async def work() -> int:
        from worker.cli.export_target import find_target, stream, whole_file

        target, kind = find_target(_named(file, output, json=json), format, force=force)
        settings = load_settings(context, config)
        _end_tidily_when_told()
        async with connected(settings) as client:
            subject, end = await _find(client, job, oa=oa, provider=provider)
            if end is None and not partial:
                raise Stop(f"job {job} is not complete: see `followers status {job}`, or use --partial")
            if target.is_file:
                with whole_file(target) as path:
                    done = await _copy(client, subject, end, kind, path, partial=partial)
            else:
                async with stream(target, kind) as sink:
                    done = await _copy(client, subject, end, kind, sink, partial=partial)
        if json:
            size = target.path.stat().st_size if target.is_file and target.path else None
            told = {"job_id": job, "file": target.name, "format": kind, "bytes": size}
            emit(told | {"followers": done.rows, "pages": done.pages, "complete": done.complete})
        written = f"{counted(done.rows, 'follower')} of {counted(done.pages, 'page')}"
        note(f"{target.name}: {written}{'' if done.complete else ', not complete'}")
        return OK

    perform(work)


def _end_tidily_when_told() -> None:
    import asyncio

    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _named(file: str | None, output: str | None, *, json: bool) -> str:
    """Return the file's name. Raises Stop."""
    from worker.cli.export_target import STDOUT

    name = file if output is None else output
    if name is None or None not in (file, output):
        raise Stop("name one file: followers export JOB FILE", code=USAGE)
    if name == STDOUT and json:
        raise Stop("--json says on stdout what was written, where the list itself is to go: leave one out", code=USAGE)
    return name


async def _find(
    client: "Client", job: str, *, oa: str | None, provider: str | None
) -> "tuple[JobSubject, JobCompleted | None]":
    """Return which job it is and, when it is complete, its last event. Raises Stop."""
    from nats.js.errors import NotFoundError

    from schemas.events import JobCompleted, JobEvent
    from schemas.subjects import EVENTS_STREAM, is_token, job_subject
    from schemas.wire import content_type, decode

    if not is_token(job):
        raise Stop(f"job {job} isn't known: an id is 1 to 64 letters, digits, '_' or '-'")
    js, event = client.jetstream(), None
    try:
        info = await js.stream_info(EVENTS_STREAM, subjects_filter=f"followers.*.*.*.{job}")
    except NotFoundError as error:
        raise Stop(f"stream {EVENTS_STREAM} is missing: run `followers setup`", code=USAGE) from error
    one = choose(info.state.subjects or {}, job, oa=oa, provider=provider)
    if one is None:
        raise Stop(f"job {job} isn't known: it has no events; see `followers jobs`")
    try:
        last = await js.get_last_msg(EVENTS_STREAM, job_subject(one.provider, one.oa_id, one.job_id))
        event = decode(last.data or b"", JobEvent, content_type(last.headers))
    except NotFoundError:
        return one, None
    except ValueError as error:
        event = await _before(client, last, error)
    return one, event if isinstance(event, JobCompleted) else None


async def _before(client: "Client", last: "RawStreamMsg", error: ValueError) -> "JobCompleted":
    """Return the end before `last`, which can't be read: what is behind an end ends nothing. Raises Stop."""
    from schemas.events import TERMINAL, JobCompleted
    from worker.cli.follow import read_event, unreadable_at
    from worker.jetstream.events.stored import SilentError, read_stored

    end, seq, subject = None, last.seq or 0, last.subject or ""
    try:
        async for entry in read_stored(client, subject, patience=_SILENCE):
            with contextlib.suppress(ValueError):
                event = read_event(entry)
                end = event if isinstance(event, TERMINAL) else None
    except SilentError as silent:
        raise Stop(f"NATS has fallen silent at {subject}: try again") from silent
    line = unreadable_at(subject, seq, error)
    if not isinstance(end, JobCompleted):
        raise Stop(line) from error
    note(f"left out: {line}")
    return end


async def _copy(
    client: "Client",
    job: "JobSubject",
    end: "JobCompleted | None",
    format: "Format",
    place: "Path | Sink",
    *,
    partial: bool,
) -> "_Written":
    """Write all followers to `place`. Raises Stop."""
    from worker.cli.export_files import open_writer

    rows = pages = 0
    left_out: list[str] = []
    said = time.monotonic()
    try:
        writer = open_writer(format, place)
        try:
            async for page in _pages(client, job, left_out, partial=partial):
                writer.add(page)
                rows, pages = rows + len(page.followers), pages + (page.part == page.parts)
                if time.monotonic() - said >= _SAY_EVERY:
                    said = time.monotonic()
                    so_far = f"{rows:,} of {counted(end.followers, 'follower')}" if end else counted(rows, "follower")
                    note(f"page {page.page:,}: {so_far}")
            writer.close()
        except BaseException:
            writer.abandon()
            raise
    except OSError as error:
        if not isinstance(place, Path):
            raise
        raise Stop(f"the file can't be written: {error.strerror or error}; nothing of it was left") from error
    complete = end is not None and rows == end.followers
    if not complete and not partial:
        raise Stop(left_out[0]) if left_out else _left(job)
    for line in left_out:
        note(f"left out: {line}")
    return _Written(rows=rows, pages=pages, complete=complete)


async def _pages(
    client: "Client", job: "JobSubject", left_out: list[str], *, partial: bool
) -> "AsyncIterator[FollowerPage]":
    """Yield the pages that are there now, in order; add to `left_out` what can't be read. Raises Stop."""
    from schemas.events import FollowerPage
    from schemas.order import AlteredError, GapError, Order
    from schemas.subjects import page_subject
    from worker.cli.follow import read_event, unreadable
    from worker.jetstream.events.stored import SilentError, read_stored

    subject = page_subject(job.provider, job.oa_id, job.job_id)
    order = Order()
    try:
        async for entry in read_stored(client, subject, patience=_SILENCE):
            try:
                page = read_event(entry)
            except ValueError as error:
                left_out.append(unreadable(entry, error))
                continue
            assert isinstance(page, FollowerPage), "the subject has pages only"
            try:
                if not order.admit(subject, page):
                    continue
            except GapError as gap:
                if not partial:
                    raise (Stop(left_out[0]) if left_out else _left(job)) from gap
            try:
                order.check(subject, page)
            except AlteredError as altered:
                if not partial:
                    raise Stop(
                        f"page {page.page} of job {job.job_id} isn't as it was published: {altered}"
                    ) from altered
            order.took(subject, page)
            yield page
    except SilentError as error:
        raise Stop(f"NATS has fallen silent in the middle of job {job.job_id}: try again") from error


def _left(job: "JobSubject") -> Stop:
    return Stop(
        f"pages of job {job.job_id} have left the stream (streams.events_max_age):"
        " fetch the list again, or use --partial for what is there"
    )


@dataclass(frozen=True, kw_only=True)
class _Written:
    rows: int
    pages: int
    complete: bool
