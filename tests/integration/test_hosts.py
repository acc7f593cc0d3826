"""By which names the HTTP port may be asked, where it listens on more than loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from tests.integration import stage
from worker.ops import OpsServer, Readiness


@contextlib.asynccontextmanager
async def served(host: str, *hosts: str) -> AsyncIterator[aiohttp.ClientSession]:
    server, port = OpsServer(Readiness(), CollectorRegistry(), hosts=(host, *hosts)), stage.free_port()
    await server.start(host, port)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.5:{port}") as session:
            yield session
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("followers.example", 200),
        ("FOLLOWERS.example.:443", 200),
        ("10.0.0.9:8080", 200),
        ("[2001:db8::1]:8080", 200),
        ("[2001:db8::2]:8080", 403),
        ("10.0.0.8", 403),
        ("followers.example.evil.example", 403),
        ("followers.example:x", 403),
        ("evil.example", 403),
        (":8080", 403),
        ("localhost:", 403),
    ],
)
async def test_what_is_set_is_known_besides(host: str, status: int) -> None:
    known = served("0.0.0.0", "followers.example", "10.0.0.9", "[2001:db8::1]")
    async with known as http, http.get("/metrics", headers={"Host": host}) as answer:
        assert answer.status == status
        if status == 403:
            assert await answer.text() == (
                "this name isn't known here: use localhost, the address, or a name in worker.http_hosts\n"
            )


@pytest.mark.parametrize(
    "request_",
    [b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"GET /metrics HTTP/1.0\r\n\r\n"],
)
async def test_two_names_are_none_and_so_is_none(request_: bytes) -> None:
    async with served("127.0.0.5") as http:
        assert http._base_url is not None
        reader, writer = await asyncio.open_connection("127.0.0.5", http._base_url.port)
        writer.write(request_)
        status = await asyncio.wait_for(reader.readline(), 5)
        writer.close()

    assert status.split()[1] in (b"400", b"403")


async def test_the_name_that_it_listens_on_is_known() -> None:
    async with served("127.0.0.5") as http, http.get("/metrics") as answer:
        assert answer.status == 200
