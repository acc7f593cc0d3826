"""The checks of the manifests: nothing is wrong with what is shipped, and each check is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.checks.__main__ import caught_by, whole
from k8s.checks.faults import FAULTS
from k8s.checks.registry import RULES, findings
from k8s.checks.shipped import RenderError, Shipped, copy_tree, render, ship


@pytest.fixture(scope="module")
def base() -> Shipped:
    return whole()


def test_nothing_is_wrong_with_production(base: Shipped) -> None:
    assert findings(base) == []


def test_every_rule_has_a_fault_that_it_is_for() -> None:
    findings(whole())

    assert {fault.rule for fault in FAULTS} == set(RULES)
    assert len(FAULTS) >= 35


@pytest.mark.parametrize(
    "text",
    [
        "a trigger on another consumer",
        "SIGTERM lost by process 1",
        "a component's resource without namespace",
        "less grace than the drain takes",
        "a request above its limit",
        "writes that wait for a disk",
        "a right more for the worker's user",
    ],
)
def test_without_its_check_a_fault_goes_through(base: Shipped, text: str) -> None:
    fault = next(fault for fault in FAULTS if fault.text == text)

    assert caught_by(fault, base) == [fault.rule]
    assert caught_by(fault, base, without=(fault.rule,)) == []


# Mistakes in the sources, which only rendering turns into a fault.


def spoil(tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Shipped:
    tree = copy_tree(tmp_path)
    path = tree / file
    values = yaml.safe_load(path.read_text("utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values), "utf-8")
    return ship(tree, "prod")


def test_labels_that_kustomize_writes_into_selectors_would_cut_all_traffic(tmp_path: Path) -> None:
    shipped = spoil(
        tmp_path, "overlays/prod/kustomization.yaml", lambda values: values["labels"][0].update(includeSelectors=True)
    )

    assert {"peers", "reach"} <= {finding.rule for finding in findings(shipped)}


def test_an_overlay_without_namespace_would_put_components_into_default(tmp_path: Path) -> None:
    shipped = spoil(tmp_path, "overlays/prod/kustomization.yaml", lambda values: values.pop("namespace"))

    assert "ScaledObject followers-worker is in namespace None, not followers" in {
        finding.text for finding in findings(shipped) if finding.rule == "namespace"
    }


def test_an_overlay_without_labels_would_put_components_outside_the_network_policies(tmp_path: Path) -> None:
    shipped = spoil(tmp_path, "overlays/prod/kustomization.yaml", lambda values: values.pop("labels"))

    assert {"labels", "reach"} <= {finding.rule for finding in findings(shipped)}


def test_what_cannot_be_rendered_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="deploymentt"):
        spoil(tmp_path, "base/kustomization.yaml", lambda values: values["resources"].append("deploymentt.yaml"))


def test_an_applied_folder_holds_no_secret_and_no_example(tmp_path: Path) -> None:
    for overlay in ("dev", "prod"):
        kinds = {document["kind"] for document in render(copy_tree(tmp_path / overlay) / "overlays" / overlay)}

        assert "Secret" not in kinds
        assert {"Deployment", "ScaledObject", "Job", "NetworkPolicy", "PodDisruptionBudget"} <= kinds
