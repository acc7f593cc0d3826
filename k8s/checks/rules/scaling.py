"""KEDA: a wrong name leaves a ScaledObject `Ready`, and a wrong key means its default. So each is compared here."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from k8s.checks.accounts import ACCOUNT
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped
from schemas.subjects import COMMANDS_STREAM, PROVIDERS, consumer_name
from worker.settings import WorkerSettings

KEYS = {
    "natsServerMonitoringEndpoint",
    "account",
    "stream",
    "consumer",
    "lagThreshold",
    "activationLagThreshold",
    "useHttps",
}
ENDPOINT = re.compile(r"nats-headless\.[a-z0-9-]+\.svc\.cluster\.local:8222")


@rule("scaling-target")
def scaling_target(shipped: Shipped) -> Iterator[str]:
    """One ScaledObject for the Deployment, and no autoscaler beside it."""
    objects = shipped.of("ScaledObject")
    targets = [one["spec"]["scaleTargetRef"]["name"] for one in objects]
    for name in targets:
        if name not in {one["metadata"]["name"] for one in shipped.of("Deployment")}:
            yield f"the ScaledObject's target {name} isn't there"
    if len(targets) != len(set(targets)) or (objects and shipped.of("HorizontalPodAutoscaler")):
        yield "two autoscalers would fight over one Deployment"
    if "keda" in shipped.components and not objects:
        yield "the component keda brings no ScaledObject"


@rule("scaling-numbers")
def scaling_numbers(shipped: Shipped) -> Iterator[str]:
    """Bounds that can be met; a slow way down; something to hold on to while NATS is away."""
    for one in shipped.of("ScaledObject"):
        spec = one["spec"]
        low, high = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
        if low > high:
            yield f"minReplicaCount {low} is above maxReplicaCount {high}"
        if shipped.overlay == "prod" and low < 1:
            yield "production needs minReplicaCount 1: the fallback starts nothing from 0"
        fallback = spec.get("fallback", {})
        if not fallback or fallback.get("behavior") != "currentReplicasIfHigher" or fallback.get("replicas", 0) > high:
            yield "there is no fallback that keeps what runs while NATS can't be asked"
        behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
        down = behavior.get("scaleDown", {})
        if down.get("stabilizationWindowSeconds", 0) < 120:
            yield "workers are taken away at the first quiet moment"
        if [policy.get("value") for policy in down.get("policies", ())] != [1]:
            yield "workers are not taken away one by one"


@rule("triggers")
def triggers(shipped: Shipped) -> Iterator[str]:
    """A trigger for each provider, with the names that the worker has."""
    settings = tomllib.loads(shipped.the("ConfigMap", "followers-config")["data"]["worker.toml"])
    slots = WorkerSettings(max_jobs=settings["worker"].get("max_jobs", WorkerSettings().max_jobs)).max_jobs
    for one in shipped.of("ScaledObject"):
        found = one["spec"]["triggers"]
        asked = sorted(trigger["metadata"].get("consumer", "") for trigger in found)
        if asked != sorted(map(consumer_name, PROVIDERS)):
            yield f"the triggers look at {', '.join(asked)}, not at each provider's consumer"
        for trigger in found:
            if trigger["type"] != "nats-jetstream":
                yield f"there is no trigger of type {trigger['type']} for JetStream"
            yield from _metadata(trigger["metadata"], slots)


def _metadata(metadata: dict[str, Any], slots: int) -> Iterator[str]:
    for key in sorted(set(metadata) - KEYS):
        yield f"a trigger has {key}, which KEDA doesn't know: it would take its default"
    if metadata.get("stream") != COMMANDS_STREAM:
        yield f"a trigger looks at stream {metadata.get('stream')}, not {COMMANDS_STREAM}"
    if metadata.get("account") != ACCOUNT:
        yield f"a trigger looks at account {metadata.get('account')}, not {ACCOUNT}"
    if not ENDPOINT.fullmatch(str(metadata.get("natsServerMonitoringEndpoint"))):
        yield (
            f"{metadata.get('natsServerMonitoringEndpoint')} is not the headless service's monitoring port, host and"
            " port alone: only there does each node answer under its own name"
        )
    if int(metadata.get("lagThreshold", 10)) < slots:
        yield f"lagThreshold {metadata.get('lagThreshold')} is below max_jobs {slots}: work in hand looks like backlog"
    if int(metadata.get("activationLagThreshold", 0)) != 0:
        yield "the first command must already start a worker: activationLagThreshold 0"
