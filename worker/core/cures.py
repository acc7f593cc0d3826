"""What to do about a write that NATS doesn't take: one line for each trouble, the same wherever it is told."""

from datetime import datetime

from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, EVENTS_STREAM
from schemas.wire import rfc3339

NO_ROOM = frozenset({10002, 10023, 10028, 10047})
"""Of the server or the account, not of one stream."""
STORE_FAILED = 10077
QUOTA = "maximum messages per subject exceeded"
"""What the server says beside that where a provider's queue holds `streams.commands_max` commands."""
NOT_CONNECTED = "not connected"
DUPLICATE = "it remembers a message that is gone"
NO_ANSWER = "no answer"
NO_STREAM = "no stream takes it"

_SETTINGS = {COMMANDS_STREAM: "commands", EVENTS_STREAM: "events", DEAD_STREAM: "dead"}


def cure(code: int | None, words: str, stream: str) -> str:
    """Return what ends the trouble: `code` and `words` are the server's, or None and what came in place of them."""
    if code == STORE_FAILED and words == QUOTA:
        return (
            "as many commands of this provider are queued as may be: wait until workers have done some,"
            " or raise streams.commands_max and run `followers setup`"
        )
    if code == STORE_FAILED and words.startswith("maximum"):
        return f"make room in {stream}, or raise {_limit(stream)}"
    if code in NO_ROOM:
        return "make room, or give the server or its account more JetStream storage"
    if code is not None:
        return "see the log of nats-server; restart it when its disk was full"
    if words == NOT_CONNECTED:
        return "it goes on when NATS is back"
    if words == DUPLICATE:
        return f"after a purge the job goes on when the duplicate window of {stream} is over, 2 minutes by default"
    if words == NO_ANSWER:
        return "where all else is answered its disk was full; make room there, then restart nats-server"
    if words == NO_STREAM:
        return "run `followers setup`"
    return "run `followers doctor`"


def paused_text(provider: str, until: datetime) -> str:
    """Say that nobody gets `provider`'s commands."""
    return f"the consumer worker-{provider} is paused until {rfc3339(until.replace(microsecond=0))}"


def resume(provider: str) -> str:
    """Return what ends that earlier."""
    return f"resume it by `nats consumer resume {COMMANDS_STREAM} worker-{provider}`"


def _limit(stream: str) -> str:
    name = _SETTINGS.get(stream)
    return f"streams.{name}_max_bytes and run `followers setup`" if name else "its max_bytes"
