"""`followers verify` on a real nats-server: a real worker's job, in the stream and in copies, whole and damaged."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig
from typer.testing import CliRunner, Result

from schemas import Follower, FollowerPage, JobEvent, JobStarted, decode, encode
from schemas.consume import AlteredError, Pages
from schemas.digest import START, next_digest
from schemas.events import TERMINAL
from schemas.order import Place
from schemas.subjects import EVENTS_STREAM, page_subject
from schemas.wire import content_type
from tests.integration import stage as stages
from tests.integration.control_stage import Stage, stage
from tests.integration.test_cli import completed, failed, page, publish
from worker.cli import app
from worker.embedded import EmbeddedServer
from worker.jetstream.events.reader import EventReader
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, Fault

Run = Callable[..., Awaitable[Result]]
Copy = list[tuple[str, bytes, dict[str, str]]]
COPY = "AUDIT"


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with stage(nats_client, nats_server.url, tmp_path, followers=230) as made:
        yield made


@pytest.fixture
async def followers(nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext) -> Run:
    """Runs the command line against the test's server, where `followers setup` has run."""
    await reconcile(nats_client, TopologyConfig())

    async def run(*arguments: str) -> Result:
        environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([nats_server.url])}
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    return run


async def done(place: Stage, job: str = "job-1", **worker: str) -> None:
    """Let a worker with these settings do a job to its end."""
    section = place.settings.worker.model_copy(update=worker)
    place.settings = place.settings.model_copy(update={"worker": section})
    async with place.worker():
        await place.publish(job, page_size=50)
        await events(place.client, job)


async def events(client: Client, job: str) -> list[Msg]:
    """The job's events, up to the one that ends it."""
    found: list[Msg] = []
    async with EventReader(client, f"followers.*.*.*.{job}") as reader:
        while not (found and ".job." in found[-1].subject and isinstance(decoded(found[-1]), TERMINAL)):
            message = await reader.next(10)
            assert message is not None
            found.append(message)
    return found


def decoded(message: Msg) -> FollowerPage | JobEvent:
    kind = FollowerPage if ".page." in message.subject else JobEvent
    event: FollowerPage | JobEvent = decode(message.data, kind, content_type(message.headers))
    return event


async def copied(client: Client, job: str, damage: Callable[[Copy], Any], *, prefix: str = "audit.") -> None:
    """Put a job's events into another stream, damaged on the way."""
    copy: Copy = []
    for message in await events(client, job):
        headers = {name: text for name, text in (message.headers or {}).items() if not name.startswith("Nats-")}
        copy.append((f"{prefix}{message.subject}", message.data, headers))
    damage(copy)
    js = client.jetstream()
    await js.add_stream(StreamConfig(name=COPY, subjects=["audit.>"]))
    for subject, data, headers in copy:
        await js.publish(subject, data, headers=headers)


def index_of(copy: Copy, number: int) -> int:
    """Where page `number` is."""
    return next(
        index
        for index, (subject, data, headers) in enumerate(copy)
        if ".page." in subject and decode(data, FollowerPage, content_type(headers)).page == number
    )


def removed(number: int) -> Callable[[Copy], Any]:
    return lambda copy: copy.pop(index_of(copy, number))


def swapped(copy: Copy) -> None:
    second, third = index_of(copy, 2), index_of(copy, 3)
    copy[second], copy[third] = copy[third], copy[second]


def altered(number: int, change: Callable[[FollowerPage], FollowerPage]) -> Callable[[Copy], Any]:
    def alter(copy: Copy) -> None:
        index = index_of(copy, number)
        subject, data, headers = copy[index]
        page = change(decode(data, FollowerPage, content_type(headers)))
        copy[index] = (subject, encode(page), headers | {"Content-Type": "application/json"})

    return alter


def another_person(page: FollowerPage) -> FollowerPage:
    return replace(page, followers=[Follower(user_id="666"), *page.followers[1:]])


def nobody_at_the_end(page: FollowerPage) -> FollowerPage:
    return replace(page, followers=page.followers[:-1])


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_a_real_workers_list_is_verified_in_every_encoding(place: Stage, mode: str, encoding: str) -> None:
    await done(place, cloudevents=mode, encoding=encoding)

    told, machine = await place.run("verify", "job-1"), await place.run("verify", "job-1", "--json")

    document = json.loads(machine.stdout)
    assert (told.exit_code, machine.exit_code) == (0, 0)
    assert told.stdout == (
        f"job job-1: verified: 230 followers in 6 pages, complete; digest {document['digest']}\n"
    )  # eTelecom's list ends with an empty page
    assert document == {
        "job_id": "job-1", "provider": "etelecom", "oa_id": OA_ID, "stream": EVENTS_STREAM, "verified": True,
        "finding": None, "pages": 6, "followers": 230, "distinct": 230, "digest": document["digest"],
        "verdict": "complete",
    }  # fmt: skip
    digest = START
    for message in await events(place.client, "job-1"):
        if isinstance(event := decoded(message), FollowerPage):
            digest = next_digest(digest, event.followers)
    assert digest == document["digest"]


async def test_the_chain_spans_a_takeover_and_a_retry(place: Stage) -> None:
    section = place.settings.worker.model_copy(update={"drain_timeout": 0.2})
    place.settings = place.settings.model_copy(update={"worker": section})
    place.simulator.inject(Fault(kind="hang", seconds=60, skip=2))
    async with place.worker():
        await place.publish("job-1", page_size=50)
        while len(place.simulator.requests) < 3:
            await asyncio.sleep(0.02)
    place.simulator.faults.clear()
    place.simulator.inject(Fault(kind="status", status=403, skip=1))
    async with place.worker():
        await events(place.client, "job-1")
        assert (await place.run("verify", "job-1")).exit_code == 1
        assert (await place.run("dead", "retry", "--job", "job-1")).exit_code == 0
        await place.story("job-1", ends=2)

    result = await place.run("verify", "job-1", "--json")

    document = json.loads(result.stdout)
    assert (result.exit_code, document["pages"], document["followers"]) == (0, 6, 230)
    attempts = [event.attempt for event in await place.story("job-1", ends=2) if isinstance(event, JobStarted)]
    assert attempts == [1, 2, 3]


async def test_the_chain_has_a_link_for_each_part(tmp_path: Path) -> None:
    async with stages.server("max_payload: 16384") as server:
        client = await nats.connect(server.url)
        async with stage(client, server.url, tmp_path, followers=120) as place:
            await done(place)
            result = await place.run("verify", "job-1", "--json")
            pages = [event for event in await place.story("job-1") if isinstance(event, FollowerPage)]
        await client.close()

    document = json.loads(result.stdout)
    assert (result.exit_code, document["pages"], document["followers"]) == (0, 4, 120)
    assert max(page.parts for page in pages) > 1
    assert document["digest"] == pages[-1].digest


@pytest.mark.parametrize(
    ("damage", "kind", "where", "says"),
    [
        (removed(2), "missing", (2, 1), "page 2 is missing: page 3 comes instead"),
        (removed(1), "missing", (1, 1), "page 1 is missing: page 2 comes instead"),
        (removed(6), "missing", (6, 1), "page 6 is missing: the job completed"),
        (swapped, "missing", (2, 1), "page 2 is missing: page 3 comes instead"),
        (altered(3, another_person), "digest", (3, 1), "page 3 has other user ids"),
        (altered(3, nobody_at_the_end), "count", (3, 1), "page 3 says 50 followers, but has 49"),
        (altered(4, lambda page: replace(page, count=7)), "count", (4, 1), "page 4 says 7 followers, but has 50"),
    ],
)
async def test_a_damaged_page_of_a_copied_stream_is_named(
    place: Stage, damage: Callable[[Copy], Any], kind: str, where: tuple[int, int], says: str
) -> None:
    await done(place, encoding="msgpack")
    await copied(place.client, "job-1", damage)

    of_the_copy = await place.run("verify", "job-1", "--stream", COPY, "--prefix", "audit", "--json")
    told = await place.run("verify", "job-1", "--stream", COPY, "--prefix", "audit.")

    finding = json.loads(of_the_copy.stdout)["finding"]
    assert (of_the_copy.exit_code, told.exit_code) == (1, 1)
    assert (finding["kind"], (finding["page"], finding["part"])) == (kind, where)
    assert told.stdout.startswith("job job-1: not verified: ")
    assert says in told.stdout
    assert (await place.run("verify", "job-1")).exit_code == 0


async def test_an_untouched_copy_is_verified(place: Stage) -> None:
    await done(place)
    await copied(place.client, "job-1", lambda copy: None)

    assert (await place.run("verify", "job-1", "--stream", COPY, "--prefix", "audit")).exit_code == 0
    elsewhere = await place.run("verify", "job-1", "--stream", COPY)
    assert (elsewhere.exit_code, elsewhere.stdout) == (1, "")
    assert f"job job-1 has no events in stream {COPY}: all of them have left it, or it never ran" in elsewhere.stderr


def chained(*pages: FollowerPage) -> list[FollowerPage]:
    digest, done = START, []
    for each in pages:
        digest = next_digest(digest, each.followers)
        done.append(replace(each, count=len(each.followers), digest=digest))
    return done


async def test_what_left_the_stream_by_age_is_said_as_such(followers: Run, js: JetStreamContext) -> None:
    pages = chained(*(page("job", number, 3) for number in range(1, 4)))
    await publish(js, *pages, replace(completed("job", 3), digest=pages[-1].digest))
    assert (await followers("verify", "job")).exit_code == 0
    await js.purge_stream(EVENTS_STREAM, seq=3)

    result = await followers("verify", "job", "--json")

    finding = json.loads(result.stdout)["finding"]
    assert (result.exit_code, finding["kind"], finding["page"]) == (1, "aged_out", 1)
    assert "The stream begins with message 3 now" in finding["text"]
    assert "streams.events_max_age" in finding["text"]


async def test_a_job_of_an_older_version_is_accepted_only_where_that_is_said(
    followers: Run, js: JetStreamContext
) -> None:
    await publish(js, page("job", 1, 1), completed("job", 1))

    strict, lenient = await followers("verify", "job"), await followers("verify", "job", "--without-digest")

    assert (strict.exit_code, lenient.exit_code) == (1, 0)
    assert "page 1 has no digest: an older version wrote it; all else fits" in strict.stdout
    assert lenient.stdout == "job job: verified: 2 followers in 1 page, complete; without digests\n"


async def test_what_is_no_list_to_verify_is_named(followers: Run, js: JetStreamContext) -> None:
    await publish(js, *chained(page("runs", 1, 2)))
    await publish(js, *chained(page("broken", 1, 2)), failed("broken"))
    await js.publish(page_subject("esms", "1", "garbled"), b"no page")
    await js.publish("followers.page.etelecom.1.runs", b"another job of this name")

    answers = {
        arguments: await followers("verify", *arguments)
        for arguments in [
            ("runs",), ("runs", "--provider", "esms"), ("broken",), ("garbled",), ("nobody",), ("no.id",),
            ("broken", "--stream", "NOWHERE"),
        ]
    }  # fmt: skip

    assert [answer.exit_code for answer in answers.values()] == [2, 1, 1, 1, 1, 1, 2]
    said = [f"{answer.stdout}{answer.stderr}" for answer in answers.values()]
    for text, expected in zip(
        said,
        ("several jobs have the id runs", "has no terminal event: it has 1 whole page so far", "the job failed after",
         "message 4 on followers.page.esms.1.garbled can't be read", "job nobody has no events", "an id is 1 to 64",
         "stream NOWHERE is missing"),
        strict=True,
    ):  # fmt: skip
        assert expected in text


@pytest.fixture
async def crm(js: JetStreamContext, followers: Run) -> JetStreamContext:
    await js.add_consumer(
        EVENTS_STREAM,
        ConsumerConfig(durable_name="crm", filter_subject="followers.page.>", max_ack_pending=1, ack_wait=30),
    )
    return js


async def test_a_consumer_is_told_of_an_altered_page(crm: JetStreamContext) -> None:
    first, second, third = chained(*(page("job", number, 3) for number in range(1, 4)))
    await publish(crm, first, another_person(second), third)

    async with Pages(crm, "crm") as pages:
        assert (await anext(pages)).page == 1
        with pytest.raises(AlteredError, match="page 2 has other user ids than its digest was made of"):
            await anext(pages)


async def test_a_consumer_may_take_an_altered_page_as_it_is(crm: JetStreamContext) -> None:
    first, second, third = chained(*(page("job", number, 3) for number in range(1, 4)))
    await publish(crm, first, nobody_at_the_end(second), third)
    heard: list[Exception] = []

    async with Pages(crm, "crm", on_error=heard.append) as pages:
        found = [await anext(pages) for _ in range(3)]

    assert [each.page for each in found] == [1, 2, 3]
    (error,) = heard
    assert "page 2 says 2 followers, but has 1" in str(error)


async def test_a_consumer_that_resumes_knows_an_altered_page_by_the_stored_digest(crm: JetStreamContext) -> None:
    first, second, third = chained(*(page("job", number, 3) for number in range(1, 4)))
    await publish(crm, first, second, another_person(third))
    async with Pages(crm, "crm") as pages:
        stored = [await anext(pages) for _ in range(2)][-1]
    subject = page_subject("esms", stored.oa_id, "job")

    with pytest.raises(AlteredError, match="page 3 has other user ids"):
        async with Pages(crm, "crm", after={subject: Place(2, digest=stored.digest)}) as pages:
            await anext(pages)
    async with asyncio.timeout(20), Pages(crm, "crm", after={subject: Place(2)}) as pages:
        assert (await anext(pages)).page == 3
