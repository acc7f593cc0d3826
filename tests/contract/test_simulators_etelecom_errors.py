"""What eTelecom refuses, and how it says so (PROVIDERS 1.2, 1.3, 1.4), over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from worker.providers.etelecom.simulator.cursor import Cursor, encode
from worker.providers.simulators import OA_ID, PARTNER_KEY, SHOP_KEY, EtelecomConfig, EtelecomSimulator, Simulator

SECRET = "A" * 32


@pytest.fixture
async def simulator() -> AsyncIterator[EtelecomSimulator]:
    async with Simulator(EtelecomConfig(followers={OA_ID: 250})) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


async def ask(
    client: httpx.AsyncClient, url: str, body: object = None, *, key: str | None = SHOP_KEY, **options: Any
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    if key is not None:
        headers.setdefault("Authorization", f"Bearer {key}")
    sent = {"content": body} if isinstance(body, bytes) else {"json": body if body is not None else {}}
    response = await client.post(f"{url}.Zalo/ListFollowers", headers=headers, **sent)
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.json()


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic eDp5", f"bearer {SHOP_KEY}", SHOP_KEY])
async def test_a_missing_token_or_another_scheme_is_401(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, header: str | None
) -> None:
    """PROVIDERS 1.2: no or blank token, or a scheme other than "Bearer "."""
    headers = {} if header is None else {"Authorization": header}
    status, error = await ask(client, simulator.shop_url, key=None, headers=headers)

    assert (status, error["code"]) == (401, "unauthenticated")
    assert simulator.requests[-1].auth == "missing"


@pytest.mark.parametrize(
    ("path", "key", "status", "code", "auth"),
    [
        ("shop", "no-colon-here", 401, "unauthenticated", "malformed"),
        ("shop", f"1:{SECRET}", 401, "unauthenticated", "unknown"),
        ("shop", PARTNER_KEY, 401, "unauthenticated", "wrong_type"),
        ("partner", SHOP_KEY, 401, "unauthenticated", "wrong_type"),
        ("partner", f"shop1:{SECRET}", 403, "permission_denied", "unknown"),
        ("partner", "shop:", 401, "unauthenticated", "malformed"),
    ],
)
async def test_a_wrong_key_is_401_but_a_well_formed_unknown_shop_key_is_403(
    simulator: EtelecomSimulator,
    client: httpx.AsyncClient,
    path: str,
    key: str,
    status: int,
    code: str,
    auth: str,
) -> None:
    """PROVIDERS 1.2."""
    got, error = await ask(client, f"{simulator.url}/v1/{path}", key=key)

    assert (got, error["code"]) == (status, code)
    assert simulator.requests[-1].auth == auth
    if status == 401:
        assert error["msg"] == "api_key không hợp lệ"


async def test_bad_json_with_a_bad_key_is_400_because_decoding_comes_first(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.2: order of checks."""
    status, error = await ask(client, simulator.shop_url, b"{", key="bad")

    assert (status, error["code"]) == (400, "malformed")
    assert error["msg"] == "the json request could not be decoded"
    assert error["meta"]["cause"]


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b'"x"', b"{]", b"\xff", b'{"filter":3}'])
async def test_a_body_that_is_no_object_is_400(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, body: bytes
) -> None:
    """PROVIDERS 1.2: malformed JSON."""
    assert (await ask(client, simulator.shop_url, body))[0] == 400


async def test_a_null_body_is_an_empty_request(simulator: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.2: Go's JSON."""
    assert (await ask(client, simulator.shop_url, b"null"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "content_type", "says"),
    [
        ("GET", "/v1/shop.Zalo/ListFollowers", "application/json", 'unsupported method "GET"'),
        ("POST", "/v1/shop.Zalo/ListFollowers", None, 'unexpected Content-Type: ""'),
        ("POST", "/v1/shop.Zalo/ListFollowers", "text/plain", 'unexpected Content-Type: "text/plain"'),
        ("POST", "/v1/shop/.Zalo/ListFollowers", "application/json", "no handler for path"),
        ("POST", "/v1/shop.Zalo/Nothing", "application/json", "no handler for path"),
        ("POST", "/", "application/json", "no handler for path"),
    ],
)
async def test_a_wrong_verb_content_type_or_path_is_a_bad_route(
    simulator: EtelecomSimulator,
    client: httpx.AsyncClient,
    method: str,
    path: str,
    content_type: str | None,
    says: str,
) -> None:
    """PROVIDERS 1.2: 404 bad_route before anything else is looked at."""
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.request(method, simulator.url + path, content=b"{", headers=headers)

    assert response.status_code == 404
    assert response.json()["code"] == "bad_route"
    assert says in response.json()["msg"]
    assert response.json()["meta"] == {"invalid_route": f"{method} {path}"}


async def test_a_charset_after_the_content_type_is_fine(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.2."""
    headers = {"Content-Type": "application/json; charset=utf-8"}

    assert (await ask(client, simulator.shop_url, b"{}", headers=headers))[0] == 200


async def test_custom_codes_can_hide_behind_standard_ones(client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.2: reported under the standard code with meta.xcode."""
    async with Simulator(EtelecomConfig(custom_codes="xcode")) as simulator:
        _, malformed = await ask(client, simulator.shop_url, b"{")
        route = (await client.get(f"{simulator.shop_url}.Zalo/ListFollowers")).json()

    assert (malformed["code"], malformed["meta"]["xcode"]) == ("invalid_argument", "malformed")
    assert (route["code"], route["meta"]["xcode"]) == ("not_found", "bad_route")


async def test_an_oa_of_somebody_else_is_not_found(simulator: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.2: status map."""
    status, error = await ask(client, simulator.shop_url, {"filter": {"oa_id": "999"}})

    assert (status, error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("paging", "says"),
    [
        ({"limit": -1}, "paging is invalid (limit outside of range)"),
        ({"after": ".", "before": "."}, "paging is invalid"),
        ({"after": "garbage"}, "paging is invalid (cursor"),
        (
            {"after": encode(Cursor((("started_at", 1), ("id", 2)), descending=True))},
            "paging is invalid (sort by started_at",
        ),
        ({"sort": "id"}, "can not sort by id"),
        ({"sort": "-id"}, "can not sort by id"),
        ({"sort": "started_at"}, "sort by started_at is not allowed"),
        ({"sort": "colour"}, "sorting by colour is not supported"),
        ({"sort": "created_at,updated_at"}, "only one sort field"),
        (
            {"sort": "created_at", "after": encode(Cursor((("id", 2),), descending=True))},
            "(sort does not match)",
        ),
        (
            {"sort": "created_at", "after": encode(Cursor((("created_at", 1), ("id", 2)), descending=True))},
            "(sort does not match)",
        ),
    ],
)
async def test_paging_that_cannot_be_is_400(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, paging: object, says: str
) -> None:
    """PROVIDERS 1.4."""
    status, error = await ask(client, simulator.shop_url, {"paging": paging})

    assert (status, error["code"]) == (400, "invalid_argument")
    assert says in error["msg"]


@pytest.mark.parametrize(
    "body",
    [
        {"paging": {"limit": "100"}},
        {"paging": {"limit": 1.5}},
        {"paging": {"after": 1}},
        {"filter": {"oa_id": "my-oa"}},
        {"filter": {"oa_id": True}},
        {"filter": {"zl_user_ids": ["x"]}},
        {"filter": {"zl_user_ids": "1"}},
        {"filter": {"assigned_user_id": str(2**63)}},
        {"filter": {"gender": "robot"}},
        {"filter": {"gender": 9}},
        {"filter": {"state": "blocked"}},
        {"filter": {"has_conversation": "yes"}},
        {"filter": {"tags": [1]}},
        {"filter": {"name": 5}},
        {"filter": {"date_from": "yesterday"}},
        {"filter": {"date_from": "2024-01-01T00:00:00"}},
    ],
)
async def test_a_value_of_the_wrong_type_is_400(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, body: object
) -> None:
    """PROVIDERS 1.3: quoted limit, non-numeric id, unknown enum name, time without an offset."""
    status, error = await ask(client, simulator.shop_url, body)

    assert (status, error["code"]) == (400, "malformed")
    assert error["meta"]["cause"].startswith("json: ")


async def test_dates_the_wrong_way_round_are_400(simulator: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.3: date_to >= date_from else 400."""
    dates = {"date_from": "2024-01-02T00:00:00Z", "date_to": "2024-01-01T00:00:00Z"}

    assert (await ask(client, simulator.shop_url, {"filter": dates}))[0] == 400


async def test_one_date_alone_can_be_made_an_error(client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.3: both ends or neither, as for call logs."""
    async with Simulator(EtelecomConfig(require_both_dates=True)) as simulator:
        status, error = await ask(client, simulator.shop_url, {"filter": {"date_from": "2024-01-02T00:00:00Z"}})

    assert (status, error["msg"]) == (400, "must provide both DateFrom and DateTo")
