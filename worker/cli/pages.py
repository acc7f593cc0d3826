"""`followers pages`: a job's followers, or its pages, as JSON lines."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from worker.cli.console import FAILED, OK, USAGE, AsJson, ConfigFile, Stop, examples, note, perform, write_line
from worker.cli.session import connected, load_settings
from worker.cli.which_job import choose
from worker.cli.wording import counted

if TYPE_CHECKING:
    from nats.aio.client import Client

    from schemas.events import FollowerPage
    from schemas.subjects import JobSubject

EXAMPLES = examples(
    ("followers pages JOB > followers.jsonl", "One follower a line, in the provider's order."),
    ("followers pages JOB | jq -r 'select(.phone) | [.user_id, .phone] | @csv'", "Ids and phones as CSV."),
    ("followers pages JOB --provider-pages | jq '{page, n: (.followers | length)}'", "The page events themselves."),
)

_SILENCE = 10.0
"""Seconds without an event, while more are known to be there, until we give up."""


def pages(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    provider_pages: Annotated[
        bool, typer.Option("--provider-pages", help="Print the page events, one a line, not the followers.")
    ] = False,
    oa: Annotated[str | None, typer.Option(metavar="OA_ID", help="When several jobs share the id.")] = None,
    provider: Annotated[Literal["etelecom", "esms"] | None, typer.Option(help="When several share the id.")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Print the followers of a job as JSON lines, in order.

    A job that still runs is printed as far as it has come. `--json` changes nothing: it is JSON already. A message that
    can't be read is named and left out; the exit code is 1 then.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        async with connected(settings) as client:
            one = await _find(client, job, oa=oa, provider=provider)
            found = await _print_pages(client, one, provider_pages=provider_pages) if one else (None, 0)
        last, left_out = found
        sys.stdout.flush()
        if last is None or not last.last:
            pages_so_far = "no pages" if last is None else counted(last.page, "page")
            note(f"job {job} is not complete: {pages_so_far} so far; see `followers status {job}`")
        return FAILED if left_out else OK

    perform(work)


async def _print_pages(
    client: "Client", job: "JobSubject", *, provider_pages: bool
) -> "tuple[FollowerPage | None, int]":
    """Print them; return the last one, and how many messages were left out. Raises Stop."""
    import msgspec

    from schemas.events import FollowerPage
    from schemas.subjects import page_subject
    from worker.cli.follow import read_event, unreadable
    from worker.jetstream.events.stored import SilentError, read_stored

    page: FollowerPage | None = None
    left_out = 0
    encoder = msgspec.json.Encoder()
    subject = page_subject(job.provider, job.oa_id, job.job_id)
    try:
        async for entry in read_stored(client, subject, patience=_SILENCE):
            try:
                event = read_event(entry)
            except ValueError as error:
                note(f"left out: {unreadable(entry, error)}")
                left_out += 1
                continue
            assert isinstance(event, FollowerPage), "the subject has pages only"
            page = event
            for line in [page] if provider_pages else page.followers:
                write_line(encoder.encode(line))
    except SilentError as error:
        raise Stop(f"NATS has fallen silent in the middle of job {job.job_id}: try again") from error
    return page, left_out


async def _find(client: "Client", job: str, *, oa: str | None, provider: str | None) -> "JobSubject | None":
    """Return the job that is meant, None when it has no pages yet. Raises Stop, also when there is no event of it."""
    from nats.js.errors import NotFoundError

    from schemas.subjects import EVENTS_STREAM, is_token, page_subject

    if not is_token(job):
        raise Stop(f"job {job} isn't known: an id is 1 to 64 letters, digits, '_' or '-'")
    try:
        info = await client.jetstream().stream_info(EVENTS_STREAM, subjects_filter=f"followers.*.*.*.{job}")
    except NotFoundError as error:
        raise Stop(f"stream {EVENTS_STREAM} is missing: run `followers setup`", code=USAGE) from error
    subjects = info.state.subjects or {}
    one = choose(subjects, job, oa=oa, provider=provider)
    if one is None:
        raise Stop(f"job {job} isn't known: it has no events; see `followers jobs`")
    return one if page_subject(one.provider, one.oa_id, one.job_id) in subjects else None
