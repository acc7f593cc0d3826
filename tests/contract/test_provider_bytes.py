"""Whatever bytes a provider answers with, its reader ends in a page or in one of our errors."""

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from schemas import FetchEtelecomFollowers
from tests.contract.providers_kit import account, answering, client_of, command, ids, saying
from worker.core.errors import BadResponseError, FetchFailure
from worker.providers.doctor import official_accounts
from worker.providers.esms.rows import read_answer
from worker.providers.etelecom.errors import failure
from worker.providers.etelecom.rows import read_page
from worker.providers.http.client import Answer

SEED = 11
ROW: dict[str, Any] = {
    "id": "7374000123336164545",
    "shop_id": "1150000000000000001",
    "zl_user_id": "1438251841810134353",
    "zl_user_id_by_app": "36534203252110606",
    "assigned_user_id": "0",
    "full_name": "Lê Văn Mẫu",
    "avatar": "https://avatar.example.invalid/1",
    "avatars": {"120": "https://avatar.example.invalid/120"},
    "gender": "male",
    "phone": "0912000111",
    "state": "follow",
    "has_conversation": True,
    "shared_info": {"address": "11 Đường Mẫu", "city": "Huế", "district": "Quận", "ward": "Một", "phone": 84912000111},
    "tags_and_notes_info": {"notes": ["gọi lại"], "tag_names": ["VIP"]},
    "created_at": "2026-01-31T07:00:00Z",
    "updated_at": "2026-02-01T00:00:00Z",
}
RAW = "\ue000"
"""Stands for the byte 0xFF, which no UTF-8 has."""
READ_FIELDS = ["id", "shop_id", "zl_user_id", "zl_user_id_by_app", "assigned_user_id", "full_name", "avatar", "phone"]


def page_of(*rows: Any) -> bytes:
    text = json.dumps({"followers": rows, "paging": {"next": "n"}}, ensure_ascii=False)
    return text.encode().replace(RAW.encode(), b"\xff")


@pytest.mark.parametrize(
    "odd", [{}, {"created_at": ""}, {"created_at": 5, "gender": []}], ids=["typed", "loose", "odd"]
)
@pytest.mark.parametrize(
    "broken",
    [
        *({name: f"12{RAW}3"} for name in READ_FIELDS),
        {"gender": RAW}, {"state": RAW}, {"shared_info": {"name": RAW}}, {"avatars": {RAW: "u"}},
        {"avatars": {"120": RAW}}, {"tags_and_notes_info": {"notes": [RAW], "tag_names": []}},
    ],
    ids=str,
)  # fmt: skip
def test_a_byte_that_is_no_utf_8_is_asked_for_again_whatever_stands_beside_it(
    broken: dict[str, Any], odd: dict[str, Any]
) -> None:
    for row in ({**ROW, **odd, **broken}, {**broken, **ROW, **odd, **broken}, {**odd, **ROW, **odd, **broken}):
        with pytest.raises(BadResponseError) as caught:
            read_page(page_of(ROW, row), "eTelecom")

        assert "Mẫu" not in str(caught.value)


@pytest.mark.parametrize("odd", [{}, {"created_at": ""}], ids=["typed", "loose"])
def test_half_an_emoji_does_not_hold_up_the_list_whatever_stands_beside_it(odd: dict[str, Any]) -> None:
    body = page_of(ROW, {**odd, **ROW, **odd, "full_name": "Mẫu HALF"}).replace(b"HALF", rb"\ud83d")

    followers = read_page(body, "eTelecom").followers

    assert [one.display_name for one in followers] == ["Lê Văn Mẫu", "Mẫu \ufffd"]


@pytest.mark.parametrize("deep", [b"[" * 2000 + b"]" * 2000, b'{"a":' * 2000 + b"1" + b"}" * 2000])
def test_a_row_nested_too_deeply_is_refused_beside_a_field_of_another_type(deep: bytes) -> None:
    for name in ("created_at", "shared_info", "unknown"):
        body = page_of(ROW, {"gender": [], **ROW, name: "DEEP", "phone": {}}).replace(b'"DEEP"', deep)

        with pytest.raises(BadResponseError, match="nested"):
            read_page(body, "eTelecom")


BODIES: dict[str, bytes] = {
    "eTelecom": page_of(ROW, {**ROW, "created_at": ""}, {**ROW, "id": 5}),
    "GetFollowers": json.dumps(
        {
            "CodeResult": "100",
            "ErrorMessage": "success",
            "Followers": [{"User_Id": "78"}, {"User_Id": "79"}],
            "Total": 2,
        }
    ).encode(),
    "QueryListUID": json.dumps({"CodeResult": "100", "Data": {"Users": ["78", "79"], "Total": 2, "Count": 2}}).encode(),
    "eTelecom's error": json.dumps({"code": "invalid_argument", "msg": "x", "meta": {"xcode": "malformed"}}).encode(),
    "eSMS's error": json.dumps({"CodeResult": "101", "ErrorMessage": "Authorize Failed"}).encode(),
}
READERS: dict[str, Callable[[bytes], object]] = {
    "eTelecom": lambda body: read_page(body, "eTelecom"),
    "GetFollowers": lambda body: read_answer(Answer(200, body), "GetFollowers", "mine", "eSMS", ("a", "s")),
    "QueryListUID": lambda body: read_answer(Answer(200, body), "QueryListUID", "mine", "eSMS", ("a", "s")),
    "eTelecom's error": lambda body: failure(
        Answer(400, body), FetchEtelecomFollowers(oa_id="1"), None, "mine", "eTelecom", "1:key"
    ),
    "eSMS's error": lambda body: read_answer(Answer(200, body), "GetFollowers", "mine", "eSMS", ("a", "s")),
}
PIECES = [
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", rb"\ud83d", rb"\u0000", b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":",
    b"null", b"true", b"1e999", b"-", b"0", b"9" * 5000, b'""', b"[]", b"{}", b"5", b"5.5", b"1e3", b"NaN", b'"\xff"',
]  # fmt: skip


def damaged(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(4):
            case 0:
                body = body[:at] + rng.choice(PIECES) + body[at:]
            case 1:
                body = body[:at] + body[at + rng.randint(1, 9) :]
            case 2:
                body = body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
            case _:
                # A whole value in place of another: what stays JSON reaches furthest.
                values = body.split(b":")
                place = rng.randrange(len(values))
                end = min((found for sign in (b",", b"}", b"]") if (found := values[place].find(sign)) >= 0), default=0)
                values[place] = rng.choice(PIECES) + values[place][end:]
                body = b":".join(values)
    return body


def end_of(read: Callable[[bytes], object], body: bytes) -> str:
    """`read`, or the code of our error; nothing else may be raised."""
    try:
        found = read(body)
    except FetchFailure as error:
        return error.code
    return found.code if isinstance(found, FetchFailure) else "read"


UNDAMAGED = {"eTelecom's error": "invalid_command", "eSMS's error": "unauthorized"}


@pytest.mark.parametrize("reader", READERS)
def test_damaged_answers_end_in_a_page_or_in_one_of_our_errors(reader: str) -> None:
    rng, ends = random.Random(SEED), Counter[str]()

    for _ in range(8000):
        ends[end_of(READERS[reader], damaged(rng, BODIES[reader]))] += 1

    assert ends["internal"] == 0
    assert ends[UNDAMAGED.get(reader, "read")] > 200
    assert ends["bad_response"] > 300
    assert ends["bad_response"] + ends["provider_unavailable"] > 1000


@pytest.mark.parametrize("variant", ["shop", "partner"])
async def test_over_http_too_such_a_row_is_refused_and_read_once_it_is_right(variant: str) -> None:
    body = page_of({**{"created_at": ""}, **ROW, "created_at": "", "full_name": f"Lê {RAW}"})
    async with client_of(variant, saying(body)) as client:
        with pytest.raises(BadResponseError) as caught:
            await client.fetch(command(variant), None)
    assert caught.value.code == "bad_response"

    async with client_of(variant, saying(page_of({**ROW, "created_at": ""}))) as client:
        assert ids([await client.fetch(command(variant), None)]) == [ROW["zl_user_id"]]


@pytest.mark.parametrize("variant", ["shop", "GetFollowers"])
@pytest.mark.parametrize("value", [b'"\xff"', b"9" * 5000, b"1e999", b'"\xed\xa0\x80"'])
async def test_doctor_reads_a_damaged_list_of_official_accounts_as_one_of_our_errors(
    variant: str, value: bytes
) -> None:
    body = b'{"code": "ok", "CodeResult": "100", "ZOAList": [{"OAID": "5", "Name": ' + value + b"}]}"
    async with answering(saying(body)) as url:
        with pytest.raises(FetchFailure) as caught:
            await official_accounts(account(variant, url))

    assert caught.value.code == "bad_response"
