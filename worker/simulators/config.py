"""What every simulator is told at its start."""

import msgspec

OA_ID = "2801000000000000001"
EMPTY_OA_ID = "2801000000000000002"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of each simulator."""

    followers: dict[str, int] = msgspec.field(default_factory=lambda: {OA_ID: 1234, EMPTY_OA_ID: 0})
    """How many followers each Official Account has at the start."""
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    latency: float | tuple[float, float] = 0.0
    """Seconds before each answer, or a range from which each request draws."""
    log_size: int = 10_000
    """How many requests the log remembers."""
