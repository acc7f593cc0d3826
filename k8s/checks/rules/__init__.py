"""Every rule, by what it looks at. Importing this fills the registry."""

from k8s.checks.rules import (
    custom,
    files,
    links,
    network,
    places,
    posture,
    running,
    scaling,
    schema,
    streams,
    worker,
)

__all__ = [
    "custom",
    "files",
    "links",
    "network",
    "places",
    "posture",
    "running",
    "scaling",
    "schema",
    "streams",
    "worker",
]
