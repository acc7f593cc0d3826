"""One stream of a NATS server in memory, for what the adapters do with answers that a real server seldom gives."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg

STORED_AT = datetime(2026, 3, 1, 0, 0, 1, 250_001, tzinfo=UTC)
NO_MESSAGE = nats.js.errors.NotFoundError(code=404, err_code=10037, description="no message found")


def answer(headers: dict[str, str] | None, data: bytes = b"") -> Msg:
    """What comes back on an inbox."""
    return Msg(_client=cast(Any, None), data=data, headers=headers)


def stored(sequence: int, subject: str, data: bytes = b"data", *, pending: int | None = None) -> Msg:
    """An answer to a direct get; without `pending` it is that of a server before 2.11."""
    headers = {"Nats-Subject": subject, "Nats-Sequence": str(sequence)}
    return answer(headers | ({} if pending is None else {"Nats-Num-Pending": str(pending)}), data)


def end(pending: int = 0) -> Msg:
    """The end of a batch."""
    return answer({"Status": "204", "Nats-Num-Pending": str(pending)})


class FakeStream:
    """A client and its JetStream context at once: messages are added by `put`, and `errors` come first."""

    def __init__(self) -> None:
        self.messages: dict[int, RawStreamMsg] = {}
        self.errors: list[Exception] = []
        """Raised by the next calls that ask the stream's leader, one each."""
        self.asked: list[dict[str, Any]] = []
        """What the leader was asked for."""
        self.deleted: list[int] = []
        self.timeouts: list[float] = []
        self.batches: list[list[Msg] | Exception] = []
        """Answers to the next direct gets in batches, one list each."""
        self.queries: list[tuple[str, dict[str, Any]]] = []
        """Direct gets."""
        self.single: Msg | Exception = end()
        """The answer to each direct get of one message."""
        self.pause = 0.0
        """Seconds between two answers of a batch."""
        self.left: list[str] = []
        """Inboxes that nobody listens to any more."""
        self._inboxes: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self._newest = 0
        self._later: list[asyncio.Task[None]] = []

    def put(self, sequence: int, subject: str, data: bytes | None = b"data", hdrs: bytes | None = None) -> RawStreamMsg:
        """Store a message."""
        message = RawStreamMsg(subject=subject, seq=sequence, data=data, hdrs=hdrs, time=STORED_AT)
        self.messages[sequence] = message
        self._newest = max(self._newest, sequence)
        return message

    @property
    def client(self) -> Client:
        """Itself, as a connection."""
        return cast(Client, self)

    def jetstream(self, *, timeout: float) -> Any:
        """Itself, as a context."""
        self.timeouts.append(timeout)
        return self

    async def get_msg(
        self, stream: str, seq: int | None = None, subject: str | None = None, next: bool = False
    ) -> RawStreamMsg:
        """Ask the leader."""
        self.asked.append({"stream": stream, "seq": seq, "subject": subject, "next": next})
        if self.errors:
            raise self.errors.pop(0)
        if seq is not None and not next:
            numbers: Iterable[int] = [seq]
        else:
            numbers = range(seq or 1, self._newest + 1) if next else range(self._newest, 0, -1)
        for number in numbers:
            message = self.messages.get(number)
            if message is not None and subject in (None, message.subject):
                return message
        raise NO_MESSAGE

    async def delete_msg(self, stream: str, sequence: int) -> bool:
        """Delete a message."""
        self.deleted.append(sequence)
        if self.errors:
            raise self.errors.pop(0)
        return True

    def new_inbox(self) -> str:
        """Another one each time."""
        return f"_INBOX.{len(self.queries)}"

    async def subscribe(self, inbox: str, cb: Callable[[Msg], Awaitable[None]]) -> Any:
        """Listen."""
        self._inboxes[inbox] = cb

        async def unsubscribe() -> None:
            self.left.append(inbox)
            raise nats.errors.ConnectionClosedError

        return SimpleNamespace(unsubscribe=unsubscribe)

    async def publish(self, subject: str, body: bytes, reply: str) -> None:
        """Take a direct get and answer it."""
        self.queries.append((subject, json.loads(body)))
        answers = self.batches.pop(0) if self.batches else []
        if isinstance(answers, Exception):
            raise answers
        for number, message in enumerate(answers):
            if self.pause:
                self._later.append(asyncio.create_task(self._give(reply, message, self.pause * (number + 1))))
            else:
                await self._inboxes[reply](message)

    async def _give(self, inbox: str, message: Msg, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._inboxes[inbox](message)

    async def request(self, subject: str, body: bytes, *, timeout: float) -> Msg:
        """Take a direct get of one message."""
        self.queries.append((subject, json.loads(body)))
        self.timeouts.append(timeout)
        if isinstance(self.single, Exception):
            raise self.single
        return self.single
