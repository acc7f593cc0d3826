"""Who may do more than look, and what a browser may do with our pages."""

import asyncio
import hmac

from aiohttp import hdrs, web

from worker.core.account import Secret

HEADERS = {
    # Everything comes from here, and nothing else: no inline script or style, no frame, no form, no other host.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


READ_EVERY = 1.0
"""Seconds between two looks for a rotated token: anybody can cause one."""


class Guard:
    """Knows the token of the page. Belongs to one event loop."""

    def __init__(self, token: Secret | None) -> None:
        """Take the token; without one, nobody bears it."""
        self._token = token
        self._read_at = -READ_EVERY

    async def allows(self, request: web.Request) -> bool:
        """Say whether `request` bears the token. Whether a foreign page sent it, `worker.hosts` has looked already.

        The token travels in a header that a foreign page can't set: there is no cookie that a browser would add for it.
        """
        kind, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if self._token is None or kind.lower() != "bearer":
            return False
        if _same(given, self._token):
            return True
        now = asyncio.get_running_loop().time()
        if now - self._read_at < READ_EVERY:
            return False
        self._read_at = now
        # A rotated token needs no restart; a file is read away from the event loop.
        await asyncio.to_thread(self._token.reload)
        return _same(given, self._token)


def _same(given: str, token: Secret) -> bool:
    return hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.reveal().encode())
