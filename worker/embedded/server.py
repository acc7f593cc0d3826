"""Starts, kills, restarts and removes one nats-server, and sees to it that none outlives us."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from worker.embedded.program import EmbeddedServerError, ServerProgram, find_server

_STOP_TIMEOUT = 10.0

# Runs beside the server and reads a pipe of ours, which the system closes however we end: even our SIGKILL
# leaves neither the server nor its folder behind. PR_SET_PDEATHSIG would be Linux only, would fire when the
# starting thread ends, and would leave the folder. It waits a second at most: where nobody reaps orphans, the
# killed server stays in the process table.
_WATCHER = """
import os, shutil, signal, sys, time
pid = 0
for line in sys.stdin:
    pid = int(line)
try:
    for _ in range(100 if pid else 0):
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
except ProcessLookupError:
    pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class EmbeddedServer:
    """One nats-server in a private folder; ``async with`` starts it and takes it away.

    ``binary`` as in ``find_server``. ``max_payload`` in bytes (the server's default is 1 MiB).
    ``extra_config`` is appended to the configuration: users, TLS, a cluster. Any number can run at once.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        max_payload: int | None = None,
        extra_config: str = "",
        start_timeout: float = 15.0,
    ) -> None:
        self._binary = binary
        self._max_payload = max_payload
        self._extra_config = extra_config
        self._start_timeout = start_timeout
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._address = self._monitor = "127.0.0.1:-1"
        self._scheme = "nats"
        self.program: ServerProgram | None = None
        """What runs, or ran last; None before the first start."""

    @property
    def url(self) -> str:
        """Where clients connect; the same after a restart."""
        return f"{self._scheme}://{self._address}"

    @property
    def monitor_url(self) -> str:
        """Base of the server's monitoring pages, such as ``/healthz`` and ``/jsz``."""
        return f"http://{self._monitor}"

    @property
    def pid(self) -> int:
        """Of the running server. Raises EmbeddedServerError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedServerError("the nats-server is not running; call start() or restart()")
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where configuration, store and log are until ``stop``."""
        if self._folder is None:
            raise EmbeddedServerError("the nats-server was not started or has been stopped; call start()")
        return self._folder

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until JetStream answers. Raises EmbeddedServerError."""
        program = self.program = find_server(self._binary)
        if program.note:
            structlog.get_logger(__name__).warning("embedded.server_from_path", note=program.note)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="followers-nats-"))
            self._watcher = _start_watcher(self._folder)
        process = self._process = self._spawn(program.path)
        self._watch(process.pid)
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._ready(process)
        except TimeoutError:
            late = f"{program.path} was not ready within {self._start_timeout:g} s"
            message = f"{late}; its log ends:\n{self.log_tail()}"
            await self.stop()
            raise EmbeddedServerError(message) from None
        except BaseException:
            await self.stop()
            raise

    async def kill(self) -> None:
        """End it by SIGKILL, as a crash would; the store stays."""
        if self._process is not None:
            self._process.kill()
            await self._ended()

    async def restart(self) -> None:
        """Start it again on the same port with the same data, stopping it first if it runs."""
        await self._terminate()
        await self.start()

    async def stop(self) -> None:
        """End it and remove its folder. Harmless when done already."""
        try:
            await self._terminate()
        finally:
            if self._watcher is not None and self._watcher.stdin is not None:
                self._watcher.stdin.close()
                await asyncio.to_thread(self._watcher.wait)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._watcher = self._folder = self._process = None
            self._address = self._monitor = "127.0.0.1:-1"

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that the server logged."""
        log = self.folder / "nats-server.log"
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    async def _terminate(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            await self._ended(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            await self.kill()

    async def _ended(self, timeout: float | None = None) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, timeout)
            self._watch(0)
            self._process = None

    def _watch(self, pid: int) -> None:
        """Tell the watcher which process to end after us; 0 for none."""
        if self._watcher is None or self._watcher.stdin is None:
            return
        try:
            os.write(self._watcher.stdin.fileno(), f"{pid}\n".encode())
        except BrokenPipeError:
            structlog.get_logger(__name__).warning("embedded.watcher_gone", server=pid)

    def _spawn(self, program: Path) -> subprocess.Popen[bytes]:
        config = self.folder / "nats-server.conf"
        config.write_text(self._config(), encoding="utf-8")
        (self.folder / "ports").mkdir(exist_ok=True)
        with (self.folder / "nats-server.log").open("ab") as log:
            # A session of its own: a Ctrl-C on the terminal is for us, who then end it in order.
            return subprocess.Popen(
                [program, "-c", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _config(self) -> str:
        lines = [
            f"listen: {json.dumps(self._address)}",
            f"http: {json.dumps(self._monitor)}",
            f"ports_file_dir: {json.dumps(str(self.folder / 'ports'))}",
            # Acknowledged means on disk, not in the page cache of a machine that may lose power.
            f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'store'))}, sync_interval: always }}",
        ]
        if self._max_payload is not None:
            lines.append(f"max_payload: {self._max_payload}")
        return "\n".join([*lines, self._extra_config, ""])

    async def _ready(self, process: subprocess.Popen[bytes]) -> None:
        # The server tells of its ports in a file only, so there is nothing to wait for but the file itself.
        while not (self._read_ports(process.pid) and await self._healthy()):
            if process.poll() is not None:
                raise EmbeddedServerError(
                    f"nats-server ended with status {process.returncode} while starting; its log ends:\n"
                    f"{self.log_tail()}"
                )
            await asyncio.sleep(0.01)

    def _read_ports(self, pid: int) -> bool:
        for file in (self.folder / "ports").glob(f"*_{pid}.ports"):
            try:
                ports = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:  # half written
                continue
            self._scheme, _, self._address = ports["nats"][0].partition("://")
            self._monitor = ports["monitoring"][0].partition("://")[2]
            return True
        return False

    async def _healthy(self) -> bool:
        host, _, port = self._monitor.rpartition(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        try:
            writer.write(f"GET /healthz HTTP/1.0\r\nHost: {self._monitor}\r\n\r\n".encode())
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _start_watcher(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCHER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
