"""Processes under measurement: where they run, what CPU and memory the system says they took."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.rivals import Run
from tests.chaos.provider import measured_no_more

ROOT = Path(__file__).parents[2]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
MEASURED = {CORES[0]}
"""Where what is measured runs, alone."""
OTHERS = set(CORES[1:]) or MEASURED
"""Where the stand-in, nats-server and the benchmark itself run."""
STARTS_WITHIN = 30.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, all its threads, in nanosecond steps: the system's own clock of it."""
    return time.clock_gettime(~pid << 3 | 2)


def machine_seconds() -> float:
    """Return the CPU time that all programs of this machine have taken, and other machines on its cores."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return the CPU time of this process and of those that it started, once they have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def memory(pid: int, *, peak: bool = False) -> int:
    """Return the resident memory of a process in bytes, now or at its highest."""
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process and its threads on these cores."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)


class Program:
    """A process of ours; `close` ends it."""

    def __init__(
        self,
        command: list[str],
        *,
        cores: set[int],
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
    ) -> None:
        """Start `command` on `cores`."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**measured_no_more(), "PYTHONPATH": str(ROOT)},
            stdin=stdin,
            stdout=stdout,
            text=True,
            start_new_session=True,
        )
        os.sched_setaffinity(self.process.pid, cores)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def line(self) -> str:
        """Return the next line that it prints. Raises RuntimeError when it ends instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()} before it said what was asked")
        return line.strip()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Rival(Program):
    """One of the rivals, waiting for runs."""

    def __init__(self, name: str, provider: str, nats: str, python: str = sys.executable) -> None:
        """Start it and wait until it is ready."""
        super().__init__([python, "-m", f"tests.bench.rivals.{name}", provider, nats], cores=MEASURED)
        while self.line() != "ready":
            pass

    def run(self, run: Run) -> int:
        """Let it do `run`; return the number of pages that it handled."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(vars(run)) + "\n")
        self.process.stdin.flush()
        while not (line := self.line()).isdigit():
            pass
        return int(line)


class Worker(Program):
    """`followers worker`, as it is installed."""

    def __init__(
        self, provider: str, nats: str, settings: Mapping[str, Any] | None = None, *, cores: set[int] = MEASURED
    ) -> None:
        """Start it with a file of its own; `settings` are those of `[worker]`. Wait with `ready`."""
        self._folder = tempfile.TemporaryDirectory(prefix="followers-bench-")
        self._port = _free_port()
        given = {"http_port": self._port, **(settings or {})}
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
        path = Path(self._folder.name) / "followers.toml"
        path.write_text(
            f'[nats]\nservers = ["{nats}"]\n[worker]\n{lines}\n[log]\nlevel = "warning"\n'
            # The others compare no lists; what that costs is measured by itself (README, Changes).
            "[changes]\nenabled = false\n"
            f'[accounts.shop]\nprovider = "etelecom"\nbase_url = "{provider}/v1/shop"\n'
            'api_key = "1:key"\nrate_limit = 0\n'
            f'[accounts.sms]\nprovider = "esms"\nbase_url = "{provider}"\n'
            'api_key = "key"\nsecret_key = "secret"\nrate_limit = 0\n'
        )
        super().__init__(
            [followers(), "worker", "--config", str(path)],
            cores=cores,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def ready(self) -> float:
        """Wait until it says that it is ready; return the seconds since its start."""
        while time.monotonic() < self.started_at + STARTS_WITHIN:
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5),
            ):
                return time.monotonic() - self.started_at
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise RuntimeError(f"the worker was not ready within {STARTS_WITHIN:g} s (exit code {self.process.poll()})")

    def close(self) -> None:
        """End it, and take its file away."""
        super().close()
        self._folder.cleanup()


def followers() -> str:
    """The console script beside this interpreter."""
    return str(Path(sys.executable).with_name("followers"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
