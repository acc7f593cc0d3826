"""CPU a page: the worker, and the rivals, in turn on the same core, against the same stand-in and nats-server."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise

from schemas.types import Provider
from tests.bench.ceiling import ceiling
from tests.bench.processes import Program, Rival, Worker, cpu_seconds
from tests.bench.rivals import Run
from tests.bench.stage import Stage
from tests.bench.table import Figure, ratio

JOBS = 8
"""At the same time, for those that can."""
Turn = Callable[[], Awaitable[float]]

OURS, AFTERNOON, CLIENT, PIPELINE = "p50-l0", "p12-l0", "p50-l0", "p100-l0"
"""Fewer pages for who takes longer; it is CPU a page that counts. Turns are short, so that all see the same machine."""


async def cost(stage: Stage, rounds: int, dlt_python: str | None) -> tuple[list[Figure], list[str]]:
    """Return the rows about CPU, and what is to be said about the stand-in."""
    with contextlib.ExitStack() as open_:
        worker = Worker(stage.provider, stage.server.url)
        open_.callback(worker.close)
        worker.ready()
        bare, afternoon = (_rival(open_, stage, name) for name in ("bare", "afternoon"))
        contest: dict[str, Turn] = {
            "worker": lambda: _ours(stage, worker, "etelecom"),
            "bare": lambda: _theirs(stage, bare, "etelecom", OURS, JOBS),
            "afternoon": lambda: _theirs(stage, afternoon, "etelecom", AFTERNOON, JOBS),
        }
        if dlt_python:
            rest = _rival(open_, stage, "dlt_client", dlt_python)
            contest["dlt_client"] = lambda: _theirs(stage, rest, "etelecom", CLIENT, 1)
        etelecom = await _take_turns(contest, rounds)
        esms = await _take_turns(
            {
                "worker": lambda: _ours(stage, worker, "esms"),
                "bare": lambda: _theirs(stage, bare, "esms", OURS, JOBS),
            },
            rounds,
        )
        pipeline: dict[str, list[float]] = {}
        if dlt_python:
            whole = _rival(open_, stage, "dlt_pipeline", dlt_python)
            pipeline = await _take_turns(
                {
                    "worker": lambda: _ours(stage, worker, "etelecom"),
                    "dlt_pipeline": lambda: _theirs(stage, whole, "etelecom", PIPELINE, 1),
                },
                max(2, rounds // 4),
            )
        busiest = await _busiest(stage, worker)
    figures = _figures(etelecom, esms, pipeline)
    alone = await asyncio.to_thread(ceiling, stage)
    micro = {name: sorted(values)[len(values) // 2] * 1e6 for name, values in (etelecom | pipeline).items()}
    notes = [
        "CPU a page of 50 in this run, by the system's clock of the process: "
        + ", ".join(f"{name.replace('_', ' ')} {value:,.0f} µs" for name, value in sorted(micro.items()))
        + ".",
        f"The stand-in alone serves {alone:,.0f} pages a second; the worker took {busiest:,.0f} at most.",
    ]
    return figures, notes


async def worker_to_bare(stage: Stage, rounds: int) -> Figure:
    """Return the first row alone."""
    with contextlib.ExitStack() as open_:
        worker = Worker(stage.provider, stage.server.url)
        open_.callback(worker.close)
        worker.ready()
        bare = _rival(open_, stage, "bare")
        taken = await _take_turns(
            {
                "worker": lambda: _ours(stage, worker, "etelecom"),
                "bare": lambda: _theirs(stage, bare, "etelecom", OURS, JOBS),
            },
            rounds,
        )
    return ratio(
        "worker_to_bare", "CPU per eTelecom page of 50 (44 KB), worker ÷ bare", taken["worker"], taken["bare"],
        sense="at most", target=1.25,
    )  # fmt: skip


def _figures(
    etelecom: dict[str, list[float]], esms: dict[str, list[float]], pipeline: dict[str, list[float]]
) -> list[Figure]:
    ours = etelecom["worker"]
    rows = [
        ratio(
            "worker_to_bare", "CPU per eTelecom page of 50 (44 KB), worker ÷ bare", ours, etelecom["bare"],
            sense="at most", target=1.25,
        ),
        ratio(
            "afternoon_to_worker", "the same, afternoon ÷ worker", etelecom["afternoon"], ours,
            sense="at least", target=4,
        ),
    ]  # fmt: skip
    if pipeline:
        rows += [
            ratio(
                "dlt_client_to_worker", "the same, dlt REST client ÷ worker", etelecom["dlt_client"], ours,
                sense="at least", target=5,
            ),
            ratio(
                "dlt_pipeline_to_worker", "the same, dlt pipeline to DuckDB ÷ worker",
                pipeline["dlt_pipeline"], pipeline["worker"], sense="at least", target=60,
            ),
        ]  # fmt: skip
    return [
        *rows,
        ratio(
            "esms_worker_to_bare", "CPU per eSMS page of 50, worker ÷ bare", esms["worker"], esms["bare"],
            sense="at most", target=1.35,
        ),
    ]  # fmt: skip


async def _take_turns(contest: dict[str, Turn], rounds: int) -> dict[str, list[float]]:
    """Let each have a turn in each round; the first round, in which everybody warms up, doesn't count."""
    taken: dict[str, list[float]] = {name: [] for name in contest}
    for number in range(rounds + 1):
        for name, turn in contest.items():
            seconds = await turn()
            if number:
                taken[name].append(seconds)
    return taken


async def _ours(stage: Stage, worker: Worker, provider: Provider) -> float:
    """Return the CPU seconds a page that the worker takes."""
    with _measured(worker) as seconds:
        await stage.run(provider, OURS, stage.names(JOBS, "worker"))
    await stage.forget()
    return seconds[0] / (50 * JOBS)


async def _theirs(stage: Stage, rival: Rival, provider: Provider, oa_id: str, jobs: int) -> float:
    run = Run(provider, oa_id, stage.names(jobs, "rival"))
    with _measured(rival) as seconds:
        pages = await asyncio.to_thread(rival.run, run)
    expected = jobs * int(oa_id.partition("-")[0][1:])
    if pages != expected:
        raise RuntimeError(f"{rival.process.args!r} handled {pages} pages of {expected}")
    await stage.forget()
    return seconds[0] / pages


async def _busiest(stage: Stage, worker: Worker) -> float:
    """Return the most pages that the worker took in any half second."""
    async with stage.pages() as seen:
        await stage.run("etelecom", "p300-l0", stage.names(JOBS, "busy"))
    times = [at for at, _, _ in seen]
    marks = [times[0] + 0.5 * number for number in range(int((times[-1] - times[0]) / 0.5) + 1)]
    await stage.forget()
    return max((2 * sum(one <= at < other for at in times) for one, other in pairwise(marks)), default=0.0)


def _rival(open_: contextlib.ExitStack, stage: Stage, name: str, python: str | None = None) -> Rival:
    rival = Rival(name, stage.provider, stage.server.url, *([python] if python else []))
    open_.callback(rival.close)
    return rival


@contextlib.contextmanager
def _measured(program: Program) -> Iterator[list[float]]:
    """Give a list that holds the CPU seconds of what is done meanwhile."""
    result: list[float] = []
    began = cpu_seconds(program.pid)
    yield result
    time.sleep(0.05)  # what is done right behind the last page belongs to it
    result.append(cpu_seconds(program.pid) - began)
