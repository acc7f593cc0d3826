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


async def allowed(request: web.Request, token: Secret) -> bool:
    """Say whether `request` bears the token, and comes from our own page or from no page at all.

    The token travels in a header that a foreign page can't set: there is no cookie that a browser would add for it.
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return False
    kind, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if kind.lower() != "bearer":
        return False
    # A rotated token needs no restart; a file is read away from the event loop.
    return _same(given, token) or (await asyncio.to_thread(token.reload) and _same(given, token))


def _same(given: str, token: Secret) -> bool:
    return hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.reveal().encode())
