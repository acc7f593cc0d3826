"""Reading the answers to direct gets: the one place that tells a stored message from whatever else may come.

Any replica of a stream answers them. A stored message comes with its own headers and the server's `Nats-Sequence`,
`Nats-Subject` and `Nats-Time-Stamp`; its own headers may be called `Status` too. Everything else has a status, or is
no answer of JetStream's.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from worker.core.ports.event_log import Entry

PENDING = "Nats-Num-Pending"
"""On the answers of a batch: how many messages are behind this one. Servers before 2.11 know no batches."""
STORED_AT = "Nats-Time-Stamp"
"""When the server stored a message that a direct get gave."""
_OVER = ("204", "404")


class UnreadableAnswerError(nats.errors.Error):
    """An answer to a direct get that says nothing: as good as none."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is no such message, or no other one in this batch."""

    pending: int
    """So many are left for another batch."""


def read_answer(message: Msg) -> Entry | Nothing:
    """Return the stored message in an answer, or that there is none.

    Raises NoRespondersError when nobody answers direct gets, UnreadableAnswerError for all else: ask again.
    """
    headers = message.headers or {}
    subject, sequence = headers.get("Nats-Subject"), headers.get("Nats-Sequence", "")
    if subject and sequence.isdecimal():
        return Entry(int(sequence), message.data or b"", headers, subject)
    status = headers.get("Status")
    if status in _OVER:
        pending = headers.get(PENDING, "0")
        return Nothing(int(pending) if pending.isdecimal() else 0)
    if status == "503":
        raise nats.errors.NoRespondersError
    raise UnreadableAnswerError(f"nats: a direct get was answered with status {status or 'none'}")


def stored_at(entry: Entry) -> datetime | None:
    """Return when the server stored a message that a direct get gave, None when the answer doesn't say it."""
    try:
        return datetime.fromisoformat(entry.headers[STORED_AT]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


async def last_of(client: Client, stream: str, subject: str, *, timeout: float) -> Entry | None:
    """Return the newest message on `subject`, None when there is none; as any replica has it.

    Raises nats-py's errors, also for an answer that can't be read.
    """
    answer = await client.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", timeout=timeout)
    found = read_answer(answer)
    return found if isinstance(found, Entry) else None
