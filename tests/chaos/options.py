"""What a run is told. Times are in seconds."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """One run. The `…_every` are mean intervals between two acts of the nemesis."""

    seconds: float = 150.0
    seed: int = 1
    nats_server: Path | None = None
    """A nats-server program; None: the one of the environment."""
    workers: int = 3
    """Kept running; a stopped one is replaced until it goes on."""
    ack_wait: float = 2.0
    duplicate_window: int = 1
    """Of the streams: so short that it can't hide a missing fence."""
    open_commands: int = 30
    """Commands that the publisher keeps in the work queue."""
    quiet: float = 90.0
    """What the workers have, once everything is left in peace, to end what is open."""
    program: bool = False
    """Execute `followers worker` anew for each worker, in place of a fork of the launcher."""
    mutant: str = ""
    """A breakage to plant (`mutants.py`); empty: the product as it is."""
    keep: Path | None = None
    """A folder for the workers' log; None: it is thrown away."""
    kill_every: float = 0.5
    server_kill_every: float = 4.8
    zombie_every: float = 3.5
    drain_every: float = 10.0
    duplicate_every: float = 0.5
    cancel_every: float = 0.6
    ask_every: float = 0.05
    """Between two requests for a job's status."""
    fail_every: float = 3.0
    """Between two commands whose jobs fail for good, now and then."""
    retry_every: float = 1.0
    """Between two looks for dead letters to retry."""
