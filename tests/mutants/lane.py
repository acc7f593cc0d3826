"""A process that has imported what tests need and forks a child for each mutant. A program, no part of a package.

`python lane.py COPY`: `COPY` is a copy of the project of its own, in which files are changed and put back. Reads a
request a line from stdin and answers each with a line on stdout; see `Request` and `Answer` in `runs.py`.
"""

import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

BROKEN = 99
"""What a child ends with that didn't come to run tests."""
STANDS_STILL = " (stands still)"
MEMORY = 4 << 30
"""Bytes that a mutant may take: one that appends for ever must not take the machine with it."""


def main(copy: str) -> None:
    """Serve stdin until it closes."""
    os.chdir(copy)
    # Neither this file's folder nor the project that we came from: only the copy may be imported.
    sys.path[:] = [copy, *(entry for entry in sys.path[1:] if entry)]
    sys.dont_write_bytecode = True
    _import_what_tests_need()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(_serve(json.loads(line))), flush=True)


def _import_what_tests_need() -> None:
    """Everything slow that is not ours."""
    for name in (
        *("pytest", "_pytest.assertion.rewrite", "pytest_asyncio", "pytest_timeout", "hypothesis", "uvloop", "msgspec"),
        *("structlog", "nats", "nats.js", "aiohttp", "aiohttp.web", "httpx", "httpx_aiohttp", "pydantic", "stamina"),
        *("pydantic_settings", "prometheus_client", "typer", "rich", "typer.testing", "cronsim", "faststream.nats"),
    ):
        __import__(name)


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    file = Path(request["file"]) if request["file"] else None
    before = file.read_bytes() if file else b""
    if file:
        file.write_bytes(request["source"].encode())
        for stale in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
            stale.unlink()
    try:
        outcome = _in_a_child(request)
    finally:
        if file:
            file.write_bytes(before)
    return outcome | {"seconds": time.monotonic() - began}


def _in_a_child(request: dict[str, Any]) -> dict[str, Any]:
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        _run(request, tell)
    os.close(tell)
    try:
        outcome = _wait(pid, request["timeout"])
    finally:
        _end_group(pid)
    with os.fdopen(told) as pipe:
        by = pipe.readline()
    return {"outcome": "timeout" if outcome == "killed" and STANDS_STILL in by else outcome, "by": by}


def _run(request: dict[str, Any], tell: int) -> None:
    """Run the tests in this child, and end it."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    silent = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    import pytest

    options = ["-x", "--tb=short", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    options.append(f"--timeout={request['patience']}")
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that are imported already
    code = BROKEN
    try:
        code = int(pytest.main([*options, *request["files"]], plugins=[_Chosen(request["tests"], tell)]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, timeout: float) -> str:
    """Return `survived`, `killed` or `timeout`; `broken` when pytest itself doesn't run."""
    deadline, pause = time.monotonic() + timeout, 0.005
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "timeout"
        time.sleep(pause)
        pause = min(0.05, pause * 1.2)
    if os.waitstatus_to_exitcode(ended[1]) == BROKEN:
        return "broken"
    return "survived" if ended[1] == 0 else "killed"


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Chosen:
    """A pytest plugin that runs the tests named, in the order named, and tells the first that fails."""

    def __init__(self, names: list[str], tell: int) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._tell = tell

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (one for one in items if one.nodeid in self._places), key=lambda one: self._places[one.nodeid]
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            stands_still = STANDS_STILL if "from pytest-timeout" in str(report.longrepr) else ""
            os.write(self._tell, f"{report.nodeid[:300]}{stands_still}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
