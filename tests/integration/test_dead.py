"""Dead letters on the command line, with a real worker that makes and retries them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import FollowerPage, JobCompleted, JobFailed, JobStarted, deadletters
from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, dead_subject
from tests.integration.control_stage import Stage, stage
from worker.embedded import EmbeddedServer
from worker.jetstream.dead_letters.store import LetterBox
from worker.providers.simulators import OA_ID, Fault

NEW_KEY = "1150000000000000001:" + "anotherinventedk" * 4


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    """Streams and a provider, without a worker."""
    async with stage(nats_client, nats_server.url, tmp_path) as made:
        yield made


async def put(place: Stage, job_id: str, *, command: int = 1, code: str = "unauthorized", oa: str = OA_ID) -> int:
    """Store a letter as a worker does; return its number."""
    headers = {
        deadletters.JOB_ID: job_id,
        deadletters.ERROR_CODE: code,
        deadletters.ERROR_MESSAGE: "the key is wrong: check it",
        deadletters.ATTEMPTS: "1",
        deadletters.COMMAND_SEQUENCE: str(command),
        deadletters.FAILED_AT: "2026-11-23T00:00:00Z",
        "Content-Type": "application/json",
        "x-team": "chăm sóc",
    }
    provider = "esms" if code == "rate_limited" else "etelecom"
    body = {"provider": provider, "oa_id": oa, "id": job_id, "filter": {"name": "Bùi Thị Lê"}}
    js = place.client.jetstream()
    ack = await js.publish(
        dead_subject("esms" if provider == "esms" else "etelecom"), msgspec.json.encode(body), headers=headers
    )
    return ack.seq


async def left(place: Stage) -> list[int]:
    return [letter.sequence async for letter in LetterBox(place.client).read()]


async def test_a_retry_after_the_key_is_repaired_goes_on_behind_the_last_page(place: Stage) -> None:
    place.simulator.inject(Fault(kind="latency", seconds=0.05, times=0))
    async with place.worker():
        await place.publish("job")
        while len(place.simulator.requests) < 3:
            await asyncio.sleep(0.01)
        place.simulator.config = msgspec.structs.replace(place.simulator.config, shop_keys=(NEW_KEY,))
        before = await place.story("job")
        place.key_file.write_text(NEW_KEY)

        result = await place.run("dead", "retry", "--code", "unauthorized", "--json")

        after = (await place.story("job", ends=2))[len(before) :]
        repeated = await place.run("dead", "retry", "--all")
    failed, pages = before[-1], [event for event in before if isinstance(event, FollowerPage)]
    assert isinstance(failed, JobFailed)
    assert (failed.error.code, failed.generation) == ("unauthorized", 1)
    assert result.exit_code == 0, result.stderr
    assert [line["outcome"] for line in map(json.loads, result.stdout.splitlines())] == ["retried"]
    started, end = after[0], after[-1]
    assert isinstance(started, JobStarted)
    assert (started.generation, started.attempt, started.resumed_at_page) == (2, 2, len(pages) + 1)
    assert isinstance(end, JobCompleted)
    assert (end.generation, end.verdict, end.followers) == (2, "complete", 100)
    ids = [
        follower.user_id
        for event in [*before, *after]
        if isinstance(event, FollowerPage)
        for follower in event.followers
    ]
    assert ids == place.simulator.ids(OA_ID)
    assert await left(place) == []
    assert await place.commands_left() == 0
    assert (repeated.exit_code, repeated.stdout) == (0, "")


async def test_a_command_that_can_not_be_read_is_retried_byte_for_byte(place: Stage) -> None:
    js = place.client.jetstream()
    await js.publish("followers.fetch.etelecom", b"{not json", headers={"Nats-Msg-Id": "mine", "x": "y"})
    async with place.worker():
        while not await left(place):
            await asyncio.sleep(0.02)
    (number,) = await left(place)

    result = await place.run("dead", "retry", str(number))

    assert result.exit_code == 0, result.stderr
    command = await js.get_msg(COMMANDS_STREAM, seq=2)
    assert (command.data, command.subject) == (b"{not json", "followers.fetch.etelecom")
    assert command.headers is not None
    assert (command.headers["x"], command.headers[deadletters.RETRY]) == ("y", "1")
    assert deadletters.ERROR_CODE not in command.headers
    assert await left(place) == []


async def test_a_dry_run_changes_nothing(place: Stage) -> None:
    numbers = [await put(place, "a"), await put(place, "b", command=2)]

    retried = await place.run("dead", "retry", "--all", "--dry-run")
    purged = await place.run("dead", "purge", "--all", "--dry-run", "--json")

    assert (retried.exit_code, purged.exit_code) == (0, 0)
    assert retried.stdout == "letter 1 job a would be retried\nletter 2 job b would be retried\n"
    assert [json.loads(line)["outcome"] for line in purged.stdout.splitlines()] == ["would be deleted"] * 2
    assert await left(place) == numbers
    assert await place.commands_left() == 0


async def test_of_several_letters_of_a_job_the_latest_is_retried(place: Stage) -> None:
    old, new = await put(place, "a", command=1), await put(place, "a", command=5)
    other = await put(place, "a", command=6, oa="280")

    result = await place.run("dead", "retry", "--all", "--json")

    said = {line["letter"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert (said[old]["outcome"], said[old]["by"]) == ("superseded", new)
    assert {said[number]["outcome"] for number in (new, other)} == {"retried"}
    assert await left(place) == [old]


async def test_a_retry_that_was_cut_off_before_its_letter_was_deleted_publishes_nothing_twice(place: Stage) -> None:
    number = await put(place, "a")
    box = LetterBox(place.client)
    letter = await box.get(number)
    assert letter is not None
    await box.retry(letter)

    again = await box.retry(letter)

    assert again == 1
    assert await place.commands_left() == 1


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ((), ["a", "b", "c"]),
        (("--provider", "esms"), ["b"]),
        (("--code", "internal"), ["c"]),
        (("--oa", "280"), ["c"]),
        (("--job", "a"), ["a"]),
        (("--since", "1h"), ["a", "b", "c"]),
        (("--older-than", "1h"), []),
        (("--limit", "2"), ["b", "c"]),
        (("--code", "internal", "--job", "a"), []),
    ],
)
async def test_the_list_has_what_meets_every_condition(
    place: Stage, conditions: tuple[str, ...], found: list[str]
) -> None:
    await put(place, "a")
    await put(place, "b", code="rate_limited", command=2)
    await put(place, "c", code="internal", oa="280", command=3)

    result = await place.run("dead", "list", "--json", *conditions)

    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["job_id"] for line in result.stdout.splitlines()] == found
    assert "Bùi" not in result.stdout


async def test_the_table_says_when_there_are_more(place: Stage) -> None:
    for number in range(3):
        await put(place, f"job-{number}", command=number)

    result = await place.run("dead", "list", "--limit", "1")

    assert [line.split()[0] for line in result.stdout.splitlines()] == ["LETTER", "3"]
    assert result.stderr == "2 older ones: use --limit\n"


async def test_a_moment_can_be_named(place: Stage) -> None:
    await put(place, "a")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    since = await place.run("dead", "list", "--json", "--since", tomorrow)
    until = await place.run("dead", "list", "--json", "--older-than", tomorrow)

    assert (since.stdout, len(until.stdout.splitlines())) == ("", 1)


async def test_the_command_is_shown_only_when_it_is_asked_for(place: Stage) -> None:
    number = await put(place, "a")

    bare = await place.run("dead", "show", str(number))
    whole = await place.run("dead", "show", str(number), "--body")
    document = json.loads((await place.run("dead", "show", str(number), "--body", "--json")).stdout)

    assert "Bùi" not in bare.stdout
    assert "chăm sóc" in bare.stdout
    assert "the key is wrong: check it" in bare.stdout
    assert '"name":"Bùi Thị Lê"' in whole.stdout
    assert json.loads(document["body"])["id"] == document["job_id"] == "a"
    assert document["headers"][deadletters.ERROR_CODE] == "unauthorized"


async def test_what_is_purged_is_gone_and_nothing_else(place: Stage) -> None:
    await put(place, "a")
    kept = await put(place, "b", code="internal", command=2)

    unasked = await place.run("dead", "purge", "--code", "unauthorized")
    result = await place.run("dead", "purge", "--code", "unauthorized", "--yes")

    assert unasked.exit_code == 2
    assert "add --yes" in unasked.stderr
    assert (result.exit_code, result.stderr) == (0, "1 dead letter is deleted\n")
    assert await left(place) == [kept]


@pytest.mark.parametrize(
    "arguments", [("retry",), ("purge", "--yes"), ("list", "--code", "tired"), ("list", "--since", "yesterday")]
)
async def test_wrong_usage_changes_nothing_and_says_what_to_write(place: Stage, arguments: tuple[str, ...]) -> None:
    await put(place, "a")

    result = await place.run("dead", *arguments)

    assert result.exit_code == 2
    assert result.stderr
    assert await left(place) == [1]


@pytest.mark.parametrize("arguments", [("show", "9"), ("retry", "9"), ("purge", "9", "--yes")])
async def test_a_letter_that_is_not_there_is_named(place: Stage, arguments: tuple[str, ...]) -> None:
    result = await place.run("dead", *arguments)

    assert result.exit_code == 1
    assert "there is no dead letter 9" in result.stderr


async def test_a_command_that_was_not_kept_whole_is_not_retried(place: Stage) -> None:
    headers = {deadletters.BODY_BYTES: "2000000", deadletters.JOB_ID: "a", deadletters.COMMAND_SEQUENCE: "1"}
    await place.client.jetstream().publish(dead_subject("esms"), b'{"provider"', headers=headers)

    result = await place.run("dead", "retry", "--all")

    assert result.exit_code == 1
    assert result.stdout == "letter 1 job a not whole kept 11 of 2000000\n"
    assert await left(place) == [1]


async def test_without_the_stream_the_line_says_what_to_run(place: Stage) -> None:
    await place.client.jetstream().delete_stream(DEAD_STREAM)

    result = await place.run("dead", "list")

    assert (result.exit_code, result.stderr) == (2, "stream FOLLOWERS_DEAD is missing: run `followers setup`\n")
