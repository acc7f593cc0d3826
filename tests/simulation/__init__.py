"""The core in virtual time."""

import os


def some(seeds: int) -> int:
    """Return how many of so many seeds to try: all, or the share that `SIMULATION_SHARE` names."""
    return max(1, round(seeds * float(os.environ.get("SIMULATION_SHARE", "1"))))
