"""What k8s/components/monitoring ships, and the programs that check it."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "components" / "monitoring"
README = (FOLDER / "README.md").read_text("utf-8")
RULE: dict[str, Any] = yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text("utf-8"))
GROUPS: list[dict[str, Any]] = RULE["spec"]["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
QUERIES: list[tuple[str, str]] = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
]

FOREIGN = {"keda_scaler_detail_errors_total"}
"""Metrics that others give: KEDA's operator (its documentation, "Integrate with Prometheus")."""


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where it is missing, and fails it in CI."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is missing: apt-get install prometheus"
        if os.environ.get("ALL_TOOLS"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a query."""
    return set(re.findall(r"\b(?:followers|process|keda)_[a-z0-9_]+", expression))


def family(name: str) -> str:
    """The metric to which a series belongs."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of the README, without their code marks."""
    text = README[README.index(f"\n## {heading}\n") :]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]
