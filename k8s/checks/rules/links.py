"""Whatever names something else: selectors, ports, volumes, references."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from k8s.checks.pods import matches, pod_makers, worker_container, worker_pod
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped


@rule("selectors")
def selectors(shipped: Shipped) -> Iterator[str]:
    """Each selector takes the pods that it is for, and none is empty: that would take every pod."""
    for document in shipped.of("Deployment"):
        pods = document["spec"]["template"]["metadata"].get("labels", {})
        if not matches(document["spec"].get("selector"), pods):
            yield f"Deployment {document['metadata']['name']} doesn't select its own pods"
        for spread in document["spec"]["template"]["spec"].get("topologySpreadConstraints", ()):
            if not matches(spread.get("labelSelector"), pods):
                yield f"the spread over {spread.get('topologyKey')} doesn't count the Deployment's own pods"
    worker = worker_pod(shipped).labels
    for document in shipped.of("PodDisruptionBudget", "PodMonitor"):
        if not matches(document["spec"].get("selector"), worker):
            yield f"{document['kind']} {document['metadata']['name']} doesn't select the worker's pods"
    others = [maker.labels for maker in pod_makers(shipped) if maker.labels is not worker]
    for document in [*shipped.of("Deployment"), *shipped.of("PodDisruptionBudget", "PodMonitor")]:
        if any(matches(document["spec"].get("selector"), labels) for labels in others):
            yield f"{document['kind']} {document['metadata']['name']} selects the pods of others too"


@rule("ports")
def ports(shipped: Shipped) -> Iterator[str]:
    """Probes, PodMonitors and NetworkPolicies name ports that the worker has."""
    container = worker_container(shipped)
    known = {one.get("name") for one in container.get("ports", ())}
    numbers = {one.get("containerPort") for one in container.get("ports", ())}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        if port not in known | numbers:
            yield f"{probe} asks port {port}, which the worker hasn't"
    for monitor in shipped.of("PodMonitor"):
        for endpoint in monitor["spec"].get("podMetricsEndpoints", ()):
            if endpoint.get("port") not in known:
                yield f"PodMonitor {monitor['metadata']['name']} reads port {endpoint.get('port')}"
    for policy in shipped.of("NetworkPolicy"):
        for entry in policy["spec"].get("ingress") or ():
            for port in entry.get("ports", ()):
                if port.get("port") not in known | numbers:
                    name = policy["metadata"]["name"]
                    yield f"NetworkPolicy {name} opens port {port.get('port')}, which the worker hasn't"


@rule("volumes")
def volumes(shipped: Shipped) -> Iterator[str]:
    """Mounts and volumes belong together; a rotated secret reaches the pod; the root is written nowhere else."""
    for maker in pod_makers(shipped):
        there = {one["name"] for one in maker.spec.get("volumes", ())}
        used: set[str] = set()
        for container in maker.containers:
            mounts: list[dict[str, Any]] = container.get("volumeMounts", [])
            used |= {mount["name"] for mount in mounts}
            for path, times in Counter(mount["mountPath"] for mount in mounts).items():
                if times > 1:
                    yield f"{maker.name} mounts two volumes at {path}"
            for mount in mounts:
                if mount["name"] not in there:
                    yield f"{maker.name} mounts {mount['name']}, which is no volume of it"
                if "subPath" in mount or "subPathExpr" in mount:
                    yield f"{maker.name} mounts {mount['name']} by subPath: a rotated secret would not get there"
                if mount["mountPath"] != "/tmp" and not mount.get("readOnly"):
                    yield f"{maker.name} mounts {mount['name']} writable"
            if "/tmp" not in {mount["mountPath"] for mount in mounts}:
                yield f"{maker.name} has no /tmp to write to"
        for name in sorted(there - used):
            yield f"{maker.name} has a volume {name} that nothing mounts"


@rule("references")
def references(shipped: Shipped) -> Iterator[str]:
    """ConfigMaps and ServiceAccounts are in the render, Secrets among the examples."""
    configs = {one["metadata"]["name"] for one in shipped.of("ConfigMap")}
    accounts = {one["metadata"]["name"] for one in shipped.of("ServiceAccount")}
    secrets = shipped.example_secrets()
    for maker in pod_makers(shipped):
        if maker.spec.get("serviceAccountName") not in accounts:
            yield f"{maker.name} runs as ServiceAccount {maker.spec.get('serviceAccountName')}, which isn't there"
        for volume in maker.spec.get("volumes", ()):
            config, secret = volume.get("configMap"), volume.get("secret")
            if config and config.get("name") not in configs:
                yield f"{maker.name} needs ConfigMap {config.get('name')}, which isn't there"
            if secret and secret.get("secretName") not in secrets:
                yield f"{maker.name} needs Secret {secret.get('secretName')}, which no example shows"
            if secret and secret.get("defaultMode") != 0o440:
                yield f"{maker.name}: files of {secret.get('secretName')} must have mode 0440, for fsGroup to read"


@rule("configuration-by-name")
def configuration_by_name(shipped: Shipped) -> Iterator[str]:
    """A ConfigMap has a hash in its name and can't be changed: a change is a rollout, and the old one stays."""
    for document in shipped.of("ConfigMap"):
        name = document["metadata"]["name"]
        if document["metadata"].get("labels", {}).get("grafana_dashboard"):
            continue
        if document.get("immutable") is not True:
            yield f"ConfigMap {name} is not immutable"
        if len(name.rpartition("-")[2]) != 10:
            yield f"ConfigMap {name} has no hash in its name"
