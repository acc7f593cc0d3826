"""`followers verify`: whether a job's list is whole and as it was published, from its events alone."""

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.console import FAILED, OK, USAGE, AsJson, ConfigFile, Stop, emit, examples, note, perform, say
from worker.cli.session import connected, load_settings
from worker.cli.which_job import choose
from worker.cli.wording import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client
    from nats.js.api import StreamInfo

    from schemas.subjects import JobSubject
    from schemas.verify import Checker, Finding
    from worker.core.ports.event_log import Entry

EXAMPLES = examples(
    ("followers verify nightly-2026-11-23", "Every page is there, in order, as published? Exit code 0, else 1."),
    ("followers verify JOB --stream AUDIT", "The same in a copy of the stream, such as an auditor's."),
    ("followers verify JOB --stream AUDIT --prefix audit", "Where the copy's subjects begin with audit.followers."),
    ("followers verify JOB --json | jq -r .digest", "For programs: the digest of the whole list, and what is wrong."),
)

_SILENCE = 10.0
"""Seconds without an event, while more are known to be there, until we give up."""
_SAY_EVERY = 1.0


def verify(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    stream: Annotated[str, typer.Option(metavar="NAME", help="The stream to read: the worker's, or a copy.")] = (
        "FOLLOWERS_EVENTS"
    ),
    prefix: Annotated[str, typer.Option(metavar="PREFIX", help="What the copy's subjects have in front.")] = "",
    oa: Annotated[str | None, typer.Option(metavar="OA_ID", help="When several jobs share the id.")] = None,
    provider: Annotated[Literal["etelecom", "esms"] | None, typer.Option(help="When several share the id.")] = None,
    without_digest: Annotated[
        bool, typer.Option("--without-digest", help="Accept pages that an older version published without a digest.")
    ] = False,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Check a job's list from its events alone.

    Pages and parts without a gap and in order, cursors, counts, the digest over all user ids, nobody twice, one end
    that agrees. The first page that doesn't fit is named. Exit code 0: verified, 1: not, 2: no such stream or a
    wrong option.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        front = f"{prefix.rstrip('.')}." if prefix else ""
        async with connected(settings) as client:
            info = await _stream(client, stream, f"{front}followers.*.*.*.{_checked(job)}")
            one = _choose(info, front, job, oa=oa, provider=provider)
            checker, finding = await _check(client, stream, front, one, info)
        if finding is not None and finding.kind == "no_digest" and without_digest:
            finding = None
        if json:
            emit(_document(one, stream, checker, finding))
        else:
            say(f"job {job}: {_verdict(checker, finding)}")
        return OK if finding is None else FAILED

    perform(work)


def _checked(job: str) -> str:
    from schemas.subjects import is_token

    if not is_token(job):
        raise Stop(f"job {job} isn't known: an id is 1 to 64 letters, digits, '_' or '-'")
    return job


async def _stream(client: "Client", stream: str, subjects: str) -> "StreamInfo":
    from nats.js.errors import NotFoundError

    try:
        return await client.jetstream().stream_info(stream, subjects_filter=subjects)
    except NotFoundError as error:
        raise Stop(f"stream {stream} is missing: name the one that has the events by --stream", code=USAGE) from error
    except ValueError as error:
        raise Stop(f"--stream {stream}: this can't be a stream's name", code=USAGE) from error


def _choose(info: "StreamInfo", front: str, job: str, *, oa: str | None, provider: str | None) -> "JobSubject":
    """Return the job that is meant. Raises Stop."""
    own = [subject.removeprefix(front) for subject in info.state.subjects or {}]
    found = choose((one for one in own if one.startswith("followers.")), job, oa=oa, provider=provider)
    if found is None:
        where = f"stream {info.config.name}{f' under {front}' if front else ''}"
        raise Stop(f"job {job} has no events in {where}: all of them have left it, or it never ran")
    return found


async def _check(
    client: "Client", stream: str, front: str, job: "JobSubject", info: "StreamInfo"
) -> "tuple[Checker, Finding | None]":
    """Read the job's events up to the first one that doesn't fit."""
    from schemas.verify import Checker, Finding
    from worker.cli.follow import read_event, unreadable

    checker, said = Checker(), time.monotonic()
    subject = f"{front}followers.*.{job.provider}.{job.oa_id}.{job.job_id}"
    async for message in _messages(client, subject, stream):
        begun = checker.begun
        try:
            event = read_event(message, front)
        except ValueError as error:
            return checker, Finding("unreadable", unreadable(message, error, stream), *checker.expected)
        finding = None if event is None else checker.take(event)
        if finding is not None:
            return checker, finding if begun else _aged(finding, message, info)
        if time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            note(f"page {checker.pages:,}: {counted(checker.followers, 'follower')}")
    return checker, checker.end()


async def _messages(client: "Client", subject: str, stream: str) -> "AsyncIterator[Entry]":
    """Yield what is there now. Raises Stop."""
    from worker.jetstream.events.stored import SilentError, read_stored

    try:
        async for entry in read_stored(client, subject, stream=stream, patience=_SILENCE):
            yield entry
    except SilentError as error:
        raise Stop(f"NATS has fallen silent in the middle of {subject}: try again") from error


def _aged(finding: "Finding", message: "Entry", info: "StreamInfo") -> "Finding":
    """Say so where the job's beginning has left the stream, which is no fault in what is there."""
    first = info.state.first_seq
    if finding.kind != "missing" or first <= 1:
        return finding
    text = (
        f"{finding.text}. The stream begins with message {first:,} now, the job's pages with message"
        f" {message.sequence:,}:"
        " what was before has left it (streams.events_max_age), or was deleted"
    )
    return finding._replace(kind="aged_out", text=text)


def _verdict(checker: "Checker", finding: "Finding | None") -> str:
    if finding is not None:
        return f"not verified: {finding.text}"
    end = checker.completed
    assert end is not None, "without a finding it has completed"
    reason = f" ({end.reason})" if end.reason else ""
    proof = f"digest {checker.digest}" if checker.digest else "without digests"
    followers, pages = counted(checker.followers, "follower"), counted(checker.pages, "page")
    return f"verified: {followers} in {pages}, {end.verdict}{reason}; {proof}"


def _document(job: "JobSubject", stream: str, checker: "Checker", finding: "Finding | None") -> dict[str, Any]:
    end = checker.completed
    return {
        "job_id": job.job_id,
        "provider": job.provider,
        "oa_id": job.oa_id,
        "stream": stream,
        "verified": finding is None,
        "finding": None if finding is None else finding._asdict(),
        "pages": checker.pages,
        "followers": checker.followers,
        "distinct": checker.distinct,
        "digest": checker.digest if checker.begun else None,
        "verdict": None if end is None else end.verdict,
    }
