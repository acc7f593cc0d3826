"""What a run of mutants says to people."""

import difflib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.mutants.groups import GROUPS, group_of
from tests.mutants.operators import Mutant
from tests.mutants.runs import Run, Runs


def table(runs: Runs, asked: int) -> str:
    """Return the figures by group."""
    by_group: defaultdict[str | None, list[Run]] = defaultdict(list)
    for run in runs.done:
        by_group[group_of(run.mutant.file)].append(run)
    lines = [f"{'group':<10} {'mutants':>8} {'killed':>8} {'timeout':>8} {'survived':>8} {'noticed':>8}"]
    lines += [_line(group, by_group[group]) for group in GROUPS if by_group[group]]
    lines.append(_line("all", runs.done))
    if len(runs.done) < asked:
        lines.append(f"the time was over after {len(runs.done)} of {asked}")
    lines.append(f"{runs.controls} runs of the same tests without a mutant: {len(runs.false_alarms)} failed")
    lines += [f"  {test}" for test in runs.false_alarms]
    return "\n".join(lines)


def survivors(runs: Iterable[Run], root: Path) -> str:
    """Return each mutant that no test noticed, as a diff."""
    left = sorted((run for run in runs if run.outcome == "survived"), key=lambda run: run.mutant)
    return "\n".join(f"survived {run.tests} tests\n{diff(run.mutant, root)}" for run in left)


def diff(mutant: Mutant, root: Path) -> str:
    """Return a mutant as `diff -U1` shows it."""
    source = (root / mutant.file).read_bytes()
    before, after = source.decode().splitlines(), mutant.apply(source).decode().splitlines()
    lines = difflib.unified_diff(before, after, mutant.file, mutant.file, n=1, lineterm="")
    return "\n".join([*list(lines)[1:], ""])


def _line(name: str, runs: list[Run]) -> str:
    counts = [sum(run.outcome == outcome for run in runs) for outcome in ("killed", "timeout", "survived")]
    noticed = 100 * (1 - counts[2] / len(runs)) if runs else 0
    return " ".join([f"{name:<10}", *(f"{number:>8}" for number in (len(runs), *counts)), f"{noticed:>7.1f}%"])
