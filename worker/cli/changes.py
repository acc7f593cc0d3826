"""`followers changes`: the feeds of changes, the change events themselves, and releasing a list that is held back."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.console import (
    FAILED,
    OK,
    USAGE,
    AsJson,
    ConfigFile,
    Stop,
    emit,
    examples,
    note,
    perform,
    table,
    write_line,
)
from worker.cli.session import connected, load_settings
from worker.cli.wording import counted

if TYPE_CHECKING:
    from nats.aio.client import Client

    from schemas.changes import Feed
    from schemas.jobs import ControlError

COLUMNS = ("PROVIDER", "ACCOUNT", "OA", "FILTER", "FOLLOWERS", "JOB", "READ", "FEED", "NOTE")
_ANSWER_WITHIN = 5.0
_PUBLISHED_WITHIN = 10.0
"""Seconds in which we wait for all of a released list's changes."""
_SILENCE = 10.0
_FILTER_WIDTH = 40
_DOTS = 3
"""In a feed's name: provider, account, Official Account, and which filter."""

app = typer.Typer(
    help="Changes: who came, who went, what changed between two complete lists.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        ("followers changes list --held", "Lists that lack so many people that they may be wrong."),
        ("followers changes release JOB", "It is right: publish its changes."),
        ("followers changes reset FEED", "Let a feed begin anew with the next complete list."),
    ),
)

_LIST = examples(
    ("followers changes list", "Each feed, its newest complete list, and what is held back."),
    ("followers changes list --held --json | jq -r '.[].held.job.job_id'", "For programs: a JSON array of feeds."),
)
_SHOW = examples(
    ("followers changes show JOB", "What that job's list changed, one event a line."),
    ("followers changes show JOB | jq -r 'select(.type == \"followed\") | .user_id'", "Who is new."),
)
_RESET = examples(
    ("followers changes reset etelecom.my-shop.579745863508352884.all", "FEED is what `followers changes list` says."),
    ("followers changes list --json | jq -r '.[] | select(.set_aside) | .feed'", "Feeds that did not take a list."),
)
_RELEASE = examples(
    ("followers changes release JOB", "Publish what is held back; safe to repeat."),
    ("nats request followers.release.JOB ''", "The same from any NATS client."),
)


@app.command("list", epilog=_LIST)
def list_feeds(
    context: typer.Context,
    held: Annotated[bool, typer.Option("--held", help="Only feeds with a list that is held back.")] = False,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List the feeds. A feed is a provider, account, Official Account and filter with at least one complete list."""

    async def work() -> int:
        from msgspec.structs import asdict

        async with connected(load_settings(context, config)) as client:
            feeds = [(key, feed) for key, feed in await _feeds(client) if feed.held is not None or not held]
        if json:
            emit([{"feed": key} | asdict(feed) for key, feed in feeds])
        else:
            table(COLUMNS, [_row(key, feed) for key, feed in feeds])
        return OK

    perform(work)


@app.command("show", epilog=_SHOW)
def show(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job whose list it is.", metavar="JOB")],
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Print the change events of a job as JSON lines, in order. `--json` changes nothing: it is JSON already.

    Exit code 1: it has none, or not all of them yet.
    """

    async def work() -> int:
        async with connected(load_settings(context, config)) as client:
            return await _print_changes(client, job)

    perform(work)


@app.command("release", epilog=_RELEASE)
def release(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="The job whose list is held back.", metavar="JOB")],
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Publish the changes of a list that is held back because too many were gone from it.

    Exit code 0: all of them are published. 1: there is no such list, they are still being published, or no worker
    answered.
    """

    async def work() -> int:
        import asyncio

        from schemas.jobs import ControlError
        from schemas.subjects import is_token

        if not is_token(job):
            raise Stop(f"job {job} can't exist: an id is 1 to 64 letters, digits, '_' or '-'", code=USAGE)
        async with connected(load_settings(context, config)) as client:
            deadline = time.monotonic() + _PUBLISHED_WITHIN
            answer = await _request(client, job)
            while not isinstance(answer, ControlError) and answer.next is not None and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                answer = await _request(client, job)
        if json:
            emit(answer)
        if isinstance(answer, ControlError):
            raise Stop(answer.error.message)
        done = answer.next is None
        note(f"the changes of job {job} are {'published' if done else 'being published: ask again to see the end'}")
        return OK if done else FAILED

    perform(work)


@app.command("reset", epilog=_RESET)
def reset(
    context: typer.Context,
    feed: Annotated[str, typer.Argument(help="The feed, as `followers changes list` names it.", metavar="FEED")],
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Forget the lists that a feed has: the next complete one becomes a baseline, compared with nothing.

    No event is published by this. Exit code 0: it is reset. 1: there is no such feed, changes of it are being
    published, or NATS doesn't answer.
    """

    async def work() -> int:
        async with connected(load_settings(context, config)) as client:
            before = await _reset(client, feed)
        if json:
            emit({"feed": feed, "forgotten": {"current": before.current, "held": before.held}})
        note(f"feed {feed} is reset: {_forgotten(before)}; the next complete list becomes a baseline")
        return OK

    perform(work)


async def _reset(client: "Client", key: str) -> "Feed":
    """Reset the feed on condition that nobody changes it meanwhile; return it as it was. Raises Stop."""
    import asyncio

    from schemas.subjects import is_token
    from worker.core.changes.pointer import reset
    from worker.core.changes.ports import FeedsMissingError, FeedsUnavailableError
    from worker.core.ports.event_log import WrongSequenceError
    from worker.jetstream.changes.feeds import JetStreamFeeds

    feeds, deadline = JetStreamFeeds(client, timeout=_ANSWER_WITHIN), time.monotonic() + _PUBLISHED_WITHIN
    try:
        while True:
            known = key.count(".") == _DOTS and all(map(is_token, key.split(".")))
            before, revision = await feeds.get(key) if known else (None, 0)
            if before is None:
                raise Stop(f"there is no feed {key}: `followers changes list` names them in its column FEED")
            if before.next is None:
                try:
                    await feeds.put(key, reset(before), revision)
                except WrongSequenceError:
                    continue  # a worker has changed it: look again
                return before
            if time.monotonic() >= deadline:
                raise Stop(_busy(key, before.next.job.job_id))
            await asyncio.sleep(0.2)
    except FeedsMissingError as error:
        raise Stop(f"bucket {error} is missing: run `followers setup`", code=USAGE) from error
    except FeedsUnavailableError as error:
        raise Stop("the bucket of feeds doesn't answer: ask again, a second reset does no harm") from error


def _busy(key: str, job: str) -> str:
    return (
        f"the changes of job {job} are being published in feed {key}, so nothing was reset: ask again when that is"
        f" over; where no worker goes on with it, `followers changes release {job}` has one do so"
    )


def _forgotten(before: "Feed") -> str:
    lists = []
    if before.current is not None:
        lists.append(f"the list of job {before.current.job_id} ({counted(before.current.followers, 'follower')})")
    if before.held is not None:
        lists.append(
            f"the held list of job {before.held.job.job_id} ({counted(before.held.job.followers, 'follower')})"
        )
    return f"it has forgotten {' and '.join(lists)}" if lists else "it had no list"


async def _request(client: "Client", job: str) -> "Feed | ControlError":
    import msgspec
    from nats.errors import Error, NoRespondersError

    from schemas.changes import Feed
    from schemas.jobs import ControlError
    from schemas.subjects import release_subject

    try:
        reply = await client.request(release_subject(job), timeout=_ANSWER_WITHIN)
    except NoRespondersError as error:
        raise Stop(
            f"no worker with a change feed is there to release job {job}: start one with `followers worker`, and look"
            " for `changes.off` in its log"
        ) from error
    except (Error, TimeoutError) as error:
        raise Stop(f"no worker answered ({type(error).__name__}): ask again, nothing is published twice") from error
    try:
        return msgspec.json.decode(reply.data, type=Feed)
    except msgspec.ValidationError:
        return msgspec.json.decode(reply.data, type=ControlError)


async def _feeds(client: "Client") -> "list[tuple[str, Feed]]":
    from worker.core.changes.ports import FeedsMissingError, FeedsUnavailableError
    from worker.jetstream.changes.feeds import JetStreamFeeds

    try:
        found = await JetStreamFeeds(client, timeout=_ANSWER_WITHIN).all()
    except FeedsMissingError as error:
        raise Stop(f"bucket {error} is missing: run `followers setup`", code=USAGE) from error
    except FeedsUnavailableError as error:
        raise Stop("the bucket of feeds doesn't answer: try again") from error
    return sorted(found, key=lambda one: one[0])


async def _print_changes(client: "Client", job: str) -> int:
    import msgspec
    from nats.js.errors import NotFoundError

    from schemas.changes import ChangeEvent
    from schemas.subjects import EVENTS_STREAM
    from schemas.wire import content_type, decode
    from worker.cli.follow import unreadable
    from worker.jetstream.events.stored import SilentError, read_stored

    number, of, encoder = 0, 0, msgspec.json.Encoder()
    try:
        async for entry in read_stored(client, "followers.change.>", patience=_SILENCE):
            try:
                event: Any = decode(entry.data, ChangeEvent, content_type(entry.headers))
            except ValueError as error:
                note(f"left out: {unreadable(entry, error)}")  # it may be any job's, or nobody's
                continue
            if event.job_id == job:
                number, of = event.number, event.of
                write_line(encoder.encode(event))
    except SilentError as error:
        raise Stop("NATS has fallen silent in the middle of the changes: try again") from error
    except NotFoundError as error:
        raise Stop(f"stream {EVENTS_STREAM} is missing: run `followers setup`", code=USAGE) from error
    if not number:
        raise Stop(f"job {job} has no changes: its list isn't complete, or they are older than the stream keeps")
    if number < of:
        note(f"{number:,} of {counted(of, 'event')} so far")
        return FAILED
    return OK


def _row(key: str, feed: "Feed") -> tuple[str, ...]:
    text = " ".join(f"{name}={_value(value)}" for name, value in feed.filter.items())
    if len(text) > _FILTER_WIDTH:
        text = f"{text[: _FILTER_WIDTH - 1]}…"
    current = feed.current
    read = current.started_at.strftime("%Y-%m-%d %H:%M:%SZ") if current else ""
    followers = f"{current.followers:,}" if current else ""
    job_id = current.job_id if current else ""
    return (feed.provider, feed.account, feed.oa_id, text, followers, job_id, read, key, _note(feed))


def _value(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def _note(feed: "Feed") -> str:
    if feed.next is not None:
        return f"job {feed.next.job.job_id} is being published"
    if feed.held is not None:
        counts = feed.held.counts
        return f"job {feed.held.job.job_id} is held: {counts.unfollowed:,} would be gone, {counts.followed:,} new"
    if feed.set_aside is not None:
        return f"job {feed.set_aside.job_id} was set aside: {feed.set_aside.message}"
    return ""
