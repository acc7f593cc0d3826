"""`python -m tests.chaos`: one run, its ledger, and exit code 1 when a promise was broken."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop

from tests.chaos.mutants import MUTANTS
from tests.chaos.options import Options
from tests.chaos.run import run


def main() -> int:
    """Read the arguments, run, print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="how long things are killed (150)")
    parser.add_argument("--seed", type=int, default=1, help="of commands and of the moments of every act (1)")
    parser.add_argument("--nats-server", type=Path, metavar="PATH", help="another nats-server than the pinned one")
    parser.add_argument("--workers", type=int, default=3, help="workers kept running (3)")
    parser.add_argument("--ack-wait", type=float, default=2.0, help="seconds until a command is delivered anew (2)")
    parser.add_argument("--duplicate-window", type=int, default=1, help="seconds, of the streams (1)")
    parser.add_argument("--program", action="store_true", help="start each worker as a new program, not as a fork")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the workers' log and settings there")
    parser.add_argument("--json", action="store_true", help="print the ledger as JSON")
    arguments = parser.parse_args()
    mutant = os.environ.get("CHAOS_MUTANT", "")
    if mutant and (mutant not in MUTANTS or arguments.program):
        parser.error(f"CHAOS_MUTANT is one of {', '.join(MUTANTS)}, and needs forked workers (no --program)")
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    options = Options(
        seconds=arguments.seconds,
        seed=arguments.seed,
        nats_server=arguments.nats_server,
        workers=arguments.workers,
        ack_wait=arguments.ack_wait,
        duplicate_window=arguments.duplicate_window,
        program=arguments.program,
        mutant=mutant,
        keep=arguments.keep,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ledger = runner.run(run(options))
    if arguments.json:
        print(json.dumps({**ledger.figures, "broken": ledger.broken, "timeline": ledger.timeline}, indent=2))
    else:
        print(ledger)
    return 1 if ledger.broken else 0


if __name__ == "__main__":
    sys.exit(main())
