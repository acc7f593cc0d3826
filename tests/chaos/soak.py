"""`python -m tests.chaos.soak`: hours of ordinary work in minutes, and what it leaves behind in the workers.

Two workers, a real nats-server and faulty providers under steady load. Every few seconds the operating system is
asked for each worker's resident memory and open files, and the worker for its tasks. After the warm-up the last
quarter must look like the first one, and a worker that is idle again as it was before.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop

from tests.chaos.check import check
from tests.chaos.journal import Journal
from tests.chaos.load import Load
from tests.chaos.options import Options
from tests.chaos.provider import Provider, measured_no_more
from tests.chaos.records import DEAD, EVENTS, read_all, until_quiet
from tests.chaos.run import MAX_PAYLOAD, connected, prepare, settings
from tests.ear import faults_in
from worker.embedded import EmbeddedServer

WORKERS = 2
WARM_UP = 0.2
"""Share of the run that isn't judged: caches fill, and the allocator finds its size."""
GROWTH = {"memory_mb": 5.0, "files": 10.0, "tasks": 40.0}
"""What the median of the last quarter may be above that of the first one; jobs in hand swing."""
LEFT = {"files": 40.0, "tasks": 8.0}
"""What an idle worker may have more of than before its work; connections to providers stay in their pools."""
AFTERWARDS = 5.0
"""Seconds of quiet before the workers count as idle."""
_TASKS = re.compile(r"^followers_tasks (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at one worker."""

    memory_mb: float
    files: float
    tasks: float


@dataclass(kw_only=True)
class Report:
    """What a run found."""

    figures: dict[str, float | int | str]
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        width = max(map(len, self.figures))
        lines = [f"{name:<{width}}  {value}" for name, value in self.figures.items()]
        return "\n".join([*lines, *(f"BROKEN  {text}" for text in self.broken)] or ["nothing"])


async def soak(seconds: float, seed: int, *, nats_server: Path | None = None, every: float = 5.0) -> Report:
    """Run for `seconds`, looking at the workers every `every` seconds."""
    options = Options(seconds=seconds, seed=seed, ack_wait=10.0, duplicate_window=120, open_commands=10)
    journal, stop = Journal(), asyncio.Event()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="followers-soak-")))
        server = await stack.enter_async_context(EmbeddedServer(binary=nats_server, max_payload=MAX_PAYLOAD))
        provider = await stack.enter_async_context(Provider(seed))
        client = await stack.enter_async_context(await connected([server.url]))
        await prepare(client, options)
        config = folder / "followers.toml"
        config.write_text(settings([server.url], provider.urls, options))
        log = stack.enter_context((folder / "workers.log").open("wb"))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        load = Load(client, options, journal)
        workers = [await _Worker.start(config, log) for _ in range(WORKERS)]
        try:
            for worker in workers:
                await worker.until_ready(http)
            idle = [await worker.look(http) for worker in workers]
            async with asyncio.TaskGroup() as group:
                group.create_task(load.publish_until(stop))
                group.create_task(load.duplicate_until(stop))
                start = time.monotonic()
                while time.monotonic() - start < seconds:
                    await asyncio.sleep(every)
                    for worker in workers:
                        worker.samples.append(await worker.look(http))
                stop.set()
            left = await until_quiet(client, limit=120, settle=AFTERWARDS)
            idle_again = [await worker.look(http) for worker in workers]
        finally:
            stop.set()
            codes = [await worker.end() for worker in workers]
        faults = faults_in((folder / "workers.log").read_text(encoding="utf-8", errors="replace"))
        events, dead = await read_all(client, EVENTS), await read_all(client, DEAD)
        lists = {
            (command.provider, command.oa_id): await provider.ids(command.provider, command.oa_id)
            for command in load.commands
        }
        asked = await provider.counters()
        found = check(load.commands, lists, events, dead)
    broken = [f"{item.kind}: {item.job_id} {item.text}" for item in found.violations]
    broken += [f"a worker ended with {code}" for code in codes if code]
    broken += [f"unforeseen: {fault}" for fault in faults]
    broken += [] if left.empty else [f"{left.messages} commands are left"]
    figures: dict[str, float | int | str] = {
        "seconds": round(seconds),
        "seed": seed,
        "jobs": found.jobs,
        "pages_expected": found.pages_expected,
        "pages_published": found.pages_published,
        "lost": found.lost,
        "duplicated": found.duplicated,
        "out_of_order": found.out_of_order,
        "provider_requests": asked["requests"],
        "provider_faults": asked["faults"],
        "samples_per_worker": len(workers[0].samples),
    }
    for number, worker in enumerate(workers, 1):
        for name, allowed in GROWTH.items():
            first, last, most = judge([getattr(sample, name) for sample in worker.samples])
            figures[f"worker_{number}_{name}"] = f"{first:g} -> {last:g}, at most {most:g}"
            if last - first > allowed:
                broken.append(f"worker {number}: {name} grew from {first:g} to {last:g}, allowed are {allowed:g}")
        before, after = idle[number - 1], idle_again[number - 1]
        for name, allowed in LEFT.items():
            was, now = getattr(before, name), getattr(after, name)
            figures[f"worker_{number}_idle_{name}"] = f"{was:g} -> {now:g}"
            if now - was > allowed:
                broken.append(
                    f"worker {number}: {now:g} {name} when idle again, {was:g} before, allowed {allowed:g} more"
                )
    return Report(figures=figures, broken=broken)


def judge(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the medians of the first and of the last quarter after the warm-up, and the maximum of all."""
    judged = values[int(len(values) * WARM_UP) :]
    quarter = max(1, len(judged) // 4)
    return (
        round(statistics.median(judged[:quarter]), 1),
        round(statistics.median(judged[-quarter:]), 1),
        round(max(values), 1),
    )


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._port = port
        self.samples: list[Sample] = []

    @classmethod
    async def start(cls, config: Path, log: object) -> "_Worker":
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = int(reserved.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from worker.cli import main; main()", "worker", "--config", str(config)),
            stdout=log,  # type: ignore[arg-type]
            stderr=log,  # type: ignore[arg-type]
            env=measured_no_more() | {"FOLLOWERS_WORKER__HTTP_PORT": str(port)},
        )
        return cls(process, port)

    async def until_ready(self, http: aiohttp.ClientSession) -> None:
        """Wait until it takes commands. Raises TimeoutError after a minute."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with http.get(f"http://127.0.0.1:{self._port}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def look(self, http: aiohttp.ClientSession) -> Sample:
        """Return a sample. Raises AssertionError when the process has gone."""
        assert self._process.returncode is None, f"the worker ended by itself with {self._process.returncode}"
        proc = Path("/proc") / str(self._process.pid)
        pages = int((proc / "statm").read_text().split()[1])
        async with http.get(f"http://127.0.0.1:{self._port}/metrics") as answer:
            tasks = _TASKS.search(await answer.text())
        assert tasks is not None, "the worker does not count its tasks"
        return Sample(
            memory_mb=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            files=len(os.listdir(proc / "fd")),
            tasks=float(tasks[1]),
        )

    async def end(self) -> int:
        """SIGTERM it; return how it ended."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), 30)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


def main() -> int:
    """Read the arguments, run, print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long (1800)")
    parser.add_argument("--seed", type=int, default=1, help="of the commands (1)")
    parser.add_argument("--nats-server", type=Path, metavar="PATH", help="another nats-server than the pinned one")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(soak(arguments.seconds, arguments.seed, nats_server=arguments.nats_server))
    print(json.dumps({**report.figures, "broken": report.broken}, indent=2) if arguments.json else report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
