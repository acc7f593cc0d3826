"""Kubernetes' own schemas, of the oldest and the newest version that we support."""

import json
from collections.abc import Iterator
from functools import cache

import kubernetes_validate

from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped

VERSIONS = ("1.31", "1.37")
"""From 1.31 on everything that we use is on by default."""
FOREIGN = ("keda.sh/", "monitoring.coreos.com/", "jetstream.nats.io/")
"""Their schemas are in `custom`."""


@rule("schema")
def schema(shipped: Shipped) -> Iterator[str]:
    """Types, misspelt fields and missing ones; an unknown kind of a built-in group."""
    for document in shipped.documents:
        if not str(document.get("apiVersion", "")).startswith(FOREIGN):
            for version in VERSIONS:
                problem = _problem(json.dumps(document), version)
                if problem:
                    yield f"{document.get('kind')} under Kubernetes {version}: {problem}"
                    break


@cache
def _problem(document: str, version: str) -> str:
    try:
        # An unknown group or version is only a warning there; here it raises.
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message).splitlines()[0]
    except kubernetes_validate.SchemaNotFoundError as error:
        return f"no such kind: {error}"
    except kubernetes_validate.InvalidSchemaError as error:
        return str(error)
    return ""
