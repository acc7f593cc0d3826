"""The connections to the HTTP port: how many, of whom, and for how long without a request.

Anybody who can reach the port may open connections and say nothing. Each takes a descriptor, and what the worker
needs itself, to NATS and to providers, comes out of the same number.
"""

import asyncio
import ipaddress
from typing import Any

from aiohttp import web

from worker.seldom import Seldom

MOST = 256
"""Connections at the same time."""
SHARE = 4
"""Of the process's descriptors the HTTP port takes one in so many, at most."""
FIRST_WITHIN = 10.0
"""Seconds until the first request is here, all its headers included."""
NEXT_WITHIN = 75.0
"""Seconds from one answer to the next request, and for the answer to be read: proxies mostly wait for 60."""


class Connections:
    """The table of open connections. Belongs to one event loop.

    Whoever is new gets in. For that the connection goes that has been without a request for longest, of the address
    that has most; one whose request is being answered stays, be it a stream.
    """

    def __init__(self, descriptors: int) -> None:
        """Take how many descriptors the process may have."""
        self.most = most_within(descriptors)
        """Of all addresses; one alone may have half of them."""
        self._of: dict[str, dict[_Connection, None]] = {}
        """By address: in the order of their last requests."""
        self._open = 0
        self._crowded = Seldom("http.crowded", "closed")

    def open(self, server: web.Server) -> "_Connection":
        """Return what handles a new connection to `server`."""
        return _Connection(server, self)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Note which connections are in use."""
        connection = request.protocol
        if not isinstance(connection, _Connection):
            return await handler(request)  # type: ignore[no-any-return]
        connection.begin()
        try:
            return await handler(request)  # type: ignore[no-any-return]
        finally:
            connection.end()
            line = self._of.get(connection.address, {})
            if connection in line:
                del line[connection]
                line[connection] = None  # the last one that has been of use

    def entered(self, connection: "_Connection") -> None:
        """Make room for a new connection, or close it where there is none."""
        line = self._of.setdefault(connection.address, {})
        line[connection] = None
        self._open += 1
        if len(line) > self.most // 2:
            self._make_room(line)
        elif self._open > self.most:
            self._make_room(max(self._of.values(), key=len))

    def left(self, connection: "_Connection") -> None:
        """Forget a connection."""
        line = self._of.get(connection.address, {})
        if connection in line:
            del line[connection]
            self._open -= 1
        if not line:
            self._of.pop(connection.address, None)

    def _make_room(self, line: "dict[_Connection, None]") -> None:
        # Where all are in use, the newest goes: the others have been promised more.
        gone = next((one for one in line if not one.is_used), next(reversed(line)))
        self.left(gone)
        gone.cut()
        self._crowded.tell(open=self._open, most=self.most)


class _Connection(web.RequestHandler):
    """aiohttp's handler of one connection, with times that aiohttp has no option for.

    Its `keepalive_timeout` is the same for the first request as for the others, and knows nothing of an answer that
    isn't read.
    """

    __slots__ = ("_loop_", "_table", "_timer", "address", "is_used")

    def __init__(self, server: web.Server, table: Connections) -> None:
        self._loop_ = asyncio.get_running_loop()
        self._table = table
        self._timer: asyncio.TimerHandle | None = None
        self.address = ""
        self.is_used = False
        super().__init__(server, loop=self._loop_, access_log=None)  # type: ignore[arg-type]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.address = address_of(transport.get_extra_info("peername"))
        self._wait(FIRST_WITHIN)
        self._table.entered(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        self._table.left(self)
        super().connection_lost(exc)

    def begin(self) -> None:
        """A request is here."""
        self.is_used = True
        self._stop_waiting()

    def end(self) -> None:
        """Its answer is made."""
        self.is_used = False
        if self.transport is not None:
            self._wait(NEXT_WITHIN)

    def cut(self) -> None:
        """Close it, whatever is on its way."""
        self._stop_waiting()
        if self.transport is not None:
            self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._timer = self._loop_.call_later(seconds, self.cut)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def most_within(descriptors: int) -> int:
    """Return how many connections a process of so many descriptors takes."""
    return max(2, min(MOST, descriptors // SHARE))


def viewers_within(connections: int) -> int:
    """Return how many of the connections may be streams: of what one address may have, a fifth is left for requests.

    A stream is in use for as long as somebody looks, and what is in use makes no room for probes.
    """
    return max(1, connections * 2 // 5)


def address_of(peer: Any) -> str:
    """Return whose connection it is: the address, or for IPv6 the network, which holds addresses without number."""
    if not isinstance(peer, tuple):
        return ""
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def is_near(address: str) -> bool:
    """Say whether `address`, of `address_of`, is this machine's own."""
    return address.startswith("127.") or address == "::/64"
