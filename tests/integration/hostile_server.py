"""A provider that misbehaves on the wire: raw TCP, one misbehaviour a trial, the right answer everywhere else.

Its list has PAGES pages of SIZE followers. A trial has an address of its own, so any number can go on at once.
"""

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from schemas.types import Provider

PAGES, SIZE = 4, 3
OA_ID = "2801000000000000777"
FIRST_ID = 7_800_378_501_923_850_000
"""Beyond 2^53: an id that went through a double would show."""

_PATH = re.compile(r"POST /t/([\w-]+)/\S* HTTP/1.1")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

Json = dict[str, Any]
Act = Callable[["Exchange"], Awaitable[None]]
"""What a misbehaviour does with one request. The connection is closed after it unless it calls `keep`."""


class Gone(Exception):
    """The client has left."""


@dataclass
class Visit:
    """One request for a page."""

    page: int
    started: float
    ended: float = 0.0
    """When the connection was over, or the answer out; 0.0 while it lasts."""
    sent: int = 0
    """Bytes."""


@dataclass
class Trial:
    """One misbehaviour towards one account."""

    name: str
    provider: Provider
    act: Act
    pages: frozenset[int]
    """Pages on which it misbehaves."""
    times: int | None
    """How often on each of them; None: for ever."""
    key: str
    """The key that is right now."""
    healed: bool = False
    visits: list[Visit] = field(default_factory=list)
    memory: Json = field(default_factory=dict)
    """What `act` wants to remember."""

    def asked(self, page: int) -> list[Visit]:
        """The requests for `page`, in order."""
        return [visit for visit in self.visits if visit.page == page]

    def base_url(self, url: str) -> str:
        """What the account's `base_url` is, with this server at `url`."""
        return f"{url}/t/{self.name}" + ("/v1/shop" if self.provider == "etelecom" else "")


class Exchange:
    """One request, and the connection to answer on."""

    def __init__(
        self,
        trial: Trial,
        asked: Json,
        page: int,
        visit: Visit,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.trial, self.asked, self.page, self.visit = trial, asked, page, visit
        self.attempt = len(trial.asked(page))
        """1 for the first request for this page."""
        self.keeps = False
        self._reader, self._writer = reader, writer

    @property
    def provider(self) -> Provider:
        return self.trial.provider

    def good(self, page: int | None = None, **changes: Any) -> Json:
        """The right answer for `page` (default: the one asked for), with fields of it replaced.

        `rows` and `total` are the list's; `next` is eTelecom's next cursor.
        """
        if self.provider == "esms" and page is None:
            changes = {"rows": [{"User_Id": str(FIRST_ID + n)} for n in self.rows()]} | changes
        return good(self.provider, self.page if page is None else page, **changes)

    def rows(self, length: int = PAGES * SIZE) -> range:
        """The numbers of the rows that are asked for in a list so long."""
        start = self.asked["Offset"] if self.provider == "esms" else (self.page - 1) * SIZE
        return range(min(start, length), min(start + SIZE, length))

    async def write(self, data: bytes) -> None:
        """Send bytes as they are. Raises Gone."""
        if self._writer.transport.is_closing() or self._reader.at_eof():
            raise Gone
        self._writer.write(data)
        self.visit.sent += len(data)
        try:
            await self._writer.drain()
        except OSError as error:
            raise Gone from error

    async def reply(
        self,
        body: bytes | Json,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Send a whole answer; `length` is the Content-Length to claim."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        named = {
            "Content-Type": "application/json",
            "Content-Length": str(len(data) if length is None else length),
        } | dict(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
        await self.write(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data)

    def keep(self) -> None:
        """Leave the connection open for the next request."""
        self.keeps = True

    async def gone(self) -> None:
        """Wait until the client leaves."""
        with contextlib.suppress(OSError):
            while await self._reader.read(65536):
                pass

    async def reset(self) -> None:
        """Break the connection with a TCP reset, once the client has had what was sent."""
        if self.visit.sent:
            # A reset throws away what the peer has not read yet.
            await asyncio.sleep(0.05)
            for _ in range(10):
                await asyncio.sleep(0)
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class HostileServer:
    """Listens on 127.0.0.1. Use `serving`."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.connections = 0
        self.url = ""
        self._open: set[asyncio.Task[None]] = set()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it is over."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, Gone, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def stop(self) -> None:
        """End the connections that still hang."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
        path = _PATH.match(head.decode("latin-1"))
        assert path is not None, head
        trial = self.trials[path[1]]
        page = _page(trial.provider, body)
        visit = Visit(page, time.monotonic())
        trial.visits.append(visit)
        exchange = Exchange(trial, body, page, visit, reader, writer)
        try:
            await self._answer(exchange, head)
        finally:
            visit.ended = time.monotonic()
        return exchange.keeps

    async def _answer(self, exchange: Exchange, head: bytes) -> None:
        trial = exchange.trial
        hostile = not trial.healed and exchange.page in trial.pages
        if hostile and (trial.times is None or exchange.attempt <= trial.times):
            await trial.act(exchange)
            return
        exchange.keep()
        if _key(trial.provider, exchange.asked, head) == trial.key:
            await exchange.reply(exchange.good())
        else:
            await refuse_key(exchange)


async def refuse_key(exchange: Exchange) -> None:
    """Say that the key isn't accepted, in the provider's own words."""
    if exchange.provider == "etelecom":
        await exchange.reply({"code": "unauthenticated", "msg": "the key is not valid"}, 401)
    else:
        await exchange.reply({"CodeResult": "101", "ErrorMessage": "Authorize Failed"})


def user_ids(first_page: int = 1, last_page: int = PAGES) -> list[str]:
    """The ids on these pages, in order."""
    return [str(FIRST_ID + n) for n in range((first_page - 1) * SIZE, last_page * SIZE)]


def good(provider: Provider, page: int, **changes: Any) -> Json:
    """The right answer of `provider` for `page`; see Exchange.good."""
    ids = user_ids(page, page) if 1 <= page <= PAGES else []
    if provider == "etelecom":
        rows = [{"zl_user_id": id, "full_name": "Nguyễn Văn Mẫu"} for id in ids]
        cursor = changes.get("next", f"c{page}" if page < PAGES else "")
        return {"followers": changes.get("rows", rows), "paging": {"next": cursor, "limit": SIZE}}
    return {
        "CodeResult": "100",
        "ErrorMessage": "success",
        "Followers": changes.get("rows", [{"User_Id": id} for id in ids]),
        "Total": changes.get("total", PAGES * SIZE),
    }


def _page(provider: Provider, body: Json) -> int:
    if provider == "etelecom":
        return int(body["paging"].get("after", "c0")[1:].rstrip("~")) + 1
    return int(body["Offset"] // (body["Count"] - 1)) + 1  # each request starts at the last row of the one before


def _key(provider: Provider, body: Json, head: bytes) -> str:
    if provider == "esms":
        return str(body["ApiKey"])
    found = re.search(rb"\r\nauthorization: Bearer (\S+)", head, re.IGNORECASE)
    return found[1].decode() if found else ""


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[HostileServer]:
    """A hostile server, on plain TCP or behind TLS."""
    server = HostileServer()
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listener.close()
        await server.stop()


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A listener that takes connections and never says a word; yields host:port and what clients said first."""
    said: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            said.append(await reader.read(65536))
            while await reader.read(65536):
                pass
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}", said
    finally:
        listener.close()
