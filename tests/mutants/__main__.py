"""`make mutants`: a seeded sample of mutants of each group, and which of them no test notices."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from tests.mutants.groups import GROUPS, group_of, sources
from tests.mutants.known import change, equivalent
from tests.mutants.operators import Mutant, mutants
from tests.mutants.report import survivors, table
from tests.mutants.runs import Run, copy_of, run_all
from tests.mutants.tests_of import tests_of

ROOT = Path(__file__).parents[2]
KEPT = Path(".venv") / "mutants"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run, report, and return 1 where fewer are noticed than asked for."""
    options = _options(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="followers-mutants-") as folder:
        copies = [copy_of(root, Path(folder) / str(lane)) for lane in range(options.jobs)]
        tests = tests_of(root, copies, root / KEPT, _say)
        found, same = _population(root, options.group, options.only)
        sample = _sample(found, options.seed, options.count)
        _say(f"{sum(map(len, found.values()))} mutants, {same} more change nothing; {len(sample)} are tried")
        runs = run_all(
            sample, copies, tests, deadline, options.patience, _tell if options.verbose else lambda run: None
        )
    print(survivors(runs.done, root))
    print(table(runs, len(sample)))
    return int(_rate(runs.done) < options.at_least)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--count", type=int, default=200, help="mutants, the same number of each group (200)")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no more are begun (10)")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side (2)")
    parser.add_argument("--group", choices=GROUPS, action="append", help="these alone")
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--at-least", type=float, default=0.0, help="percent that must be noticed (0)")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds for each, beside what its tests need (15)"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for each mutant")
    return parser.parse_args(arguments)


def _population(root: Path, groups: list[str] | None, only: str) -> tuple[dict[str, list[Mutant]], int]:
    """Return all mutants by group, without those that are known to be equivalent, and how many those are."""
    known, same = equivalent(), 0
    found: dict[str, list[Mutant]] = {group: [] for group in groups or GROUPS}
    for file in sources(root):
        group = group_of(file)
        if group not in found or only not in file:
            continue
        source = (root / file).read_bytes()
        for mutant in mutants(file, source):
            if change(mutant, source) in known:
                same += 1
            else:
                found[group].append(mutant)
    return found, same


def _sample(found: dict[str, list[Mutant]], seed: int, count: int) -> list[Mutant]:
    """Return `count` of them, group by group in turn, so that a run that is cut short has some of each."""
    shuffled = [random.Random(f"{seed} {group}").sample(all_, len(all_)) for group, all_ in found.items()]
    in_turn: Iterator[Mutant | None] = chain.from_iterable(zip_longest(*shuffled))
    return [mutant for mutant in in_turn if mutant is not None][:count]


def _rate(runs: list[Run]) -> float:
    return 100 * sum(run.outcome != "survived" for run in runs) / max(1, len(runs))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tell(run: Run) -> None:
    _say(f"{run.outcome:8} {run.seconds:5.1f} s {run.tests:4} tests  {run.mutant.file}:{run.mutant.first}  {run.by}")


if __name__ == "__main__":
    sys.exit(main())
