"""nats-py's client, which asks and publishes with less ado: what every page does, done the short way.

What it overrides is nats-py's own business: after an upgrade of that, `tests/contract/test_swift.py` says whether both
still do the same. A page is published in 34 µs, where nats-py takes 59 (tests/bench/README.md).
"""

import asyncio
import itertools
from functools import lru_cache
from typing import Any

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from worker.jetstream.client.headers import StoredHeaders, can_be_published, is_stored

_NAMES_KEPT = 512
_NAME_KEPT = 128
"""Bytes: a longer name is looked at each time."""


class SwiftClient(Client):
    """A `Client` that behaves as nats-py's does, at less than half of its cost a request."""

    def __init__(self) -> None:
        """Make one that isn't connected."""
        super().__init__()
        self._numbers = itertools.count(1)

    async def _init_request_sub(self) -> None:
        # With a callback, each answer would go through a queue and a task before it gets to whoever asked.
        self._resp_map = {}
        self._resp_sub_prefix = self._inbox_prefix + b"." + self._nuid.next() + b"."
        replies: Any = _Replies(self._resp_map)
        await self.subscribe(f"{self._resp_sub_prefix.decode()}*", future=replies)

    async def _request_new_style(
        self, subject: str, payload: bytes, timeout: float | None = 1, headers: dict[str, Any] | None = None
    ) -> Msg:
        if self.is_draining_pubs:
            raise errors.ConnectionDrainingError
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        assert self._resp_sub_prefix is not None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Msg] = loop.create_future()
        # A number will do: what must not be guessed is the inbox before it.
        token, timer = str(next(self._numbers)), None
        self._resp_map[token] = answer
        try:
            await self.publish(subject, payload, reply=self._resp_sub_prefix.decode() + token, headers=headers)
            if timeout is not None:
                timer = loop.call_later(timeout, _give_up, answer)
            return await answer
        finally:
            if timer is not None:
                timer.cancel()
            self._resp_map.pop(token, None)

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        message: Msg = super()._build_message(sid, subject, reply, data, headers)
        if headers and "Status" in headers and is_stored(message.reply, headers):
            message.headers = StoredHeaders(headers)
        return message

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        try:
            await self._send(subject, reply, payload, payload_size, headers)
        except RuntimeError as error:
            # uvloop says it so, and nats-py learns only a moment later that the connection has broken.
            raise ConnectionResetError("the connection to NATS has broken") from error

    async def _send(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        if not headers or not subject or self._flush_queue is None:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        block = header_block(headers)
        line = f"HPUB {subject} {reply} {len(block)} {len(block) + payload_size}\r\n".encode()
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(b"".join((line, block, payload, b"\r\n")))
        if self._flush_queue.empty():
            await self._flush_pending()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon and (known := _name_in(name) if len(name) <= _NAME_KEPT else _look_at_name(name)) is not None:
                found[known] = value.strip().decode("utf-8", "replace")
        return found


class _Replies:
    """Hands each answer to whoever asked: in nats-py's hands the future of a subscription, which is never done."""

    def __init__(self, waiting: dict[str, asyncio.Future[Msg]]) -> None:
        self._waiting = waiting

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)


def header_block(headers: dict[str, str]) -> bytes:
    """Return `headers` as NATS sends them. Raises BadHeaderError for a name that can't be one."""
    lines = ["NATS/1.0"]
    for name, value in headers.items():
        if start := _start_of_line(name):
            lines.append(start + value.strip())
    block = "\r\n".join(lines)
    if block.count("\n") + block.count("\r") > 2 * len(lines) - 2:
        # A line's end within a value would begin another header, or another message.
        block = "\r\n".join([line.replace("\r", " ").replace("\n", " ") for line in lines])
    return f"{block}\r\n\r\n".encode()


@lru_cache(_NAMES_KEPT)
def _start_of_line(name: str) -> str:
    plain = name.strip()
    if plain and not can_be_published(plain):
        raise errors.BadHeaderError(plain)
    return f"{plain}: " if plain else ""


def _look_at_name(raw: bytes) -> str | None:
    """Return the name of a header that arrived, None for what can't be one."""
    try:
        name = raw.strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return None if any(map(str.isspace, name)) else name


_name_in = lru_cache(_NAMES_KEPT)(_look_at_name)


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(errors.TimeoutError())
