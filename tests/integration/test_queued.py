"""A job that no worker has seen yet: where its command is, and who would have to take it. On a real nats-server."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import JobStarted, JobStatus, encode
from schemas.subjects import (
    COMMANDS_STREAM,
    JOBS_BUCKET,
    cancel_subject,
    command_subject,
    consumer_name,
    status_subject,
)
from schemas.types import JobState
from tests.fakes import make_world
from tests.integration.control_stage import Stage, stage
from tests.integration.stage import until
from worker.cli import watch
from worker.core.ports.job_store import QueuedCommand, QueueUnavailableError
from worker.embedded import EmbeddedServer
from worker.jetstream.commands import queue as queues
from worker.jetstream.commands.queue import JetStreamCommandQueue
from worker.page.view import job_row
from worker.page_backend import LiveSources
from worker.providers.simulators import OA_ID, Fault


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with stage(nats_client, nats_server.url, tmp_path) as made:
        yield made


async def publish(place: Stage, *jobs: str) -> None:
    for job in jobs:
        await place.publish(job)


def one_at_a_time(place: Stage) -> None:
    section = place.settings.worker.model_copy(update={"max_jobs": 1, "drain_timeout": 0.2})
    place.settings = place.settings.model_copy(update={"worker": section})


async def found(place: Stage, job: str) -> QueuedCommand | None:
    return await JetStreamCommandQueue(place.client, timeout=2).find(job)


async def test_without_a_worker_status_says_so_and_where_the_command_is(place: Stage) -> None:
    await publish(place, "first", "second", "third")

    text, document = await place.run("status", "third"), await place.run("status", "third", "--json")

    status = json.loads(document.stdout)
    assert (text.exit_code, document.exit_code) == (0, 0)
    assert (status["state"], status["oa_id"], status["command_sequence"]) == ("queued", OA_ID, 3)
    wait = status["wait"]
    assert (wait["owner"], wait["reason"], wait["position"], wait["ahead"]) == ("no_worker", "no_worker", 3, 2)
    assert (wait["in_hand"], wait["asking"]) == (0, 0)
    lines = dict(line.split(maxsplit=1) for line in text.stdout.splitlines())
    assert lines["waits"].startswith("no worker takes etelecom commands: start one by `followers worker`")
    assert lines["since"].endswith("Z")


async def test_watching_a_queued_job_begins_with_why_it_does_not_move(place: Stage) -> None:
    await publish(place, "queued")
    statuses = watch._statuses(place.client, "queued", None)

    first = await anext(statuses)
    await statuses.aclose()

    assert (first.state, first.wait and first.wait.owner) == ("queued", "no_worker")
    assert watch.line(first).endswith("or see why those that run don't by `followers doctor`")


async def test_behind_a_busy_worker_the_request_answers_with_the_place_in_the_queue(place: Stage) -> None:
    one_at_a_time(place)
    place.simulator.inject(Fault(kind="hang", seconds=60))
    async with place.worker():
        await publish(place, "running")
        await place.until("running", JobStarted)
        await publish(place, "next", "last")

        status = await place.ask(status_subject("last"))
        running = await place.ask(status_subject("running"))

        wait = status["wait"]
        assert (status["state"], wait["owner"], wait["position"], wait["ahead"]) == ("queued", "queue", 2, 1)
        assert wait["in_hand"] == 1
        assert "its command is number 2 in the queue; workers have 1 command in hand" in wait["text"]
        assert (running["state"], running["wait"]) == ("running", None)


async def test_a_job_whose_worker_died_says_that_nobody_goes_on_with_it(place: Stage) -> None:
    await publish(place, "abandoned")
    js = place.client.jetstream()
    pull = await js.pull_subscribe_bind(consumer_name("etelecom"), COMMANDS_STREAM)
    await pull.fetch(1)
    heard = datetime.now(UTC) - timedelta(minutes=5)
    status = JobStatus(
        job_id="abandoned", provider="etelecom", account="shop", oa_id=OA_ID, state="running", page=7,
        worker="worker-0", started_at=heard, updated_at=heard,
    )  # fmt: skip
    await (await js.key_value(JOBS_BUCKET)).put("abandoned", encode(status))

    without = json.loads((await place.run("status", "abandoned", "--json")).stdout)
    async with waiting_pull(place, pull):
        with_another = json.loads((await place.run("status", "abandoned", "--json")).stdout)

    assert (without["state"], without["page"], without["wait"]["owner"]) == ("running", 7, "no_worker")
    assert "its worker worker-0 was last heard of at" in without["wait"]["text"]
    assert "it goes on behind page 7" in without["wait"]["text"]
    assert (with_another["wait"]["owner"], with_another["wait"]["asking"]) == ("queue", 1)


@contextlib.asynccontextmanager
async def waiting_pull(place: Stage, pull: Any) -> AsyncIterator[None]:
    """A worker that asks for a command and gets none."""
    asking = asyncio.create_task(pull.fetch(1, timeout=20))
    js = place.client.jetstream()

    async def seen() -> bool:
        return bool((await js.consumer_info(COMMANDS_STREAM, consumer_name("etelecom"))).num_waiting)

    await until(seen, 10)
    yield
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_what_is_asked_to_end_and_has_not_ended_says_so(place: Stage) -> None:
    one_at_a_time(place)
    place.simulator.inject(Fault(kind="hang", seconds=60))
    async with place.worker():
        await publish(place, "running")
        await place.until("running", JobStarted)
        await publish(place, "queued")
        await place.ask(cancel_subject("queued"))

        status = await place.ask(status_subject("queued"))

    assert (status["state"], status["wait"]["owner"]) == ("queued", "cancelled")
    assert "with its next delivery" in status["wait"]["text"]


async def test_a_job_that_nobody_published_is_unknown_to_the_command_line_and_to_a_worker(place: Stage) -> None:
    await publish(place, "another")

    result = await place.run("status", "nobody")
    async with place.worker():
        asked = await place.ask(status_subject("nobody"))

    assert result.exit_code == 1
    assert "job nobody isn't known: no worker has seen it yet" in result.stderr
    assert "its command is not in the queue" in result.stderr
    assert asked["error"]["code"] == "not_found"


async def test_a_command_is_found_by_its_message_id_too_and_what_is_no_command_is_passed_over(place: Stage) -> None:
    js = place.client.jetstream()
    body: dict[str, Any] = {"provider": "esms", "oa_id": "7"}
    await js.publish(command_subject("esms"), b"no command", headers={"Nats-Msg-Id": "garbled"})
    await js.publish(command_subject("esms"), msgspec.json.encode(body), headers={"Nats-Msg-Id": "by-header"})
    await js.publish(command_subject("esms"), msgspec.json.encode(body | {"colour": "red", "id": "misspelt"}))

    by_header, misspelt = await found(place, "by-header"), await found(place, "misspelt")

    assert by_header is not None
    assert (by_header.provider, by_header.oa_id, by_header.ahead, by_header.sequence) == ("esms", "7", 1, 2)
    assert misspelt is not None
    assert misspelt.ahead == 2
    assert await found(place, "garbled") is None


async def test_a_delivered_command_has_no_place_any_more(place: Stage) -> None:
    await publish(place, "taken", "next")
    js = place.client.jetstream()
    pull = await js.pull_subscribe_bind(consumer_name("etelecom"), COMMANDS_STREAM)
    await pull.fetch(1)

    taken, following = await found(place, "taken"), await found(place, "next")

    assert taken is not None
    assert (taken.ahead, taken.in_hand) == (None, 1)
    assert following is not None
    assert (following.ahead, following.in_hand) == (0, 1)
    text = (await place.run("status", "taken")).stdout
    assert "its command was delivered, and is with a worker or comes again" in text


async def test_the_live_page_shows_a_job_that_no_worker_has_seen(place: Stage) -> None:
    await publish(place, "first", "queued")
    world = make_world(queue=JetStreamCommandQueue(place.client, timeout=2))
    sources = LiveSources(place.client, world, dict, {}, timeout=2)

    status = await sources.status("queued")

    assert status is not None
    row = job_row(status)
    assert (row["state"], row["wait"]["owner"], row["wait"]["position"]) == ("queued", "no_worker", 2)
    assert await sources.status("nobody") is None


async def test_in_a_long_queue_the_oldest_and_the_newest_are_found_with_their_places(
    place: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "SEARCHED", 3)
    await publish(place, *(f"job-{number}" for number in range(1, 11)))

    places = {}
    for number in (1, 3, 8, 9, 10):
        command = await found(place, f"job-{number}")
        assert command is not None
        places[number] = command.ahead
    with pytest.raises(QueueUnavailableError, match="too long to be searched"):
        await found(place, "job-5")

    assert places == {1: 0, 3: 2, 8: 7, 9: 8, 10: 9}
    result = await place.run("status", "job-5")
    assert result.exit_code == 1
    assert "its command may be queued, but the queue is too long to be searched" in result.stderr


async def fill(place: Stage, count: int) -> None:
    """Put so many commands into the queue, with another provider's in between."""
    for number in range(1, count + 1):
        provider = "esms" if number % 10 == 0 else "etelecom"
        body = {"provider": provider, "oa_id": OA_ID, "id": f"job-{number}"}
        await place.client.publish(command_subject(provider), msgspec.json.encode(body))  # type: ignore[arg-type]

    async def stored() -> bool:
        return await place.commands_left() == count

    await until(stored, 30)


@pytest.mark.parametrize("direct", [True, False], ids=["direct gets", "a stream of an older version"])
async def test_anywhere_among_thousands_a_command_is_found_with_its_place(
    place: Stage, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 10_000 if direct else 2_000
    await fill(place, count)
    js = place.client.jetstream()
    if not direct:
        config = (await js.stream_info(COMMANDS_STREAM)).config
        config.allow_direct = False
        await js.update_stream(config)
    knows_batches = direct and (await server_version(place)) >= (2, 11)
    monkeypatch.setattr(queues, "SEARCH_FOR", 60.0)  # a machine that is busy with something else fails nothing here

    for number in (1, count // 2 + 1, count - 1):
        before = dict(place.client.stats)
        command = await found(place, f"job-{number}")
        requests = place.client.stats["out_msgs"] - before["out_msgs"]
        received = place.client.stats["in_bytes"] - before["in_bytes"]

        assert command is not None
        assert (command.sequence, command.ahead) == (number, number - 1 - number // 10)
        # A few questions about the stream, a subscription's end, and the batches or the gets themselves.
        assert requests <= (25 if knows_batches else 700 + 1.2 * number)
        assert received <= 100_000 + 400 * count
    assert await found(place, "nobody") is None


async def server_version(place: Stage) -> tuple[int, int]:
    version = place.client.connected_server_version
    return version.major, version.minor


async def test_thousands_that_were_settled_leave_a_hole_that_costs_little(place: Stage) -> None:
    await fill(place, 3_000)
    js = place.client.jetstream()
    await js.purge_stream(COMMANDS_STREAM, seq=2_990)
    before = place.client.stats["out_msgs"]

    command = await found(place, "job-2999")

    assert command is not None
    assert command.sequence == 2_999
    assert place.client.stats["out_msgs"] - before <= 80


async def test_a_user_without_the_right_to_direct_gets_finds_it_all_the_same(
    place: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(place, *(f"job-{number}" for number in range(1, 12)))

    async def lacks(client: Client, lines: tuple[str, ...]) -> list[str]:
        return [f"publish {line}" for line in lines]

    monkeypatch.setattr(queues, "lacking", lacks)
    denied = await place.client.subscribe("$JS.API.DIRECT.GET.>")
    command = await found(place, "job-11")
    await place.client.flush()

    assert command is not None
    assert command.ahead == 10
    assert denied.pending_msgs == 0, "what isn't allowed isn't even tried"


async def test_an_id_that_its_command_spells_otherwise_is_found(place: Stage) -> None:
    js = place.client.jetstream()
    escaped = b'{"provider":"esms","oa_id":"7","id":"\\u0061bc"}'
    packed = msgspec.msgpack.encode({"provider": "esms", "oa_id": "7", "id": "packed"})
    unnamed = msgspec.json.encode({"provider": "esms", "oa_id": "7"})
    await js.publish(command_subject("esms"), escaped)
    await js.publish(command_subject("esms"), packed, headers={"Content-Type": "application/msgpack"})
    derived = await js.publish(command_subject("esms"), unnamed)
    await js.publish(command_subject("esms"), unnamed, headers={"nats-msg-id": "no token, so its digest"})
    at = (await js.get_msg(COMMANDS_STREAM, derived.seq)).time
    assert at is not None
    digest = hashlib.sha256(b"no token, so its digest").hexdigest()[:40]
    ids = ["abc", "packed", f"t{round(at.timestamp() * 1_000_000)}-{derived.seq}", f"m{digest}"]

    assert [command and command.sequence for command in [await found(place, one) for one in ids]] == [1, 2, 3, 4]


async def test_asking_again_at_once_does_not_search_again(place: Stage) -> None:
    await publish(place, "queued")
    queue = JetStreamCommandQueue(place.client, timeout=2)

    first = await queue.find("queued")
    await place.client.jetstream().purge_stream(COMMANDS_STREAM)
    again = await asyncio.gather(*(queue.find("queued") for _ in range(20)))

    assert first is not None
    assert set(map(id, again)) == {id(first)}
    assert await found(place, "queued") is None


async def test_a_queue_that_cannot_be_searched_is_not_searched_again_at_once(
    place: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "SEARCHED", 1)
    await publish(place, "first", "second", "third")
    queue = JetStreamCommandQueue(place.client, timeout=2)

    with pytest.raises(QueueUnavailableError, match="too long"):
        await queue.find("second")
    await place.client.jetstream().purge_stream(COMMANDS_STREAM)
    with pytest.raises(QueueUnavailableError, match="too long"):
        await queue.find("second")


async def test_without_its_consumer_the_queue_says_that_it_cannot_be_known(place: Stage) -> None:
    await place.client.jetstream().delete_consumer(COMMANDS_STREAM, consumer_name("etelecom"))

    with pytest.raises(QueueUnavailableError, match="NATS didn't answer \\(NotFoundError\\)"):
        await found(place, "queued")


async def put(place: Stage, job: str, state: JobState) -> None:
    now = datetime.now(UTC)
    known = JobStatus(
        job_id=job, provider="etelecom", account="shop", oa_id=OA_ID, state=state, started_at=now, updated_at=now
    )  # fmt: skip
    await (await place.client.jetstream().key_value(JOBS_BUCKET)).put(job, encode(known))


def rows(stdout: str) -> list[str]:
    return [line.split()[0] for line in stdout.splitlines()[1:]]


async def test_jobs_that_no_worker_has_seen_are_listed_in_the_order_in_which_they_are_taken(place: Stage) -> None:
    await publish(place, *(f"job-{number}" for number in range(1, 309)))

    listed = await place.run("jobs", "--state", "queued")
    few = await place.run("jobs", "--state", "queued", "--limit", "3")
    told = json.loads((await place.run("jobs", "--state", "queued", "--limit", "400", "--json")).stdout)

    assert rows(listed.stdout) == [f"job-{number}" for number in range(1, 51)]
    assert listed.stderr == "258 more: use --limit\n"
    assert (rows(few.stdout), few.stderr) == (["job-1", "job-2", "job-3"], "305 more: use --limit\n")
    assert [job["wait"]["position"] for job in told] == list(range(1, 309))
    assert {job["state"] for job in told} == {"queued"}


async def test_the_queue_is_counted_beside_the_jobs_and_not_where_a_program_reads(place: Stage) -> None:
    await put(place, "done", "completed")
    await publish(place, "one")
    single = await place.run("jobs")
    await publish(place, "two")

    listed, as_json = await place.run("jobs"), await place.run("jobs", "--json")
    of_esms, failed = await place.run("jobs", "--provider", "esms"), await place.run("jobs", "--state", "failed")

    assert single.stderr == "1 command waits in the queue for a worker: `followers jobs --state queued`\n"
    assert (rows(listed.stdout), listed.stderr) == (
        ["done"],
        "2 commands wait in the queue for a worker: `followers jobs --state queued`\n",
    )
    assert (as_json.stderr, of_esms.stderr, failed.stderr) == ("", "", "")


async def test_each_job_is_listed_once_whatever_its_status_and_the_queue_say(place: Stage) -> None:
    js = place.client.jetstream()
    await put(place, "handed-back", "queued")
    await put(place, "runs", "running")
    await put(place, "retried", "failed")
    await publish(place, "handed-back", "runs", "retried", "new", "new")
    await js.publish(command_subject("esms"), b"no command at all")
    await js.publish(command_subject("esms"), b'{"provider":"esms","oa_id":"7","id":"other"}')

    listed = await place.run("jobs", "--state", "queued")
    of_esms = await place.run("jobs", "--state", "queued", "--provider", "esms")

    assert rows(listed.stdout) == ["handed-back", "retried", "new", "other"]
    assert rows(of_esms.stdout) == ["other"]


async def test_what_a_worker_has_taken_is_not_said_to_wait(place: Stage) -> None:
    await publish(place, "taken", "next")
    pull = await place.client.jetstream().pull_subscribe_bind(consumer_name("etelecom"), COMMANDS_STREAM)
    await pull.fetch(1)

    assert rows((await place.run("jobs", "--state", "queued")).stdout) == ["next"]


async def test_a_queue_that_cannot_be_read_hides_no_job_that_is_known(place: Stage) -> None:
    await put(place, "handed-back", "queued")
    await place.client.jetstream().delete_consumer(COMMANDS_STREAM, consumer_name("etelecom"))

    listed = await place.run("jobs", "--state", "queued")

    assert (listed.exit_code, rows(listed.stdout)) == (0, ["handed-back"])
    assert listed.stderr == "what no worker has taken yet can't be shown: NATS didn't answer (NotFoundError)\n"


async def test_jobs_that_began_at_the_same_moment_keep_their_places_at_every_look(place: Stage) -> None:
    at = datetime(2026, 11, 23, 12, tzinfo=UTC)
    bucket = await place.client.jetstream().key_value(JOBS_BUCKET)
    looks = []
    for order in (("a", "b", "c"), ("c", "a", "b")):
        for seconds, job in enumerate(order):
            known = JobStatus(
                job_id=job, provider="etelecom", account="shop", oa_id=OA_ID, state="running", started_at=at,
                updated_at=at + timedelta(seconds=seconds),
            )  # fmt: skip
            await bucket.put(job, encode(known))
        looks.append(rows((await place.run("jobs")).stdout))

    assert looks == [["c", "b", "a"]] * 2
