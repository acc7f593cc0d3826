"""How fast the worker is, beside other ways to do the same: `make bench`.

Prints a table in Markdown on standard output and what it is doing on standard error; writes everything that was
measured as JSON. Ends with 1 when a target is not met. Needs Linux, and two cores that nobody else uses.
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from tests.bench.accounts import accounts
from tests.bench.cost import cost
from tests.bench.latency import latency
from tests.bench.life import life
from tests.bench.processes import OTHERS, ROOT, machine_seconds, own_seconds
from tests.bench.scale import scale
from tests.bench.stage import stage
from tests.bench.table import Figure, as_json, machine, markdown, write_into

BUSY = 0.5
"""A load average from which figures are no good for the README."""
TAKEN = 0.05
"""The same: a share of the machine's CPU that others take meanwhile."""
PARTS = ("cost", "latency", "scale", "life", "accounts")


async def main(options: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    began, busy, taken = time.monotonic(), os.getloadavg()[0], machine_seconds() - own_seconds()
    os.sched_setaffinity(0, OTHERS)
    figures: list[Figure] = []
    notes: list[str] = []
    async with stage(options.seed) as place:
        for part in options.only or PARTS:
            say(f"{time.monotonic() - began:4.0f} s: {part}")
            if part == "cost":
                found, said = await cost(place, 2 * options.rounds, options.dlt_python)
                figures, notes = figures + found, notes + said
            elif part == "latency":
                figures += await latency(place, options.rounds)
            elif part == "scale":
                figures += await scale(place, options.rounds)
            elif part == "life":
                figures += await life(place, options.rounds)
            else:
                found, said = await accounts(options.rounds)
                figures, notes = figures + found, notes + said
    seconds = time.monotonic() - began
    took = f"{machine()}; {options.rounds} rounds, seed {options.seed}, {seconds:.0f} s in all."
    others = (machine_seconds() - own_seconds() - taken) / (seconds * (os.cpu_count() or 1))
    if busy > BUSY or others > TAKEN:
        notes.append(
            f"**The machine was busy** (load average {busy:.1f} before the start, and others took "
            f"{max(0.0, others):.0%} of its CPU meanwhile): everything takes longer then."
        )
        say(notes[-1])
    table = markdown(figures, [took, *notes])
    sys.stdout.write(f"{table}\n")
    options.json.write_bytes(as_json(figures, notes))
    say(f"everything that was measured is in {options.json}")
    if options.write:
        write_into(ROOT / "README.md", table)
    missed = [figure.measure for figure in figures if not figure.met]
    for measure in missed:
        say(f"missed: {measure}")
    return 1 if missed else 0


def say(line: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="that count, twice as many for CPU")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part of it; may be given several times")
    parser.add_argument("--dlt-python", help="an interpreter that has dlt; without it those rows are left out")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    sys.exit(asyncio.run(main(parser.parse_args())))
