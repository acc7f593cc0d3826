"""Runs mutants side by side, each in a copy of the project of its own."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.mutants.operators import Mutant
from tests.mutants.tests_of import ENVIRONMENT, TestsOf

Outcome = Literal["killed", "timeout", "survived"]
LANE = Path(__file__).with_name("lane.py")
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "node_modules")
EVERY = 20
"""After so many mutants the last one's tests run once without it, to see whether they fail by themselves."""


@dataclass(frozen=True)
class Run:
    """What became of one mutant."""

    mutant: Mutant
    outcome: Outcome
    by: str
    """The test that noticed."""
    tests: int
    seconds: float


@dataclass
class Runs:
    """What became of all."""

    done: list[Run]
    controls: int = 0
    false_alarms: list[str] = field(default_factory=list)
    """The tests that failed although nothing was changed."""


def copy_of(root: Path, folder: Path) -> Path:
    """Return a copy of the project for one lane: nothing is ever changed in `root`."""
    shutil.copytree(root, folder, ignore=IGNORED, symlinks=True)
    return folder


def run_all(
    mutants: Iterable[Mutant],
    copies: list[Path],
    tests: TestsOf,
    deadline: float,
    patience: float,
    told: Callable[[Run], None],
) -> Runs:
    """Run the mutants in order until `deadline`, by the monotonic clock."""
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    runs, lock = Runs([]), threading.Lock()

    def work(copy: Path) -> None:
        with _Lane(copy, patience) as lane:
            number = 0
            while time.monotonic() < deadline:
                try:
                    mutant = waiting.get_nowait()
                except queue.Empty:
                    return
                run = lane.run(mutant, tests)
                number += 1
                control = lane.control(mutant, tests) if number % EVERY == 1 else None
                with lock:
                    runs.done.append(run)
                    runs.controls += control is not None
                    runs.false_alarms += [control] if control else []
                    told(run)

    with ThreadPoolExecutor(len(copies)) as lanes:
        list(lanes.map(work, copies))
    return runs


class _Lane:
    """One process of `lane.py`."""

    def __init__(self, copy: Path, patience: float) -> None:
        self._copy, self._patience = copy, patience

    def __enter__(self) -> "_Lane":
        command = [sys.executable, str(LANE), str(self._copy)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | ENVIRONMENT, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, mutant: Mutant, tests: TestsOf) -> Run:
        chosen, seconds = tests.choose(mutant)
        if not chosen:
            return Run(mutant, "survived", "", 0, 0.0)
        source = mutant.apply((self._copy / mutant.file).read_bytes()).decode()
        answer = self._ask({"file": mutant.file, "source": source}, chosen, seconds)
        # What pytest itself stumbles over, such as a connection that is never closed, is noticed too.
        outcome: Outcome = "killed" if answer["outcome"] == "broken" else answer["outcome"]
        return Run(mutant, outcome, answer["by"].strip(), len(chosen), answer["seconds"])

    def control(self, mutant: Mutant, tests: TestsOf) -> str | None:
        """Return which test fails without the mutant, or nothing; None: there is no test."""
        chosen, seconds = tests.choose(mutant)
        if not chosen:
            return None
        answer = self._ask({"file": None, "source": ""}, chosen, seconds)
        return "" if answer["outcome"] == "survived" else answer["by"].strip() or answer["outcome"]

    def _ask(self, request: dict[str, str | None], chosen: list[str], seconds: float) -> dict[str, Any]:
        files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
        rest = {
            "tests": chosen,
            "files": files,
            "patience": self._patience,
            "timeout": 2 * self._patience + 3 * seconds,
            "log": str(self._copy / "lane.log"),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request | rest) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if answer["outcome"] == "broken" and not request["file"]:
            raise RuntimeError((self._copy / "lane.log").read_text(errors="replace")[-3000:])
        return answer
