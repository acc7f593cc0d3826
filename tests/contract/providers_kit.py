"""What the contract suites of the provider clients share: the variants, and one client for each over a simulator."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from schemas import FetchEsmsFollowers, FetchEtelecomFollowers, FetchFollowers
from worker.core.account import Account, EsmsAccount, EsmsEndpoint, EtelecomAccount
from worker.core.ports.provider import ProviderClient, ProviderPage
from worker.providers import open_client
from worker.providers.simulators import (
    API_KEY,
    OA_ID,
    PARTNER_KEY,
    SECRET_KEY,
    SHOP_KEY,
    EsmsConfig,
    EsmsSimulator,
    EtelecomConfig,
    EtelecomSimulator,
    Simulator,
)

WHOLE = 16 * 1024 * 1024
VARIANTS = ("shop", "partner", "GetFollowers", "QueryListUID", "auto")
KEYS = {"shop": SHOP_KEY, "partner": PARTNER_KEY}

AnySimulator = EtelecomSimulator | EsmsSimulator
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class FileSecret:
    """A secret whose file may hold another value by now; remembers how often it was read again."""

    def __init__(self, value: str, *, in_file: str | None = None) -> None:
        self._value, self.in_file, self.reloads = value, in_file or value, 0

    def reveal(self) -> str:
        return self._value

    def reload(self) -> bool:
        self.reloads += 1
        changed = self._value != self.in_file
        self._value = self.in_file
        return changed


@dataclass
class Case:
    """One variant with its simulator and its client."""

    variant: str
    simulator: AnySimulator
    client: ProviderClient
    page_limit: int
    opened: list[ProviderClient] = field(default_factory=list)

    def command(self, oa_id: str = OA_ID, **fields: Any) -> FetchFollowers:
        return command(self.variant, oa_id, **fields)

    def reopen(self, *, key: str | None = None, request_timeout: float = 5.0) -> ProviderClient:
        client = open_client(
            account(self.variant, self.simulator.url, key), request_timeout=request_timeout, max_response_bytes=WHOLE
        )
        self.opened.append(client)
        return client


def command(variant: str, oa_id: str = OA_ID, **fields: Any) -> FetchFollowers:
    """A command that the variant's account can do."""
    kind = FetchEtelecomFollowers if variant in KEYS else FetchEsmsFollowers
    return kind(oa_id=oa_id, **fields)


def account(variant: str, url: str, key: str | None = None) -> Account:
    """An account of the variant at `url`, with the right keys or with `key`."""
    if variant in KEYS:
        secret = FileSecret(key or KEYS[variant])
        return EtelecomAccount(name="mine", base_url=f"{url}/v1/{variant}", api_key=secret, rate_limit=0)
    endpoint: EsmsEndpoint = variant  # type: ignore[assignment]
    return EsmsAccount(
        name="mine",
        base_url=url,
        api_key=FileSecret(key or API_KEY),
        secret_key=FileSecret(key or SECRET_KEY),
        endpoint=endpoint,
        rate_limit=0,
    )


@asynccontextmanager
async def running(variant: str, followers: dict[str, int] | None = None, **config: Any) -> AsyncIterator[Case]:
    """A simulator of the variant's provider, and a client that talks to it."""
    if followers is not None:
        config["followers"] = followers
    if variant == "auto":
        config["get_followers_gone"] = True
    kind = EtelecomConfig if variant in KEYS else EsmsConfig
    async with Simulator(kind(**config)) as simulator:
        client = open_client(account(variant, simulator.url), request_timeout=5.0, max_response_bytes=WHOLE)
        case = Case(variant, simulator, client, 100 if variant in KEYS else 50, [client])
        try:
            yield case
        finally:
            for opened in case.opened:
                await opened.close()


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server that answers every request with `handler`; yields its URL."""
    runner = web.ServerRunner(web.Server(handler, access_log=None, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def saying(body: bytes, status: int = 200, **headers: str) -> Handler:
    """A handler that says `body`; `Retry_After="3"` gives the header `Retry-After: 3`."""
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=body, status=status, headers=named)

    return handler


@asynccontextmanager
async def client_of(variant: str, handler: Handler, **bounds: Any) -> AsyncIterator[ProviderClient]:
    """A client of the variant whose provider is `handler`."""
    bounds = {"request_timeout": 5.0, "max_response_bytes": WHOLE} | bounds
    async with answering(handler) as url:
        client = open_client(account(variant, url), **bounds)
        try:
            yield client
        finally:
            await client.close()


async def sweep(client: ProviderClient, wanted: FetchFollowers) -> list[ProviderPage]:
    """All pages of a list that stands still, as a plain reader reads them."""
    plan = client.offsets(wanted)
    pages: list[ProviderPage] = []
    cursor: str | None = None
    while True:
        page = await client.fetch(wanted, cursor)
        pages.append(page)
        rows = sum(len(page.followers) for page in pages)
        cursor = page.next_cursor if plan is None else str(rows) if page.followers and rows != page.total else None
        if cursor is None:
            return pages


def ids(pages: list[ProviderPage]) -> list[str]:
    """The user ids of pages, in order."""
    return [follower.user_id for page in pages for follower in page.followers]
