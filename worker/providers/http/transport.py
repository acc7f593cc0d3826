"""httpx's requests and answers on aiohttp's connections, with nothing made anew that is the same each time."""

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions
from multidict import CIMultiDict

CONNECT_TIMEOUT = 10.0
"""Seconds for one TCP and TLS handshake."""

_CHUNK = 64 * 1024
"""Bytes read at a time, at most: a page of 50 in one piece, where 16 KB would take three."""
# Whoever sends has one deadline for the whole request; a limit per read would only let a slow drip through.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)


class Transport(AiohttpTransport):
    """httpx-aiohttp's, for one kind of request: redirects are not followed, nothing is decompressed.

    The request's body is in memory, as `httpx.ByteStream` has it. Raises httpx's errors for what aiohttp
    raises, where httpx has one for it.
    """

    def __init__(self, **options: Any) -> None:
        """Take what `AiohttpTransport` takes."""
        super().__init__(**options)
        self._raw: list[tuple[bytes, bytes]] = []
        self._headers: CIMultiDict[str] = CIMultiDict()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the answer, its body still to be read and the answer to be closed."""
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        raw = request.headers.raw
        if raw != self._raw:  # the key, mostly the same
            self._raw, self._headers = raw, CIMultiDict(request.headers)
        try:
            response = await self.client.request(
                request.method,
                str(request.url),
                headers=self._headers,
                data=b"".join(cast(httpx.ByteStream, request.stream)) or None,
                allow_redirects=False,
                timeout=_TIMEOUT,
            )
        except Exception:
            with map_aiohttp_exceptions():
                raise
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)


class _Body(AiohttpResponseStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._aiohttp_response.content
        while True:
            try:
                chunk = await content.read(_CHUNK)
            except Exception:
                with map_aiohttp_exceptions():
                    raise
            if not chunk:
                return
            yield chunk
            if content.at_eof():
                return

    async def aclose(self) -> None:
        # Read to its end, it has given its connection back already.
        if not self._aiohttp_response.closed:
            await super().aclose()
