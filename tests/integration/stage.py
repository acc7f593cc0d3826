"""What the tests of security and of the process share: simulated providers, settings, workers as processes."""

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

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from schemas.subjects import COMMANDS_STREAM
from worker.embedded import EmbeddedServer
from worker.providers.simulators import (
    API_KEY,
    OA_ID,
    SECRET_KEY,
    SHOP_KEY,
    EsmsConfig,
    EsmsSimulator,
    EtelecomConfig,
    EtelecomSimulator,
)
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
in_the_long_run = pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="set LONG_TESTS=1 to run it")
"""On a variant that takes seconds and of which a shorter relative runs always."""


@dataclass(frozen=True, kw_only=True)
class Providers:
    """Both providers, simulated."""

    etelecom: EtelecomSimulator
    esms: EsmsSimulator

    @property
    def accounts(self) -> dict[str, dict[str, Any]]:
        """Accounts `shop` and `esms`, as in the settings."""
        return {
            "shop": {
                "provider": "etelecom",
                "base_url": self.etelecom.shop_url,
                "api_key": SHOP_KEY,
                "rate_limit": 1000.0,
            },
            "esms": {
                "provider": "esms",
                "base_url": self.esms.url,
                "api_key": API_KEY,
                "secret_key": SECRET_KEY,
                "endpoint": "GetFollowers",
                "rate_limit": 0.0,
            },
        }


@contextlib.asynccontextmanager
async def providers(followers: int = 230) -> AsyncIterator[Providers]:
    """Both simulators, with one Official Account of so many followers."""
    async with (
        EtelecomSimulator(EtelecomConfig(followers={OA_ID: followers})) as etelecom,
        EsmsSimulator(EsmsConfig(followers={OA_ID: followers})) as esms,
    ):
        yield Providers(etelecom=etelecom, esms=esms)


def server(extra_config: str = "", **options: Any) -> EmbeddedServer:
    """A nats-server with `extra_config`; the variable NATS_SERVER_BIN names another version's program."""
    named = os.environ.get("NATS_SERVER_BIN")
    return EmbeddedServer(binary=Path(named) if named else None, extra_config=extra_config, **options)


def settings(server_url: str, accounts: Mapping[str, Any], **sections: Mapping[str, Any]) -> Settings:
    """Settings for a worker in this process, without an HTTP server."""
    return Settings.model_validate(sections_for(server_url, accounts, **sections))


def sections_for(server_url: str, accounts: Mapping[str, Any], **sections: Mapping[str, Any]) -> dict[str, Any]:
    """The same as nested dicts, for a file."""
    return {
        "nats": {"servers": [server_url], "auto_setup": False, **sections.get("nats", {})},
        "worker": {"http_port": 0, "ack_wait": 2.0, "drain_timeout": 5.0, **sections.get("worker", {})},
        "log": {"level": "debug", "format": "json", **sections.get("log", {})},
        "accounts": dict(accounts),
        "schedules": dict(sections.get("schedules", {})),
    }


class Replica:
    """`followers worker` as a process with an HTTP server."""

    def __init__(
        self,
        sections: Mapping[str, Any],
        folder: Path,
        *,
        program: list[str] | None = None,
        environment: Mapping[str, str],
    ) -> None:
        """Start it; its configuration and its output are in `folder`."""
        self.port = free_port()
        self._log = folder / f"worker-{self.port}.log"
        config = folder / f"worker-{self.port}.toml"
        config.write_text(toml({**sections, "worker": {**sections["worker"], "http_port": self.port}}), "utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("FOLLOWERS_")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                program or [sys.executable, "-m", "worker", "worker"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=clean | {"PYTHONPATH": str(ROOT), "FOLLOWERS_CONFIG": str(config)} | dict(environment),
            )

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text("utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of that name."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    async def says(self, name: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait for a log line of that name; return it."""
        await until(lambda: bool(self.events(name)), timeout, lambda: f"no {name} in:\n{self.log[-3000:]}")
        return self.events(name)[0]

    async def answers(self, path: str, status: int, text: str = "", timeout: float = 20.0) -> str:
        """Wait until `path` answers with `status` and a body that holds `text`; return the body."""
        got = (0, "")

        async def asked() -> bool:
            nonlocal got
            assert self.process.poll() is None, f"it ended:\n{self.log[-3000:]}"
            got = await self.get(path)
            return got[0] == status and text in got[1]

        await until(asked, timeout, lambda: f"{path} says {got}, not {status} {text!r}:\n{self.log[-3000:]}")
        return got[1]

    async def get(self, path: str, timeout: float = 2.0) -> tuple[int, str]:
        """Status and body of one of its pages; (0, why) when it doesn't answer."""
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.port}{path}", timeout)

    async def ended(self, timeout: float = 20.0) -> int:
        """Wait for the end; return the exit code."""
        try:
            return await asyncio.to_thread(self.process.wait, timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.log[-3000:]}") from None

    async def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(timeout)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Memory that it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def replica(
    sections: Mapping[str, Any],
    folder: Path,
    *,
    ready: bool = True,
    program: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Replica]:
    """A worker process, ready unless told otherwise; nothing of it is left afterwards."""
    started = Replica(sections, folder, program=program, environment=environment or {})
    try:
        if ready:
            await started.answers("/readyz", 200)
        yield started
    finally:
        started.process.kill()
        await asyncio.to_thread(started.process.wait)


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout: float, complaint: Callable[[], str] = str
) -> None:
    """Wait for what tells nobody when it changes: a log, a web page, a queue's length."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert asyncio.get_running_loop().time() < deadline, complaint()
        await asyncio.sleep(0.03)


async def command_settled(client: Client, sequence: int, timeout: float = 20.0) -> None:
    """Wait until the command at `sequence` has left the work queue."""

    async def gone() -> bool:
        try:
            await client.jetstream().get_msg(COMMANDS_STREAM, sequence)
        except NotFoundError:
            return True
        return False

    await until(gone, timeout, lambda: f"command {sequence} is still in the queue")


def toml(sections: Mapping[str, Any]) -> str:
    """Nested dicts of plain values as TOML."""

    def table(path: str, values: Mapping[str, Any]) -> list[str]:
        plain = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
        inner = [(key, value) for key, value in values.items() if isinstance(value, dict)]
        head = [f"[{path}]"] if path else []
        return [*head, *plain, *(line for key, value in inner for line in table(f"{path}.{key}".lstrip("."), value))]

    return "\n".join(table("", sections)) + "\n"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _get(url: str, timeout: float) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
