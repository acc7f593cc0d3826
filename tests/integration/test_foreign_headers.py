"""Commands whose headers are called as the server's own words: they are data, and change nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas import JobCompleted, deadletters
from schemas.subjects import COMMANDS_STREAM
from tests.integration.control_stage import Stage, stage
from worker.embedded import EmbeddedServer
from worker.jetstream.dead_letters.store import LetterBox

FOREIGN = {
    "Description": "Consumer Deleted",
    "Nats-Consumer-Stalled": "followers.fetch.etelecom",
    "Nats-Last-Consumer": "9",
    "Nats-Num-Pending": "7",
    "Nats-Pending-Messages": "7",
    "Nats-Sequence": "999",
    "Nats-Subject": "followers.dead.esms",
    "Nats-Time-Stamp": "1999-01-01T00:00:00Z",
}
STATUSES = ["100", "204", "404", "408", "409", "503", "done"]


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    """Streams and a provider, without a worker."""
    async with stage(nats_client, nats_server.url, tmp_path) as made:
        yield made


async def letters(place: Stage, count: int) -> list[int]:
    """Wait for that many dead letters; return their numbers."""
    async with asyncio.timeout(20):
        while True:
            info = await place.client.jetstream().stream_info("FOLLOWERS_DEAD")
            if info.state.messages == count:
                return [letter.sequence async for letter in LetterBox(place.client).read()]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("status", STATUSES)
async def test_a_command_is_executed_whatever_its_headers_are_called(place: Stage, status: str) -> None:
    async with place.worker():
        await place.publish("job", headers=FOREIGN | {"Status": status})
        story = await place.story("job")

        async with asyncio.timeout(5):
            while await place.commands_left():
                await asyncio.sleep(0.02)

    assert isinstance(story[-1], JobCompleted)
    assert story[-1].followers == 100


async def test_dead_letters_behind_such_a_command_are_listed_retried_and_purged(place: Stage) -> None:
    js = place.client.jetstream()
    async with place.worker():
        for number, status in enumerate(STATUSES):
            # An empty body, too: of such a message only the headers speak.
            body = b"" if number % 2 else b"{not json"
            await js.publish("followers.fetch.etelecom", body, headers=FOREIGN | {"Status": status, "x-team": "chăm"})
        await js.publish("followers.fetch.etelecom", b"{behind them", headers={"x-team": "last"})
        assert await letters(place, len(STATUSES) + 1) == list(range(1, len(STATUSES) + 2))

    listed = await place.run("dead", "list", "--json")
    shown = await place.run("dead", "show", "3", "--json")
    retried = await place.run("dead", "retry", "1", str(len(STATUSES) + 1))
    command = await js.get_msg(COMMANDS_STREAM, seq=len(STATUSES) + 2)
    purged = await place.run("dead", "purge", "--all", "--yes")

    assert [json.loads(line)["letter"] for line in listed.stdout.splitlines()] == list(range(1, len(STATUSES) + 2))
    headers = json.loads(shown.stdout)["headers"]
    assert (headers["Status"], headers["x-team"], headers["Description"]) == ("404", "chăm", "Consumer Deleted")
    assert retried.exit_code == 0, retried.stderr
    assert [line.split()[-3] for line in retried.stdout.splitlines()] == ["retried", "retried"]
    assert command.headers is not None
    assert (command.headers["Status"], command.headers[deadletters.RETRY]) == ("100", "1")
    assert (purged.exit_code, purged.stderr) == (0, f"{len(STATUSES) - 1} dead letters are deleted\n")
    assert await letters(place, 0) == []
