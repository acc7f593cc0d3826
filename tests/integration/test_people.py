"""What a consumer reads of people: phones, ids, names; through a worker, a nats-server and a provider over HTTP."""

import json
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from schemas import FollowerPage, JobCompleted, JobEvent, JobFailed, decode
from schemas.subjects import DEAD_STREAM, EVENTS_STREAM, job_subject, page_subject
from schemas.wire import encode
from tests.integration import stage
from tests.integration.hostile import Answering, hostile, saying
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

PHONES: dict[Any, tuple[str | None, str | None]] = {
    "0912345678": ("+84912345678", "0912345678"),
    "+84912345678": ("+84912345678", None),
    84912345678: ("+84912345678", "84912345678"),
    "+61 (0)412 345 678": ("+61412345678", "+61 (0)412 345 678"),
    "1234567890": (None, "1234567890"),
    "01234567890": ("+84834567890", "01234567890"),
    "0912‑345‑678": ("+84912345678", "0912‑345‑678"),
    "0912–345–678": ("+84912345678", "0912–345–678"),
    "'0912345678": ("+84912345678", "'0912345678"),
    "tel:+84912345678": ("+84912345678", "tel:+84912345678"),
    "0912000111 / 0912000112": (None, "0912000111 / 0912000112"),
    "0011 65 8234 5678": (None, "0011 65 8234 5678"),
    "(08) 3825 1234": (None, "(08) 3825 1234"),
    "(028) 3825 1234": ("+842838251234", "(028) 3825 1234"),
    "8 (495) 123-45-67": (None, "8 (495) 123-45-67"),
    "028 3825 123/4": (None, "028 3825 123/4"),
    "-84912345678": (None, "-84912345678"),
    "+39 (0)312 345 6075": (None, "+39 (0)312 345 6075"),
    "": (None, None),
}
LONG_NAME = "Nguyễn Thị Ngọc Ánh 각 " * 80
DISTRICT = {"address": "", "city": "", "district": "Quận 3", "ward": "", "name": "", "phone": ""}


def listing(*rows: dict[str, Any]) -> str:
    people = [{"zl_user_id": str(number + 1), **row} for number, row in enumerate(rows)]
    return json.dumps({"followers": people, "paging": {"next": ""}}, ensure_ascii=False)


def followers(*user_ids: str) -> str:
    rows = ", ".join(f'{{"User_Id": {user_id}}}' for user_id in user_ids)
    return f'{{"CodeResult": "100", "ErrorMessage": "success", "Followers": [{rows}], "Total": {len(user_ids)}}}'


ANSWERS: dict[str, Answering] = {
    "phones": saying(listing(*({"phone": phone, "shared_info": {"phone": phone}} for phone in PHONES))),
    # Beside a field of another type, the row takes the loose way.
    "loose-phones": saying(listing(*({"phone": phone, "created_at": ""} for phone in PHONES))),
    "names": saying(
        listing(
            {"full_name": unicodedata.normalize("NFD", LONG_NAME), "gender": 0, "shared_info": DISTRICT},
            {"full_name": "a" + "\u0301\u0327" * 5_000, "gender": 1},
        )
    ),
    "raw-byte": saying(listing({"created_at": "", "full_name": "Lê BYTE"}).encode().replace(b"BYTE", b"\xff")),
    "float-id": saying(listing({}, {"zl_user_id": "7.80037850192385E+18"})),
    "blank-id": saying(listing({"zl_user_id": " 123 "}, {"zl_user_id": " 124", "created_at": ""})),
    "esms-float-id": saying(followers('"123"', '"7.80037850192385E+18"')),
    "esms-zeros": saying(followers('"123"', '"00"')),
    "esms-blank-id": saying(followers('" 123 "', "124")),
}


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server() as server:
        yield server


@pytest.fixture(scope="module")
async def client(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,)))
    await reconcile(client, TopologyConfig(ack_wait=2))
    async with hostile(ANSWERS) as provider:
        sections = stage.sections_for(
            server.url,
            {name: account(name, provider.url) for name in ANSWERS},
            worker={"retry_for": 0.3},
        )
        async with stage.replica(sections, tmp_path_factory.mktemp("people")):
            yield client
    await client.close()


def provider_of(name: str) -> str:
    return "esms" if name.startswith("esms") else "etelecom"


def account(name: str, url: str) -> dict[str, Any]:
    if provider_of(name) == "esms":
        keys = {"api_key": "A", "secret_key": "S", "endpoint": "GetFollowers"}
        return {"provider": "esms", "base_url": f"{url}/{name}", "rate_limit": 0.0, **keys}
    return {"provider": "etelecom", "base_url": f"{url}/{name}/v1/shop", "api_key": "1:x", "rate_limit": 0.0}


async def ended(client: Client, name: str) -> JobEvent:
    """Order the list of that account; return the event that its job ends with."""
    provider = provider_of(name)
    command = encode({"provider": provider, "oa_id": "1", "id": name, "account": name})
    ack = await client.jetstream().publish(f"followers.fetch.{provider}", command)
    await stage.command_settled(client, ack.seq)
    last = await client.jetstream().get_last_msg(EVENTS_STREAM, job_subject(provider, "1", name))  # type: ignore[arg-type]
    event: JobEvent = decode(last.data or b"", JobEvent)
    return event


async def page_of(client: Client, name: str) -> FollowerPage:
    assert isinstance(await ended(client, name), JobCompleted)
    subject = page_subject(provider_of(name), "1", name)  # type: ignore[arg-type]
    return decode((await client.jetstream().get_last_msg(EVENTS_STREAM, subject)).data or b"", FollowerPage)


@pytest.mark.parametrize("name", ["phones", "loose-phones"])
async def test_phones_are_the_persons_own_or_none_and_kept_as_they_came(client: Client, name: str) -> None:
    page = await page_of(client, name)

    assert [(one.phone, one.phone_raw) for one in page.followers] == list(PHONES.values())
    if name == "phones":
        shared = [one.shared_info.phone if one.shared_info else None for one in page.followers]
        assert shared == [number or raw for number, raw in PHONES.values()]


async def test_long_names_are_nfc_as_a_whole_and_nobody_is_lost_for_a_bare_district(client: Client) -> None:
    first, second = (await page_of(client, "names")).followers

    assert first.display_name == LONG_NAME
    assert second.display_name is not None
    assert unicodedata.is_normalized("NFC", second.display_name)
    assert (first.gender, second.gender) == ("unknown", "male")
    assert first.shared_info is not None
    assert encode(first.shared_info) == '{"district":"Quận 3"}'.encode()


@pytest.mark.parametrize("name", ["raw-byte", "float-id", "esms-float-id", "esms-zeros"])
async def test_what_cannot_be_read_whole_fails_as_bad_response(client: Client, name: str) -> None:
    end = await ended(client, name)

    assert isinstance(end, JobFailed)
    assert end.error.code == "bad_response"
    assert not [word for word in ("7.8", "Lê") if word in end.error.message]
    dead = await client.jetstream().get_last_msg(DEAD_STREAM, f"followers.dead.{provider_of(name)}")
    assert (dead.headers or {})["Followers-Job-Id"] == name
    assert (dead.headers or {})["Followers-Error-Code"] == "bad_response"


@pytest.mark.parametrize("name", ["blank-id", "esms-blank-id"])
async def test_blanks_around_an_id_are_no_part_of_it(client: Client, name: str) -> None:
    page = await page_of(client, name)

    assert [one.user_id for one in page.followers] == ["123", "124"]
