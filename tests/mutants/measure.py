"""A pytest plugin that writes which test runs which lines of ours, and how long it takes: `-p tests.mutants.measure`.

`MUTANTS_MEASURE` names the file that takes it.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

from tests.mutants.groups import group_of

_here = Path.cwd()
_coverage = coverage.Coverage(data_file=None, include=[f"{_here}/worker/*", f"{_here}/schemas/*"], config_file=False)
_seconds: dict[str, float] = {}
_failed: set[str] = set()


def pytest_load_initial_conftests() -> None:
    """Begin before anything of ours is imported."""
    _coverage.start()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count what runs as this test's."""
    _coverage.switch_context(item.nodeid)
    began = time.monotonic()
    try:
        return (yield)
    finally:
        _seconds[item.nodeid] = time.monotonic() - began


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Leave out what fails without a mutant, or doesn't run at all."""
    if report.failed or report.skipped:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write it down."""
    _coverage.stop()
    data = _coverage.get_data()
    lines: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for path in data.measured_files():
        file = Path(path).relative_to(_here).as_posix()
        if group_of(file) is None:
            continue
        by_test: dict[str, list[int]] = defaultdict(list)
        for line, tests in data.contexts_by_lineno(path).items():
            for test in tests:
                by_test[test].append(line)
        for test, numbers in by_test.items():
            lines[test][file] = sorted(numbers)
    # Also those that run no line of ours: what they look at was made when it was imported.
    found = {test: {"seconds": _seconds[test], "lines": lines[test]} for test in _seconds.keys() - _failed}
    Path(os.environ["MUTANTS_MEASURE"]).write_text(json.dumps(found))
