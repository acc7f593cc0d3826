"""No command shows a traceback: each one, in each trouble, ends with one line that names the cause and the cure.

Each trouble is tried with some of the commands; with LONG_TESTS=1 with all of them.
"""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from tests.integration.cli_trouble import (
    ARGUMENTS,
    ONLINE,
    PRINTING,
    TROUBLES,
    World,
    commands,
    environment,
    filled,
    without_direct_get,
)
from worker.cli import app, session
from worker.jetstream.client.connect import NatsOptions, connect

LONG = bool(os.environ.get("LONG_TESTS"))
SLOW = {"doctor"}
"""Waits for what a user may not ask, and for a server that is away."""


def some(names: tuple[str, ...], trouble: str) -> list[str]:
    """A part of the commands, another one for each trouble, so that every command has its turn."""
    if LONG:
        return list(names)
    start = list(TROUBLES).index(trouble)
    return [name for number, name in enumerate(names) if (number + start) % 3 == 0 and name not in SLOW]


async def run(world: World, name: str, folder: Path) -> Result:
    structlog.reset_defaults()  # each command is a process of its own, and logs to its own stderr
    arguments = [*name.split(), *ARGUMENTS[name]]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment(world, folder))


def check(name: str, code: int | None, err: str, expected: tuple[int, tuple[str, ...]]) -> None:
    """The exit code is the table's, and the last line says it all."""
    said = err.splitlines()[-1] if err.strip() else ""
    assert "Traceback" not in err, name
    assert "this should not happen" not in err, f"{name}: {err}"
    assert (code, [words for words in expected[1] if words not in said]) == (expected[0], []), f"{name}: {err}"


def test_every_command_has_its_arguments_here() -> None:
    assert commands() == sorted(ARGUMENTS)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_command_in_trouble_says_why_and_what_to_do(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_PATIENCE", 0.3 if trouble == "away" else 5.0)
    here = TROUBLES[trouble]
    async with here.make() as world:
        for name in some(ONLINE, trouble):
            result = await run(world, name, tmp_path)

            assert result.exception is None or isinstance(result.exception, SystemExit), name
            check(name, result.exit_code, result.stderr, here.but.get(name, (here.code, here.says)))


async def test_without_direct_gets_every_answer_is_the_same(tmp_path: Path) -> None:
    async with filled() as server, without_direct_get() as world:
        for name in ("jobs", "status", "changes list", "changes reset", "dead list", "schedules"):
            usual = await run(World(url=server.url), name, tmp_path)
            result = await run(world, name, tmp_path)

            assert result.exception is None or isinstance(result.exception, SystemExit), name
            assert "Traceback" not in result.stderr
            # Each server has stored its letter when it was filled.
            shown, expected = (re.sub(r"[\d:]{8}Z", "", one.stdout) for one in (result, usual))
            assert (result.exit_code, shown) == (usual.exit_code, expected), name


@pytest.mark.parametrize("trouble", TROUBLES if LONG else ["no jetstream", "wrong password"])
async def test_a_worker_in_trouble_shows_no_traceback(trouble: str, tmp_path: Path) -> None:
    async with TROUBLES[trouble].make() as world, process(world, "worker", folder=tmp_path) as worker:
        # Some trouble is over by itself: there a worker waits, and says what for.
        assert worker.stderr is not None
        async with asyncio.timeout(30):
            said = (await worker.stderr.readline()).decode()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await worker.wait()
        waits = worker.returncode is None
        if waits:
            worker.kill()
        out, err = await finish(worker)

    assert "Traceback" not in out + said + err
    assert worker.returncode in ((-signal.SIGKILL,) if waits else (1, 2))
    assert said.strip()


@contextlib.asynccontextmanager
async def process(
    world: World, name: str, *more: str, folder: Path, out: int = asyncio.subprocess.PIPE, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command as a process; ended if the test fails."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *name.split(), *ARGUMENTS[name], *more),
        stdout=out,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        env=os.environ | environment(world, folder) | env,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def finish(started: asyncio.subprocess.Process) -> tuple[str, str]:
    async with asyncio.timeout(40):
        out, err = await started.communicate()
    return (out or b"").decode(), err.decode()


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_bucket_deleted_under_watch_is_one_line(mortal: World, tmp_path: Path, terminal: bool) -> None:
    client = await connect(NatsOptions(servers=(mortal.url,)))
    js = client.jetstream()
    await js.purge_stream("KV_FOLLOWERS_JOBS")
    ours, theirs = os.openpty()
    reads = await client.subscribe("$JS.API.DIRECT.GET.KV_FOLLOWERS_JOBS")
    await client.flush()
    out = theirs if terminal else asyncio.subprocess.PIPE
    async with process(mortal, "watch", folder=tmp_path, out=out) as watching:
        os.close(theirs)
        await reads.next_msg(20)
        await js.delete_stream("KV_FOLLOWERS_JOBS")
        _, err = await finish(watching)
    await client.close()
    os.close(ours)

    assert (watching.returncode, err) == (2, "bucket FOLLOWERS_JOBS is missing: run `followers setup`\n")


@pytest.fixture
async def mortal() -> AsyncIterator[World]:
    """The same, of the test's own."""
    async with filled() as server:
        yield World(url=server.url)


@pytest.fixture(scope="module")
async def good() -> AsyncIterator[World]:
    """A server with a job, a feed and a dead letter."""
    async with filled() as server:
        yield World(url=server.url)


OUTPUTS = {
    "full": "exec {python} > /dev/full",
    "closed": "exec {python} >&-",
    "closed with all the others": "exec {python} <&- >&- 2>/dev/null 3>&-",
    "without a reader": "{python} | true; exit ${{PIPESTATUS[0]}}",
    "full stderr": "exec {python} 2> /dev/full",
    "ascii": "PYTHONIOENCODING=ascii exec {python}",
    "latin-1": "PYTHONIOENCODING=latin-1 exec {python}",
    "cp1252": "PYTHONIOENCODING=cp1252 exec {python}",
}
TRIED = [
    ("jobs", "full"), ("export", "full"), ("schema", "closed"), ("doctor", "closed with all the others"),
    ("pages", "without a reader"), ("dead list", "full stderr"), ("doctor", "ascii"), ("demo", "latin-1"),
    ("status", "cp1252"), ("simulate", "full"), ("fetch", "closed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "output"), [(name, output) for name in PRINTING for output in OUTPUTS] if LONG else TRIED
)
async def test_an_output_that_takes_nothing_or_little_is_told_or_survived(
    good: World, tmp_path: Path, name: str, output: str
) -> None:
    """Real processes: the state of a stream is what the shell makes of it."""
    more = ["--no-wait"] if name == "fetch" else ["asyncapi"] if name == "schema" else []
    words = [sys.executable, "-m", "worker", *name.split(), *ARGUMENTS[name], *more]
    if name == "simulate":  # it stays, until it is told to end
        words = ["timeout", "--preserve-status", "-s", "INT", "3", *words]
    script = OUTPUTS[output].format(python=shlex.join(words).replace("{", "{{").replace("}", "}}"))

    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", script],
        env=os.environ | environment(good, tmp_path),
        capture_output=True,
        timeout=60,
    )

    out, err = done.stdout.decode("latin-1"), done.stderr.decode()
    usual = {0, 1} if name in ("doctor", "verify") else {130} if name == "simulate" else {0}
    assert "Traceback" not in out + err
    assert "Exception ignored" not in err
    if output in ("full", "closed", "closed with all the others"):
        assert done.returncode == 1, err
        told = f"stdout can't be written: {'No space left on device' if output == 'full' else 'it is closed'}; "
        assert output.startswith("closed with") or err.splitlines()[-1].startswith(told), err
    elif output == "without a reader":
        assert done.returncode in usual | {0}, err
        assert "stdout" not in err
    else:
        assert done.returncode in usual, err
        assert out.strip()
