"""Each fault as a client meets it, over real sockets."""

import asyncio
import email.utils
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from worker.providers.simulators import (
    API_KEY,
    OA_ID,
    SECRET_KEY,
    SHOP_KEY,
    EsmsConfig,
    EsmsSimulator,
    EtelecomConfig,
    EtelecomSimulator,
    Fault,
    Simulator,
)


@pytest.fixture
async def etelecom() -> AsyncIterator[EtelecomSimulator]:
    async with Simulator(EtelecomConfig(followers={OA_ID: 250})) as running:
        yield running


@pytest.fixture
async def esms() -> AsyncIterator[EsmsSimulator]:
    async with Simulator(EsmsConfig(followers={OA_ID: 120})) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as opened:
        yield opened


async def list_followers(client: httpx.AsyncClient, simulator: EtelecomSimulator, after: str = "") -> httpx.Response:
    return await client.post(
        f"{simulator.shop_url}.Zalo/ListFollowers",
        headers={"Authorization": f"Bearer {SHOP_KEY}"},
        json={"filter": {"oa_id": OA_ID}, "paging": {"after": after}},
    )


async def get_followers(
    client: httpx.AsyncClient, simulator: EsmsSimulator, offset: int = 0, method: str = "ZNS/GetFollowers"
) -> httpx.Response:
    keys = {"ApiKey": API_KEY, "SecretKey": SECRET_KEY, "OAID": OA_ID, "Offset": offset, "Count": 50}
    dates = {"FromDate": "01/01/2020", "ToDate": "31/12/2030"}
    return await client.post(f"{simulator.url}/MainService.svc/json/{method}/", json={**keys, **dates})


@pytest.mark.parametrize("retry_after", ["", "3", "soon", "-1"])
async def test_a_status_comes_with_any_retry_after(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient, retry_after: str
) -> None:
    """PROVIDERS 1.2: 429 and 503, HTML from a proxy."""
    etelecom.inject(Fault(kind="status", status=503, retry_after=retry_after))

    response = await list_followers(client, etelecom)

    assert response.status_code == 503
    assert response.headers.get("Retry-After", "") == retry_after
    assert response.headers["Content-Type"] == "text/html"
    assert (await list_followers(client, etelecom)).status_code == 200


async def test_retry_after_can_be_a_date(etelecom: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    etelecom.inject(Fault(kind="status", status=429, retry_after="date+30"))

    response = await list_followers(client, etelecom)

    when = email.utils.parsedate_to_datetime(response.headers["Retry-After"]).timestamp()
    assert 25 < when - time.time() <= 30


@pytest.mark.parametrize(("body", "content"), [("json", b"{"), ("empty", b""), ("html", b"<")])
async def test_a_status_has_the_body_asked_for(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient, body: Any, content: bytes
) -> None:
    etelecom.inject(Fault(kind="status", status=502, body=body))

    assert (await list_followers(client, etelecom)).content[:1] == content


async def test_an_error_is_written_as_the_provider_would(
    etelecom: EtelecomSimulator, esms: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.2: resource_exhausted is 403, external_service goes under unknown; 2.5: code 160."""
    etelecom.inject(
        Fault(kind="error", code="resource_exhausted", message="quá nhiều yêu cầu", retry_after="2"),
        Fault(kind="error", code="external_service"),
    )
    esms.inject(Fault(kind="error", code="160"))

    exhausted, external = [await list_followers(client, etelecom) for _ in range(2)]
    tps = await get_followers(client, esms)

    assert (exhausted.status_code, exhausted.headers["Retry-After"]) == (403, "2")
    assert exhausted.json() == {"code": "resource_exhausted", "msg": "quá nhiều yêu cầu"}
    assert (external.status_code, external.json()["code"]) == (500, "unknown")
    assert external.json()["meta"] == {"xcode": "external_service"}
    assert (tps.status_code, tps.json()["CodeResult"]) == (200, "160")


async def test_success_can_be_html_empty_or_of_the_wrong_type(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    etelecom.inject(Fault(kind="html"), Fault(kind="empty"), Fault(kind="content_type"), Fault(kind="bad_json"))

    html, empty, mistyped, cut = [await list_followers(client, etelecom) for _ in range(4)]

    assert {response.status_code for response in (html, empty, mistyped, cut)} == {200}
    assert html.text.startswith("<!DOCTYPE html>")
    assert empty.content == b""
    assert mistyped.headers["Content-Type"].startswith("text/html")
    assert len(mistyped.json()["followers"]) == 100
    with pytest.raises(json.JSONDecodeError):
        cut.json()


async def test_the_list_can_be_null_or_missing(
    etelecom: EtelecomSimulator, esms: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    for simulator in (etelecom, esms):
        simulator.inject(Fault(kind="null_list"), Fault(kind="missing_list"))
    esms.inject(Fault(kind="null_list"), Fault(kind="missing_list"))

    pages = [(await list_followers(client, etelecom)).json() for _ in range(2)]
    plain = [(await get_followers(client, esms)).json() for _ in range(2)]
    queried = [(await get_followers(client, esms, method="QueryListUID")).json() for _ in range(2)]

    assert pages[0]["followers"] is None
    assert "followers" not in pages[1]
    assert pages[1]["paging"]["next"]
    assert (plain[0]["Followers"], plain[0]["Total"]) == (None, 120)
    assert "Followers" not in plain[1]
    assert queried[0]["Data"]["Users"] is None
    assert "Users" not in queried[1]["Data"]


async def test_a_cursor_can_loop(etelecom: EtelecomSimulator, esms: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.4: stop if next repeats the same value."""
    etelecom.inject(Fault(kind="cursor_loop", times=0))
    esms.inject(Fault(kind="cursor_loop", times=0))

    first = (await list_followers(client, etelecom)).json()
    after = first["paging"]["next"]
    second, third = [(await list_followers(client, etelecom, after)).json() for _ in range(2)]
    offset = (await get_followers(client, esms, 50)).json()

    assert second["paging"]["next"] == after
    assert second == third
    assert second["followers"] != first["followers"]
    assert offset["Followers"] == esms.rows(OA_ID)[:50]


async def test_a_page_can_come_twice(etelecom: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    etelecom.inject(Fault(kind="duplicate_page", skip=1))

    first = (await list_followers(client, etelecom)).json()
    after = first["paging"]["next"]
    again = (await list_followers(client, etelecom, after)).json()
    second = (await list_followers(client, etelecom, after)).json()

    assert again == first
    assert second["followers"] == etelecom.rows(OA_ID)[100:200]


async def test_a_hanging_request_gets_no_byte_and_is_let_go_when_the_client_leaves(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    etelecom.inject(Fault(kind="hang"))

    with pytest.raises(httpx.ReadTimeout):
        await client.post(f"{etelecom.shop_url}.Zalo/ListFollowers", json={}, timeout=0.1)

    async with asyncio.timeout(2):
        await etelecom.journal.until(lambda seen: seen["in_flight"] == 0)
    assert etelecom.requests[-1].status is None
    assert (await list_followers(client, etelecom)).status_code == 200


async def test_a_hang_of_so_many_seconds_ends_with_a_broken_connection(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    etelecom.inject(Fault(kind="hang", seconds=0.05))

    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await list_followers(client, etelecom)


@pytest.mark.parametrize("kind", ["hang", "drip"])
async def test_a_stuck_request_does_not_hold_up_the_stop(kind: Any) -> None:
    async with httpx.AsyncClient(timeout=10) as client:
        async with Simulator(EtelecomConfig(followers={OA_ID: 10})) as simulator:
            simulator.inject(Fault(kind=kind, seconds=60))
            stuck = asyncio.create_task(list_followers(client, simulator))
            async with asyncio.timeout(2):
                await simulator.journal.until(lambda seen: seen["in_flight"] == 1)
            started = time.monotonic()
        assert time.monotonic() - started < 3
        with pytest.raises(httpx.TransportError):
            await stuck


@pytest.mark.parametrize(("kind", "pieces"), [("reset", 0), ("reset_middle", 1), ("truncated", 1)])
async def test_a_connection_can_break_before_or_within_the_body(
    etelecom: EtelecomSimulator,
    client: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    kind: Any,
    pieces: int,
) -> None:
    etelecom.inject(Fault(kind=kind))
    got: list[bytes] = []

    async def read() -> None:
        url = f"{etelecom.shop_url}.Zalo/ListFollowers"
        async with client.stream("POST", url, **authorised()) as response:
            assert response.status_code == 200
            async for piece in response.aiter_bytes():
                got.append(piece)

    with caplog.at_level(logging.WARNING), pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await read()

    assert bool(got) is bool(pieces)
    assert etelecom.requests[-1].faults == [kind]
    assert caplog.records == []
    assert (await list_followers(client, etelecom)).status_code == 200


def authorised() -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {SHOP_KEY}"}, "json": {"filter": {"oa_id": OA_ID}}}


async def test_a_body_can_drip(etelecom: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    etelecom.inject(Fault(kind="drip", seconds=0.2, chunks=8))
    pieces = []

    started = time.monotonic()
    async with client.stream("POST", f"{etelecom.shop_url}.Zalo/ListFollowers", **authorised()) as response:
        async for piece in response.aiter_raw():
            pieces.append(piece)

    assert len(pieces) > 3
    assert time.monotonic() - started >= 0.2
    assert json.loads(b"".join(pieces))["followers"] == etelecom.rows(OA_ID)[:100]


async def test_an_answer_can_be_compressed_well_or_badly(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    etelecom.inject(Fault(kind="gzip"), Fault(kind="broken_gzip"))

    async with client.stream("POST", f"{etelecom.shop_url}.Zalo/ListFollowers", **authorised()) as response:
        raw = b"".join([piece async for piece in response.aiter_raw()])

    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(raw))["followers"] == etelecom.rows(OA_ID)[:100]
    with pytest.raises(httpx.DecodingError):
        await list_followers(client, etelecom)


async def test_latency_is_fixed_or_drawn_and_comes_before_the_answer(client: httpx.AsyncClient) -> None:
    async with Simulator(EtelecomConfig(latency=(0.03, 0.05))) as simulator:
        simulator.inject(Fault(kind="latency", seconds=0.05), Fault(kind="status", status=500))

        failed = await list_followers(client, simulator)
        answered = await list_followers(client, simulator)

        assert (failed.status_code, answered.status_code) == (500, 200)
        assert [entry.seconds >= least for entry, least in zip(simulator.requests, (0.08, 0.03), strict=True)] == [
            True,
            True,
        ]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(kind="rate_limit", per_second=2, retry_after="1"), 429, None),
        (Fault(kind="rate_limit", per_second=2, code="resource_exhausted"), 403, "resource_exhausted"),
    ],
)
async def test_too_many_requests_a_second_are_refused(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient, fault: Fault, status: int, code: str | None
) -> None:
    """PROVIDERS 1.2: 429, or 403 resource_exhausted."""
    etelecom.inject(fault)

    answers = [await list_followers(client, etelecom) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, status]
    assert answers[2].headers.get("Retry-After") == (None if code else "1")
    assert code is None or answers[2].json()["code"] == code


async def test_too_many_requests_a_second_are_code_160_at_esms(esms: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.4, 2.5: 160 over HTTP 200."""
    esms.inject(Fault(kind="rate_limit", per_second=1, code="160"))

    answers = [await get_followers(client, esms) for _ in range(2)]

    assert [(answer.status_code, answer.json()["CodeResult"]) for answer in answers] == [
        (200, "100"),
        (200, "160"),
    ]


async def test_a_fault_of_one_endpoint_leaves_the_other_alone(esms: EsmsSimulator, client: httpx.AsyncClient) -> None:
    esms.inject(Fault(kind="status", status=404, endpoint="GetFollowers", times=0))

    assert (await get_followers(client, esms)).status_code == 404
    assert (await get_followers(client, esms, method="QueryListUID")).status_code == 200
