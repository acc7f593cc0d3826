"""The product as processes: the console script `followers`, its configuration file and its environment."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ear import faults_in

ROOT = Path(__file__).parents[2]
MARK = "ACCEPTANCE_MARK"
"""An environment variable that every process started here inherits to its last descendant."""

Config = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of its standard output."""
        return self.out.splitlines()

    @property
    def json_lines(self) -> list[Any]:
        """Its standard output, one JSON document a line."""
        return [json.loads(line) for line in self.lines]


class Running:
    """A process of ours in a session of its own, its output in two files."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        program: list[str] | None = None,
    ) -> None:
        """Start `followers` with `arguments`, or another `program`; `folder` takes its output and is its place."""
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        self.arguments = arguments
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*(program or followers()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment_for(environment),
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return self._err.read_text(encoding="utf-8")

    @property
    def result(self) -> Result:
        """How it ended."""
        return Result(self.process.returncode, self.out, self.err)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, timeout: float) -> Result:
        """Wait for its end. Raises AssertionError with its output when that takes too long."""
        try:
            await asyncio.to_thread(self.process.wait, timeout)
        except subprocess.TimeoutExpired:
            await self.destroy()
            raise AssertionError(
                f"`followers {' '.join(self.arguments)}` ran for more than {timeout:g} s\n"
                f"--- stdout\n{self.out[-2000:]}\n--- stderr\n{self.err[-4000:]}"
            ) from None
        return self.result

    async def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def destroy(self) -> None:
        """Leave nothing of it, whatever state it is in. Raises AssertionError if its log tells of a fault."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)
        faults = faults_in(self.err)
        assert not faults, faults


class Worker(Running):
    """`followers worker` with a configuration file."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        program: list[str] | None = None,
    ) -> None:
        """Start a worker; another `program` gets the same configuration through the environment."""
        self.port = free_port()
        sections = config | {"worker": {"http_host": "127.0.0.1", "http_port": self.port} | config.get("worker", {})}
        path = write_config(sections, folder)
        if program is None:
            super().__init__(["worker", "--config", str(path)], folder, environment)
        else:
            super().__init__([], folder, {"FOLLOWERS_CONFIG": str(path), **(environment or {})}, program)

    def url(self, path: str) -> str:
        """The address of one of its pages."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def answers(self, path: str, status: int, timeout: float = 20.0) -> str:
        """Wait until `path` answers with `status`; return the body."""
        got: tuple[int, str] = (0, "no connection")

        async def answered() -> bool:
            nonlocal got
            assert self.process.poll() is None, f"the worker ended\n{self.err[-4000:]}"
            got = await http_get(self.url(path))
            return got[0] == status

        await until(answered, timeout)
        assert got[0] == status, f"{path} answers {got}, expected {status}\n{self.err[-4000:]}"
        return got[1]

    async def ready(self, timeout: float = 20.0) -> "Worker":
        """Wait until /readyz says yes."""
        await self.answers("/readyz", 200, timeout)
        return self

    async def stop(self, timeout: float = 20.0) -> Result:
        """SIGTERM, as Kubernetes does; wait for the end."""
        self.signal(signal.SIGTERM)
        return await self.ended(timeout)


def followers() -> list[str]:
    """The command line's first words: the installed script, else the module."""
    script = Path(sys.executable).with_name("followers")
    return [str(script)] if script.exists() else [sys.executable, "-m", "worker"]


def environment_for(extra: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without a trace of settings of ours, plus `extra`."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("FOLLOWERS_")}
    return clean | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | dict(extra or {})


async def run(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Result:
    """Run one `followers` command to its end."""
    running = Running(list(arguments), folder, environment)
    try:
        return await running.ended(timeout)
    finally:
        await running.destroy()


@contextlib.asynccontextmanager
async def worker(
    config: Config,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    program: list[str] | None = None,
) -> AsyncIterator[Worker]:
    """A worker that is ready; at the end none of it is left."""
    started = Worker(config, folder, environment, program)
    try:
        yield await started.ready()
    finally:
        await started.destroy()


def write_config(config: Config, folder: Path) -> Path:
    """Write `followers.toml` from nested dicts of plain values; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "followers.toml"
    path.write_text("\n".join(_section((), config)), encoding="utf-8")
    return path


def write_secret(folder: Path, name: str, secret: str) -> str:
    """Write a secret file as an orchestrator mounts it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(secret + "\n", encoding="utf-8")
    path.chmod(0o600)
    return str(path)


async def until(condition: Callable[[], Awaitable[bool]], timeout: float) -> bool:
    """Ask again and again until `condition` holds or `timeout` seconds are over; return its last answer.

    For what tells nobody when it changes: a queue's length, a web page, a process table.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while not await condition():
                await asyncio.sleep(0.03)
            return True
    return await condition()


async def http_get(url: str) -> tuple[int, str]:
    """Return status and body, (0, why) when nobody answers."""
    return await asyncio.to_thread(_http_get, url)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def marked_processes(mark: str) -> list[str]:
    """The command lines of all processes that inherited `MARK=mark`, whatever session they are in."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if line]


def _http_get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def _section(path: tuple[str, ...], values: Mapping[str, Any]) -> list[str]:
    lines = [f"[{'.'.join(path)}]"] if path else []
    # A JSON string, number, boolean or list of these is the same text in TOML.
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _section((*path, key), value)
    return lines
