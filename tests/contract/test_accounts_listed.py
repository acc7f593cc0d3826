"""Which Official Accounts an account lists, over a real socket: the answers of `followers doctor`."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.contract.providers_kit import FileSecret
from worker.core.account import EsmsAccount, EtelecomAccount
from worker.core.errors import FetchFailure
from worker.providers.doctor import OfficialAccount, official_accounts


class Provider:
    """Answers by the last part of the path with a status and a body, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, Any]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = lines[0].split(" ")[1]
        self.asked.append((path, json.loads(body) or headers.get("authorization")))
        status, answer = self.answers.get(path, (404, {"code": "bad_route"}))
        data = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


def etelecom(provider: Any, path: str = "/v1/shop", key: str = "1:key") -> EtelecomAccount:
    return EtelecomAccount(name="shop", base_url=provider.url + path, api_key=FileSecret(key), rate_limit=0)


def esms(provider: Any) -> EsmsAccount:
    keys = {"api_key": FileSecret("AK"), "secret_key": FileSecret("SK")}
    return EsmsAccount(name="sms", base_url=provider.url + "/", endpoint="auto", rate_limit=0, **keys)


async def failing(account: Any) -> FetchFailure:
    with pytest.raises(FetchFailure) as raised:
        await official_accounts(account)
    return raised.value


LIST = "/v1/shop.Zalo/ListOA"
ESMS_LIST = "/MainService.svc/json/ZNS/GetListZOA/"


async def test_etelecoms_list_is_read_with_what_it_says_of_each(provider: Provider) -> None:
    rows = [
        {"oa_id": "7", "name": "Shop", "status": "P", "expires_at": "2026-03-01T00:00:00Z"},
        {"zl_oa_id": 8, "oa_name": "Other", "status": "N"},
        {"id": "9", "status": 1},
        {"name": "nobody"},
        "10",
    ]
    provider.answers[LIST] = (200, {"paging": {}, "official_accounts": rows})

    found = await official_accounts(etelecom(provider, "/v1/shop/"))

    assert found == [
        OfficialAccount(oa_id="7", name="Shop", connected=True, expires_at=datetime(2026, 3, 1, tzinfo=UTC)),
        OfficialAccount(oa_id="8", name="Other", connected=False),
        OfficialAccount(oa_id="9"),
        OfficialAccount(oa_id="10"),
    ]
    assert provider.asked == [(LIST, "Bearer 1:key")]


async def test_without_a_list_the_key_is_tried_another_way(provider: Provider) -> None:
    provider.answers["/v1/shop.Misc/CurrentAccount"] = (200, {})

    assert await official_accounts(etelecom(provider)) is None
    assert [path for path, _ in provider.asked] == [LIST, "/v1/shop.Misc/CurrentAccount"]


async def test_an_answer_without_any_list_says_that_there_is_none(provider: Provider) -> None:
    provider.answers[LIST] = (200, {"something": {"else": 1}})
    assert await official_accounts(etelecom(provider)) is None
    provider.answers[LIST] = (200, [])
    assert await official_accounts(etelecom(provider)) is None


async def test_etelecoms_refusal_is_told(provider: Provider) -> None:
    provider.answers[LIST] = (401, {"code": "unauthenticated", "msg": "no such key 1:key"})

    error = await failing(etelecom(provider))

    assert (error.code, error.http_status) == ("unauthorized", 401)
    assert error.message.startswith("eTelecom Zalo/ListOA at 127.0.0.1 refused with unauthenticated: “no such ")
    assert "1:key" not in error.message


@pytest.mark.parametrize("key", ["", "a b", "a\n"])
async def test_a_key_that_none_can_be_is_not_sent(provider: Provider, key: str) -> None:
    error = await failing(etelecom(provider, key=key))

    assert error.code == "unauthorized"
    assert error.message.startswith("accounts.shop.api_key is empty or holds blanks")
    assert provider.asked == []


@pytest.mark.parametrize("path", ["", "/"])
async def test_an_address_without_a_path_is_not_asked(provider: Provider, path: str) -> None:
    error = await failing(etelecom(provider, path))

    assert (error.code, error.requests) == ("not_found", 0)
    assert error.message == "accounts.shop.base_url has no path: eTelecom's ends in /v1/shop or /v1/partner"
    assert provider.asked == []


@pytest.mark.parametrize("name", ["CodeResult", "CodeResponse", "code_result"])
async def test_esms_list_is_read_whatever_its_code_is_called(provider: Provider, name: str) -> None:
    provider.answers[ESMS_LIST] = (200, {name: " 100 ", "ZOAList": [{"OAID": "5", "OAName": "Five"}]})

    assert await official_accounts(esms(provider)) == [OfficialAccount(oa_id="5", name="Five")]
    assert provider.asked == [(ESMS_LIST, {"ApiKey": "AK", "SecretKey": "SK"})]


@pytest.mark.parametrize("name", ["ErrorMessage", "Message"])
async def test_esms_refusal_is_told_in_its_words_without_keys(provider: Provider, name: str) -> None:
    provider.answers[ESMS_LIST] = (200, {"CodeResult": "101", name: "wrong AK or SK"})

    error = await failing(esms(provider))

    assert (error.code, error.provider_code) == ("unauthorized", "101")
    assert error.message.startswith("eSMS GetListZOA at 127.0.0.1 refused with code 101: “wrong ")
    assert "AK" not in error.message
    assert "accounts.sms.api_key" in error.message


async def test_esms_without_a_code_is_no_esms(provider: Provider) -> None:
    provider.answers[ESMS_LIST] = (200, {"hello": "world"})

    error = await failing(esms(provider))

    assert error.code == "provider_unavailable"
    assert error.message.startswith("eSMS GetListZOA at 127.0.0.1 answered HTTP 200 with JSON without CodeResult")


async def test_esms_status_speaks_where_it_is_no_200(provider: Provider) -> None:
    provider.answers[ESMS_LIST] = (503, {"CodeResult": "100", "list": []})

    assert (await failing(esms(provider))).code == "provider_unavailable"
