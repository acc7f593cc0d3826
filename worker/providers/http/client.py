"""The one HTTP client: every request to a provider goes through it, bounded in time and size.

Redirects are refused (a key never travels to another address), TLS is verified, cookies are not kept
(PROVIDERS 2.4), proxies of the environment are ignored: a key goes to the host of `base_url` only.
Certificates come from certifi, or from `SSL_CERT_FILE` / `SSL_CERT_DIR` as everywhere with httpx.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import cast

import aiohttp
import httpx
from msgspec import Struct

from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    InternalError,
    ProviderUnavailableError,
)
from worker.core.memory import COST, HOLD, Hold, NoRoomError
from worker.providers.http.inflate import Inflater
from worker.providers.http.transport import Transport

INFLATES = 8
"""Bytes that a byte of gzip is taken for, until it is known better."""
LEAST = 64 * 1024
"""Bytes of room that are asked for at a time, where nobody says how long an answer is."""
LONGEST_WAIT = 366 * 86400.0
"""Seconds; a longer `Retry-After` counts as this, so that adding it to a time can't overflow."""

_NUMBER = re.compile(r"(-?)(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_KEEP_ALIVE = 15.0
_NONE: Mapping[str, str] = {}
_STEADY_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/json",
    "User-Agent": "followers-worker",
}


class Answer(Struct, frozen=True):
    """A whole HTTP response, decompressed."""

    status: int
    body: bytes
    retry_after: float | None = None
    """Seconds that the server asks to wait, 0 or more; None when it doesn't."""


class HttpClient:
    """A pool of connections for one account. Safe to use for many requests at once."""

    def __init__(
        self,
        *,
        request_timeout: float,
        max_response_bytes: int,
        max_connections: int,
        now: Callable[[], datetime],
    ) -> None:
        """Prepare a client; nothing connects before the first request.

        `request_timeout`: seconds for a whole request, waiting for a free connection included.
        `max_response_bytes`: bound on a body, as sent and decompressed. `max_connections`: sockets at most.
        `now`: the time (aware), for `Retry-After` dates in answers that have no `Date`.
        """
        self._timeout = request_timeout
        self._max_bytes = max_response_bytes
        self._max_connections = max_connections
        self._now = now
        # aiohttp's own queue is not fair: who gives a connection back and asks again at once is served before those
        # who wait, so that of many jobs some would not begin before others have ended.
        self._connections = asyncio.Semaphore(max_connections)
        self._given: Mapping[str, str] = _NONE
        self._headers = httpx.Headers(_STEADY_HEADERS)
        # Without httpx's client on top: it adds redirects, cookies, authentication and hooks, none of which is ours.
        self._transport = Transport(verify=_tls(), client=self._open_session)

    async def post(self, url: httpx.URL, body: bytes, headers: Mapping[str, str] = _NONE) -> Answer:
        """Send `body` (JSON) to `url` and return the answer, whatever its status. One attempt.

        Raises ProviderUnavailableError (no answer in time, or one that is cut short, broken gzip, not HTTP),
        BadResponseError (too big), InternalError (a request that can't be sent), NoRoomError (see `core/memory.py`).
        """
        if headers != self._given:  # the key, mostly the same
            self._given, self._headers = headers, httpx.Headers({**_STEADY_HEADERS, **headers})
        # As a stream: of what httpx would add to `content`, aiohttp adds all once more.
        stream = httpx.ByteStream(body)
        request = httpx.Request("POST", url, headers=self._headers, stream=stream)
        try:
            async with asyncio.timeout(self._timeout) as deadline, self._connections:
                response = await self._transport.handle_async_request(request)
                try:
                    return await self._read(response, url.host, deadline)
                finally:
                    await response.aclose()
        except (FetchFailure, NoRoomError):
            raise
        except TimeoutError as error:
            raise ProviderUnavailableError(
                f"{url.host} gave no complete answer within {self._timeout:g} s; it is tried again later "
                "(the setting is request_timeout)"
            ) from error
        except Exception as error:
            raise failure_of(error, url.host) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def _open_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._max_connections, ssl=_tls(), keepalive_timeout=_KEEP_ALIVE)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
        )

    async def _read(self, response: httpx.Response, host: str, deadline: asyncio.Timeout) -> Answer:
        # One pass: each look-up in httpx's Headers goes through all of them.
        headers = {name.lower(): value for name, value in response.headers.raw}
        encoding = headers.get(b"content-encoding", b"").decode("latin-1")
        try:
            # httpx inflates a whole chunk at once, so a small body could swell without bound: read it raw.
            inflater = Inflater(encoding, self._max_bytes, host)
            body = await self._collect(response, inflater, headers, deadline)
        except (FetchFailure, httpx.HTTPError, aiohttp.ClientError):
            # An error page that can't be read must not hide a 429 and how long to wait.
            if response.status_code == 200:
                raise
            body = b""
        wait = headers.get(b"retry-after")
        if wait is None:
            return Answer(response.status_code, body)
        date = headers.get(b"date", b"").decode("latin-1")
        return Answer(response.status_code, body, retry_after(wait.decode("latin-1"), date, self._now))

    async def _collect(
        self, response: httpx.Response, inflater: Inflater, headers: Mapping[bytes, bytes], deadline: asyncio.Timeout
    ) -> bytes:
        hold, stream = HOLD.get(), cast(httpx.AsyncByteStream, response.stream)
        if hold is not None:
            hold.receive()
        # What `aiter_raw` reads, with two generators less around each chunk.
        async for chunk in stream:
            for piece in inflater.pieces(chunk) if inflater.inflates else (chunk,):
                inflater.feed(piece)
                if hold is not None and COST * inflater.held > hold.size:
                    held, length = inflater.held, self._length(headers)
                    await _find_room(hold, length if held <= length else max(2 * held, LEAST), deadline)
        body = inflater.finish()
        if hold is not None:
            hold.settle(len(body), 0)
        return body

    def _length(self, headers: Mapping[bytes, bytes]) -> int:
        """Return how long the body may be, decompressed, as far as the answer says: nothing relies on it."""
        said = headers.get(b"content-length", b"")
        length = int(said) if said.isdigit() and len(said) < 16 else 0
        return min(length * (INFLATES if headers.get(b"content-encoding") else 1), self._max_bytes)


async def _find_room(hold: Hold, body: int, deadline: asyncio.Timeout) -> None:
    """Wait until there is room for `body` bytes; the provider is not to blame for that time."""
    if hold.take(body):
        return
    if not hold.is_urgent:
        raise NoRoomError(body)
    loop, ends = asyncio.get_running_loop(), deadline.when()
    if ends is None or deadline.expired():
        await hold.wait()
        return
    left = ends - loop.time()
    deadline.reschedule(None)
    await hold.wait()
    deadline.reschedule(loop.time() + left)


def retry_after(value: str, date: str, now: Callable[[], datetime]) -> float | None:
    """Return the seconds that a `Retry-After` asks for, 0 to LONGEST_WAIT; None for neither those nor a date.

    A number that is a time near now in seconds or milliseconds since 1970 is meant as one: nobody asks for decades.
    `date` is the same answer's `Date` header: dates and times count from that, so the clocks need not agree.
    """
    since = _http_date(date) or now()
    if number := _NUMBER.fullmatch(value.strip()):
        sign, digits = number.groups()
        return 0.0 if sign else min(_from(since, float(digits)), LONGEST_WAIT)
    until = _http_date(value)
    return None if until is None else min(max((until - since).total_seconds(), 0.0), LONGEST_WAIT)


def _from(since: datetime, number: float) -> float:
    """Return the seconds that `number` means at the time `since`."""
    if number > LONGEST_WAIT:
        for unit in (1.0, 1000.0):
            ahead = number / unit - since.timestamp()
            if abs(ahead) <= LONGEST_WAIT:
                return max(ahead, 0.0)
    return number


def failure_of(error: Exception, host: str) -> FetchFailure:
    """Return our error for one that httpx, its transport or the socket raised while talking to `host`.

    Only class names of `error` go into the message: its text may hold an address or a header.
    """
    what = type(error.__cause__ or error).__name__
    match error:
        case httpx.UnsupportedProtocol() | httpx.InvalidURL() | httpx.LocalProtocolError():
            return InternalError(f"the request to {host} can't be sent ({what}): check the account's base_url and key")
        case httpx.ReadError() | httpx.RemoteProtocolError() | httpx.DecodingError() | aiohttp.ClientPayloadError():
            return ProviderUnavailableError(f"the answer of {host} was cut short ({what}); it is tried again later")
        case aiohttp.ClientResponseError():
            return ProviderUnavailableError(f"the answer of {host} is not valid HTTP ({what}); it is tried again later")
        case httpx.TransportError() | aiohttp.ClientError() | OSError():
            return ProviderUnavailableError(
                f"{host} can't be reached or dropped the connection ({what}); it is tried again later"
            )
        case httpx.TooManyRedirects():
            return BadResponseError(f"{host} redirects, which is refused: check the account's base_url")
    return InternalError(f"the request to {host} failed in an unforeseen way ({what})")


@cache
def _tls() -> ssl.SSLContext:
    """One for all accounts: reading the certificates takes 20 ms and a megabyte."""
    return httpx.create_ssl_context()


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
