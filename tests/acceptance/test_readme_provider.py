"""The README's worked example of a provider, run as it stands there, and its list of places."""

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiohttp import web

from schemas.commands import FetchEtelecomFollowers
from tests.acceptance.test_readme import TEXT, block
from tests.contract.providers_kit import FileSecret, answering, ids, saying, sweep
from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
)
from worker.core.ports.provider import ProviderClient
from worker.providers.http.client import HttpClient

ROOT = Path(__file__).parents[2]
COMMAND = FetchEtelecomFollowers(oa_id="1", page_size=2)
SECTION = TEXT[TEXT.index("## Add a provider") : TEXT.index("## Glossary")]


def client(url: str) -> Any:
    """The example's class, on the product's own HTTP client."""
    program: dict[str, Any] = {"__name__": "acme"}
    exec(block("python", "<!-- test: provider -->"), program)
    http = HttpClient(request_timeout=5.0, max_response_bytes=65_536, max_connections=2, now=lambda: datetime.now(UTC))
    return program["AcmeClient"](SimpleNamespace(name="mine", base_url=url, api_key=FileSecret("invented")), http)


async def test_it_reads_a_list_to_its_end() -> None:
    asked: list[Any] = []

    async def acme(request: web.BaseRequest) -> web.StreamResponse:
        wanted = msgspec.json.decode(await request.read())
        asked.append((request.headers["Authorization"], wanted))
        start = int(wanted["after"] or 0)
        rows = [{"id": str(number), "name": "Lan"} for number in range(start, min(start + wanted["limit"], 5))]
        return web.json_response({"rows": rows, "next": str(start + 2) if start + 2 < 5 else None})

    async with answering(acme) as url:
        acme_client = client(url)
        pages = await sweep(acme_client, COMMAND)
        await acme_client.close()

    assert ids(pages) == ["0", "1", "2", "3", "4"]
    assert pages[0].followers[0].display_name == "Lan"
    assert {name for name in vars(type(acme_client)) if name[0] != "_"} == {
        name for name in vars(ProviderClient) if name[0] != "_"
    }
    assert asked[1] == ("Bearer invented", {"oa": "1", "after": "2", "limit": 2})


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, b"{}", RateLimitedError),
        (401, b"{}", UnauthorizedError),
        (502, b"{}", ProviderUnavailableError),
        (200, b"{}", BadResponseError),
        (200, b"<html>", BadResponseError),
    ],
)
async def test_what_goes_wrong_is_one_of_our_errors(status: int, body: bytes, error: type[FetchFailure]) -> None:
    async with answering(saying(body, status)) as url:
        acme_client = client(url)
        with pytest.raises(error, match="Acme"):
            await acme_client.fetch(COMMAND, None)
        await acme_client.close()


def test_every_file_that_knows_the_providers_by_name_is_in_the_list() -> None:
    listed = re.findall(r"`((?:schemas|worker|k8s|tests)/[\w./]*)`", SECTION)
    sources = [path for folder in ("schemas", "worker") for path in (ROOT / folder).rglob("*.py")]
    knowing = {
        path.relative_to(ROOT).as_posix() for path in sources if re.search(r"\bE?esms\b|Esms", path.read_text("utf-8"))
    }
    own = {name for name in knowing if re.search(r"/providers/esms/|/normalise\.py$", name)}

    assert {name for name in knowing - own if not any(name.startswith(place) for place in listed)} == set()
    assert all((ROOT / place).exists() for place in listed if "acme" not in place)
