"""Who may ask the HTTP port by way of a browser: pages of our own, under a name that is ours.

Whoever opens a foreign page has it run in their browser, behind every firewall. It may name its own host and point that
name at this port, so a name that we don't know gets nothing; and it may ask us directly, which browsers tell.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

from aiohttp import hdrs, web

from worker.seldom import Seldom

OPEN = ("/healthz", "/readyz")
"""What any probe may ask, by whatever name: there is nothing in it."""
OURS = ("same-origin", "none")
"""What a browser says of a request that our own page makes, or a person; other programs say nothing."""
LOOPBACK = ("localhost", "ip6-localhost")


class Hosts:
    """The names by which the port may be asked: those of loopback, the address it listens on, and what is set."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names, or addresses, that a proxy or a person may use besides."""
        self._names = {_plain(name) for name in names}
        self._refused = Seldom("http.refused", "refused")

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer 403 to what isn't asked of us, or not by us."""
        if request.path not in OPEN:
            if not self._is_ours(request):
                self._tell(request, "add the name to worker.http_hosts")
                text = "this name isn't known here: use localhost, the address, or a name in worker.http_hosts\n"
                return web.Response(status=403, text=text)
            if is_foreign(request) or self._is_of_another_origin(request):
                self._tell(request, "nothing to do: a page of another site asked")
                return web.Response(status=403, text="a page of another site may not read this\n")
        return await handler(request)  # type: ignore[no-any-return]

    def _tell(self, request: web.Request, advice: str) -> None:
        self._refused.tell(path=request.path[:100], advice=advice)

    def _is_ours(self, request: web.Request) -> bool:
        named = request.headers.getall(hdrs.HOST, [])
        if len(named) != 1:
            return False
        name = _plain(_without_port(named[0]))
        if name in LOOPBACK or name in self._names:
            return True
        address, own = _address(name), request.transport and request.transport.get_extra_info("sockname")
        # The address that it came in by: where all are listened on, that is one of them.
        return address is not None and (address.is_loopback or address == _address(str(own[0]) if own else ""))

    def _is_of_another_origin(self, request: web.Request) -> bool:
        """Say whether a page of another origin asks, where a browser tells no more than that.

        Sec-Fetch-Site comes by HTTPS and to loopback only. Where it says that the page is ours, that counts: a proxy
        may have given us another name than the page's.
        """
        given = request.headers.getall(hdrs.ORIGIN, [])
        if not given or "Sec-Fetch-Site" in request.headers:
            return False
        place = given[0].partition("://")[2].lower()
        if len(given) > 1 or not place:
            return True
        # A proxy may listen on another port than it tells us. Beside an address, another port is another program.
        name = _plain(_without_port(place))
        is_a_proxy = name in self._names and name not in LOOPBACK and _address(name) is None
        return not (is_a_proxy or place == request.headers.get(hdrs.HOST, "").lower())


def is_foreign(request: web.Request) -> bool:
    """Say whether a page of another site asks; its visitor may follow a link to one of our pages."""
    if request.headers.get("Sec-Fetch-Site", "none") in OURS:
        return False
    is_link = (
        request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
    )
    return not (is_link and request.method == "GET" and not request.path.startswith("/stream"))


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix(".").removeprefix("[").removesuffix("]")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and (":" not in name or name.endswith("]")) else host


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
