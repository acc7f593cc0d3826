"""List the licence of everything locked: 1 for one that is unknown, or that licences.toml doesn't allow."""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

from locks import Locked, locked
from packaging.utils import canonicalize_name

_LIST = Path(__file__).with_name("licences.toml")
_CLASSIFIER = "License :: OSI Approved :: "
_SHORT = 40
"""Characters at most of a licence's name; some packages put the whole text there."""


class Judged(NamedTuple):
    """A locked package and what is held of its licence."""

    package: Locked
    licence: str
    problem: str = ""


def judge(
    packages: Iterable[Locked], installed: Mapping[tuple[str, str], str], rules: Mapping[str, Any]
) -> list[Judged]:
    """Return each package once, with its licence by its own word, else by `rules`, and what is wrong with that."""
    return [_judge(package, installed, rules) for package in sorted(set(packages))]


def installed_in(environments: Iterable[Path], names: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return the licence by name and version of what is installed; `names` says what people call a licence."""
    found = {}
    for environment in environments:
        folders = [str(folder) for folder in environment.glob("lib/python3*/site-packages")]
        for distribution in distributions(path=folders):
            name = canonicalize_name(distribution.metadata["Name"])
            found[name, distribution.version] = _said(distribution, names)
    return found


def _judge(package: Locked, installed: Mapping[tuple[str, str], str], rules: Mapping[str, Any]) -> Judged:
    said = package.licence if package.licence is not None else installed.get((package.name, package.version), "")
    known = rules["packages"].get(package.name)
    if known is None:
        if not said:
            return Judged(package, "unknown", "its licence is unknown: read it and add the package to the list")
        problem = "" if allowed(said, rules["allowed"]) else "this licence is not allowed without a reason on the list"
        return Judged(package, said, problem)
    if said and said != known["licence"]:
        return Judged(package, said, f"the list says {known['licence']}: look at it again")
    return Judged(package, known["licence"])


def allowed(expression: str, known: Iterable[str]) -> bool:
    """Say whether one side of each OR has only licences that are `known`. Parentheses are none."""
    return any(all(part.strip() in known for part in side.split(" AND ")) for side in expression.split(" OR "))


def _said(distribution: Distribution, names: Mapping[str, str]) -> str:
    """Return the licence by the package's own word; several classifiers hold together. Empty: it says nothing clear."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    text = re.sub(r"\s+", " ", metadata.get("License") or "").strip()
    if text in names or (text and len(text) <= _SHORT and text != "UNKNOWN"):
        return names.get(text, text)
    said = [c.removeprefix(_CLASSIFIER) for c in metadata.get_all("Classifier") or () if c.startswith(_CLASSIFIER)]
    return " AND ".join(sorted({names.get(name, name) for name in said}))


def _wrong_with_the_list(packages: Iterable[Locked], rules: Mapping[str, Any]) -> Iterator[str]:
    for name in set(rules["packages"]) - {package.name for package in packages}:
        yield f"{name} is on the list and not locked"
    for name, entry in rules["packages"].items():
        if not entry.get("reason"):
            yield f"{name} is on the list, which gives no reason"


def main() -> int:
    """Print the list, and what is wrong with it behind it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--installed", nargs="+", type=Path, required=True, metavar="ENVIRONMENT")
    parser.add_argument("--locks", nargs="+", type=Path, required=True, metavar="LOCK")
    parser.add_argument("--rules", type=Path, default=_LIST)
    given = parser.parse_args()
    rules = tomllib.loads(given.rules.read_text("utf-8"))
    packages = [package for lock in given.locks for package in locked(lock)]
    judged = judge(packages, installed_in(given.installed, rules["names"]), rules)
    for one in sorted({(one.package.name, one.package.version, one.licence) for one in judged}):
        print(f"{one[0]} {one[1]}: {one[2]}")
    problems = {
        f"{one.package.name} {one.package.version}: {one.licence}: {one.problem}" for one in judged if one.problem
    }
    problems |= set(_wrong_with_the_list(packages, rules))
    for problem in sorted(problems):
        print(f"licences: {problem}", file=sys.stderr)
    if not problems:
        print(
            f"licences: all allowed, of {len({one.package[:2] for one in judged})} packages in {len(given.locks)} locks"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
