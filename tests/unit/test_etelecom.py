"""eTelecom's answers, byte by byte, become pages or the right error."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas import EtelecomFilter, FetchEtelecomFollowers, Follower, SharedInfo
from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnsupportedError,
)
from worker.core.ports.provider import ProviderPage
from worker.providers.etelecom import rows as etelecom_rows
from worker.providers.etelecom.errors import NotToBeRepeated, failure, not_to_be_repeated
from worker.providers.etelecom.rows import read_page
from worker.providers.http.client import Answer

RICH = {
    "id": "7374000123336164545",
    "shop_id": "1150000000000000001",
    "oa_id": "2801000000000000001",
    "zl_user_id": "1438251841810134353",
    "zl_user_id_by_app": "36534203252110606",
    "assigned_user_id": "1149000000000000011",
    "full_name": "Lê Văn Mẫu",
    "avatar": "https://avatar.example.invalid/1",
    "avatars": {"120": "https://avatar.example.invalid/120", "240": "https://avatar.example.invalid/240"},
    "gender": "male",
    "phone": "0912000111",
    "state": "follow",
    "has_conversation": True,
    "shared_info": {
        "address": "11 Đường Mẫu", "city": "Hà Nội", "district": "Quận Thử", "ward": "Phường Một",
        "name": "Lê Mẫu", "phone": 84912000111,
    },
    "tags_and_notes_info": {"notes": ["gọi lại"], "tag_names": ["VIP"]},
    "created_at": "2026-01-31T07:00:00.5+07:00",
    "updated_at": "2026-02-01T00:00:00Z",
    "last_conversation": {"message": "a private word"},
}  # fmt: skip
READ = Follower(
    user_id="1438251841810134353",
    user_id_by_app="36534203252110606",
    provider_id="7374000123336164545",
    shop_id="1150000000000000001",
    display_name="Lê Văn Mẫu",
    avatar="https://avatar.example.invalid/1",
    avatars={"120": "https://avatar.example.invalid/120", "240": "https://avatar.example.invalid/240"},
    gender="male",
    state="follow",
    phone="+84912000111",
    phone_raw="0912000111",
    shared_info=SharedInfo(
        name="Lê Mẫu",
        phone="+84912000111",
        address="11 Đường Mẫu",
        ward="Phường Một",
        district="Quận Thử",
        city="Hà Nội",
    ),
    tags=["VIP"],
    notes=["gọi lại"],
    assigned_user_id="1149000000000000011",
    has_conversation=True,
    created_at=datetime(2026, 1, 31, 0, 0, 0, 500_000, tzinfo=UTC),
    updated_at=datetime(2026, 2, 1, tzinfo=UTC),
)


def page(*rows: Any, paging: Any = {"next": "n"}) -> ProviderPage:  # noqa: B006 - never changed
    return read_page(json.dumps({"followers": list(rows), "paging": paging}).encode(), "eTelecom")


def only(**changes: Any) -> Follower:
    """The follower that the rich row with changes gives."""
    return page({**RICH, **changes}).followers[0]


def test_every_field_is_read() -> None:
    assert page(RICH) == ProviderPage(followers=[READ], next_cursor="n", total=None)


def test_rows_are_decoded_into_the_very_fields_that_are_published() -> None:
    assert set(etelecom_rows._Row.__struct_fields__) == set(Follower.__struct_fields__)
    assert set(etelecom_rows._SharedInfo.__struct_fields__) == set(SharedInfo.__struct_fields__)

    follower = page(RICH).followers[0]

    assert type(follower) is Follower
    assert type(follower.shared_info) is SharedInfo
    assert msgspec.json.decode(msgspec.json.encode(follower), type=Follower) == READ
    with pytest.raises(AttributeError):
        follower.user_id = "1"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["notes", "phone_raw", "(notes)", "(phone_raw)", "tags", "user_id", "display_name"])
@pytest.mark.parametrize("value", ["a private word", ["a private word"], {"a": "private word"}, 7, None])
def test_what_only_looks_like_a_field_of_ours_is_not_passed_on(name: str, value: object) -> None:
    assert page({**RICH, name: value}).followers[0] == READ
    assert page({"zl_user_id": "7", name: value}).followers[0] == Follower(user_id="7")


def test_a_row_with_nothing_but_an_id_is_a_follower() -> None:
    assert page({"zl_user_id": "1"}).followers == [Follower(user_id="1")]


@pytest.mark.parametrize("nothing", [None, "", "0"])
def test_null_empty_and_zero_are_nothing(nothing: str | None) -> None:
    bare = dict.fromkeys(("id", "shop_id", "zl_user_id_by_app", "assigned_user_id"), nothing)
    texts = dict.fromkeys(("full_name", "avatar", "phone", "gender", "state"), nothing or None)
    nulls = dict.fromkeys(
        ("avatars", "has_conversation", "shared_info", "tags_and_notes_info", "created_at", "updated_at")
    )

    follower = page({"zl_user_id": "1", **bare, **(texts if nothing != "0" else {}), **nulls}).followers[0]

    assert follower == Follower(user_id="1")


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"id": 7374000123336164545}, "provider_id", "7374000123336164545"),
        ({"assigned_user_id": 0}, "assigned_user_id", None),
        ({"gender": "prefer_not_to_say"}, "gender", "unknown"),
        ({"gender": "unknown"}, "gender", "unknown"),
        ({"gender": "female"}, "gender", "female"),
        ({"gender": "other"}, "gender", "other"),
        ({"gender": None}, "gender", None),
        ({"gender": None, "created_at": ""}, "gender", None),
        ({"gender": "other", "created_at": ""}, "gender", "other"),
        ({"gender": 0}, "gender", "unknown"),
        ({"gender": 1}, "gender", "male"),
        ({"gender": 2}, "gender", "female"),
        ({"gender": 3}, "gender", "other"),
        ({"gender": 4}, "gender", "unknown"),
        ({"gender": -1}, "gender", "unknown"),
        ({"gender": "0"}, "gender", "unknown"),
        ({"gender": True}, "gender", "unknown"),
        ({"gender": False}, "gender", "unknown"),
        ({"gender": 1.0}, "gender", "unknown"),
        ({"gender": ["x"]}, "gender", "unknown"),
        ({"gender": ""}, "gender", None),
        ({"state": "unknown"}, "state", None),
        ({"state": "blocked"}, "state", None),
        ({"state": 1}, "state", None),
        ({"phone": 84912000111}, "phone", "+84912000111"),
        ({"phone": {"x": 1}}, "phone", None),
        ({"full_name": "Le\u0302 Va\u0306n Ma\u0302\u0303u"}, "display_name", "Lê Văn Mẫu"),
        ({"full_name": 12}, "display_name", "12"),
        ({"avatars": {"120": None, "240": "u"}}, "avatars", {"240": "u"}),
        ({"avatars": {"120": ""}}, "avatars", {}),
        ({"avatars": []}, "avatars", {}),
        ({"has_conversation": "true"}, "has_conversation", True),
        ({"shared_info": {}}, "shared_info", None),
        ({"shared_info": dict.fromkeys(("name", "phone", "city"), "")}, "shared_info", None),
        ({"shared_info": []}, "shared_info", None),
        ({"shared_info": {"name": 5, "phone": "12345"}}, "shared_info", SharedInfo(name="5", phone="12345")),
        ({"tags_and_notes_info": {"notes": None, "tag_names": [1, None, "", "a"]}}, "tags", ["1", "a"]),
        ({"tags_and_notes_info": {"notes": [{"note": "x"}]}}, "notes", []),
        ({"tags_and_notes_info": "x"}, "tags", []),
        ({"created_at": "0001-01-01T00:00:00Z"}, "created_at", None),
        ({"created_at": "0001-01-01T00:00:00.000+07:00"}, "created_at", None),
        ({"created_at": ""}, "created_at", None),
        ({"created_at": "2026-01-31T00:00:00"}, "created_at", None),
        ({"created_at": 1769817600}, "created_at", None),
        ({"created_at": "1970-01-01T00:00:00Z"}, "created_at", None),
        ({"created_at": "1970-01-01T00:00:01Z"}, "created_at", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ({"updated_at": "2026-01-31T23:59:60Z"}, "updated_at", None),
        ({"updated_at": "0001-01-01T00:00:00Z"}, "updated_at", None),
        ({"updated_at": "1970-01-01T00:00:00Z"}, "updated_at", None),
        ({"updated_at": "2026-01-31T07:00:00+07:00"}, "updated_at", datetime(2026, 1, 31, tzinfo=UTC)),
        ({"updated_at": "2026-01-31T00:00:00"}, "updated_at", None),
        ({"state": "unfollow"}, "state", "unfollow"),
        ({"state": "unfollow", "created_at": ""}, "state", "unfollow"),
        ({"state": ""}, "state", None),
        ({"avatar": ""}, "avatar", None),
        ({"full_name": "Lê"}, "display_name", "Lê"),
    ],
)
def test_what_varies_is_read_without_losing_the_rest(changes: dict[str, Any], field: str, value: object) -> None:
    follower = only(**changes)

    assert getattr(follower, field) == value
    assert follower.user_id == READ.user_id
    assert [getattr(follower, name) for name in ("provider_id", "shop_id")] == [
        READ.provider_id,
        READ.shop_id,
    ]


@pytest.mark.parametrize("odd", [{}, {"created_at": ""}], ids=["typed", "loose"])
@pytest.mark.parametrize("name", ["name", "phone", "address", "ward", "district", "city"])
def test_one_thing_shared_is_enough_for_shared_info(name: str, odd: dict[str, Any]) -> None:
    value = "+84912000111" if name == "phone" else "Le\u0302"

    follower = only(**odd, phone=None, shared_info={name: value})

    assert follower.shared_info == SharedInfo(**{name: "+84912000111" if name == "phone" else "Lê"})
    nobody = only(**odd, phone="0912000111", shared_info={name: ""}).shared_info
    assert nobody is None


@pytest.mark.parametrize(
    ("given", "shown"), [("0912000111", "+84912000111"), ("12345", "12345"), (84912000111, "+84912000111"), ("", None)]
)
def test_a_phone_that_is_shared_too_is_shown_in_both_places(given: str | int, shown: str | None) -> None:
    follower = only(phone=given, shared_info={"phone": given, "city": "Huế"})

    assert follower.shared_info == SharedInfo(phone=shown, city="Huế")
    assert (follower.phone or follower.phone_raw) == shown


@pytest.mark.parametrize("odd", [{}, {"created_at": ""}], ids=["typed", "loose"])
@pytest.mark.parametrize("length", [1, 40, 240, 256, 300, 5000])
def test_shared_texts_of_any_length_are_nfc_and_empty_ones_none(length: int, odd: dict[str, Any]) -> None:
    names = ("name", "address", "ward", "district", "city")
    for name in names:
        given = dict.fromkeys(names, "Huế") | {name: "Le\u0302\n\nb"[:3] * length, "phone": ""}

        assert only(**odd, shared_info=given).shared_info == SharedInfo(
            **dict.fromkeys(names, "Huế") | {name: "Lê" * length}
        )
        assert only(**odd, shared_info=given | {name: ""}).shared_info == SharedInfo(
            **{other: "Huế" for other in names if other != name}
        )
        assert getattr(only(**odd, shared_info=given | {name: "\na\n\n"}).shared_info, name) == "\na\n\n"


_PHONES = [
    "0912345678",
    "84912345678",
    "+84912345678",
    "0212345678",
    "84012345678",
    "091234567",
    "٠٩١٢٣٤٥٦٧٨",
    "0 9",
    912345678,
]
_SHARED = [None, {}, {"name": "Lê"}, {"city": "Hue\u0301"}, {"name": ""}, {"ward": "x" * 300}, {"phone": "84912345678"}]


@pytest.mark.parametrize("phones", [_PHONES[:5], _PHONES], ids=["plain", "some odd"])
@pytest.mark.parametrize("shared", [_SHARED[:3], _SHARED], ids=["plain", "some odd"])
def test_a_row_is_read_as_it_is_alone_whatever_is_beside_it(phones: list[Any], shared: list[Any]) -> None:
    rows = [{**RICH, "phone": given, "shared_info": info} for given in [*phones, "", None] for info in shared]

    together = page(*rows).followers

    assert together == [page(row).followers[0] for row in rows]


def test_one_odd_row_does_not_change_its_neighbours_nor_what_else_it_says() -> None:
    followers = page(RICH, {**RICH, "created_at": ""}, {**RICH, "gender": ["odd"]}, RICH).followers

    assert followers == [
        READ,
        msgspec.structs.replace(READ, created_at=None),
        msgspec.structs.replace(READ, gender="unknown"),
        READ,
    ]


@pytest.mark.parametrize("odd", [{}, {"created_at": ""}], ids=["typed", "loose"])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("id", "provider_id"),
        ("shop_id", "shop_id"),
        ("zl_user_id_by_app", "user_id_by_app"),
        ("assigned_user_id", "assigned_user_id"),
        ("zl_user_id", "user_id"),
    ],
)
def test_an_id_has_up_to_30_digits_and_no_zero_before_them(name: str, field: str, odd: dict[str, Any]) -> None:
    for good in ("1", "9" * 30, 10**30 - 1, " 12 "):
        assert getattr(only(**odd, **{name: good}), field) == str(good).strip()
    for bad in ("0", "007", "9" * 31, "1a", "-1", "", None):
        if name == "zl_user_id":
            with pytest.raises(BadResponseError) as caught:
                only(**odd, zl_user_id=bad)
            assert str(caught.value) == (
                "eTelecom answered with a follower without a usable zl_user_id (PROVIDERS 1.3, 1.4); the job stops "
                "rather than lose followers. Report it to eTelecom"
            )
            assert caught.value.http_status == 200
        else:
            found = only(**odd, **{name: bad})
            assert getattr(found, field) is None
            assert found.user_id == READ.user_id


def test_a_page_is_steady_where_it_is_said_to_be() -> None:
    body = json.dumps({"followers": [RICH], "paging": {"next": ""}}).encode()

    assert (read_page(body, "x").steady, read_page(body, "x", steady=True).steady) == (False, True)
    empty = b'{"followers": [], "paging": null}'
    assert (read_page(empty, "x").steady, read_page(empty, "x", steady=True).steady) == (False, True)


def test_half_an_emoji_does_not_hold_up_the_list() -> None:
    text = json.dumps({"followers": [RICH], "paging": {"next": "n"}})
    broken = text.replace('"Lê Mẫu"', "").replace(json.dumps("Lê Văn Mẫu"), r'"Mẫu \ud83d \\ud83d \ud83c\udf38"')

    follower = read_page(broken.encode(), "eTelecom").followers[0]

    assert follower.display_name == "Mẫu \ufffd \\ud83d 🌸"


@pytest.mark.parametrize(
    "body",
    [
        {"followers": [], "paging": {"next": "", "prev": ""}},
        {"followers": [], "paging": None},
        {"followers": []},
        {"followers": None, "paging": {"next": ""}},
    ],
)
def test_an_empty_list_is_the_end(body: Any) -> None:
    found = read_page(json.dumps(body).encode(), "x")

    assert (list(found.followers), found.next_cursor) == ([], None)


def test_an_empty_list_that_names_a_next_page_is_no_end() -> None:
    found = read_page(b'{"followers": [], "paging": {"next": "c3"}}', "x")

    assert (list(found.followers), found.next_cursor) == ([], "c3")


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_next_is_the_end(nothing: str | None) -> None:
    assert page(RICH, paging={"next": nothing}).next_cursor is None


@pytest.mark.parametrize(
    "body",
    [
        {"followers": {}, "paging": {}},
        {"followers": "[]", "paging": {}},
        {"followers": [RICH]},
        {"followers": [RICH], "paging": None},
        {"followers": [RICH], "paging": {}},
        {"followers": [RICH], "paging": {"prev": "x"}},
        {"followers": [RICH], "paging": {"Next": "c1"}},
        {"followers": [RICH], "paging": {"Next": ""}},
        {"followers": [RICH], "paging": {"next": "", "Next": "c1"}},
        {"followers": [RICH], "paging": {"next": None, "next_cursor": "c1"}},
        {"followers": [RICH], "paging": {"next": "", "has_more": True}},
        {"followers": [RICH], "paging": {"next": ""}, "hasMore": 1},
        {"followers": [RICH], "paging": {"next": ""}, "next": "c1"},
        {"followers": [{**RICH, "gender": ["odd"]}], "paging": {"next": "", "has_more": "true"}},
        {"followers": [], "paging": {"nextPageToken": "c1"}},
        {"followers": None, "paging": {"next": "", "has-next": True}},
        {"followers": [RICH], "paging": {"next": 5}},
        {"followers": [None], "paging": {"next": "n"}},
        {"followers": ["1438251841810134353"], "paging": {"next": "n"}},
        {"followers": [{**RICH, "zl_user_id": None}], "paging": {"next": "n"}},
        {"followers": [{**RICH, "zl_user_id": 0}], "paging": {"next": "n"}},
        {"followers": [{"id": "5"}], "paging": {"next": "n"}},
    ],
)
def test_what_would_lose_followers_in_silence_is_an_error(body: Any) -> None:
    with pytest.raises(BadResponseError) as caught:
        read_page(json.dumps(body).encode(), "eTelecom")

    assert READ.display_name not in str(caught.value)  # type: ignore[operator]


@pytest.mark.parametrize(
    "body",
    [
        {"paging": {"next": "n"}},
        {"followers": None, "paging": {"next": "n"}},
        {"followers": None},
        {"followers": None, "paging": None},
        {"code": "unavailable", "msg": "try later"},
        {"code": "unavailable", "msg": "try later", "followers": []},
        {"code": "internal", "followers": [RICH], "paging": {"next": "n"}},
        {"code": "something_new"},
        {"code": "something_new", "followers": [RICH], "paging": {"next": "n"}},
        {"code": ["unavailable"], "followers": [RICH], "paging": {"next": "n"}},
        {"data": [], "has_more": True},
        {},
        [RICH],
        [],
        None,
        "text",
        7,
    ],
)
def test_what_is_no_answer_of_the_api_counts_as_away(body: Any) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        read_page(json.dumps(body).encode(), "eTelecom")

    assert caught.value.http_status == 200
    assert "so it counts as away and is tried again later" in str(caught.value)
    assert READ.display_name not in str(caught.value)  # type: ignore[operator]


@pytest.mark.parametrize("code", ["ok", "", "SUCCESS", "0", "200", 0, 200, None, [], {}])
def test_a_code_of_success_beside_a_list_is_a_field_that_nobody_reads(code: object) -> None:
    body = {"code": code, "followers": [RICH], "paging": {"next": "n"}}

    assert read_page(json.dumps(body).encode(), "eTelecom").followers == [READ]
    nobody = read_page(json.dumps({"code": code, "followers": [], "paging": {}}).encode(), "x")
    assert list(nobody.followers) == []


def test_a_cursor_of_any_length_is_taken_for_the_stream_decides_what_it_can_carry() -> None:
    assert page(RICH, paging={"next": "n" * 100_000}).next_cursor == "n" * 100_000


@pytest.mark.parametrize("row", [RICH, {**RICH, "gender": ["odd"]}])
def test_text_that_is_not_utf_8_in_whole_json_is_a_wrong_answer(row: dict[str, Any]) -> None:
    whole = json.dumps({"followers": [row], "paging": {"next": "n"}}, ensure_ascii=False).encode()
    broken = whole.replace("Lê Văn".encode(), b"L\xea V\xe3n")

    if row is RICH:
        with pytest.raises(BadResponseError, match="text that isn't UTF-8"):
            read_page(broken, "eTelecom")
    with pytest.raises(ProviderUnavailableError):
        read_page(broken[: len(broken) // 2], "eTelecom")


def judged(code: str, status: int, *, cursor: str | None = None, meta: Any = None, msg: str = "no") -> FetchFailure:
    body = json.dumps({"code": code, "msg": msg} | ({"meta": meta} if meta else {})).encode()
    command = FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(name="Mẫu", phone="0912000111"))
    return failure(Answer(status, body, 4.0), command, cursor, "mine", "eTelecom", "1150:secretsecret")


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("canceled", 408, ProviderUnavailableError),
        ("unknown", 500, ProviderUnavailableError),
        ("invalid_argument", 400, InvalidCommandError),
        ("malformed", 400, InvalidCommandError),
        ("deadline_exceeded", 408, ProviderUnavailableError),
        ("not_found", 404, NotFoundError),
        ("bad_route", 404, NotFoundError),
        ("bad_route", 400, NotFoundError),
        ("already_exists", 409, BadResponseError),
        ("permission_denied", 403, ForbiddenError),
        ("unauthenticated", 401, UnauthorizedError),
        ("resource_exhausted", 403, RateLimitedError),
        ("resource_exhausted", 429, RateLimitedError),
        ("failed_precondition", 412, ForbiddenError),
        ("aborted", 409, ProviderUnavailableError),
        ("out_of_range", 400, InvalidCommandError),
        ("unimplemented", 501, UnsupportedError),
        ("internal", 500, ProviderUnavailableError),
        ("unavailable", 503, ProviderUnavailableError),
        ("data_loss", 500, ProviderUnavailableError),
        ("brand_new", 500, ProviderUnavailableError),
        ("brand_new", 429, RateLimitedError),
        ("brand_new", 400, BadResponseError),
    ],
)
def test_every_code_has_its_error(code: str, status: int, expected: type[FetchFailure]) -> None:
    error = judged(code, status)

    assert type(error) is expected
    assert error.http_status == status
    assert error.provider_code in (code, None)
    if isinstance(error, RateLimitedError | ProviderUnavailableError):
        assert error.retry_after == 4.0


@pytest.mark.parametrize(
    ("code", "xcode", "expected"),
    [
        ("not_found", "bad_route", NotFoundError),
        ("invalid_argument", "malformed", InvalidCommandError),
        ("unavailable", "account_closed", ForbiddenError),
        ("unknown", "external_service", ProviderUnavailableError),
        ("internal", "runtime", ProviderUnavailableError),
        ("invalid_argument", "validation_failed", InvalidCommandError),
        ("unauthenticated", "something_new", UnauthorizedError),
    ],
)
def test_the_precise_code_beside_the_standard_one_wins(code: str, xcode: str, expected: type[FetchFailure]) -> None:
    assert type(judged(code, 500, meta={"xcode": xcode})) is expected


def test_a_precise_code_that_nobody_documented_beside_one_that_nobody_did_is_judged_by_the_status() -> None:
    error = judged("brand_new", 400, meta={"xcode": "something_new"})

    assert type(error) is BadResponseError
    assert str(error) == (
        "eTelecom answered HTTP 400 with JSON that is not the API's (“no”): nothing here answers so: "
        "check the account's base_url"
    )


def test_an_odd_meta_does_not_hide_the_code() -> None:
    assert type(judged("unauthenticated", 401, meta={"xcode": {"deep": 1}})) is UnauthorizedError


def test_a_cursor_that_etelecom_gave_and_refuses_is_its_fault_and_not_the_commands() -> None:
    message = "paging is invalid (sort does not match)"

    assert type(judged("invalid_argument", 400, msg=message, cursor="abc")) is BadResponseError
    assert type(judged("invalid_argument", 400, msg=message)) is InvalidCommandError


def test_a_message_repeats_neither_key_nor_person() -> None:
    error = judged("invalid_argument", 400, msg="1150:secretsecret SECRETSECRET Mẫu 0912000111 +84 912.000.111")

    assert not [word for word in ("secret", "SECRET", "Mẫu", "912", "1150:") if word in str(error)]


def test_nothing_but_the_key_is_hidden_where_a_filter_names_nobody() -> None:
    given = (None, EtelecomFilter(), EtelecomFilter(name="Mẫu"), EtelecomFilter(phone="0912000111"))
    hidden = [not_to_be_repeated(FetchEtelecomFollowers(oa_id="1", filter=one), "1150:secret") for one in given]

    key = ["1150:secret", "1150", "secret"]
    assert [[word for word in words if word] for words in hidden] == [key, key, [*key, "Mẫu"], [*key, "0912000111"]]
    assert list(NotToBeRepeated(FetchEtelecomFollowers(oa_id="1"), "a:b")) == ["a:b", "a", "b"]


def test_truncated_json_is_not_a_page() -> None:
    whole = json.dumps({"followers": [RICH], "paging": {"next": "n"}}).encode()

    for end in range(0, len(whole), 37):
        with pytest.raises(ProviderUnavailableError):
            read_page(whole[:end], "eTelecom")
