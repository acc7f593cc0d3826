"""Names, namespaces and labels: that each thing lands where it should."""

import re
from collections import Counter
from collections.abc import Iterator

from k8s.checks.pods import pod_makers
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@rule("namespace")
def namespace(shipped: Shipped) -> Iterator[str]:
    """What a component adds gets no namespace from the base: it would land in `default`."""
    ours = shipped.the("Namespace")["metadata"]["name"]
    for document in shipped.documents:
        given = document["metadata"].get("namespace")
        if document["kind"] != "Namespace" and given != ours:
            yield f"{document['kind']} {document['metadata']['name']} is in namespace {given}, not {ours}"


@rule("pod-security")
def pod_security(shipped: Shipped) -> Iterator[str]:
    """A Deployment that violates `restricted` is accepted with a warning at most, and only with these labels."""
    labels = shipped.the("Namespace")["metadata"].get("labels", {})
    for mode in ("enforce", "warn", "audit"):
        if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"the namespace has no label pod-security.kubernetes.io/{mode}: restricted"


@rule("names")
def names(shipped: Shipped) -> Iterator[str]:
    """Names that the API server takes, each once; a CronJob's leaves room for what its Jobs add."""
    counted = Counter((document["kind"], document["metadata"]["name"]) for document in shipped.documents)
    for (kind, name), times in counted.items():
        if times > 1:
            yield f"{kind} {name} is there {times} times"
        if not _NAME.fullmatch(name) or (kind == "CronJob" and len(name) > 52):
            yield f"{kind} {name}: the API server refuses this name"


@rule("labels")
def labels(shipped: Shipped) -> Iterator[str]:
    """Label values that the API server takes; everything says that it is a part of this."""
    for document in shipped.documents:
        given = document["metadata"].get("labels", {})
        if given.get("app.kubernetes.io/part-of") != "followers":
            yield f"{document['kind']} {document['metadata']['name']} has no label app.kubernetes.io/part-of: followers"
        for key, value in given.items():
            if not isinstance(value, str) or not _LABEL.fullmatch(value):
                yield f"{document['kind']} {document['metadata']['name']}: label {key} has a value that is refused"
    for maker in pod_makers(shipped):
        if maker.labels.get("app.kubernetes.io/part-of") != "followers":
            yield f"the pods of {maker.name} have no label app.kubernetes.io/part-of: the NetworkPolicies need it"
