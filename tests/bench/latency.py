"""Wall time: what the worker adds to a provider's latency, and what reading ahead takes away from it."""

import statistics
import time

from tests.bench.processes import Worker
from tests.bench.stage import Stage
from tests.bench.table import Figure, median, ratio

SECOND = 1000.0  # milliseconds


async def latency(stage: Stage, rounds: int) -> list[Figure]:
    """Return the rows about wall time."""
    return [
        await _beside_the_provider(stage, rounds),
        *await _ahead(stage, max(2, rounds // 2)),
        *await _first_page(stage, samples=40 * rounds),
    ]


async def _beside_the_provider(stage: Stage, rounds: int) -> Figure:
    """One job at 100 ms: from its first page to its last, by page."""
    worker = Worker(stage.provider, stage.server.url)
    try:
        worker.ready()
        shares = []
        for _ in range(rounds):
            async with stage.pages() as seen:
                await stage.run("etelecom", "p30-l100", stage.names(1, "alone"))
            times = [at for at, _, _ in seen][:30]  # the empty page at the end is one more
            shares.append((times[-1] - times[0]) / (len(times) - 1) / 0.1)
    finally:
        worker.close()
    measure = "wall per page ÷ provider latency, one eTelecom job at 100 ms"
    return median("wall_to_latency", measure, shares, sense="at most", target=1.05)


async def _ahead(stage: Stage, rounds: int) -> list[Figure]:
    """200 pages of eSMS at 100 ms: one request after the other, 8 and 16 at a time."""
    workers = {number: Worker(stage.provider, stage.server.url, {"prefetch": number}) for number in (1, 8, 16)}
    walls: dict[int, list[float]] = {number: [] for number in workers}
    for worker in workers.values():
        worker.ready()
        worker.close()
    for _ in range(rounds):
        for number, taken in walls.items():
            worker = Worker(stage.provider, stage.server.url, {"prefetch": number})
            try:
                worker.ready()
                await stage.run("esms", "p1-l0", stage.names(1, "warm"))
                taken.append(await stage.run("esms", "p200-l100", stage.names(1, "ahead")))
            finally:
                worker.close()
    return [
        ratio(
            f"prefetch_{number}",
            f"eSMS list of 10,000 at 100 ms, wall with `prefetch = 1` ÷ with {number}",
            walls[1],
            walls[number],
            sense="at least",
            target=target,
        )
        for number, target in ((8, 7), (16, 13))
    ]


async def _first_page(stage: Stage, samples: int) -> list[Figure]:
    """From the command's publishing to the arrival of its first page, without the provider's 20 ms."""
    worker = Worker(stage.provider, stage.server.url)
    taken: list[float] = []
    try:
        worker.ready()
        for number in range(samples + 10):
            (job,) = stage.names(1, "first")
            async with stage.pages(f"followers.page.etelecom.*.{job}") as seen, stage.ends([job]) as ended:
                began = time.monotonic()
                await stage.command("etelecom", "p5-l20", job, max_pages=1)
                await ended
            if number >= 10:
                taken.append((seen[0][0] - began) * SECOND - 20)
    finally:
        worker.close()
    whole = "command published → first page, beyond the provider's latency, idle worker"
    tail = statistics.quantiles(taken, n=100, method="inclusive")[98]
    return [
        median("first_page_median", f"{whole}: median", taken, sense="at most", target=10, unit="ms"),
        Figure(
            key="first_page_p99", measure=f"the same: p99 of {samples}", value=tail, low=min(taken), high=max(taken),
            sense="at most", target=30, unit="ms",
        ),
    ]  # fmt: skip
