"""The alert rules, run by promtool, and their runbooks."""

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.shipped import ALERTS, GROUPS, README, program

CASES = Path(__file__).with_name("alerts.yaml")
TESTS: list[dict[str, Any]] = yaml.safe_load(CASES.read_text("utf-8"))["tests"]


def promtool(folder: Path, groups: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Run the cases against `groups`."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), "utf-8")
    (folder / "alerts.yaml").write_bytes(CASES.read_bytes())
    command = [program("promtool"), "test", "rules", "alerts.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    done = promtool(tmp_path, GROUPS)

    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr


def test_the_cases_notice_a_rule_that_never_fires_and_one_that_always_does(tmp_path: Path) -> None:
    broken = itertools.cycle(("vector(0) > 1", "vector(1)"))
    rules = [rule | {"expr": next(broken)} for rule in ALERTS.values()]

    done = promtool(tmp_path, [{"name": "broken", "rules": rules}])

    missed = [name for name in ALERTS if f"alertname: {name}," not in done.stdout + done.stderr]
    assert (done.returncode, missed) == (1, []), done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    cases = [one for test in TESTS for one in test["alert_rule_test"] if one["alertname"] == name]

    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_how_bad_it_is_and_has_a_runbook(name: str) -> None:
    rule = ALERTS[name]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"k8s/components/monitoring/README.md#{name.lower()}"
    section = re.search(rf"^### {name}\n\n(.+?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert len(section[1]) > 150


def test_there_is_no_runbook_without_its_alert() -> None:
    text = README[README.index("\n## Alerts") :]

    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(ALERTS)
