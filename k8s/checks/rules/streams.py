"""Who makes streams: the setup Job or NACK, not both and not the worker; and NACK's are what the worker expects."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped
from worker.jetstream.topology.assets import Asset, TopologyConfig, expected, nanoseconds

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_FIELDS = {
    "name": "name",
    "subjects": "subjects",
    "retention": "retention",
    "storage": "storage",
    "replicas": "num_replicas",
    "maxAge": "max_age",
    "maxBytes": "max_bytes",
    "maxMsgsPerSubject": "max_msgs_per_subject",
    "discardPerSubject": "discard_new_per_subject",
    "duplicateWindow": "duplicate_window",
    "discard": "discard",
    "allowDirect": "allow_direct",
    "bucket": "name",
    "history": "max_msgs_per_subject",
    "ttl": "max_age",
    "durableName": "durable_name",
    "deliverPolicy": "deliver_policy",
    "ackPolicy": "ack_policy",
    "ackWait": "ack_wait",
    "maxDeliver": "max_deliver",
    "maxAckPending": "max_ack_pending",
    "filterSubjects": "filter_subjects",
}
_KINDS = {"stream": "Stream", "bucket": "KeyValue", "consumer": "Consumer"}
_RESOURCES = ("Stream", "Consumer", "KeyValue", "ObjectStore")
_MADE_SO = {
    # What the controller gives every bucket, as each NATS client does.
    "bucket": {
        "subjects",
        "retention",
        "discard",
        "allow_direct",
        "allow_rollup_hdrs",
        "deny_delete",
    },
    "stream": set[str](),
    "consumer": {"name"},
}


@rule("one-maker")
def one_maker(shipped: Shipped) -> Iterator[str]:
    """NACK enforces its state: a setup Job beside it would fight with it."""
    jobs = [one for one in shipped.of("Job") if one["spec"]["template"]["spec"]["containers"][0]["args"] == ["setup"]]
    resources = shipped.of(*_RESOURCES)
    if jobs and resources:
        yield "both the setup Job and NACK make the streams"
    if not jobs and not resources:
        yield "nothing makes the streams: the workers would only say so and end"


@rule("nack")
def nack(shipped: Shipped) -> Iterator[str]:
    """NACK's streams, buckets and consumers are those that `followers setup` would make."""
    if not shipped.of(*_RESOURCES):
        return
    settings = tomllib.loads(shipped.the("ConfigMap", "followers-config")["data"]["worker.toml"])
    wanted = expected(
        TopologyConfig(replicas=settings["nats"].get("replicas", 1), ack_wait=settings["worker"].get("ack_wait", 30))
    )
    found = {_key(document): document["spec"] for document in shipped.of(*_RESOURCES)}
    for asset in wanted:
        spec = found.pop((_kind(asset), asset.name), None)
        if spec is None:
            yield f"NACK doesn't make {asset}"
        else:
            yield from _differences(asset, spec)
    for kind, name in found:
        yield f"NACK makes {kind} {name}, which nothing needs"


def _kind(asset: Asset) -> str:
    return "ObjectStore" if asset.stream.startswith("OBJ_") else _KINDS[asset.kind]


def _key(document: dict[str, Any]) -> tuple[str, str]:
    spec = document["spec"]
    return document["kind"], spec.get("name") or spec.get("bucket") or spec["durableName"]


def _differences(asset: Asset, spec: dict[str, Any]) -> Iterator[str]:
    made = {_FIELDS[key]: _value(key, value) for key, value in spec.items() if key in _FIELDS}
    if asset.kind == "bucket":
        prefix = asset.stream.removesuffix(asset.name)
        made |= {"name": f"{prefix}{made['name']}", "max_age": made.get("max_age", 0)}
    for field, value in asset.wanted.items():
        if field not in _MADE_SO[asset.kind] and made.get(field) != value:
            yield f"NACK gives {asset} {field} {made.get(field)}, `followers setup` {value}"


def _value(key: str, value: Any) -> Any:
    if key in ("maxAge", "ttl", "duplicateWindow", "ackWait"):
        parts = re.findall(r"([0-9]+)(ms|s|m|h)", value)
        return nanoseconds(sum(int(number) * _SECONDS[unit] for number, unit in parts))
    return value
