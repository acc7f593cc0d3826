"""What goes out to a provider, to the last header and field."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from schemas import EsmsFilter, EtelecomFilter, FetchFollowers
from tests.contract.providers_kit import KEYS, client_of, command
from worker.core.errors import FetchFailure
from worker.providers.http.client import HttpClient
from worker.providers.http.transport import _TIMEOUT
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOBODY = {
    "shop": b'{"followers": [], "paging": {"next": ""}}',
    "GetFollowers": b'{"CodeResult": "100", "Followers": [], "Total": 0}',
    "QueryListUID": b'{"CodeResult": "100", "Data": {"Users": [], "Total": 0}}',
}
NOBODY["partner"] = NOBODY["shop"]
NOBODY["auto"] = NOBODY["GetFollowers"]


async def sent(variant: str, wanted: FetchFollowers, cursor: str | None = None) -> tuple[str, dict[str, str], Any]:
    """Method and path, headers, and body of the one request that this makes."""
    seen: list[tuple[str, dict[str, str], Any]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        body = json.loads(await request.read())
        seen.append((f"{request.method} {request.path_qs}", dict(request.headers), body))
        return web.Response(body=NOBODY[variant], content_type="application/json")

    async with client_of(variant, handler, now=lambda: NOON) as client:
        await client.fetch(wanted, cursor)
    (only,) = seen
    return only


@pytest.mark.parametrize(
    ("variant", "line"),
    [
        ("shop", "POST /v1/shop.Zalo/ListFollowers"),
        ("partner", "POST /v1/partner.Zalo/ListFollowers"),
        ("GetFollowers", "POST /MainService.svc/json/ZNS/GetFollowers/"),
        ("QueryListUID", "POST /MainService.svc/json/QueryListUID/"),
        ("auto", "POST /MainService.svc/json/ZNS/GetFollowers/"),
    ],
)
async def test_a_request_has_these_headers_and_no_others(variant: str, line: str) -> None:
    where, headers, body = await sent(variant, command(variant))

    assert where == line
    assert headers.pop("Host").startswith("127.0.0.1:")
    assert headers.pop("Content-Length") == str(len(json.dumps(body, separators=(",", ":"))))
    key = {"Authorization": f"Bearer {KEYS[variant]}"} if variant in KEYS else {}
    assert headers == key | {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Content-Type": "application/json",
        "User-Agent": "followers-worker",
    }


@pytest.mark.parametrize(
    ("fields", "cursor", "body"),
    [
        ({}, None, {"filter": {"oa_id": OA_ID}, "paging": {"limit": 100}}),
        ({"page_size": 7}, "c2", {"filter": {"oa_id": OA_ID}, "paging": {"limit": 7, "after": "c2"}}),
        (
            {"sort": "-updated_at", "filter": EtelecomFilter(name="Mẫu", state="follow")},
            "c2",
            {
                "filter": {"oa_id": OA_ID, "name": "Mẫu", "state": "follow"},
                "paging": {"limit": 100, "after": "c2", "sort": "-updated_at"},
            },
        ),
    ],
)
async def test_etelecom_is_asked_the_whole_question_with_each_page(
    fields: dict[str, Any], cursor: str | None, body: Any
) -> None:
    assert (await sent("shop", command("shop", **fields), cursor))[2] == body


ALL_DAYS = {"FromDate": "01/01/2012", "ToDate": "24/11/2026"}
FIRST = {"ApiKey": API_KEY, "SecretKey": SECRET_KEY, "OAID": OA_ID, "Offset": 0, "Count": 50}


@pytest.mark.parametrize(
    ("variant", "fields", "cursor", "body"),
    [
        ("GetFollowers", {}, None, FIRST),
        ("GetFollowers", {"page_size": 1}, "49", FIRST | {"Offset": 49, "Count": 2}),
        ("QueryListUID", {}, None, FIRST | ALL_DAYS | {"IsFollower": "1"}),
        (
            "QueryListUID",
            {"filter": EsmsFilter(state="follow", date_to="05/02/2026")},
            None,
            FIRST | ALL_DAYS | {"ToDate": "05/02/2026", "IsFollower": "1"},
        ),
        (
            "QueryListUID",
            {"filter": EsmsFilter(state="unfollow", tag="VIP")},
            "2026-01-31/2026-02-01@98",
            FIRST
            | {"FromDate": "31/01/2026", "ToDate": "01/02/2026", "IsFollower": "0", "TagName": "VIP", "Offset": 98},
        ),
    ],
)
async def test_esms_is_asked_by_row_numbers_and_days(
    variant: str, fields: dict[str, Any], cursor: str | None, body: Any
) -> None:
    assert (await sent(variant, command(variant, **fields), cursor))[2] == body


async def paths(variant: str, answers: Sequence[tuple[int, bytes]], times: int = 1) -> tuple[list[str], list[Any]]:
    """The endpoints that are asked, and what comes of each of `times` fetches: the requests, or the error."""
    asked: list[str] = []
    left = list(answers)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path.rstrip("/").rpartition("/")[2])
        await request.read()
        status, body = left.pop(0)
        return web.Response(status=status, body=body, content_type="application/json")

    outcomes: list[Any] = []
    async with client_of(variant, handler, now=lambda: NOON) as client:
        for _ in range(times):
            try:
                outcomes.append((await client.fetch(command(variant), None)).requests)
            except FetchFailure as error:
                outcomes.append((error.code, error.requests))
    return asked, outcomes


GONE, BY_DAYS = (404, b"<html>no such page</html>"), (200, NOBODY["QueryListUID"])


async def test_an_endpoint_that_is_gone_is_not_asked_again_once_the_other_one_has_answered() -> None:
    asked, outcomes = await paths("auto", [GONE, BY_DAYS, BY_DAYS], times=2)

    assert asked == ["GetFollowers", "QueryListUID", "QueryListUID"]
    assert outcomes == [2, 1]


async def test_an_error_of_the_other_endpoints_api_shows_that_the_first_one_is_gone() -> None:
    refused = (200, b'{"CodeResult": "103", "ErrorMessage": "no balance"}')

    asked, outcomes = await paths("auto", [GONE, refused, BY_DAYS], times=2)

    assert asked == ["GetFollowers", "QueryListUID", "QueryListUID"]
    assert outcomes == [("forbidden", 2), 1]


async def test_an_address_at_which_both_are_gone_is_asked_for_both_again() -> None:
    asked, outcomes = await paths("auto", [GONE, GONE, GONE, BY_DAYS], times=2)

    assert asked == ["GetFollowers", "QueryListUID"] * 2
    assert outcomes == [("not_found", 2), 2]


async def test_connections_are_bounded_and_nothing_is_done_that_was_not_asked_for() -> None:
    client = HttpClient(request_timeout=1.0, max_response_bytes=1, max_connections=3, now=lambda: NOON)
    session = client._open_session()
    try:
        assert isinstance(session.connector, aiohttp.TCPConnector)
        assert (session.connector.limit, session.connector._keepalive_timeout) == (3, 15.0)
        assert (session.trust_env, session.auto_decompress) == (False, False)
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
        assert (_TIMEOUT.total, _TIMEOUT.sock_connect, _TIMEOUT.sock_read) == (None, 10.0, None)
    finally:
        await session.close()
        await client.close()
