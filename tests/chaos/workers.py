"""The worker processes as the nemesis sees them."""

import asyncio
import itertools
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Self

from tests.chaos.journal import Journal
from tests.chaos.provider import measured_no_more
from tests.ear import faults_in

DRAIN_LIMIT = 15.0
"""Seconds that a worker may take to end after SIGTERM; its drain_timeout is far below."""


@dataclass
class Worker:
    """One process."""

    id: int
    state: Literal["running", "stopped", "ending", "gone"] = "running"
    pid: int = 0
    born: float = float("inf")
    """By the monotonic clock; not before it has a process."""
    spared_until: float = 0.0
    """By the monotonic clock: a zombie that was let go on gets a moment to do harm."""
    exit_code: int | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Workers:
    """Starts, signals and counts workers through the launcher: `async with Workers(…) as workers`."""

    def __init__(self, config: Path, journal: Journal, log: IO[bytes], *, program: bool, mutant: str = "") -> None:
        """`log` takes what the workers say on stderr."""
        self._arguments = [str(config), "exec" if program else "fork", *([mutant] if mutant else [])]
        self._journal = journal
        self._log = log
        self._numbers = itertools.count(1)
        self._all: dict[int, Worker] = {}
        self.started = 0

    async def __aenter__(self) -> Self:
        """Start the launcher."""
        self._launcher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.launcher", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env=measured_no_more(),
        )
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the launcher, which ends what still runs. What a worker survived and nobody foresaw is a problem."""
        assert self._launcher.stdin is not None
        self._launcher.stdin.close()
        await self._launcher.wait()
        await self._listener
        for line in faults_in(Path(self._log.name).read_text(encoding="utf-8", errors="replace")):
            self._journal.problem(line)

    @property
    def running(self) -> list[Worker]:
        """Those that take commands, oldest first."""
        return [worker for worker in self._all.values() if worker.state == "running"]

    @property
    def prey(self) -> list[Worker]:
        """Those that run and aren't spared, oldest first."""
        now = time.monotonic()
        return [worker for worker in self.running if worker.spared_until <= now]

    def spawn(self) -> Worker:
        """Start one more."""
        worker = Worker(next(self._numbers))
        self._all[worker.id] = worker
        self.started += 1
        self._tell({"do": "spawn", "id": worker.id})
        return worker

    async def kill(self, worker: Worker) -> None:
        """SIGKILL it, and wait until it is gone."""
        worker.state = "ending"
        self._signal(worker, signal.SIGKILL)
        await worker.gone.wait()

    def stop(self, worker: Worker) -> None:
        """SIGSTOP it."""
        worker.state = "stopped"
        self._signal(worker, signal.SIGSTOP)

    def go_on(self, worker: Worker, spare_for: float) -> None:
        """SIGCONT it."""
        if worker.state == "stopped":
            worker.state = "running"
            worker.spared_until = time.monotonic() + spare_for
            self._signal(worker, signal.SIGCONT)

    async def drain(self, worker: Worker) -> float:
        """SIGTERM it; return the seconds that it took to end. One that hangs is a problem, and killed."""
        worker.state = "ending"
        start = time.monotonic()
        self._signal(worker, signal.SIGTERM)
        try:
            await asyncio.wait_for(worker.gone.wait(), DRAIN_LIMIT)
        except TimeoutError:
            self._journal.problem(f"worker {worker.id} still runs {DRAIN_LIMIT:g} s after SIGTERM")
            await self.kill(worker)
        else:
            if worker.exit_code != 0:
                self._journal.problem(f"worker {worker.id} ended with {worker.exit_code} after SIGTERM, not 0")
        return time.monotonic() - start

    def _signal(self, worker: Worker, number: int) -> None:
        self._tell({"do": "signal", "id": worker.id, "signal": int(number)})

    def _tell(self, order: dict[str, object]) -> None:
        assert self._launcher.stdin is not None
        self._launcher.stdin.write(json.dumps(order).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._launcher.stdout is not None
        async for line in self._launcher.stdout:
            said = json.loads(line)
            worker = self._all[said["id"]]
            if "pid" in said:
                # The launcher imports the product before it forks the first one.
                worker.pid, worker.born = said["pid"], time.monotonic()
                continue
            if worker.state != "ending":
                self._journal.problem(f"worker {worker.id} ended by itself with {said['exit']}")
            worker.exit_code, worker.state = said["exit"], "gone"
            worker.gone.set()
