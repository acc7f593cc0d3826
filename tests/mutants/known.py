"""Mutants that change nothing anybody could notice, each with the reason: `equivalent.toml`."""

import tomllib
from pathlib import Path

from tests.mutants.operators import Mutant

FILE = Path(__file__).with_name("equivalent.toml")
Change = tuple[str, str, str]
"""File, the lines that are changed, and what becomes of them; without indentation, so that moved code is found."""


def change(mutant: Mutant, source: bytes) -> Change:
    """Return what a mutant changes, as `equivalent.toml` and the report have it."""
    changed = mutant.apply(source)
    first = source.rfind(b"\n", 0, mutant.start) + 1
    rest = len(source) - (source.find(b"\n", mutant.end) if b"\n" in source[mutant.end :] else len(source))
    return mutant.file, _plain(source[first : len(source) - rest]), _plain(changed[first : len(changed) - rest])


def equivalent() -> dict[Change, str]:
    """Return the reasons by change."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8")).get("mutant", [])
    return {(one["file"], one["was"].strip(), one["becomes"].strip()): one["reason"] for one in entries}


def _plain(text: bytes) -> str:
    return "\n".join(line.strip() for line in text.decode().splitlines()).strip()
