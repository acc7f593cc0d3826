"""Which files are mutated, by group, and which tests may kill them."""

from pathlib import Path

GROUPS = ("core", "changes", "providers", "jetstream", "schemas")
DOCUMENTS = {"asyncapi.py", "examples.py", "render.py", "release.py", "__main__.py"}
"""Of the schemas: what renders documents, which `make schemas-check` compares byte by byte."""
ROOMS = ("unit", "contract", "simulation", "integration")
"""Folders of tests that run in one process with what they test."""
LEFT_OUT = {
    "integration": (
        *("test_audit", "test_cli.", "test_cli_options", "test_cli_processes", "test_embedded", "test_export"),
        *("test_fuzz", "test_hostile", "test_import", "test_library_logs", "test_limits", "test_moving_lists"),
        *(
            "test_ops",
            "test_page",
            "test_patience",
            "test_process",
            "test_security_secrets",
            "test_speed",
            "test_watch",
        ),
        *("test_changes_large", "test_schemas_distribution"),
    ),
    "contract": ("test_asyncapi", "test_providers_large", "test_schemas_package", "test_simulators"),
    "simulation": ("test_ear",),
    "unit": ("test_simulator",),
}
"""By the beginnings of their names, those that are slow or start programs, and those of what isn't mutated."""


def group_of(file: str) -> str | None:
    """Return the group of a file, given from the project's root; None: it isn't mutated."""
    path = Path(file)
    match path.parts:
        case ("worker", "core", first, *_) if first.startswith("changes"):
            return "changes"
        case ("worker", ("core" | "providers" | "jetstream") as room, *_):
            return room
        case ("schemas", *_) if path.name not in DOCUMENTS:
            return "schemas"
    return None


def sources(root: Path) -> list[str]:
    """Return the files that are mutated, from `root`."""
    found = sorted(path for top in ("schemas", "worker") for path in (root / top).rglob("*.py"))
    return [name for path in found if group_of(name := path.relative_to(root).as_posix())]


def killers(root: Path) -> list[str]:
    """Return the test files that may kill a mutant, from `root`."""
    return [
        path.relative_to(root).as_posix()
        for room in ROOMS
        for path in sorted((root / "tests" / room).rglob("test_*.py"))
        if not path.name.startswith(LEFT_OUT[room])
    ]
