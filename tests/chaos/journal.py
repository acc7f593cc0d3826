"""What was done to the system and when, for counting and for the timeline of a job that went wrong."""

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """One act."""

    at: float
    """Seconds since 1970."""
    text: str
    job_id: str = ""
    """The job that it is about; empty: it concerns all."""


@dataclass
class Journal:
    """Notes in order of time, and counts by kind."""

    notes: list[Note] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    """What a worker did that none should: an exit by itself, a drain that takes too long."""

    def note(self, kind: str, text: str = "", *, job_id: str = "") -> None:
        """Count an act of `kind` and remember it."""
        self.counts[kind] += 1
        self.notes.append(Note(time.time(), f"{kind} {text}".strip(), job_id))

    def problem(self, text: str) -> None:
        """Remember what must not happen."""
        self.note("problem", text)
        self.problems.append(text)
