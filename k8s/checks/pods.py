"""Looking into whatever makes pods."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from k8s.checks.shipped import Document, Shipped

WORKER = "followers-worker"


@dataclass(frozen=True, kw_only=True)
class PodMaker:
    """A Deployment, Job or CronJob, and the pods that it makes."""

    name: str
    """`Deployment followers-worker`."""
    document: Document
    labels: dict[str, str]
    """Of the pods."""
    spec: dict[str, Any]
    """Of the pods."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Those that run at start included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def pod_makers(shipped: Shipped) -> Iterator[PodMaker]:
    """Return everything that makes pods."""
    for document in shipped.of("Deployment", "Job", "CronJob"):
        spec = document["spec"]
        template = (spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec)["template"]
        yield PodMaker(
            name=f"{document['kind']} {document['metadata']['name']}",
            document=document,
            labels=template["metadata"].get("labels", {}),
            spec=template["spec"],
        )


def worker_pod(shipped: Shipped) -> PodMaker:
    """Return the worker's Deployment. Raises LookupError."""
    for maker in pod_makers(shipped):
        if maker.document is shipped.the("Deployment", WORKER):
            return maker
    raise LookupError(WORKER)


def worker_container(shipped: Shipped) -> dict[str, Any]:
    """Return the worker's container. Raises LookupError."""
    container: dict[str, Any] = worker_pod(shipped).spec["containers"][0]
    return container


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables that are written out."""
    return {one["name"]: str(one["value"]) for one in container.get("env", ()) if "value" in one}


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Say whether a selector of plain labels, and not an empty one, takes `labels`."""
    wanted = (selector or {}).get("matchLabels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())
