"""Starting, and being killed."""

import asyncio
import subprocess
import time

import msgspec

from schemas import FollowerPage
from tests.bench.processes import CORES, MEASURED, Worker, followers
from tests.bench.stage import Stage
from tests.bench.table import Figure, median
from worker.jetstream.events.reader import EventReader
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

KILLS = 5
LEAST = 205
"""Requests for 200 pages of 50 that overlap by a row."""
PREFETCH = 8
TAKES_OVER_IN = 2.0


async def life(stage: Stage, rounds: int) -> list[Figure]:
    """Return the rows about starts and kills."""
    return [*_starts(stage, rounds), *await _kills(stage)]


def _starts(stage: Stage, rounds: int) -> list[Figure]:
    ready, help_ = [], []
    for number in range(rounds + 1):
        worker = Worker(stage.provider, stage.server.url)
        try:
            taken = worker.ready()
        finally:
            worker.close()
        began = time.monotonic()
        subprocess.run([followers(), "--help"], stdout=subprocess.DEVNULL, check=True)
        if number:  # the first time files are read from the disk
            ready.append(taken)
            help_.append(time.monotonic() - began)
    return [
        median("start_to_ready", "start to ready", ready, sense="at most", target=1.5, unit="s"),
        median("help", "`followers --help`", help_, sense="at most", target=0.35, unit="s"),
    ]


async def _kills(stage: Stage) -> list[Figure]:
    """One eSMS job of 200 pages, its worker killed again and again while a spare one waits."""
    await reconcile(stage.client, TopologyConfig(ack_wait=TAKES_OVER_IN))
    settings = {"ack_wait": TAKES_OVER_IN, "prefetch": PREFETCH}
    (job,) = stage.names(1, "killed")
    oa_id = "p200-l50-j"

    def spare() -> Worker:
        worker = Worker(stage.provider, stage.server.url, settings, cores=MEASURED | set(CORES))
        worker.ready()
        return worker

    workers, before = [spare()], _asked(stage)
    try:
        async with stage.pages() as seen, stage.ends([job]) as ended:
            await stage.command("esms", oa_id, job)
            for kill in range(1, KILLS + 1):
                while len(seen) < 30 * kill:
                    await asyncio.sleep(0.005)
                victim = workers.pop(0)
                victim.kill()
                victim.close()
                workers.append(await asyncio.to_thread(spare))
                published = len(seen)
                while len(seen) < published + 5 and not ended.done():
                    await asyncio.sleep(0.01)
            await ended
        # A successor asks from the row published last on: at other row numbers, so the requests are counted in all.
        again = (_asked(stage) - before - LEAST) / KILLS
    finally:
        for worker in workers:
            worker.close()
        await reconcile(stage.client, TopologyConfig())
    return [
        median(
            "refetched", f"pages fetched again per kill (`prefetch = {PREFETCH}`)", [again],
            sense="at most", target=PREFETCH + 1,
        ),
        median(
            "published_twice", f"pages published twice, or missing, after {KILLS} kills",
            [float(await _wrong(stage, job, 200))], sense="at most", target=0,
        ),
    ]  # fmt: skip


def _asked(stage: Stage) -> int:
    return sum(requests for requests, _ in stage.counts().values())


async def _wrong(stage: Stage, job: str, pages: int) -> int:
    """Return how many pages are not where they must be."""
    found = []
    async with EventReader(stage.client, f"followers.page.esms.*.{job}") as reader:
        while (message := await reader.next(5.0)) is not None:
            page = msgspec.json.decode(message.data, type=FollowerPage)
            found.append(page.page)
            if page.last:
                break
    expected = list(range(1, pages + 1))
    return sum(one != other for one, other in zip(found, expected, strict=False)) + abs(len(found) - len(expected))
