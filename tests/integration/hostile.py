"""A provider that does as a test says, and remembers what reached it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Hostile:
    """One HTTP server; an answer for each first part of a path."""

    answers: dict[str, Answering]
    url: str = ""
    heard: list[str] = field(default_factory=list)
    """Every request: its line, its headers, its body."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Remember the request and answer it."""
        body = await request.text()
        headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        self.heard.append(f"{request.method} {request.url}\n{headers}\n\n{body}")
        kind = request.path.split("/")[1]
        return await self.answers[kind](request)


@contextlib.asynccontextmanager
async def hostile(answers: dict[str, Answering] | None = None) -> AsyncIterator[Hostile]:
    """Run such a provider; `answers` may be filled later."""
    made = Hostile(answers if answers is not None else {})
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()


def saying(body: bytes | str, status: int = 200, content_type: str = "application/json", **headers: str) -> Answering:
    """An answer that is always the same."""

    async def answer(_: web.Request) -> web.StreamResponse:
        raw = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=raw, status=status, headers={"Content-Type": content_type, **named})

    return answer
