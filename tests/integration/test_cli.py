"""The commands against a real nats-server; the worker's part is played by the tests."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from typer.testing import CliRunner, Result

from schemas import (
    Encoding,
    FetchError,
    Follower,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    JobStatus,
    JobWaiting,
    Progress,
    encode,
)
from schemas.subjects import job_subject, page_subject
from schemas.wait import Wait
from schemas.wire import event_headers
from worker.cli import app
from worker.cli.watch import line as watched
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.assets import expected
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OA = "2801000000000000001"
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def followers(nats_server: EmbeddedServer, js: JetStreamContext) -> Run:
    """Runs the command line against the test's server."""

    async def run(*arguments: str, **env: str) -> Result:
        environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([nats_server.url])} | env
        # In a thread: the command has an event loop of its own.
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    return run


@pytest.fixture
async def ready(nats_client: Client, js: JetStreamContext) -> JetStreamContext:
    """JetStream with all that `followers setup` makes."""
    await reconcile(nats_client, TopologyConfig())
    return js


def common(job: str) -> dict[str, Any]:
    return {"job_id": job, "provider": "esms", "account": "main", "oa_id": OA}


def page(job: str, number: int, of: int, *, size: int = 2) -> FollowerPage:
    first = (number - 1) * size
    return FollowerPage(
        **common(job),
        page=number,
        followers=[Follower(user_id=str(first + index), display_name="Bùi Thị Lê") for index in range(size)],
        total=of * size,
        cursor=None if number == 1 else str(first),
        next_cursor=None if number == of else str(first + size),
        last=number == of,
        fetched_at=NOW,
        progress=Progress(
            followers=first + size, duplicates_dropped=0, total_first=of * size, requests=number, started_at=NOW
        ),
    )


def completed(job: str, pages: int) -> JobCompleted:
    return JobCompleted(
        **common(job),
        pages=pages,
        followers=2 * pages,
        distinct=2 * pages,
        duplicates_dropped=0,
        total_first=2 * pages,
        total_last=2 * pages,
        requests=pages,
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=3),
        verdict="complete",
    )


def failed(job: str) -> JobFailed:
    error = FetchError(code="unauthorized", message="eSMS refuses the key: check api_key", retryable=False)
    return JobFailed(**common(job), error=error, finished_at=NOW)


async def publish(js: JetStreamContext, *events: FollowerPage | JobEvent, encoding: Encoding = "json") -> None:
    for event in events:
        is_page = isinstance(event, FollowerPage)
        subject = (page_subject if is_page else job_subject)(event.provider, event.oa_id, event.job_id)
        name = f"{event.page}.{event.part}" if isinstance(event, FollowerPage) else type(event).__name__
        await js.publish(
            subject, encode(event, encoding), headers=event_headers(event, id=name, time=NOW, encoding=encoding)
        )


async def next_command(js: JetStreamContext) -> Any:
    """Take the next esms command as a worker would, and acknowledge it."""
    subscription = await js.pull_subscribe_bind("worker-esms", stream="FOLLOWERS_COMMANDS")
    (message,) = await subscription.fetch(1, timeout=10)
    await message.ack_sync()
    return message


# setup


async def test_setup_makes_all_and_says_so(followers: Run) -> None:
    first, second = await followers("setup"), await followers("setup", "--json")

    assert (first.exit_code, first.stdout.count("created")) == (0, len(expected(TopologyConfig())))
    assert {item["outcome"] for item in json.loads(second.stdout)} == {"unchanged"}


async def test_setup_check_fails_until_setup_ran(followers: Run) -> None:
    before = await followers("setup", "--check")
    await followers("setup")
    after = await followers("setup", "--check", "--json")

    assert before.exit_code == 1
    assert before.stdout.count("missing") == 2 * len(expected(TopologyConfig()))
    assert "run `followers setup`" in before.stderr
    assert (after.exit_code, json.loads(after.stdout)) == (0, [])


async def test_setup_fails_when_it_must_refuse(followers: Run, ready: JetStreamContext) -> None:
    result = await followers("setup", FOLLOWERS_STREAMS__DEAD_MAX_AGE="3600")
    check = await followers("setup", "--check", FOLLOWERS_STREAMS__DEAD_MAX_AGE="3600")

    assert result.exit_code == check.exit_code == 1
    assert "shrinking it could lose messages" in result.stdout
    assert "refuses to change" in check.stderr


async def test_setup_makes_the_durables_that_consumers_read(followers: Run, js: JetStreamContext) -> None:
    arguments = ("--consumer", "crm", "--consumer", "bi=followers.page.esms.>", "--consumer", "bi=followers.job.esms.>")
    first, again = await followers("setup", *arguments), await followers("setup", "--check", *arguments)

    assert (first.exit_code, again.exit_code) == (0, 0)
    config = (await js.consumer_info("FOLLOWERS_EVENTS", "bi")).config
    assert config.filter_subjects == ["followers.page.esms.>", "followers.job.esms.>"]
    assert (config.max_ack_pending, config.max_deliver, config.ack_policy) == (1, -1, "explicit")


@pytest.mark.parametrize("word", ["crm=orders.>", "crm=followers.fetch.esms", "c.r.m"])
async def test_setup_refuses_a_consumer_of_anything_but_events(followers: Run, word: str) -> None:
    result = await followers("setup", "--consumer", word)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"--consumer {word}: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("fetch", "esms", "1"), "stream FOLLOWERS_COMMANDS is missing: run `followers setup`"),
        (("jobs",), "bucket FOLLOWERS_JOBS is missing: run `followers setup`"),
        (("status", "x"), "bucket FOLLOWERS_JOBS is missing: run `followers setup`"),
        (("pages", "x"), "stream FOLLOWERS_EVENTS is missing: run `followers setup`"),
    ],
)
async def test_without_setup_each_command_says_what_to_run(
    followers: Run, arguments: tuple[str, ...], line: str
) -> None:
    result = await followers(*arguments)

    assert (result.exit_code, result.stderr, result.stdout) == (2, line + "\n", "")


# fetch


async def test_fetch_publishes_a_command_as_plain_json(followers: Run, ready: JetStreamContext) -> None:
    result = await followers(
        *("fetch", "esms", OA, "--id", "nightly", "--filter", "tag=vip", "--label", "a=b", "--no-wait")
    )

    message = await next_command(ready)
    assert (result.exit_code, result.stdout) == (0, "nightly\n")
    assert json.loads(message.data) == {
        "provider": "esms",
        "id": "nightly",
        "oa_id": OA,
        "filter": {"tag": "vip"},
        "labels": {"a": "b"},
    }
    assert message.subject == "followers.fetch.esms"
    assert message.headers["Content-Type"] == "application/json"
    assert "nightly" in message.headers["Nats-Msg-Id"]


async def test_fetch_without_an_id_picks_a_fresh_one(followers: Run, ready: JetStreamContext) -> None:
    first = await followers("fetch", "esms", OA, "--no-wait", "--json")
    second = await followers("fetch", "esms", OA, "--no-wait", "--json")

    answers = [json.loads(result.stdout) for result in (first, second)]
    assert [answer["duplicate"] for answer in answers] == [False, False]
    assert answers[0]["job_id"] != answers[1]["job_id"]


async def test_the_same_id_at_once_is_said_to_be_the_same_job(followers: Run, ready: JetStreamContext) -> None:
    await followers("fetch", "esms", OA, "--id", "same", "--no-wait")
    again = await followers("fetch", "esms", OA, "--id", "same", "--no-wait")
    elsewhere = await followers("fetch", "esms", "2", "--id", "same", "--no-wait")

    assert "it is the same job" in again.stderr
    assert elsewhere.stderr == ""
    assert (await ready.stream_info("FOLLOWERS_COMMANDS")).state.messages == 2


async def test_fetch_follows_the_job_to_its_end(followers: Run, ready: JetStreamContext) -> None:
    running = asyncio.ensure_future(followers("fetch", "esms", OA, "--id", "job"))
    await next_command(ready)
    waiting = JobWaiting(**common("job"), reason="rate_limited", until=NOW)
    started = JobStarted(**common("job"), resumed_at_page=2, started_at=NOW, attempt=2)
    await publish(ready, page("job", 1, 2), waiting, started, page("job", 2, 2), completed("job", 2))

    result = await running

    assert (result.exit_code, result.stdout) == (0, "job\n")
    assert result.stderr.splitlines() == [
        "page 1: 2 of 4 followers",
        "waiting until 12:00:00 UTC: rate limited",
        "another worker goes on at page 2 (attempt 2)",
        "page 2: 4 of 4 followers",
        "completed: 4 followers in 2 pages, complete, 3.0 s",
    ]


async def test_fetch_of_a_job_that_is_over_prints_its_end_at_once(followers: Run, ready: JetStreamContext) -> None:
    await publish(ready, page("job", 1, 1), completed("job", 1))

    result = await followers("fetch", "esms", OA, "--id", "job", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == msgspec.to_builtins(completed("job", 1))


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (failed("job"), "failed: unauthorized: eSMS refuses the key: check api_key"),
        (JobCancelled(**common("job"), finished_at=NOW), "cancelled"),
    ],
)
async def test_a_job_that_did_not_complete_ends_with_1(
    followers: Run, ready: JetStreamContext, end: JobEvent, line: str
) -> None:
    await publish(ready, end)

    result = await followers("fetch", "esms", OA, "--id", "job")

    assert (result.exit_code, result.stderr.splitlines()) == (1, [line])


async def test_fetch_says_when_no_worker_takes_the_command(followers: Run, ready: JetStreamContext) -> None:
    running = asyncio.ensure_future(followers("fetch", "esms", OA, "--id", "job"))
    done, _ = await asyncio.wait([running], timeout=6)
    assert not done

    await publish(ready, completed("job", 1))

    result = await running
    assert result.exit_code == 0
    assert result.stderr.startswith("waiting for a worker to take the command")


# pages


async def test_pages_prints_followers_in_order(followers: Run, ready: JetStreamContext) -> None:
    await publish(ready, *(page("job", number, 150) for number in range(1, 151)), completed("job", 150))
    await publish(ready, page("other", 1, 1))

    result = await followers("pages", "job")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line["user_id"] for line in lines] == [str(number) for number in range(300)]
    assert lines[0] == {"user_id": "0", "display_name": "Bùi Thị Lê"}


async def test_pages_reads_messagepack(followers: Run, ready: JetStreamContext) -> None:
    await publish(ready, page("job", 1, 1), encoding="msgpack")

    result = await followers("pages", "job")

    assert [json.loads(line)["user_id"] for line in result.stdout.splitlines()] == ["0", "1"]


async def test_pages_can_print_the_page_events(followers: Run, ready: JetStreamContext) -> None:
    await publish(ready, page("job", 1, 2), encoding="msgpack")
    await publish(ready, page("job", 2, 2))

    result = await followers("pages", "job", "--provider-pages")

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events == [msgspec.to_builtins(page("job", number, 2)) for number in (1, 2)]


async def test_pages_of_a_job_under_way_say_so(followers: Run, ready: JetStreamContext) -> None:
    await publish(ready, page("job", 1, 2))
    await publish(ready, failed("hopeless"))

    running, hopeless = await followers("pages", "job"), await followers("pages", "hopeless")

    assert (running.exit_code, len(running.stdout.splitlines())) == (0, 2)
    assert running.stderr == "job job is not complete: 1 page so far; see `followers status job`\n"
    assert (hopeless.exit_code, hopeless.stdout) == (0, "")
    assert "no pages so far" in hopeless.stderr


@pytest.mark.parametrize("job", ["nobody", "no.body"])
async def test_an_unknown_job_ends_with_1(followers: Run, ready: JetStreamContext, job: str) -> None:
    for command in ("pages", "status"):
        result = await followers(command, job)

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"job {job} isn't known")


async def test_an_event_that_cannot_be_read_is_named(followers: Run, ready: JetStreamContext) -> None:
    await ready.publish(page_subject("esms", OA, "job"), b"{}")

    result = await followers("pages", "job")

    assert result.exit_code == 1
    subject = page_subject("esms", OA, "job")
    assert result.stderr.startswith(f"left out: message 1 on {subject} can't be read: Object missing required field")


# jobs and status


async def put(js: JetStreamContext, job: str, **fields: Any) -> None:
    status = JobStatus(**{**common(job), "state": "running", "updated_at": NOW, **fields})
    await (await js.key_value("FOLLOWERS_JOBS")).put(job, encode(status))


async def test_jobs_are_listed_newest_first(followers: Run, ready: JetStreamContext) -> None:
    for hours, job in enumerate(("old", "middle", "new")):
        await put(ready, job, started_at=NOW + timedelta(hours=hours))

    listed = await followers("jobs")
    limited = await followers("jobs", "--limit", "2", "--json")

    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["JOB", "new", "middle", "old"]
    assert [job["job_id"] for job in json.loads(limited.stdout)] == ["new", "middle"]


async def test_jobs_are_chosen_by_state_and_provider(followers: Run, ready: JetStreamContext) -> None:
    await put(ready, "a", state="failed", error=failed("a").error)
    await put(ready, "b", state="failed", provider="etelecom")
    await put(ready, "c", state="running")

    result = await followers("jobs", "--state", "failed", "--provider", "esms")

    assert len(result.stdout.splitlines()) == 2
    assert "unauthorized: eSMS refuses the key: check api_key" in result.stdout


async def test_no_jobs_is_an_empty_list(followers: Run, ready: JetStreamContext) -> None:
    assert json.loads((await followers("jobs", "--json")).stdout) == []


async def test_a_foreign_entry_does_not_hide_the_jobs(followers: Run, ready: JetStreamContext) -> None:
    await (await ready.key_value("FOLLOWERS_JOBS")).put("foreign", b"hello")
    await put(ready, "a")

    result = await followers("jobs")

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "1 entry is no job status" in result.stderr


async def test_status_shows_one_job(followers: Run, ready: JetStreamContext) -> None:
    await put(ready, "job", page=3, followers=150, total=600, percent=25.0, labels={"a": "b"}, worker="w1")

    text, document = await followers("status", "job"), await followers("status", "job", "--json")

    lines = dict(line.split(maxsplit=1) for line in text.stdout.splitlines())
    assert lines["followers"] == "150 of 600 (25 %)"
    assert (lines["state"], lines["labels"]) == ("running", "a=b")
    assert re.fullmatch(r"2026-11-23 12:00:00Z \(\d+ d ago\)", lines["updated"]), "what nobody renews has an age"
    assert json.loads(document.stdout)["percent"] == 25.0


async def test_why_a_job_does_not_move_is_in_its_status_and_in_the_list(
    followers: Run, ready: JetStreamContext
) -> None:
    wait = Wait(owner="provider", reason="provider_unavailable", since=NOW, text="request 2 for its next page failed")
    await put(ready, "job", state="waiting", reason="provider_unavailable", until=NOW, wait=wait)

    text, listed = await followers("status", "job"), await followers("jobs")

    lines = dict(line.split(maxsplit=1) for line in text.stdout.splitlines())
    assert (lines["waits"], lines["since"]) == (wait.text, "2026-11-23 12:00:00Z")
    assert listed.stdout.splitlines()[1].endswith(wait.text)
    assert watched(JobStatus(**common("job"), state="waiting", updated_at=NOW, wait=wait)).endswith(f", {wait.text}")


async def test_a_server_that_is_not_there_ends_in_one_line(followers: Run) -> None:
    result = await followers("jobs", FOLLOWERS_NATS__SERVERS='["nats://127.0.0.1:1"]')

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("NATS at nats://127.0.0.1:1 can't be reached within 5 s")
    assert result.stderr.count("\n") == 1
