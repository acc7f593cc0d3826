"""A message among a job's own that nobody can read: what the worker makes of it, and what people are told."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError

from schemas import deadletters
from schemas.events import JobCompleted, JobFailed
from schemas.jobs import JobStatus
from schemas.subjects import DEAD_STREAM, EVENTS_STREAM, job_subject, page_subject, status_subject
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.test_changes import TOPOLOGY, command_line
from tests.integration.test_cli import OA, completed, page, publish
from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import OA_ID

pytestmark = pytest.mark.usefixtures("faults")
SECRET = "Nguyen Thi Bi Mat"
UNREADABLE: dict[str, tuple[bytes, dict[str, str]]] = {
    "garbage": (b"\x00\xff" + SECRET.encode(), {}),
    "no object": (json.dumps([SECRET]).encode(), {}),
    "nested": (b'{"x":' + b"[" * 100_000, {}),
    "another job's": (encode(page("other", 1, 1)), {}),
    "another encoding": (b"{}", {"Content-Type": f"application/{SECRET}"}),
    "a status header": (b"{}", {"Status": "404"}),
}


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server() as server:
        yield server


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,)))
    await reconcile(client, TOPOLOGY)
    yield client
    await client.close()


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


# The command line


@pytest.mark.parametrize("what", UNREADABLE)
async def test_the_command_line_names_it_in_one_line_and_ends_with_1(
    server: EmbeddedServer, js: JetStreamContext, tmp_path: Path, what: str
) -> None:
    body, headers = UNREADABLE[what]
    subject = page_subject("esms", OA, "job")
    await publish(js, page("job", 1, 3))
    await js.publish(subject, body, headers=headers)
    await publish(js, page("job", 3, 3), completed("job", 3))

    for words in (("pages", "job"), ("verify", "job"), ("export", "job", str(tmp_path / "job.jsonl"))):
        result = await command_line(server, *words)

        (line,) = [line for line in f"{result.stdout}{result.stderr}".splitlines() if not line.startswith("{")]
        assert result.exit_code == 1, words
        assert f"message 2 on {subject} can't be read: " in line
        assert "nats stream get FOLLOWERS_EVENTS 2" in line
        assert SECRET.lower() not in line.lower()
        assert isinstance(result.exception, SystemExit)
    assert list(tmp_path.iterdir()) == []


async def test_a_job_event_that_can_not_be_read_is_named_too(
    server: EmbeddedServer, js: JetStreamContext, tmp_path: Path
) -> None:
    subject = job_subject("esms", OA, "job")
    await publish(js, page("job", 1, 1))
    await js.publish(subject, b"garbage")

    verified = await command_line(server, "verify", "job")
    exported = await command_line(server, "export", "job", str(tmp_path / "job.csv"))

    assert (verified.exit_code, exported.exit_code) == (1, 1)
    assert f"not verified: message 2 on {subject} can't be read: JSON is malformed" in verified.stdout
    assert exported.stderr.startswith(f"message 2 on {subject} can't be read: JSON is malformed")
    assert exported.stderr.count("\n") == 1


async def test_beside_a_whole_list_it_is_named_and_holds_nothing_up(
    server: EmbeddedServer, js: JetStreamContext, tmp_path: Path
) -> None:
    pages, events = page_subject("esms", OA, "job"), job_subject("esms", OA, "job")
    await publish(js, page("job", 1, 2))
    await js.publish(pages, SECRET.encode())
    await publish(js, page("job", 2, 2), completed("job", 2))
    await js.publish(events, SECRET.encode())

    printed = await command_line(server, "pages", "job", "--provider-pages")
    exported = await command_line(server, "export", "job", str(tmp_path / "job.jsonl"))
    verified = await command_line(server, "verify", "job")

    assert (printed.exit_code, exported.exit_code, verified.exit_code) == (1, 0, 1)
    assert [json.loads(line)["page"] for line in printed.stdout.splitlines()] == [1, 2]
    assert f"left out: message 2 on {pages} can't be read" in printed.stderr
    assert (
        len((tmp_path / "job.jsonl").read_text("utf-8").splitlines())
        == json.loads((await js.get_msg(EVENTS_STREAM, 4)).data or b"")["followers"]
    )
    for sequence, subject in ((2, pages), (5, events)):
        assert f"left out: message {sequence} on {subject} can't be read" in exported.stderr
    assert f"not verified: message 2 on {pages} can't be read" in verified.stdout
    for result in (printed, exported, verified):
        assert SECRET.lower() not in f"{result.stdout}{result.stderr}".lower()


async def test_a_subject_that_only_looks_like_a_jobs_is_no_job(
    server: EmbeddedServer, js: JetStreamContext, tmp_path: Path
) -> None:
    await publish(js, page("job", 1, 1), completed("job", 1))
    await js.publish("followers.page.nobody.1.job", b"garbage")
    await js.publish("followers.page.esms.a b.job".replace(" ", "$"), b"garbage")

    verified = await command_line(server, "verify", "job", "--without-digest")
    exported = await command_line(server, "export", "job", str(tmp_path / "job.jsonl"))

    assert (verified.exit_code, exported.exit_code) == (0, 0), verified.stdout + exported.stderr


async def test_a_status_that_can_not_be_read_is_named_and_hides_no_other(
    server: EmbeddedServer, js: JetStreamContext
) -> None:
    await js.publish("$KV.FOLLOWERS_JOBS.deep", b'{"x":' + b"[" * 100_000)
    await js.publish("$KV.FOLLOWERS_JOBS.bytes", b'{"job_id":"\xff"}')

    listed = await command_line(server, "jobs", "--json")
    status = await command_line(server, "status", "deep")

    assert (listed.exit_code, json.loads(listed.stdout)) == (0, [])
    assert "2 entries are no job status of this version" in listed.stderr
    assert status.exit_code == 1
    assert "the status of job deep can't be read: Nested too deeply" in status.stderr


# The worker


async def order(js: JetStreamContext, job_id: str, **fields: Any) -> int:
    body = encode({"provider": "etelecom", "oa_id": OA_ID, "id": job_id, "page_size": 20} | fields)
    return (await js.publish("followers.fetch.etelecom", body)).seq


async def letters(js: JetStreamContext) -> list[dict[str, str]]:
    """The headers of the dead letters, oldest first."""
    count = (await js.stream_info(DEAD_STREAM)).state.messages
    return [(await js.get_msg(DEAD_STREAM, seq=number + 1)).headers or {} for number in range(count)]


async def test_a_job_with_such_a_message_in_its_way_is_a_dead_letter_that_names_it_and_goes_on_without_it(
    server: EmbeddedServer, client: Client, js: JetStreamContext
) -> None:
    async with stage.providers(followers=60) as providers:
        settings = stage.settings(server.url, providers.accounts)
        async with Worker(settings):
            await stage.command_settled(client, await order(js, "whole"))
            await stage.command_settled(client, await order(js, "cut", max_pages=1))
        # As a worker leaves it that died behind page 1.
        subject, events = page_subject("etelecom", OA_ID, "job"), job_subject("etelecom", OA_ID, "told")
        first = await js.get_last_msg(EVENTS_STREAM, page_subject("etelecom", OA_ID, "whole"))
        assert first.data is not None
        garbage = (await js.publish(subject, first.data)).seq
        forged = (await js.publish(events, SECRET.encode(), headers={"Content-Type": SECRET})).seq

        async with Worker(settings):
            await stage.command_settled(client, await order(js, "job"), timeout=30)
            await stage.command_settled(client, await order(js, "told"), timeout=30)
            found = await letters(js)
            answer = decode((await client.request(status_subject("job"), timeout=5)).data, JobStatus)
            await js.delete_msg(EVENTS_STREAM, garbage)
            retried = await command_line(server, "dead", "retry", "--all")
            await stage.until(lambda: _ended(js, events), 20)
            await stage.until(lambda: _ended(js, job_subject("etelecom", OA_ID, "job")), 20)

    texts = [letter[deadletters.ERROR_MESSAGE] for letter in found]
    assert [letter[deadletters.ERROR_CODE] for letter in found] == ["internal", "internal"]
    assert texts[0].startswith(
        f"message {garbage} of stream {EVENTS_STREAM} on {subject} is in the way of this job: it"
    )
    assert "it is an event of another job" in texts[0]
    assert f"nats stream rmm {EVENTS_STREAM} {garbage}" in texts[0]
    assert texts[1].startswith(f"message {forged} of stream {EVENTS_STREAM} on {events} is in the way of this job: it")
    assert SECRET not in texts[1]
    assert answer.state == "failed"
    assert answer.error is not None
    assert answer.error.message == texts[0]
    assert retried.exit_code == 0
    assert (await command_line(server, "verify", "job")).exit_code == 0
    for name in (job_subject("etelecom", OA_ID, "job"), events):
        last = await js.get_last_msg(EVENTS_STREAM, name)
        assert decode(last.data or b"", JobCompleted).generation == 2


async def _ended(js: JetStreamContext, subject: str) -> bool:
    last = await js.get_last_msg(EVENTS_STREAM, subject)
    return b'"completed"' in (last.data or b"")


async def test_three_faults_are_three_over_a_change_of_workers(
    server: EmbeddedServer, client: Client, js: JetStreamContext
) -> None:
    async with stage.providers(followers=30) as providers:
        await js.publish(page_subject("etelecom", OA_ID, "job"), b"garbage")
        sequence = await order(js, "job")
        settings = stage.settings(server.url, providers.accounts)
        for faults in (1, 2, 3):
            async with Worker(settings):
                await stage.until(partial(_faults, js, faults), 20)
            assert await letters(js) == []
        async with Worker(settings):
            await stage.command_settled(client, sequence, timeout=20)

    assert len(await letters(js)) == 1
    last = await js.get_last_msg(EVENTS_STREAM, job_subject("etelecom", OA_ID, "job"))
    assert "is in the way of this job" in decode(last.data or b"", JobFailed).error.message


async def _faults(js: JetStreamContext, expected: int) -> bool:
    """Whether the status says that the command has made so many workers fail."""
    bucket = await js.key_value("FOLLOWERS_JOBS")
    try:
        status = decode((await bucket.get("job")).value or b"", JobStatus)
    except KeyNotFoundError:
        return False
    return (status.state, status.faults) == ("queued", expected)
