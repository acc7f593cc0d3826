"""What a lock file names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class Locked(NamedTuple):
    """A package in a lock file."""

    name: str
    version: str
    here: bool = True
    """This platform gets it."""
    licence: str | None = None
    """As far as the lock file says it: npm's do."""


def locked(lock: Path) -> Iterator[Locked]:
    """Yield the packages of a lock of Python's or npm's."""
    return _of_npm(lock) if lock.suffix == ".json" else _of_python(lock)


def _of_python(lock: Path) -> Iterator[Locked]:
    for line in lock.read_text("utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\"))
            (version,) = requirement.specifier
            here = requirement.marker is None or requirement.marker.evaluate()
            yield Locked(canonicalize_name(requirement.name), version.version, here)


def _of_npm(lock: Path) -> Iterator[Locked]:
    for path, package in json.loads(lock.read_text("utf-8"))["packages"].items():
        if path:  # the empty one is the project itself
            name = path.rpartition("node_modules/")[2]
            yield Locked(name, package["version"], licence=package.get("license", ""))
