"""Reading a stream in order from its beginning, as fast as it is taken and no faster."""

import asyncio
import contextlib
import json
import time
import uuid
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.pulls import Said, said
from schemas.subjects import EVENTS_STREAM

_BATCH = 64
_BATCH_BYTES = 8 * 2**20
"""Bounds what waits here; a message that is larger comes alone."""
_HEARTBEAT = 2.0
"""Seconds between the server's signs of life while there is nothing to read."""
_PATIENCE = 3 * _HEARTBEAT
"""Without a sign of life for this long, the consumer is made anew: its server may have gone."""
_API_TIMEOUT = 5.0


class EventReader:
    """The messages on one subject (wildcards allowed) of a stream, in order, each once. Use as `async with`.

    Behind it is a nameless consumer in memory that pulls; when it is lost, another goes on behind the last event.
    """

    def __init__(self, client: Client, subject: str, *, stream: str = EVENTS_STREAM) -> None:
        """Read `subject` over `client`, which stays the caller's to close."""
        self._stream = stream
        self._client = client
        self._subject = subject
        self._next_sequence = 1
        self._name = ""
        self._delivered = 0
        self._pulls = 0
        self._came = self._due = 0
        """Messages of the pull that is open: those taken, and those that may still come."""
        self._alone = False
        """Whether the next message is too large for a batch."""
        self._heard = 0.0
        self._reconnects = 0

    async def __aenter__(self) -> "EventReader":
        """Listen. The consumer is made on the first `next`."""
        self._inbox = self._client.new_inbox()
        self._arrivals = await self._client.subscribe(f"{self._inbox}.*")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take the consumer away, as far as the server can be reached; else it goes by itself."""
        if self._client.is_closed:
            return
        await self._arrivals.unsubscribe()
        if self._name and self._client.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await self._ask(f"CONSUMER.DELETE.{self._stream}.{self._name}")

    async def next(self, timeout: float) -> Msg | None:
        """Return the next event, or None when there was none for `timeout` seconds.

        `metadata.num_pending` of the message says how many more there are now. Raises LookupError when the
        stream is missing. While the server is away, it waits.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            _heed_cancellation()
            try:
                if not self._name or self._reconnects != self._client.stats["reconnects"] or self._is_silent():
                    await self._make_consumer()
                if self._due <= 0:
                    await self._pull()
                message = await self._arrivals.next_msg(min(left, _HEARTBEAT))
                if self._is_event(message):
                    return message
            except (nats.errors.Error, TimeoutError, OSError):
                # Also an unanswered request while the server is away; a lost one shows by the silence.
                await asyncio.sleep(0.05)
        return None

    def _is_silent(self) -> bool:
        """Say whether nothing comes though a pull is open. What waits here is no silence, however long it does."""
        is_waiting = self._due > 0 and not self._arrivals.pending_msgs
        return is_waiting and time.monotonic() - self._heard > _PATIENCE

    def _is_event(self, message: Msg) -> bool:
        what = said(message)
        if what is Said.MESSAGE:
            return self._is_next(message)
        if message.subject == self._reply:  # else it is about a pull that is over
            self._heard = time.monotonic()
            self._heed(what)
        return False

    def _is_next(self, message: Msg) -> bool:
        if message.metadata.consumer != self._name:
            return False
        self._heard = time.monotonic()
        if message.metadata.sequence.consumer != self._delivered + 1:
            self._name = ""  # one was lost on the way: read it again
            return False
        self._delivered += 1
        self._came += 1
        self._due -= 1
        self._next_sequence = message.metadata.sequence.stream + 1
        return True

    def _heed(self, what: Said) -> None:
        if what is Said.ALIVE:
            return
        self._due = 0
        self._alone = what is Said.TOO_LARGE and not self._came
        if what is Said.GONE:
            self._name = ""
        if what is Said.REFUSED:
            raise nats.errors.Error("nats: a pull was refused")

    async def _make_consumer(self) -> None:
        name, reconnects = f"read-{uuid.uuid4().hex}", self._client.stats["reconnects"]
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._next_sequence,
            "ack_policy": "none",
            "filter_subject": self._subject,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60_000_000_000,
        }
        answer = await self._ask(
            f"CONSUMER.CREATE.{self._stream}.{name}", {"stream_name": self._stream, "config": config}
        )
        error = answer.get("error")
        if error and error.get("err_code") == 10059:
            raise LookupError(f"stream {self._stream} is missing: run `followers setup`")
        if error:
            raise nats.errors.Error(str(error.get("description")))
        self._name, self._delivered, self._due, self._heard = name, 0, 0, time.monotonic()
        self._reconnects = reconnects

    @property
    def _reply(self) -> str:
        """Where the server says what it has to say of the newest pull."""
        return f"{self._inbox}.{self._pulls}"

    async def _pull(self) -> None:
        """Ask for a batch. Another pull before this one has ended would double what waits here."""
        bounds = {"batch": 1} if self._alone else {"batch": _BATCH, "max_bytes": _BATCH_BYTES}
        request = bounds | {"expires": 30_000_000_000, "idle_heartbeat": int(_HEARTBEAT * 1e9)}
        self._pulls += 1
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._reply)
        self._came, self._due, self._alone, self._heard = 0, bounds["batch"], False, time.monotonic()

    async def _ask(self, subject: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        body = json.dumps(request).encode() if request else b""
        reply = await self._client.request(f"$JS.API.{subject}", body, timeout=_API_TIMEOUT)
        answer: dict[str, Any] = json.loads(reply.data)
        return answer


def _heed_cancellation() -> None:
    """Raise CancelledError when this task was told to stop: Python 3.11's `wait_for`, in nats-py, may swallow that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
