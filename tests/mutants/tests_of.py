"""Which tests run which lines: measured once in a copy of the project, kept until a source or a test changes."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.groups import killers, sources
from tests.mutants.operators import Mutant

ENVIRONMENT = {"SIMULATION_SHARE": "0.1", "HYPOTHESIS_PROFILE": "quick", "PYTHONDONTWRITEBYTECODE": "1"}
"""Few seeds and examples: a mutant that needs thousands to be noticed may live."""
PYTEST = [sys.executable, "-m", "pytest", "-q", "--hypothesis-seed=0", "-p", "tests.mutants.measure"]
HOW = ["tests/mutants/measure.py"]
MEASURED, LOG = "measured.json", "measured.log"
TESTS_FAILED = 1
"""The exit code of pytest; those that fail without a mutant are left out."""
SECONDS = 15.0
"""Of tests that one mutant meets at most, quickest first."""
TESTS = 2000


@dataclass
class TestsOf:
    """What was measured: each test's seconds, and the lines of ours that it runs by file."""

    measured: dict[str, Any]

    def __post_init__(self) -> None:
        self._all = sorted((seen["seconds"], test, frozenset[int]()) for test, seen in self.measured.items())
        self._by_file: defaultdict[str, list[tuple[float, str, frozenset[int]]]] = defaultdict(list)
        for test, seen in self.measured.items():
            for file, lines in seen["lines"].items():
                self._by_file[file].append((seen["seconds"], test, frozenset(lines)))
        for tests in self._by_file.values():
            tests.sort(key=lambda one: one[:2])

    def choose(self, mutant: Mutant) -> tuple[list[str], float]:
        """Return the tests for a mutant, quickest first, and their seconds.

        What runs only while a module is imported is every test's that runs anything of the file, else those of
        the tests first that are named like it.
        """
        of_file = self._by_file[mutant.file] or self._named_like(Path(mutant.file))
        wanted = frozenset(range(mutant.first, mutant.last + 1))
        chosen: list[str] = []
        total = 0.0
        for seconds, test, _ in [one for one in of_file if one[2] & wanted] or of_file:
            if total + seconds > SECONDS or len(chosen) == TESTS:
                break
            chosen.append(test)
            total += seconds
        return chosen, total

    def _named_like(self, file: Path) -> list[tuple[float, str, frozenset[int]]]:
        words = (file.stem, file.parts[0].removesuffix("s"))
        return sorted(self._all, key=lambda one: not any(word in one[1] for word in words))


def tests_of(root: Path, copies: list[Path], kept: Path, say: Any) -> TestsOf:
    """Return what is known of the tests, measuring those anew that changed since."""
    kept.mkdir(parents=True, exist_ok=True)
    common = _hash(root, [*sources(root), *_shared(root), *HOW])
    files = {name: kept / f"{_hash(root, [name], common)}.json" for name in killers(root)}
    stale = [name for name, path in files.items() if not path.exists()]
    if stale:
        began = time.monotonic()
        _measure(copies, stale, files)
        say(f"looked which lines {len(stale)} test files run: {time.monotonic() - began:.0f} s")
    for path in set(kept.glob("*.json")) - set(files.values()):
        path.unlink()
    measured: dict[str, Any] = {}
    for path in files.values():
        measured |= json.loads(path.read_text())
    return TestsOf(measured)


def _measure(copies: list[Path], names: list[str], files: dict[str, Path]) -> None:
    shares = [names[number :: len(copies)] for number in range(len(copies))]
    running = [(_start(copy, share), copy, share) for copy, share in zip(copies, shares, strict=True) if share]
    for process, copy, share in running:
        if process.wait() not in (0, TESTS_FAILED):
            raise RuntimeError((copy / LOG).read_text(errors="replace")[-3000:])
        found = json.loads((copy / MEASURED).read_text())
        for name in share:
            mine = {test: seen for test, seen in found.items() if test.startswith(f"{name}::")}
            files[name].write_text(json.dumps(mine))


def _start(copy: Path, names: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | ENVIRONMENT | {"MUTANTS_MEASURE": str(copy / MEASURED)}
    with (copy / LOG).open("wb") as log:
        return subprocess.Popen([*PYTEST, *names], cwd=copy, env=environment, stdout=log, stderr=log)


def _shared(root: Path) -> list[str]:
    """What tests are built of."""
    found = [path for path in (root / "tests").rglob("*.py") if not path.name.startswith("test_")]
    return sorted(path.relative_to(root).as_posix() for path in found if "mutants" not in path.parts)


def _hash(root: Path, names: list[str], before: str = "") -> str:
    found = hashlib.sha256(before.encode())
    for name in names:
        found.update(name.encode() + b"\0" + (root / name).read_bytes() + b"\0")
    return found.hexdigest()[:32]
