"""What leaning on the HTTP port gets, and what everybody else gets meanwhile: the tables of worker/SECURITY.md."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from tests.integration.door import CROWD, NAME, TOKEN, Crowd, Door, connections, door, streams
from worker.descriptors import raise_limit
from worker.embedded import EmbeddedServer

PAGE = Path(__file__).parents[2] / "worker" / "SECURITY.md"
WRITE = "WRITE_SECURITY_TABLES"

CROWDS: dict[str, Crowd] = {
    "2,000 connections from one address that say nothing": connections(2000, CROWD[:1]),
    "2,000 from 100 addresses that say nothing": connections(2000, CROWD),
    "200 from one address that send a header, a letter at a time": connections(
        200, CROWD[:1], "GET / HTTP/1.1\r\nHost: localhost\r\nX: ", again="x"
    ),
    "100 streams from one address": streams(100, CROWD[:1]),
    "100 streams from 100 addresses": streams(100, CROWD),
    "100 streams from 100 addresses that read nothing": streams(100, CROWD, reads=False),
    "100 streams from 100 addresses, each of a job that nobody knows": streams(100, CROWD, job=True),
}
CROWD_HEAD = ("what leans on it", "what it gets", "probes", "the operator", "a job meanwhile")
BEARER = f"Authorization: Bearer {TOKEN}"
ASKERS: dict[str, str] = {
    "our own page": f"Host: {NAME}\nSec-Fetch-Site: same-origin\n{BEARER}",
    "our own page, by a browser that says no more": f"Host: {NAME}\nOrigin: https://{NAME}\n{BEARER}",
    "a program, such as `curl`": f"Host: 127.0.0.1:8080\n{BEARER}",
    "our own page without the token": f"Host: {NAME}\nSec-Fetch-Site: same-origin",
    "a wrong token": f"Host: localhost\nAuthorization: Bearer {TOKEN[:-1]}x",
    "the token in a cookie": f"Host: localhost\nCookie: token={TOKEN}",
    "a name that isn't known": f"Host: evil.example\n{BEARER}",
    "DNS rebinding: a page of `evil.example`, which now points here": (
        f"Host: evil.example:8080\nSec-Fetch-Site: same-origin\nOrigin: http://evil.example:8080\n{BEARER}"
    ),
    "no name": BEARER,
    "two names": f"Host: localhost\nHost: {NAME}\n{BEARER}",
    "a page of another site": f"Host: {NAME}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\n{BEARER}",
    "a page of another port of `localhost`": f"Host: localhost:8080\nSec-Fetch-Site: same-site\n{BEARER}",
    "a page of another site, by a browser that says no more": f"Host: 10.0.0.7\nOrigin: https://evil.example\n{BEARER}",
    "a page of another port of the address, likewise": f"Host: 127.0.0.1:8080\nOrigin: http://127.0.0.1:3000\n{BEARER}",
    "a page without an origin": f"Host: localhost\nOrigin: null\n{BEARER}",
    "a link on another site": (
        f"Host: {NAME}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\n{BEARER}"
    ),
    "a frame on another site": (
        f"Host: {NAME}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe\n{BEARER}"
    ),
}
PATHS = ("GET /", "GET /stream", "GET /metrics", "POST /jobs/nobody/cancel", "GET /healthz")
SEEN: dict[str, str] = {}


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    raise_limit()
    async with EmbeddedServer() as server:
        client = await nats.connect(server.url, allow_reconnect=False)
        async with door(client, server.url, tmp_path_factory.mktemp("door")) as made:
            yield made
        await client.close()


@pytest.mark.parametrize("name", CROWDS)
async def test_a_crowd_gets_its_bounds_and_everybody_else_an_answer(opened: Door, name: str) -> None:
    async with CROWDS[name](opened) as told:
        probes, operator, job = await opened.probes(), await opened.operator(), await opened.job(f"job-{len(SEEN)}")
        got = await told()

    compare(name, (got, probes, operator, job))
    assert (probes, operator, job) == ("200 within 2 s", "stream 200, with the token 200, cancel 202", "completed")


@pytest.mark.parametrize("name", ASKERS)
async def test_an_asker_gets_what_our_own_page_gets_or_nothing(opened: Door, name: str) -> None:
    statuses = [await opened.ask(f"{path} HTTP/1.1\n{ASKERS[name]}\nContent-Length: 0") for path in PATHS]

    compare(name, tuple(map(str, statuses)))


def test_the_page_has_each_row_and_names_tests_that_exist() -> None:
    if os.environ.get(WRITE):
        PAGE.write_text(written(PAGE.read_text("utf-8")), encoding="utf-8")
    text = PAGE.read_text("utf-8")

    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {*CROWDS, *ASKERS} <= {row[0].strip() for row in rows}
    assert all(cell.strip() for row in rows for cell in row)
    root = PAGE.parents[1]
    named = [word.strip("`.,;()") for word in text.split() if "tests/" in word]
    assert named
    missing = [name for name in named if not (root / name).exists()]
    assert not missing


async def test_refusals_are_told_once_a_minute_whoever_causes_them(opened: Door) -> None:
    for _ in range(50):
        await opened.ask("GET /stream HTTP/1.1\nHost: evil.example")
        await opened.ask("POST /jobs/x/cancel HTTP/1.1\nHost: localhost\nAuthorization: Bearer x\nContent-Length: 0")

    for event in ("http.refused", "page.refused"):
        assert 1 <= len(opened.replica.events(event)) <= 3, event


def compare(name: str, cells: tuple[str, ...]) -> None:
    """Keep what was seen; without a wish to write it, it must be what the page says."""
    SEEN[name] = row = f"| {' | '.join((name, *cells))} |"
    if not os.environ.get(WRITE):
        assert row in PAGE.read_text("utf-8").splitlines(), f"write worker/SECURITY.md anew ({WRITE}=1)"


def written(text: str) -> str:
    """The page with what was seen between its marks."""
    for mark, head, rows in (("crowds", CROWD_HEAD, CROWDS), ("askers", ("who asks", *PATHS), ASKERS)):
        first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, _, rest = text.partition(first)
        old, _, after = rest.partition(last)
        kept = {line.split(" | ")[0].removeprefix("| "): line for line in old.splitlines() if line.startswith("| ")}
        lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *(SEEN.get(n) or kept.get(n, "") for n in rows)]
        text = f"{before}{first}\n" + "\n".join(lines) + f"\n{last}{after}"
    return text
