"""Render, check, plant faults, and print what came of it; exit code 1 when something is wrong."""

import sys
import tempfile
from pathlib import Path

from k8s.checks.faults import FAULTS, Fault
from k8s.checks.registry import RULES, findings
from k8s.checks.rules.schema import VERSIONS
from k8s.checks.shipped import RenderError, Shipped, combinations, copy_tree, ship


def check_combinations() -> int:
    """Print what is wrong in any overlay with any components; return how many things are."""
    wrong: dict[str, list[str]] = {}
    rendered = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        for overlay, components in (*(("dev", None), ("prod", None)), *combinations()):
            shipped = ship(tree, overlay, components)
            rendered += 1
            for finding in findings(shipped):
                where = f"{overlay} ({', '.join(shipped.components)})"
                wrong.setdefault(f"{finding.rule}: {finding.text}", []).append(where)
    for text, places in wrong.items():
        print(f"WRONG  {text}\n       in {places[0]}" + (f" and {len(places) - 1} more" if places[1:] else ""))
    versions = " and ".join(VERSIONS)
    print(f"{rendered} renders, {len(RULES)} rules, Kubernetes {versions}: {len(wrong) or 'nothing'} wrong")
    return len(wrong)


def check_faults() -> int:
    """Print the matrix of planted faults; return how many the rule for it did not find."""
    caught = 0
    width = max(len(fault.text) for fault in FAULTS)
    bases = {nack: whole(nack=nack) for nack in (False, True)}
    for fault in FAULTS:
        rules = caught_by(fault, bases[fault.nack])
        caught += fault.rule in rules
        verdict = ", ".join(rules) if fault.rule in rules else f"MISSED by {fault.rule}, found by {rules or 'none'}"
        print(f"  {fault.text:{width}}  {verdict}")
    print(f"{len(FAULTS)} faults planted, {caught} caught")
    return len(FAULTS) - caught


def whole(*, nack: bool = False) -> Shipped:
    """Return production with every component."""
    with tempfile.TemporaryDirectory() as folder:
        components = ("nack" if nack else "setup", "keda", "monitoring", "schedule")
        return ship(copy_tree(Path(folder)), "prod", components)


def caught_by(fault: Fault, base: Shipped, *, without: tuple[str, ...] = ()) -> list[str]:
    """Return the rules that find `fault` in `base`, the one that is for it first; those in `without` don't look."""
    planted = base.copy()
    fault.plant(planted)
    found = dict.fromkeys(finding.rule for finding in findings(planted, without=without))
    return sorted(found, key=lambda rule: rule != fault.rule)


def main() -> int:
    """Run everything; return the exit code."""
    try:
        wrong = check_combinations()
        missed = check_faults()
    except RenderError as error:
        print(f"k8s-check: {error}", file=sys.stderr)
        return 1
    return 1 if wrong or missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
