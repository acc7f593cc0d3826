"""What `followers doctor` found out: one line each, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """Constant, for programs: `nats.version`, `account.key`."""
    subject: str
    """Which server, stream or account."""
    state: State
    """`warn`: it works, and something may be lost or slow. `fail`: something doesn't work."""
    detail: str
    """What was found. Never a secret, never a person's data."""
    advice: str = ""
    """What to do; empty when there is nothing to do."""
