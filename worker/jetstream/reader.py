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

from schemas.subjects import EVENTS_STREAM

_BATCH = 64
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
        self._outstanding = 0
        self._heard = 0.0
        self._reconnects = 0

    async def __aenter__(self) -> "EventReader":
        """Listen. The consumer is made on the first `next`."""
        self._inbox = self._client.new_inbox()
        self._arrivals = await self._client.subscribe(self._inbox)
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
                if self._outstanding <= 0:
                    await self._pull()
                message = await self._arrivals.next_msg(min(left, _HEARTBEAT))
            except (nats.errors.Error, TimeoutError, OSError):
                # Also an unanswered request while the server is away; a lost one shows by the silence.
                await asyncio.sleep(0.05)
                continue
            self._heard = time.monotonic()
            if self._is_event(message):
                return message
        return None

    def _is_silent(self) -> bool:
        return time.monotonic() - self._heard > _PATIENCE

    def _is_event(self, message: Msg) -> bool:
        # Only a delivery has such a reply; a header named `Status` the stored message itself may have.
        delivered = message.reply.startswith("$JS.ACK")
        status = None if delivered else (message.headers or {}).get("Status")
        if status is not None:
            if status != "100":
                self._outstanding = 0
            if status == "409" and "Consumer" in (message.headers or {}).get("Description", ""):
                self._name = ""
            return False
        if not delivered or message.metadata.consumer != self._name:
            return False
        if message.metadata.sequence.consumer != self._delivered + 1:
            self._name = ""  # one was lost on the way: read it again
            return False
        self._delivered += 1
        self._outstanding -= 1
        self._next_sequence = message.metadata.sequence.stream + 1
        return True

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
        self._name, self._delivered, self._outstanding, self._heard = name, 0, 0, time.monotonic()
        self._reconnects = reconnects

    async def _pull(self) -> None:
        request = {
            "batch": _BATCH,
            "expires": 30_000_000_000,
            "idle_heartbeat": int(_HEARTBEAT * 1e9),
            # Bounds what waits here; at least two messages of any size must fit.
            "max_bytes": max(8 * 1024 * 1024, 2 * self._client.max_payload),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._inbox)
        self._outstanding = _BATCH

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
