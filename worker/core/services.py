"""Everything that a job meets from outside, in one place."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from schemas.cloudevents import CloudEventsMode
from schemas.wire import Encoding
from worker.core.memory import Budget
from worker.core.ports.delivery import DeadLetters
from worker.core.ports.event_log import EventLog
from worker.core.ports.job_store import Cancellations, CommandQueue, StatusBoard
from worker.core.ports.metrics import Meter
from worker.core.ports.tracing import NoTracer, Tracer
from worker.core.retry import RetryPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The ports, the clock, the dice and the settings of one replica."""

    log: EventLog
    status: StatusBoard
    cancellations: Cancellations
    dead_letters: DeadLetters
    meter: Meter
    now: Callable[[], datetime]
    """The time, aware."""
    dice: Callable[[], float]
    """A number in [0, 1)."""
    token: Callable[[], str]
    """A text that never comes twice."""
    worker: str
    """This replica's name."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    prefetch: int = 8
    """Pages read ahead within one job."""
    encoding: Encoding = "json"
    cloudevents: CloudEventsMode = "binary"
    ack_wait: float = 30.0
    """Seconds until another replica takes over from one that died."""
    tracer: Tracer = field(default_factory=NoTracer)
    budget: Budget = field(default_factory=lambda: Budget(None))
    """What the answers in hand may take together."""
    queue: CommandQueue | None = None
    """Where jobs are looked for that no worker has seen; None: nowhere."""
    keeps_ids: bool = False
    """The log has room for whose job an id is; False: only the status tells, which may be late. See `core.identity`."""
