"""Where `followers export` writes: what is no file stays what it is, links are followed, pipes are streamed into."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from typer.testing import CliRunner, Result

from schemas import Follower
from tests.integration.test_cli import completed, page, publish
from worker.cli import app
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

Run = Callable[..., Awaitable[Result]]
EVIL = "\x1b]0;owned\x07 \u202eevil"


@pytest.fixture
async def followers(nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext) -> Run:
    """Runs the command line against the test's server, where one job is complete."""
    await reconcile(nats_client, TopologyConfig())
    await publish(js, *(page("job", number, 3) for number in (1, 2, 3)), completed("job", 3))

    async def run(*arguments: str) -> Result:
        environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([nats_server.url])}
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    return run


def ids(text: str) -> list[str]:
    """The people in JSON lines."""
    return [json.loads(line)["user_id"] for line in text.splitlines()]


WHOLE = [str(number) for number in range(6)]


async def process(url: str, *arguments: str, out: int = subprocess.PIPE) -> tuple[int, str, str]:
    """Run the export as a process; by `subprocess`, whose pipes are pipes: uvloop's are sockets."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "worker", "export", "job", *arguments],
        env={**os.environ, "FOLLOWERS_NATS__SERVERS": json.dumps([url])},
        stdout=out,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


@pytest.mark.parametrize("forced", [False, True])
async def test_a_link_is_followed_and_stays(followers: Run, tmp_path: Path, forced: bool) -> None:
    (tmp_path / "there").mkdir()
    target, link, second = tmp_path / "there" / "list.bin", tmp_path / "link.jsonl", tmp_path / "second.jsonl"
    link.symlink_to("there/list.bin")
    second.symlink_to("link.jsonl")
    if forced:
        target.write_text("old")

    refused = await followers("export", "job", str(second)) if forced else None
    result = await followers("export", "job", str(second), *(["--force"] if forced else []))

    assert refused is None or (refused.exit_code, target.exists()) == (2, True)
    assert result.exit_code == 0, result.stderr
    assert (os.readlink(link), os.readlink(second)) == ("there/list.bin", "link.jsonl")
    assert ids(target.read_text()) == WHOLE
    assert sorted(os.listdir(tmp_path / "there")) == ["list.bin"]
    assert sorted(os.listdir(tmp_path)) == ["link.jsonl", "second.jsonl", "there"]


async def test_a_link_in_a_circle_or_to_nowhere_is_said(followers: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("b.csv")
    (tmp_path / "b.csv").symlink_to("a.csv")
    (tmp_path / "c.csv").symlink_to("gone/c.csv")

    circle = await followers("export", "job", str(tmp_path / "a.csv"), "--force")
    nowhere = await followers("export", "job", str(tmp_path / "c.csv"), "--force")

    assert (circle.exit_code, nowhere.exit_code) == (2, 2)
    assert circle.stderr == f"{tmp_path}/a.csv can't be written: Too many levels of symbolic links\n"
    assert nowhere.stderr == f"{tmp_path}/c.csv: the folder {tmp_path}/gone isn't there\n"


@pytest.mark.parametrize("force", [(), ("--force",)])
async def test_a_folder_and_a_socket_stay_what_they_are(followers: Run, tmp_path: Path, force: tuple[str, ...]) -> None:
    folder, name = tmp_path / "folder.csv", tmp_path / "s.csv"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(name))

        results = [await followers("export", "job", str(path), *force) for path in (folder, name)]

        assert [result.exit_code for result in results] == [2, 2]
        assert results[0].stderr == f"{folder} is a folder, and stays as it is: name a file\n"
        assert results[1].stderr == f"{name} is no file, and stays as it is: name a file\n"
        assert folder.is_dir()
        assert stat.S_ISSOCK(name.stat().st_mode)


@pytest.mark.parametrize("force", [(), ("--force",)])
async def test_a_named_pipe_gets_the_list_once_somebody_reads(
    followers: Run, tmp_path: Path, force: tuple[str, ...]
) -> None:
    fifo = tmp_path / "pipe.jsonl"
    os.mkfifo(fifo)
    (tmp_path / "link.jsonl").symlink_to(fifo)
    exporting = asyncio.ensure_future(followers("export", "job", str(tmp_path / "link.jsonl"), "--json", *force))
    await asyncio.sleep(0.15)  # it waits

    read = await asyncio.to_thread(fifo.read_text)
    result = await exporting

    assert result.exit_code == 0, result.stderr
    assert ids(read) == WHOLE
    assert json.loads(result.stdout)["bytes"] is None
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link.jsonl", "pipe.jsonl"]


async def test_a_named_pipe_whose_reader_leaves_is_one_line(
    followers: Run, js: JetStreamContext, tmp_path: Path
) -> None:
    large = [Follower(user_id=str(number), notes=["x" * 1000]) for number in range(100)]
    for number in range(1, 11):
        await publish(js, msgspec.structs.replace(page("big", number, 11), followers=large))
    fifo = tmp_path / "pipe.csv"
    os.mkfifo(fifo)
    exporting = asyncio.ensure_future(followers("export", "big", str(fifo), "--partial"))

    with open(await asyncio.to_thread(os.open, fifo, os.O_RDONLY), "rb") as reader:
        await asyncio.to_thread(reader.read, 1)
    result = await exporting

    assert (result.exit_code, result.stderr) == (1, f"{fifo} can't be written: Broken pipe; what came before stays\n")


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
async def test_a_format_that_needs_a_file_is_refused_elsewhere(followers: Run, tmp_path: Path, kind: str) -> None:
    fifo = tmp_path / f"pipe.{kind}"
    os.mkfifo(fifo)

    piped = await followers("export", "job", str(fifo), "--force")
    out = await followers("export", "job", "-", "--format", kind)

    told = f"{kind} needs a file of its own; jsonl and csv can be streamed\n"
    assert (piped.exit_code, piped.stderr) == (2, f"{fifo}: {told}")
    assert (out.exit_code, out.stderr) == (2, f"-: {told}")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


async def test_a_dash_is_stdout(followers: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    lines = await followers("export", "job", "-", "--format", "jsonl")
    rows = await followers("export", "job", "-o", "-", "--format", "csv")
    unclear = await followers("export", "job", "-")
    both = await followers("export", "job", "-", "--format", "csv", "--json")
    named = await followers("export", "job", "./-", "--format", "jsonl")

    assert (lines.exit_code, ids(lines.stdout)) == (0, WHOLE)
    assert lines.stderr == "-: 6 followers of 3 pages\n"
    assert [row.split(",")[5] for row in rows.stdout.splitlines()] == ["user_id", *WHOLE]
    assert rows.stdout_bytes.count(b"\r\n") == 7
    assert (unclear.exit_code, both.exit_code, unclear.stdout, both.stdout) == (2, 2, "", "")
    assert unclear.stderr == "- is stdout: choose its format with --format jsonl or --format csv\n"
    assert both.stderr.startswith("--json says on stdout what was written, where the list itself is to go")
    assert named.exit_code == 0
    assert os.listdir(tmp_path) == ["-"]


async def test_dev_stdout_is_what_it_is_for_others(nats_server: EmbeddedServer, followers: Run, tmp_path: Path) -> None:
    piped = await process(nats_server.url, "/dev/stdout", "--format", "jsonl")
    with (tmp_path / "redirected").open("wb") as file:
        refused = await process(nats_server.url, "/dev/stdout", "--format", "jsonl", out=file.fileno())
        forced = await process(nats_server.url, "/dev/stdout", "--format", "jsonl", "--force", out=file.fileno())

    assert (piped[0], ids(piped[1])) == (0, WHOLE)
    assert (refused[0], forced[0]) == (2, 0)
    assert "/dev/stdout is there already: use --force" in refused[2]
    assert ids((tmp_path / "redirected").read_text()) == WHOLE
    assert stat.S_ISLNK(os.lstat("/dev/stdout").st_mode)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("dash", [False, True])
async def test_a_terminal_is_not_steered_and_a_pipe_has_every_byte(
    nats_server: EmbeddedServer, followers: Run, js: JetStreamContext, tmp_path: Path, kind: str, dash: bool
) -> None:
    evil = [Follower(user_id="1", display_name=f"Lê {EVIL}")]
    end = msgspec.structs.replace(completed("evil", 1), followers=1)
    await publish(js, msgspec.structs.replace(page("evil", 1, 1), followers=evil), end)
    ours, theirs = os.openpty()
    name = "-" if dash else os.ttyname(theirs)

    def command(out: int, target: str) -> Awaitable[asyncio.subprocess.Process]:
        return asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", "export", "evil", target, "--format", kind),
            env={**os.environ, "FOLLOWERS_NATS__SERVERS": json.dumps([nats_server.url])},
            stdout=out,
            stderr=asyncio.subprocess.DEVNULL,
        )

    drawing = await command(theirs, name)
    piping = await command(asyncio.subprocess.PIPE, "-")
    piped, _ = await piping.communicate()
    await drawing.wait()
    os.close(theirs)
    drawn = await asyncio.to_thread(_drain, ours)

    assert (drawing.returncode, piping.returncode) == (0, 0)
    assert b"\x1b" not in drawn
    assert "\u202e".encode() not in drawn
    escape = rb"\u001b]0;owned\u0007" if kind == "jsonl" else rb"\x1b]0;owned\x07"
    assert escape in drawn
    if kind == "csv":
        assert EVIL.encode() in piped
    else:
        assert json.loads(piped)["display_name"] == json.loads(drawn)["display_name"] == f"Lê {EVIL}"
        assert "\u202e".encode() in piped


def _drain(terminal: int) -> bytes:
    found = b""
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as stream:  # EIO is a terminal's end
        while chunk := stream.read(65_536):
            found += chunk
    return found
