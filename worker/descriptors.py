"""How many files and connections this process may have open."""

import resource

ENOUGH = 65_536
"""The most that is asked for: in many containers the hard limit is a billion, and some programs make a table of it."""


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit to the hard one, or to ENOUGH. Return what it is now, and what it was."""
    before, hard = (_number(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    wanted = min(hard, ENOUGH)
    if before < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        except (OSError, ValueError):  # the system has another bound, which it doesn't tell
            return before, before
    return max(before, wanted), before


def _number(limit: int) -> int:
    return 2**63 if limit == resource.RLIM_INFINITY else limit
