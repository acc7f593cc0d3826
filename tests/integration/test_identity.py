"""One id for two Official Accounts: held by two real workers over a real nats-server, and named where it was not."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import JobCompleted, JobEvent, JobFailed, deadletters, decode
from schemas.events import TERMINAL
from schemas.subjects import DEAD_STREAM, EVENTS_STREAM, ID_SUBJECTS, id_subject, job_subject
from tests.integration.control_stage import PATIENCE, Stage, stage
from worker.embedded import EmbeddedServer
from worker.jetstream.events.identity import keeps_ids
from worker.jetstream.events.reader import EventReader
from worker.providers.simulators import OA_ID

OTHER = "7"
TRIES = 50


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with stage(nats_client, nats_server.url, tmp_path, followers=25, others=[OTHER]) as made:
        yield made


async def ends(place: Stage, count: int) -> dict[tuple[str, str], JobEvent]:
    """The terminal events of `count` jobs, by id and OA."""
    found: dict[tuple[str, str], JobEvent] = {}
    async with EventReader(place.client, "followers.job.>") as reader:
        while len(found) < count:
            message = await reader.next(PATIENCE)
            assert message is not None, f"{len(found)} of {count} ends"
            event = decode(message.data, JobEvent)
            if isinstance(event, TERMINAL):
                assert (event.job_id, event.oa_id) not in found, "a job ended twice"
                found[event.job_id, event.oa_id] = event
    return found


async def test_of_two_commands_of_one_id_at_the_same_instant_exactly_one_runs(place: Stage) -> None:
    jobs = [f"one-{number}" for number in range(TRIES)]
    takers: Counter[str] = Counter()
    async with place.worker(), place.worker():
        for job in jobs:
            await asyncio.gather(*(place.publish(job, oa_id=oa) for oa in (OA_ID, OTHER)))
        told = await ends(place, 2 * TRIES)
        statuses = {job: await place.ask(f"followers.status.{job}") for job in jobs}

    for job in jobs:
        winner, loser = sorted((OA_ID, OTHER), key=lambda oa: not isinstance(told[job, oa], JobCompleted))
        done, refused = told[job, winner], told[job, loser]
        assert isinstance(done, JobCompleted), (job, done)
        assert isinstance(refused, JobFailed), (job, refused)
        assert refused.error.code == "invalid_command"
        assert f"is already that of a job for OA {winner} at etelecom" in refused.error.message
        assert (statuses[job]["oa_id"], statuses[job]["state"]) == (winner, "completed")
        takers[winner] += 1
        assert await subjects(place, f"followers.page.*.*.{job}") == [f"followers.page.etelecom.{winner}.{job}"]
    letters = (await place.client.jetstream().stream_info(DEAD_STREAM)).state.messages
    assert letters == TRIES
    letter = await place.client.jetstream().get_msg(DEAD_STREAM, seq=1)
    assert (letter.headers or {})[deadletters.ERROR_CODE] == "invalid_command"
    asked = Counter({oa: place.simulator.journal.counters[f"oa:{oa}"] for oa in takers})
    finished = [event for event in told.values() if isinstance(event, JobCompleted)]
    assert asked.total() == sum(event.requests for event in finished), "who lost has asked for nothing"


async def subjects(place: Stage, of: str) -> list[str]:
    info = await place.client.jetstream().stream_info(EVENTS_STREAM, subjects_filter=of)
    return sorted(info.state.subjects or {})


async def test_the_same_id_is_free_for_the_same_list_again_and_for_no_other_account(place: Stage) -> None:
    shop = place.settings.accounts["shop"]
    place.settings = place.settings.model_copy(update={"accounts": {"shop": shop, "twin": shop}})
    async with place.worker():
        await place.publish("job", account="shop")
        await place.story("job")
        await place.publish("job", account="shop")
        await place.publish("job", account="twin")
        letter = await first_letter(place)
        assert await subjects(place, ID_SUBJECTS) == [id_subject("job")]

    assert f"for OA {OA_ID} at etelecom, account shop: an id stands for one job" in letter
    assert [type(event).__name__ for event in await place.story("job")][-1] == "JobCompleted"


async def first_letter(place: Stage) -> str:
    async with EventReader(place.client, "followers.dead.>", stream=DEAD_STREAM) as reader:
        message = await reader.next(PATIENCE)
        assert message is not None
        return str((message.headers or {})[deadletters.ERROR_MESSAGE])


async def test_a_stream_of_an_older_version_has_no_room_and_the_worker_says_what_to_run(
    place: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    js = place.client.jetstream()
    assert await keeps_ids(place.client)
    config = (await js.stream_info(EVENTS_STREAM)).config
    config.subjects = [subject for subject in config.subjects or [] if subject != ID_SUBJECTS]
    await js.update_stream(config)

    assert not await keeps_ids(place.client)
    async with place.worker():
        await place.publish("job")
        await place.story("job")
        await place.publish("job", oa_id=OTHER)
        refused = await ended(place, OTHER)

    assert isinstance(refused, JobFailed), "by the status, as that version did"
    assert await subjects(place, ID_SUBJECTS) == []


async def ended(place: Stage, oa: str) -> JobEvent:
    async with EventReader(place.client, job_subject("etelecom", oa, "job")) as reader:
        while True:
            message = await reader.next(PATIENCE)
            assert message is not None
            event = decode(message.data, JobEvent)
            if isinstance(event, TERMINAL):
                return event


async def two_lists(place: Stage) -> None:
    """What versions before this one could leave behind: two jobs of one id, both with pages."""
    js = place.client.jetstream()
    async with place.worker():
        await place.publish("job")
        await place.story("job")
    async with EventReader(place.client, f"followers.*.etelecom.{OA_ID}.job") as reader:
        while (message := await reader.next(PATIENCE)) is not None:
            body: dict[str, Any] = msgspec.json.decode(message.data) | {"oa_id": OTHER}
            subject = message.subject.replace(OA_ID, OTHER)
            await js.publish(subject, msgspec.json.encode(body), headers={"Content-Type": "application/json"})
            if message.metadata.num_pending == 0:
                return


@pytest.mark.parametrize("act", [("pages", "job"), ("verify", "job"), ("export", "job", "out.jsonl")])
async def test_where_the_log_holds_two_jobs_of_one_id_the_conflict_is_named(
    place: Stage, act: tuple[str, ...], tmp_path: Path
) -> None:
    await two_lists(place)
    name, job, *file = act
    arguments = [name, job, *(str(tmp_path / one) for one in file)]

    unclear = await place.run(*arguments)
    chosen = await place.run(*arguments, "--oa", OTHER, "--provider", "etelecom")

    assert (unclear.exit_code, unclear.stdout) == (2, "")
    named = f"several jobs have the id job (etelecom {OA_ID}, etelecom {OTHER}): choose with --provider and --oa"
    assert unclear.stderr.splitlines()[-1] == named
    assert chosen.exit_code == 0, chosen.stderr
    if name == "pages":
        assert len([json.loads(line) for line in chosen.stdout.splitlines()]) == 25


async def test_a_refused_command_of_the_same_id_is_told_of_and_in_nobodys_way(place: Stage, tmp_path: Path) -> None:
    async with place.worker():
        await place.publish("job")
        await place.story("job")
        await place.publish("job", oa_id=OTHER)
        await ended(place, OTHER)

    pages = await place.run("pages", "job")
    verified = await place.run("verify", "job")
    exported = await place.run("export", "job", str(tmp_path / "out.jsonl"))

    told = f"job job is that of etelecom {OA_ID}; a command of the same id ended without a page: etelecom {OTHER}"
    for result in (pages, verified, exported):
        assert result.exit_code == 0
        assert told in result.stderr.splitlines()
    assert len(pages.stdout.splitlines()) == 25
    assert verified.stdout.startswith("job job: verified: 25 followers")
