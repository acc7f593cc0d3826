"""Requests about jobs, answered by real workers over a real nats-server."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import FollowerPage, JobCancelled, JobCompleted, JobFailed, JobStarted, JobWaiting, deadletters
from schemas.subjects import (
    COMMANDS_STREAM,
    EARLY_KEYS,
    EVENTS_STREAM,
    JOBS_BUCKET,
    cancel_subject,
    consumer_name,
    job_subject,
    status_subject,
)
from tests.integration.control_stage import Stage, stage
from worker.embedded import EmbeddedServer
from worker.jetstream.dead_letters.store import LetterBox
from worker.providers.simulators import OA_ID, Fault


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    """Streams and a provider, without a worker."""
    async with stage(nats_client, nats_server.url, tmp_path) as made:
        yield made


def names(story: Sequence[object]) -> list[str]:
    return [type(event).__name__ for event in story if not isinstance(event, FollowerPage)]


async def test_a_queued_job_is_cancelled_when_it_is_delivered(place: Stage) -> None:
    await place.publish("queued")
    async with contextlib.AsyncExitStack() as stack:
        # The worker that answers has no slot for it: its only one is taken.
        place.settings = place.settings.model_copy(
            update={"worker": place.settings.worker.model_copy(update={"max_jobs": 1})}
        )
        place.simulator.inject(Fault(kind="hang", seconds=60))
        await stack.enter_async_context(place.worker())
        await place.until("queued", JobStarted)
        await place.publish("next")

        answer = await place.ask(cancel_subject("next"))
        await place.ask(cancel_subject("queued"))
        story = await place.story("next")

    assert (answer["state"], answer["wait"]["owner"]) == ("queued", "cancelled")
    assert names(story) == ["JobCancelled"]
    assert await place.commands_left() == 0


@pytest.mark.parametrize("ask", [status_subject, cancel_subject])
async def test_a_job_whose_worker_died_before_its_status_was_written_is_told_with_its_end(
    place: Stage, js: JetStreamContext, ask: Callable[[str], str]
) -> None:
    async with place.worker():
        await place.publish("over")
        await place.story("over")
        bucket = await js.key_value(JOBS_BUCKET)
        while (status := json.loads((await bucket.get("over")).value or b""))["state"] != "completed":
            await asyncio.sleep(0.02)
        left = {"state": "running", "page": 3, "event_sequence": 1, "verdict": None, "finished_at": None}
        await bucket.put("over", json.dumps(status | left).encode())

        answer = await place.ask(ask("over"))

    differ = {"updated_at", "worker"}
    assert {name for name in status if status[name] != answer.get(name)} <= differ
    assert (answer["state"], answer["verdict"], answer["wait"]) == ("completed", "complete", None)


async def test_a_running_job_ends_within_a_second_though_its_request_hangs(place: Stage) -> None:
    place.simulator.inject(Fault(kind="hang", seconds=60, skip=2))
    async with place.worker():
        await place.publish("running")
        while len(place.simulator.requests) < 3:
            await asyncio.sleep(0.02)
        started = time.monotonic()

        answer = await place.ask(cancel_subject("running"))

        took = time.monotonic() - started
        story = await place.story("running")
    assert answer["state"] == "cancelled"
    assert answer["page"] == 2
    assert took < 1
    assert names(story) == ["JobStarted", "JobCancelled"]
    assert [event.page for event in story if isinstance(event, FollowerPage)] == [1, 2]
    assert await place.commands_left() == 0


async def test_a_job_in_another_replicas_hands_ends_too(place: Stage) -> None:
    place.simulator.inject(Fault(kind="hang", seconds=60))
    async with place.worker() as first, place.worker() as second:
        await place.publish("running")
        await place.until("running", JobStarted)

        # Whichever of the two answers, each of them is asked at least once.
        answers = [await place.ask(cancel_subject("running")) for _ in range(8)]

        assert {answer["state"] for answer in answers} == {"cancelled"}
        assert not first._handler.running  # type: ignore[union-attr]
        assert not second._handler.running  # type: ignore[union-attr]
    assert names(await place.story("running")) == ["JobStarted", "JobCancelled"]


async def test_a_job_that_waits_as_the_provider_asked_ends_at_once(place: Stage) -> None:
    place.simulator.inject(Fault(kind="status", status=429, retry_after="600", skip=1))
    async with place.worker():
        await place.publish("waiting")
        await place.until("waiting", JobWaiting)
        started = time.monotonic()

        result = await place.run("cancel", "waiting", "--json")

        took = time.monotonic() - started
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["state"] == "cancelled"
    assert result.stderr == "cancelled after 10 followers in 1 page\n"
    assert took < 2
    assert names(await place.story("waiting")) == ["JobStarted", "JobWaiting", "JobCancelled"]


async def test_a_finished_job_is_left_alone(place: Stage) -> None:
    async with place.worker():
        await place.publish("done")
        before = await place.story("done")

        result = await place.run("cancel", "done")

        assert await place.ask(status_subject("done")) == await place.ask(cancel_subject("done"))
    assert isinstance(before[-1], JobCompleted)
    assert result.exit_code == 0
    assert result.stderr == "job done was over already: completed, 100 followers in 11 pages\n"
    assert await place.story("done") == before


async def test_an_unknown_job_is_not_found_and_the_list_of_jobs_has_no_word_of_it(place: Stage) -> None:
    async with place.worker():
        result = await place.run("cancel", "nobody")
        asked = await place.ask(status_subject("nobody"))
        listed = await place.run("jobs", "--json")

    assert result.exit_code == 1
    assert "no worker has seen job nobody" in result.stderr
    assert (asked["job_id"], asked["error"]["code"]) == ("nobody", "not_found")
    assert json.loads(listed.stdout) == []
    assert listed.stderr == ""


async def test_an_id_that_is_cancelled_before_its_command_comes_ends_as_cancelled(place: Stage) -> None:
    async with place.worker():
        asked = await place.ask(cancel_subject("early"))
        await place.publish("early")
        story = await place.story("early")

    assert asked["error"]["code"] == "not_found"
    assert asked["error"]["message"].endswith("if it comes within 2 minutes, it ends as cancelled")
    assert names(story) == ["JobCancelled"]


async def test_cancels_of_any_number_of_unknown_ids_leave_a_few_keys(place: Stage, js: JetStreamContext) -> None:
    async with place.worker():
        await asyncio.gather(*(place.ask(cancel_subject(f"nobody-{number}")) for number in range(300)))
        asked = await place.ask(cancel_subject("nobody"))

    bucket = await js.stream_info(f"KV_{JOBS_BUCKET}")
    assert asked["error"]["code"] in ("not_found", "rate_limited")
    assert bucket.state.messages <= EARLY_KEYS


async def test_without_a_worker_nobody_answers(place: Stage) -> None:
    result = await place.run("cancel", "queued")

    assert result.exit_code == 1
    assert result.stderr == "no worker is there to cancel job queued: start one with `followers worker`\n"


async def test_what_can_not_be_an_id_is_refused_by_the_worker_and_the_command_line(place: Stage) -> None:
    async with place.worker():
        asked = await place.ask("followers.cancel.a$b")
        result = await place.run("cancel", "a.b")

    assert asked["error"]["code"] == "invalid_command"
    assert result.exit_code == 2


async def test_an_answer_is_never_written_into_the_streams(place: Stage) -> None:
    async with place.worker():
        await place.publish("done")
        before = await place.story("done")
        victim = job_subject("etelecom", OA_ID, "done")

        for reply in (victim, f"$KV.{JOBS_BUCKET}.done", "followers.dead.etelecom"):
            await place.client.publish(status_subject("done"), reply=reply)
        # Answered after those: one replica answers, in order.
        status = await place.ask(status_subject("done"))

        assert await place.story("done") == before
        assert status["state"] == "completed"
        assert await place.ask(status_subject("done")) == status
        last = await place.client.jetstream().get_last_msg(EVENTS_STREAM, victim)
    assert last.headers is not None
    assert last.headers["ce-type"] == "vn.followers.job.completed.v1"


async def test_a_cancellation_outlives_the_worker_that_had_the_job(place: Stage) -> None:
    place.simulator.inject(Fault(kind="hang", seconds=60))
    async with place.worker() as first:
        await place.publish("running")
        await place.until("running", JobStarted)
        # As a worker does that answers while the other one is cut off.
        await (await place.client.jetstream().key_value(JOBS_BUCKET)).put("cancel.running", b"{}")
        # It is found before the worker that has the job hands it back, or by the next one.
        first.draining.set()
        async with place.worker():
            story = await place.story("running")

    assert isinstance(story[-1], JobCancelled)
    assert await place.commands_left() == 0


async def test_a_command_that_nats_no_longer_delivers_becomes_a_dead_letter(place: Stage) -> None:
    js = place.client.jetstream()
    info = await js.consumer_info(COMMANDS_STREAM, consumer_name("etelecom"))
    info.config.max_deliver = 1
    await js.add_consumer(COMMANDS_STREAM, info.config)
    sequence = await place.publish("exhausted")
    pulled = await js.pull_subscribe_bind(consumer_name("etelecom"), COMMANDS_STREAM)
    (taken,) = await pulled.fetch(1)
    assert taken.metadata.sequence.stream == sequence
    await pulled.unsubscribe()

    async with place.worker():  # its pull makes the server notice
        (failed,) = await place.story("exhausted")
        while await place.commands_left():
            await asyncio.sleep(0.05)

    assert isinstance(failed, JobFailed)
    assert failed.error.code == "internal"
    assert "run `followers setup`" in failed.error.message
    letters = [letter async for letter in LetterBox(place.client).read()]
    assert [(letter.job_id, letter.code) for letter in letters] == [("exhausted", "internal")]
    assert letters[0].headers[deadletters.COMMAND_SEQUENCE] == str(sequence)
    assert place.simulator.requests == []
