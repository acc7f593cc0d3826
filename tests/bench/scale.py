"""Many jobs, long lists, several replicas, and none at all to do."""

import asyncio
import contextlib
import time

from tests.bench.processes import CORES, Worker, cpu_seconds, memory
from tests.bench.stage import Stage
from tests.bench.table import Figure, median, ratio

MEGABYTE = 1e6
MANY = 500
WATCHED = 5.0
"""Seconds."""
BEGIN_WITHIN = 60.0
"""Seconds that all of them have to begin. They are taken one after the other, which waits for a loop that is busy."""


async def scale(stage: Stage, rounds: int) -> list[Figure]:
    """Return the rows about memory, replicas and idling."""
    few = max(2, rounds // 3)
    return [
        *await _many_jobs(stage),
        await _long_list(stage),
        await _replicas(stage, few),
        await _idle(stage, few),
    ]


async def _many_jobs(stage: Stage) -> list[Figure]:
    """500 endless jobs at 200 ms: how long until all have a page, and whether all go on from there."""
    worker = Worker(stage.provider, stage.server.url, {"max_jobs": MANY})
    try:
        worker.ready()
        async with stage.pages() as seen:
            began = time.monotonic()
            jobs = stage.names(MANY, "many")
            await asyncio.gather(*(stage.command("etelecom", "p100000-l200", job) for job in jobs))
            while len({job for _, job, _ in seen}) < MANY and time.monotonic() < began + BEGIN_WITHIN:
                await asyncio.sleep(0.2)
            since = time.monotonic()
            await asyncio.sleep(WATCHED)
            went_on = len({job for at, job, _ in seen if at > since})
        peak = memory(worker.pid, peak=True) / MEGABYTE
    finally:
        worker.kill()
        worker.close()
        await stage.forget()
    measure = f"{MANY} jobs at once in one replica at 200 ms"
    return [
        median(
            "many_jobs_progress", f"{measure} with a page in {WATCHED:g} s, {since - began:.0f} s after the commands",
            [float(went_on)], sense="at least", target=MANY,
        ),
        median("many_jobs_memory", "the same: peak memory", [peak], sense="at most", target=200, unit="MB"),
    ]  # fmt: skip


async def _long_list(stage: Stage) -> Figure:
    """10,000 pages of 100 against 100 pages."""
    peaks = {}
    for pages in (100, 10_000):
        worker = Worker(stage.provider, stage.server.url)
        try:
            worker.ready()
            await stage.run("etelecom", f"p{pages}-l0", stage.names(1, "long"), page_size=100)
            peaks[pages] = memory(worker.pid, peak=True) / MEGABYTE
        finally:
            worker.close()
        await stage.forget()
    more = peaks[10_000] - peaks[100]
    measure = "peak memory, list of 1,000,000 − list of 10,000 followers"
    figure = median("long_list_memory", measure, [more], sense="at most", target=20, unit="MB")
    figure.samples = {str(pages * 100): [peak] for pages, peak in peaks.items()}
    return figure


async def _replicas(stage: Stage, rounds: int) -> Figure:
    """8 jobs a replica at 200 ms, more jobs than slots: pages in five seconds."""
    taken: dict[int, list[float]] = {1: [], 4: []}
    for _ in range(rounds):
        for count, rates in taken.items():
            settings = {"max_jobs": 8}
            workers = [Worker(stage.provider, stage.server.url, settings, cores=set(CORES)) for _ in range(count)]
            jobs = stage.names(8 * count, "replica")
            with contextlib.ExitStack() as open_:
                for worker in workers:
                    open_.callback(worker.close)
                for worker in workers:
                    worker.ready()
                async with stage.pages() as seen:
                    run = asyncio.create_task(stage.run("etelecom", "p35-l200", jobs))
                    while len({job for _, job, _ in seen}) < len(jobs):
                        await asyncio.sleep(0.02)
                    since = time.monotonic()
                    await asyncio.sleep(5)
                    rates.append(sum(since <= at < since + 5 for at, _, _ in seen) / 5)
                    await run
            await stage.forget()
    measure = "1 → 4 replicas, latency-bound load: throughput"
    return ratio("replicas", measure, taken[4], taken[1], sense="at least", target=3.6)


async def _idle(stage: Stage, rounds: int) -> Figure:
    worker = Worker(stage.provider, stage.server.url, {"max_jobs": 64})
    shares = []
    try:
        worker.ready()
        await asyncio.sleep(2)
        for _ in range(rounds):
            cpu, began = cpu_seconds(worker.pid), time.monotonic()
            await asyncio.sleep(6)
            shares.append(100 * (cpu_seconds(worker.pid) - cpu) / (time.monotonic() - began))
    finally:
        worker.close()
    measure = "idle replica with `max_jobs = 64`: CPU"
    return median("idle", measure, shares, sense="at most", target=1.5, unit="% of a core")
