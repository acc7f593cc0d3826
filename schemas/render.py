"""JSON Schema (2020-12) of every message, made from the structs."""

from typing import Any

import msgspec

from schemas.changes import ChangeEvent, Feed
from schemas.commands import FetchFollowers
from schemas.events import FetchError, FollowerPage, JobEvent
from schemas.examples import EXAMPLES
from schemas.follower import Follower
from schemas.jobs import ControlError, JobStatus
from schemas.wire import encode

MESSAGES: dict[str, Any] = {
    "FetchFollowers": FetchFollowers,
    "FollowerPage": FollowerPage,
    "JobEvent": JobEvent,
    "ChangeEvent": ChangeEvent,
    "Follower": Follower,
    "FetchError": FetchError,
    "JobStatus": JobStatus,
    "ControlError": ControlError,
    "Feed": Feed,
}
_TAGS = {
    "provider": "The provider whose list it is; equal to the subject's last token.",
    "type": "What happened.",
}


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of the message `name` (a key of `MESSAGES`) as a document. Raises KeyError."""
    root, components = components_of([MESSAGES[name]], "#/$defs/{name}")
    reference = root[0].get("$ref", "").rpartition("/")[2]
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:followers:schema:{name}:v1",
        "title": name,
    }
    top = root[0]
    if reference and not _mentions(components, reference):
        top = components.pop(reference)
    document |= top | {"title": name, "examples": examples(name)}
    if components:
        document["$defs"] = components
    return document


def components_of(types: list[Any], template: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schemas of `types`, and those that they refer to by `template`, with descriptions on tags too."""
    roots, components = msgspec.json.schema_components(types, ref_template=template)
    for component in components.values():
        for field, description in _TAGS.items():
            # msgspec writes the field that tells a union's members apart by itself, without a word about it.
            tag = component.get("properties", {}).get(field)
            if tag is not None and "description" not in tag:
                component["properties"][field] = {"description": description, **tag}
    return list(roots), components


def examples(name: str) -> list[Any]:
    """Return the examples of the message `name`, as JSON."""
    return [msgspec.json.decode(encode(example)) for example in EXAMPLES[name]]


def _mentions(node: Any, name: str) -> bool:
    if isinstance(node, dict):
        return node.get("$ref") == f"#/$defs/{name}" or any(_mentions(child, name) for child in node.values())
    return isinstance(node, list) and any(_mentions(child, name) for child in node)
