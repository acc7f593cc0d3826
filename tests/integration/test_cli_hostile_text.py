"""Labels, headers, names and error texts that would steer a terminal: shown there, byte for byte for programs."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from schemas import Follower, FollowerPage, decode, encode
from schemas.changes import Feed
from schemas.events import FetchError, JobFailed
from schemas.examples import EXAMPLES
from schemas.jobs import JobStatus
from tests.integration import stage
from tests.integration.cli_trouble import FEED, JOB, World, environment
from tests.integration.test_cli import NOW, common, page, publish
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp\u2066[red]x[/red]"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp\u2066[red]x[/red]"
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What rich draws with: colours, the cursor."""
BAD = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202e\u2066]")


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    """A server on which somebody has written such things wherever one can."""
    async with stage.server() as server:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig())
        js = client.jetstream()
        error = FetchError(code="internal", message=f"it says {EVIL}", retryable=False)
        status: JobStatus = msgspec.structs.replace(
            EXAMPLES["JobStatus"][0], job_id=JOB, state="failed", error=error, labels={"team": EVIL}, worker=EVIL
        )
        feed: Feed = msgspec.structs.replace(EXAMPLES["Feed"][0], filter={"name": EVIL})
        await js.publish(f"$KV.FOLLOWERS_JOBS.{JOB}", encode(status))
        await js.publish(f"$KV.FOLLOWERS_FEEDS.{FEED}", encode(feed))
        headers = {"Followers-Job-Id": JOB, "Followers-Error-Code": "internal", "Followers-Error-Message": EVIL[:-4]}
        await js.publish("followers.dead.esms", f"{{{EVIL}\n".encode(), headers=headers | {"x-team": f"a{EVIL[6:]}"})
        one: FollowerPage = msgspec.structs.replace(
            page(JOB, 1, 1), followers=[Follower(user_id="1", display_name=EVIL)], labels={"team": EVIL}
        )
        await publish(js, one, JobFailed(**common(JOB), error=error, finished_at=NOW))
        await client.close()
        yield World(url=server.url)


COMMANDS = {
    "jobs": ("jobs",),
    "status": ("status", JOB),
    "watch": ("watch", JOB),
    "pages": ("pages", JOB),
    "page events": ("pages", JOB, "--provider-pages"),
    "changes list": ("changes", "list"),
    "dead list": ("dead", "list"),
    "dead show": ("dead", "show", "1", "--body"),
    "fetch": ("fetch", "esms", common(JOB)["oa_id"], "--id", JOB),
    "export": ("export", JOB, "-", "--format", "csv", "--partial"),
    "an argument": ("status", EVIL),
    "one too many": ("jobs", EVIL),
}


async def drawn(world: World, folder: Path, *arguments: str) -> str:
    """Run a command on a terminal of our own; return all that it wrote there."""
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | environment(world, folder) | {"TERM": "xterm-256color", "COLUMNS": "400"},
    )
    os.close(theirs)
    text = await asyncio.to_thread(_read_all, ours)
    await process.wait()
    return text


def _read_all(terminal: int) -> str:
    found = b""
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as stream:  # EIO is a terminal's end
        while chunk := stream.read(65_536):
            found += chunk
    return found.decode()


async def piped(world: World, folder: Path, *arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | environment(world, folder),
    )
    out, _ = await process.communicate()
    return out


TRIED = COMMANDS if os.environ.get("LONG_TESTS") else ("status", "watch", "dead show", "fetch", "one too many")


@pytest.mark.parametrize("name", TRIED)
async def test_nothing_that_others_wrote_steers_the_terminal(world: World, tmp_path: Path, name: str) -> None:
    text = await drawn(world, tmp_path, *COMMANDS[name])

    assert BAD.search(OURS.sub("", text)) is None
    assert SHOWN[:12] in text or r"\u001b]0;owned" in text
    assert "[red]" in text or name == "watch"  # no markup; its table has no room for all of it
    assert "Traceback" not in text


async def test_programs_get_every_byte(world: World, tmp_path: Path) -> None:
    status = decode(await piped(world, tmp_path, "status", JOB, "--json"), JobStatus)
    (listed,) = json.loads(await piped(world, tmp_path, "jobs", "--json"))
    letter = json.loads(await piped(world, tmp_path, "dead", "show", "1", "--json", "--body"))
    lines = await piped(world, tmp_path, "pages", JOB)
    body = await piped(world, tmp_path, "dead", "show", "1", "--body")
    rows = await piped(world, tmp_path, "export", JOB, "-", "--format", "csv", "--partial")

    assert (status.labels["team"], listed["labels"]["team"]) == (EVIL, EVIL)
    assert letter["body"] == f"{{{EVIL}\n"
    assert json.loads(lines)["display_name"] == EVIL
    assert lines.count("\u202e".encode()) == 1
    assert body.endswith(f"\n\n{{{EVIL}\n\n".encode())
    assert EVIL.encode() in rows


async def test_json_on_a_terminal_means_the_same_and_steers_nothing(world: World, tmp_path: Path) -> None:
    text = await drawn(world, tmp_path, "status", JOB, "--json")

    assert BAD.search(text) is None
    assert decode(text.encode(), JobStatus).labels == {"team": EVIL}


async def test_text_in_a_pipe_is_shown_too(world: World, tmp_path: Path) -> None:
    text = (await piped(world, tmp_path, "status", JOB)).decode()

    assert f"labels       team={SHOWN}\n" in text
    assert f"error        internal: it says {SHOWN}\n" in text
