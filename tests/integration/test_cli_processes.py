"""`followers` as real processes: signals, pipes, and what is left behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from worker.embedded import EmbeddedServer, find_server
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

Process = asyncio.subprocess.Process
NOW = "2026-11-23T12:00:00Z"
PAGE = {
    "job_id": "job",
    "provider": "esms",
    "account": "a",
    "oa_id": "1",
    "page": 1,
    "followers": [{"user_id": str(number), "notes": ["x" * 1000]} for number in range(100)],
    "total": None,
    "cursor": None,
    "next_cursor": None,
    "last": True,
    "fetched_at": NOW,
    "progress": {
        "followers": 100,
        "duplicates_dropped": 0,
        "total_first": None,
        "requests": 1,
        "started_at": NOW,
    },
}
TABLE = ["eTelecom Shop", "eTelecom Partner", "eSMS GetFollowers", "eSMS QueryListUID"]


@asynccontextmanager
async def followers(*arguments: str, folder: Path, **env: str) -> AsyncIterator[Process]:
    """A process of the command line, with a temporary folder of its own; ended if the test fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder), **env},
        limit=2**20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finish(process: Process, seconds: float = 30) -> tuple[int, str, str]:
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def until(stream: asyncio.StreamReader | None, text: str) -> None:
    assert stream is not None
    async with asyncio.timeout(30):
        while text.encode() not in (line := await stream.readline()):
            assert line, f"ended without {text!r}"


async def test_the_demo_fetches_from_all_four_and_leaves_nothing(tmp_path: Path) -> None:
    async with followers("demo", "--followers", "120", folder=tmp_path) as process:
        code, out, err = await finish(process)

    table = out.partition("VERDICT")[2].splitlines()[1:]
    assert (code, err) == (0, "")
    assert [any(title in line for line in table) for title in TABLE] == [True] * 4
    assert [line.split()[-5:-3] for line in table[:2]] == [["4", "120"]] * 2
    assert [line.split()[-5:-3] for line in table[2:]] == [["3", "120"]] * 2
    assert all("complete" in line for line in table)
    assert find_server().described() in out
    assert list(tmp_path.iterdir()) == []


async def test_two_demos_at_once_do_not_meet(tmp_path: Path) -> None:
    async with (
        followers("demo", "--followers", "60", "--json", folder=tmp_path) as one,
        followers("demo", "--followers", "60", "--json", folder=tmp_path) as two,
    ):
        results = await asyncio.gather(finish(one), finish(two))

    for code, out, err in results:
        assert (code, err) == (0, "")
        assert [(event["type"], event["followers"]) for event in json.loads(out)] == [("completed", 60)] * 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_demo_takes_everything_away(tmp_path: Path, told: signal.Signals) -> None:
    async with followers("demo", "--latency", "400", folder=tmp_path) as process:
        await until(process.stdout, "page   2")
        process.send_signal(told)
        code, _, err = await finish(process, seconds=15)

    assert (code, err) == (130, "")
    assert list(tmp_path.iterdir()) == []


async def test_the_simulators_print_settings_that_work_as_they_are(tmp_path: Path) -> None:
    async with followers("simulate", "--etelecom-followers", "7", folder=tmp_path) as process:
        await until(process.stderr, "try: followers fetch etelecom")
        process.send_signal(signal.SIGINT)
        code, out, _ = await finish(process)

    file = tmp_path / "followers.toml"
    file.write_text(out)
    async with followers("--config", str(file), "schema", folder=tmp_path) as process:
        assert (await finish(process))[0] == 0
    assert code == 130
    from worker.settings import load

    assert [account.name for account in load(file, {}).account_list()] == ["sim-shop", "sim-partner", "sim-esms"]


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async with followers("simulate", "--json", folder=tmp_path) as first:
        assert first.stdout is not None
        announced = json.loads(await first.stdout.readline())
        port = announced["urls"]["esms"].rpartition(":")[2]
        async with followers("simulate", "--esms-port", port, folder=tmp_path) as second:
            code, _, err = await finish(second)

    assert code == 2
    assert "can't be listened on" in err
    assert announced["followers"]["esms"] == {"2801000000000000001": 1234, "2801000000000000002": 0}


async def on_a_terminal(*arguments: str, interrupt_at: str = "", **env: str) -> tuple[int, str]:
    """Run the command line on a terminal, to its end or until it draws a text; return its exit code and all it drew."""
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    )
    os.close(theirs)

    def interrupt() -> None:
        process.send_signal(signal.SIGINT)

    drawn = await asyncio.to_thread(_read_all, ours, interrupt_at.encode(), interrupt)
    return await process.wait(), drawn


def _read_all(terminal: int, wanted: bytes, when_there: Callable[[], None]) -> str:
    found = b""
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as stream:  # EIO is a terminal's end
        while chunk := stream.read(65_536):
            found += chunk
            if wanted and wanted in found:
                wanted = b""
                when_there()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode())


async def test_a_terminal_shows_bars_and_the_table(tmp_path: Path) -> None:
    code, drawn = await on_a_terminal("demo", "--once", "--followers", "120", TMPDIR=str(tmp_path))

    assert code == 0
    assert "━" in drawn
    assert all(title in drawn.partition("VERDICT")[2] for title in TABLE)
    assert list(tmp_path.iterdir()) == []


async def test_on_a_terminal_the_demo_stays_until_it_is_interrupted(tmp_path: Path) -> None:
    code, drawn = await on_a_terminal("demo", "--followers", "60", interrupt_at="Ctrl-C ends", TMPDIR=str(tmp_path))

    assert code == 130
    assert "followers fetch esms 2801000000000000001 --account demo-getfollowers" in drawn
    assert "Traceback" not in drawn
    assert list(tmp_path.iterdir()) == []


async def test_a_terminal_shows_a_bar_while_following(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext
) -> None:
    await reconcile(nats_client, TopologyConfig())
    error = {"code": "not_found", "message": "OA [1] isn't there", "retryable": False}
    event = {"type": "failed", "job_id": "job", "provider": "esms", "account": "a", "oa_id": "1", "error": error}
    await js.publish("followers.page.esms.1.job", json.dumps(PAGE).encode())
    await js.publish("followers.job.esms.1.job", json.dumps(event | {"finished_at": NOW}).encode())
    servers = json.dumps([nats_server.url])

    code, drawn = await on_a_terminal("fetch", "esms", "1", "--id", "job", FOLLOWERS_NATS__SERVERS=servers)

    assert code == 1
    assert "━" in drawn
    assert drawn.splitlines()[-1] == "failed: not_found: OA [1] isn't there"


async def test_ctrl_c_while_following_ends_with_130_and_no_traceback(
    tmp_path: Path, nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext
) -> None:
    await reconcile(nats_client, TopologyConfig())
    servers = json.dumps([nats_server.url])
    async with followers("fetch", "esms", "1", folder=tmp_path, FOLLOWERS_NATS__SERVERS=servers) as process:
        assert process.stdout is not None
        job = (await process.stdout.readline()).decode().strip()
        process.send_signal(signal.SIGINT)
        code, out, err = await finish(process)

    assert len(job) == 32
    assert (code, out) == (130, "")
    assert "Traceback" not in err


async def test_a_reader_that_stops_early_is_no_error(
    tmp_path: Path, nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext
) -> None:
    await reconcile(nats_client, TopologyConfig())
    for _ in range(20):
        await js.publish("followers.page.esms.1.job", json.dumps(PAGE).encode())
    servers = json.dumps([nats_server.url])
    command = f"{sys.executable} -m worker pages job | head -n 1; echo ${{PIPESTATUS[0]}}"

    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "FOLLOWERS_NATS__SERVERS": servers},
    )
    _, out, err = await finish(shell)

    first, code = out.splitlines()
    assert (json.loads(first)["user_id"], code, err) == ("0", "0", "")
