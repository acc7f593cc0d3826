"""Starting, stopping and rolling out: signals, probes, drains, disruption."""

import tomllib
from collections.abc import Iterator

from k8s.checks.pods import pod_makers, worker_container, worker_pod
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped
from worker.settings import WorkerSettings

CLOSING = 15
"""Seconds that stopping takes besides the drain: FastStream's own time-out, closing connections, a busy node."""
PATHS = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


@rule("signals")
def signals(shipped: Shipped) -> Iterator[str]:
    """SIGTERM arrives even in the first moment: a Python that is process 1 loses it until it has a handler."""
    for maker in pod_makers(shipped):
        if maker.spec.get("shareProcessNamespace") is not True:
            yield f"{maker.name} doesn't share the process namespace: an image without an init loses SIGTERM"
        for container in maker.containers:
            if "command" in container:
                yield f"{maker.name} replaces the image's entry point, and with it the init"
            if "preStop" in container.get("lifecycle", {}):
                yield f"{maker.name} has a preStop hook: there is no traffic to wait for, it only delays the drain"


@rule("grace")
def grace(shipped: Shipped) -> Iterator[str]:
    """There is time to finish the pages in hand before SIGKILL."""
    drain = WorkerSettings.model_validate(_worker_section(shipped)).drain_timeout
    given = worker_pod(shipped).spec.get("terminationGracePeriodSeconds", 30)
    if given < drain + CLOSING:
        yield f"the grace period of {given} s is less than the drain of {drain:g} s and {CLOSING} s to close"


@rule("probes")
def probes(shipped: Shipped) -> Iterator[str]:
    """Liveness never asks for the broker; readiness does; a slow start is no death."""
    container = worker_container(shipped)
    for probe, path in PATHS.items():
        asked = container.get(probe, {}).get("httpGet", {}).get("path")
        if asked != path:
            yield f"{probe} asks {asked}, not {path}"
    startup, liveness = container.get("startupProbe", {}), container.get("livenessProbe", {})
    if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < 30:
        yield "a start may take longer than the startupProbe allows"
    if liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3) < 30:
        yield "the livenessProbe kills after a hiccup"
    for name in PATHS:
        if container.get(name, {}).get("timeoutSeconds", 1) < 2:
            yield f"{name} gives a busy event loop less than two seconds"


@rule("rollout")
def rollout(shipped: Shipped) -> Iterator[str]:
    """A rollout takes nothing away before the new is ready; a drain of a node is never blocked."""
    deployment = shipped.the("Deployment")
    strategy = deployment["spec"].get("strategy", {})
    rolling = strategy.get("rollingUpdate", {})
    if strategy.get("type") != "RollingUpdate" or rolling.get("maxUnavailable") != 0:
        yield "a rollout may take workers away before the new ones are ready"
    if rolling.get("maxSurge") in (0, "0%", None):
        yield "a rollout without surge and without unavailable pods never starts"
    if shipped.of("ScaledObject") and "replicas" in deployment["spec"]:
        yield "the Deployment has replicas although a ScaledObject owns them: each apply would reset the number"
    budgets = shipped.of("PodDisruptionBudget")
    if not budgets:
        yield "there is no PodDisruptionBudget"
    for budget in budgets:
        spec = budget["spec"]
        if "minAvailable" in spec or spec.get("maxUnavailable") in (0, "0%", None):
            yield "the PodDisruptionBudget blocks the drain of a node when there is one worker"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield "the PodDisruptionBudget keeps unhealthy workers from being evicted"


def _worker_section(shipped: Shipped) -> dict[str, object]:
    settings = tomllib.loads(shipped.the("ConfigMap", "followers-config")["data"]["worker.toml"])
    section: dict[str, object] = settings.get("worker", {})
    return {
        key: float(value) if isinstance(value, int) and key == "drain_timeout" else value
        for key, value in section.items()
    }
