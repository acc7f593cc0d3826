"""JSON Schema (2020-12) of every message, made from the structs."""

from typing import Any

import msgspec

from schemas.commands import FetchFollowers
from schemas.events import FetchError, FollowerPage, JobEvent
from schemas.follower import Follower
from schemas.jobs import ControlError, JobStatus

MESSAGES: dict[str, Any] = {
    "FetchFollowers": FetchFollowers,
    "FollowerPage": FollowerPage,
    "JobEvent": JobEvent,
    "Follower": Follower,
    "FetchError": FetchError,
    "JobStatus": JobStatus,
    "ControlError": ControlError,
}


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of the message `name` (a key of `MESSAGES`) as a document. Raises KeyError."""
    (root,), components = msgspec.json.schema_components([MESSAGES[name]], ref_template="#/$defs/{name}")
    reference = root.get("$ref", "").rpartition("/")[2]
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:followers:schema:{name}:v1",
        "title": name,
    }
    if reference and not _mentions(components, reference):
        root = components.pop(reference)
    document |= root | {"title": name}
    if components:
        document["$defs"] = components
    return document


def _mentions(node: Any, name: str) -> bool:
    if isinstance(node, dict):
        return node.get("$ref") == f"#/$defs/{name}" or any(_mentions(child, name) for child in node.values())
    return isinstance(node, list) and any(_mentions(child, name) for child in node)
