"""Custom resources against the part of their schema that we use, written by hand: nothing else is allowed."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema

from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
DURATION = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _policies(kinds: list[str]) -> dict[str, Any]:
    policy = _object(
        ("type", "value", "periodSeconds"),
        type={"enum": kinds},
        value={"type": "integer", "minimum": 1},
        periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
    )
    return _object(
        stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
        selectPolicy={"enum": ["Max", "Min", "Disabled"]},
        policies={"type": "array", "items": policy, "minItems": 1},
    )


_BEHAVIOR = _object(scaleUp=_policies(["Pods", "Percent"]), scaleDown=_policies(["Pods", "Percent"]))

SPECS: dict[str, dict[str, Any]] = {
    "keda.sh/v1alpha1 ScaledObject": _object(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_object(("name",), name=TEXT, kind=TEXT, apiVersion=TEXT),
        pollingInterval={"type": "integer", "minimum": 1},
        cooldownPeriod=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount={"type": "integer", "minimum": 1},
        fallback=_object(
            ("failureThreshold", "replicas"),
            failureThreshold={"type": "integer", "minimum": 1},
            replicas=COUNT,
            behavior={
                "enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"],
            },
        ),
        advanced=_object(
            restoreToOriginalReplicaCount={"type": "boolean"},
            horizontalPodAutoscalerConfig=_object(name=TEXT, behavior=_BEHAVIOR),
        ),
        triggers={
            "type": "array",
            "minItems": 1,
            # Every value is a string: KEDA refuses a number.
            "items": _object(("type", "metadata"), type=TEXT, name=TEXT, metadata=LABELS, metricType=TEXT),
        },
    ),
    "monitoring.coreos.com/v1 PodMonitor": _object(
        ("selector", "podMetricsEndpoints"),
        selector=_object(matchLabels=LABELS),
        namespaceSelector=_object(matchNames=TEXTS, any={"type": "boolean"}),
        jobLabel=TEXT,
        podTargetLabels=TEXTS,
        sampleLimit=COUNT,
        podMetricsEndpoints={
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "properties": {"port": TEXT, "path": TEXT, "interval": DURATION}},
        },
    ),
    "monitoring.coreos.com/v1 PrometheusRule": _object(
        ("groups",),
        groups={
            "type": "array",
            "minItems": 1,
            "items": _object(
                ("name", "rules"),
                name=TEXT,
                interval=DURATION,
                rules={
                    "type": "array",
                    "items": {
                        **_object(
                            ("expr",),
                            alert=TEXT,
                            record=TEXT,
                            expr=TEXT,
                            labels=LABELS,
                            annotations=LABELS,
                            keep_firing_for=DURATION,
                            **{"for": DURATION},
                        ),
                        "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
                    },
                },
            ),
        },
    ),
    "jetstream.nats.io/v1beta2 Stream": _object(
        ("name", "subjects"),
        name=TEXT,
        description=TEXT,
        subjects=TEXTS,
        retention={"enum": ["limits", "interest", "workqueue"]},
        storage={"enum": ["file", "memory"]},
        replicas={"type": "integer", "minimum": 1, "maximum": 5},
        maxAge=DURATION,
        maxBytes={"type": "integer"},
        maxMsgsPerSubject={"type": "integer"},
        duplicateWindow=DURATION,
        discard={"enum": ["old", "new"]},
        allowDirect={"type": "boolean"},
        preventDelete={"type": "boolean"},
        account=TEXT,
    ),
    "jetstream.nats.io/v1beta2 KeyValue": _object(
        ("bucket",),
        bucket=TEXT,
        description=TEXT,
        history={"type": "integer", "minimum": 1, "maximum": 64},
        ttl=DURATION,
        maxBytes={"type": "integer"},
        storage={"enum": ["file", "memory"]},
        replicas={"type": "integer", "minimum": 1, "maximum": 5},
        preventDelete={"type": "boolean"},
        account=TEXT,
    ),
    "jetstream.nats.io/v1beta2 ObjectStore": _object(
        ("bucket",),
        bucket=TEXT,
        description=TEXT,
        ttl=DURATION,
        maxBytes={"type": "integer"},
        storage={"enum": ["file", "memory"]},
        replicas={"type": "integer", "minimum": 1, "maximum": 5},
        preventDelete={"type": "boolean"},
        account=TEXT,
    ),
    "jetstream.nats.io/v1beta2 Consumer": _object(
        ("streamName", "durableName"),
        streamName=TEXT,
        durableName=TEXT,
        description=TEXT,
        deliverPolicy={"enum": ["all", "last", "new", "byStartSequence", "byStartTime", "lastPerSubject"]},
        ackPolicy={"enum": ["none", "all", "explicit"]},
        ackWait=DURATION,
        maxDeliver={"type": "integer"},
        maxAckPending={"type": "integer"},
        filterSubjects=TEXTS,
        preventDelete={"type": "boolean"},
        account=TEXT,
    ),
}


@rule("custom-resources")
def custom_resources(shipped: Shipped) -> Iterator[str]:
    """Misspelt, missing or ill-typed fields of KEDA's, Prometheus' and NACK's resources, and unknown kinds."""
    for document in shipped.documents:
        version, kind = document.get("apiVersion", ""), document.get("kind")
        if "." in str(version).partition("/")[0] and not str(version).partition("/")[0].endswith(".k8s.io"):
            schema = SPECS.get(f"{version} {kind}")
            if schema is None:
                yield f"{version} {kind}: no such resource is known here"
            else:
                for error in _validator(json.dumps(schema)).iter_errors(document.get("spec")):
                    where = ".".join(str(part) for part in error.absolute_path)
                    yield f"{kind} {document['metadata']['name']} spec.{where}: {error.message}"


@cache
def _validator(schema: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema))
