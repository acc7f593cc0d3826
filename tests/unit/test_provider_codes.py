"""What each of the providers' codes means: the words of PROVIDERS 1.2 and 2.5, and whether it is tried again."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas.commands import EsmsFilter, EtelecomFilter, FetchEtelecomFollowers
from worker.core.errors import FetchFailure, RetryableError
from worker.providers.esms import errors as esms_errors
from worker.providers.esms.dates import days, written
from worker.providers.etelecom import errors as etelecom_errors
from worker.providers.http.client import Answer

COMMAND = FetchEtelecomFollowers(oa_id="1")
ETELECOM = {
    "canceled": "provider_unavailable",
    "unknown": "provider_unavailable",
    "deadline_exceeded": "provider_unavailable",
    "internal": "provider_unavailable",
    "runtime": "provider_unavailable",
    "external_service": "provider_unavailable",
    "unavailable": "provider_unavailable",
    "data_loss": "provider_unavailable",
    "aborted": "provider_unavailable",
    "invalid_argument": "invalid_command",
    "validation_failed": "invalid_command",
    "malformed": "invalid_command",
    "out_of_range": "invalid_command",
    "bad_route": "not_found",
    "not_found": "not_found",
    "already_exists": "bad_response",
    "permission_denied": "forbidden",
    "account_closed": "forbidden",
    "failed_precondition": "forbidden",
    "unauthenticated": "unauthorized",
    "resource_exhausted": "rate_limited",
    "unimplemented": "unsupported",
}
ESMS = {
    "101": "unauthorized", "102": "forbidden", "103": "forbidden", "110": "invalid_command", "140": "forbidden",
    "143": "forbidden", "160": "rate_limited", "161": "invalid_command", "162": "invalid_command",
    "199": "provider_unavailable", "204": "not_found", "210": "invalid_command", "791": "invalid_command",
    "799": "not_found", "854": "not_found",
} | dict.fromkeys(
    ["99", "104", "105", "106", "107", "108", "115", "117", "118", "120", "124", "146", "163", "171", "177", "201",
     "300", "301", "687", "788", "789", "790", "801", "802", "851", "852", "853"],
    "bad_response",
)  # fmt: skip


def answer(status: int, body: Any, retry_after: float | None = None) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(body), retry_after=retry_after)


def etelecom(said: Answer, cursor: str | None = None, command: FetchEtelecomFollowers = COMMAND) -> FetchFailure:
    return etelecom_errors.failure(said, command, cursor, "shop", "eTelecom at host", "id:secret")


def esms(code: str, said: object = "no", status: int = 200, retry_after: float | None = None) -> FetchFailure:
    return esms_errors.failure(code, said, answer(status, {}, retry_after), "shop", "eSMS at host", ["secret"])


@pytest.mark.parametrize(("code", "word"), ETELECOM.items())
def test_etelecoms_codes(code: str, word: str) -> None:
    error = etelecom(answer(400, {"code": code, "msg": "words"}, retry_after=7.0))

    assert (error.code, error.provider_code, error.http_status) == (word, code, 400)
    assert error.message.startswith(f"eTelecom at host refused with {code}: “words”; ")
    assert "{account}" not in error.message
    assert isinstance(error, RetryableError) is (word in ("provider_unavailable", "rate_limited"))
    if isinstance(error, RetryableError):
        assert error.retry_after == 7.0  # type: ignore[attr-defined]


def test_the_precise_code_beside_the_standard_one_counts_where_it_is_known() -> None:
    said = {"code": "internal", "msg": "m", "meta": {"xcode": "account_closed"}}
    assert etelecom(answer(500, said)).provider_code == "account_closed"
    said["meta"] = {"xcode": "something_new"}
    assert etelecom(answer(500, said)).provider_code == "internal"


@pytest.mark.parametrize(
    ("cursor", "code", "text", "word"),
    [
        ("c1", "invalid_argument", "Paging is invalid", "bad_response"),
        (None, "invalid_argument", "paging is invalid", "invalid_command"),
        ("c1", "invalid_argument", "name is invalid", "invalid_command"),
        ("c1", "not_found", "paging is invalid", "not_found"),
    ],
)
def test_a_cursor_that_it_gave_itself_is_no_fault_of_the_command(
    cursor: str | None, code: str, text: str, word: str
) -> None:
    error = etelecom(answer(400, {"code": code, "msg": text}), cursor)

    assert error.code == word
    assert ("start the job anew under another id" in error.message) is (word == "bad_response")


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (429, {"code": "internal"}, "rate_limited"),
        (503, "<html>", "provider_unavailable"),
        (503, {"code": "brand_new"}, "provider_unavailable"),
        (503, {"code": 5}, "provider_unavailable"),
        (300, {"code": "unauthenticated"}, None),
        (399, {"code": "unauthenticated"}, None),
        (400, {"code": "unauthenticated"}, "unauthorized"),
        (299, {"code": "unauthenticated"}, "unauthorized"),
        (400, {"code": "unauthenticated", "msg": 7, "meta": []}, "unauthorized"),
    ],
)
def test_the_status_speaks_where_the_body_has_no_code(status: int, body: Any, word: str | None) -> None:
    error = etelecom(answer(status, body))

    assert error.code == word if word else error.code != "unauthorized"


def test_a_plain_401_says_which_key_to_look_at() -> None:
    error = etelecom(answer(401, "no"))

    assert (error.code, error.http_status) == ("unauthorized", 401)
    assert "; check accounts.shop.api_key in followers.toml" in error.message


def test_neither_keys_nor_people_are_repeated() -> None:
    command = FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(name="Hoa Binh", phone="0912345678"))
    text = "key id:secret of secret for Hoa Binh at 0912345678"

    message = etelecom(answer(400, {"code": "not_found", "msg": text}), None, command).message

    assert not any(word in message for word in ("secret", "Hoa Binh", "0912345678"))


@pytest.mark.parametrize(("code", "word"), ESMS.items())
def test_esms_codes(code: str, word: str) -> None:
    error = esms(code, retry_after=7.0)

    assert (error.code, error.provider_code, error.http_status) == (word, code, 200)
    assert error.message.startswith(f"eSMS at host refused with code {code}: “no”; ")
    assert "{account}" not in error.message
    assert isinstance(error, RetryableError) is (word in ("provider_unavailable", "rate_limited"))
    if isinstance(error, RetryableError):
        assert error.retry_after == 7.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "word"), [(200, "bad_response"), (499, "bad_response"), (500, "provider_unavailable")]
)
def test_a_code_that_nobody_documented_is_worth_another_try(status: int, word: str) -> None:
    error = esms("12345", status=status)

    assert (error.code, error.provider_code) == (word, "12345")
    assert isinstance(error, RetryableError)
    assert "isn't documented" in error.message
    assert esms("101", status=500).code == "unauthorized"


NOW = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, ("01/01/2012", "03/03/2026")),
        ("2026-01-31", "31/01/2026", ("31/01/2026", "31/01/2026")),
        ("2026-01-30T17:00:00Z", "2026-01-30t16:59:59z", None),
        ("2026-01-30T16:59:59Z", "2026-01-30T17:00:00Z", ("30/01/2026", "31/01/2026")),
        (None, "2012-01-01", ("01/01/2012", "01/01/2012")),
        ("0999-01-01", None, ("01/01/0999", "03/03/2026")),
        ("2026-02-30", None, None),
        ("30/02/2026", None, None),
        ("yesterday", None, None),
        ("0001-01-01T00:00:00+14:00", None, None),
    ],
)
def test_days_are_vietnams(first: str | None, last: str | None, expected: tuple[str, str] | None) -> None:
    wanted = EsmsFilter(date_from=first, date_to=last)
    if expected is None:
        with pytest.raises(FetchFailure) as raised:
            days(wanted, NOW)
        assert (raised.value.code, raised.value.requests) == ("invalid_command", 0)
    else:
        found = days(wanted, NOW)
        assert (written(found[0]), written(found[1])) == expected
        assert (days(None, NOW) == found) is (first is None and last is None)


def test_what_etelecom_refuses_is_told_whole() -> None:
    said = answer(400, {"code": "invalid_argument", "msg": "Paging is invalid"})
    refused = etelecom_errors.failure(said, COMMAND, "c1", "shop", "eTelecom at host", "1150:secret")
    plain = etelecom(answer(403, {"code": "permission_denied"}))
    odd = etelecom(answer(401, "no"))

    assert (refused.message, refused.http_status, refused.provider_code) == (
        "eTelecom at host refused with invalid_argument: “Paging is invalid”; it refuses a cursor that it gave "
        "itself; start the job anew under another id",
        400,
        "invalid_argument",
    )
    assert plain.message == (
        "eTelecom at host refused with permission_denied: “”; the key isn't known or may not read this OA: check "
        "accounts.shop.api_key, and oa_id"
    )
    assert odd.message == (
        "eTelecom at host answered HTTP 401 with JSON that is not the API's: the key isn't accepted: check the "
        "account's key; check accounts.shop.api_key in followers.toml, or the file that its api_key_file names; "
        "Shop keys belong to …/v1/shop, Partner keys to …/v1/partner"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "internal"}, "internal"),
        ({"code": "brand_new", "meta": {"xcode": "account_closed"}}, "account_closed"),
        ({"code": "internal", "meta": {"xcode": "brand_new"}}, "internal"),
        ({"code": "brand_new", "meta": {"xcode": "brand_new"}}, None),
        ({"code": "brand_new", "meta": {}}, None),
        ({"code": "brand_new"}, None),
        ({"code": "UNAVAILABLE"}, "unavailable"),
        ({"code": "ResourceExhausted"}, "resource_exhausted"),
        ({"code": "failed-precondition"}, "failed_precondition"),
        ({"code": "brand_new", "meta": {"xcode": "Account_Closed", "x": None}}, "account_closed"),
        ({"error": "unavailable"}, "unavailable"),
        ({"error": {"code": "unavailable", "message": "soon"}}, "unavailable"),
        ({"code": 503, "error": {"code": "unavailable"}}, "unavailable"),
        ({"error": {"code": "brand_new"}}, None),
        ({"error": {"code": 503}}, None),
        ({"error": {"message": "internal"}}, None),
        ({"code": "internal", "meta": {"xcode": 7}}, "internal"),
        ({"error": ["unavailable"]}, None),
        ({"code": "ok", "error": "boom"}, None),
        ({"msg": "internal"}, None),
        ([], None),
    ],
)
def test_a_good_status_holds_a_refusal_where_it_names_a_code_of_etelecoms(body: Any, code: str | None) -> None:
    found = etelecom_errors.refusal_in(answer(200, body), COMMAND, None, "shop", "eTelecom", "id:secret")

    assert (found.provider_code if found else None) == code
    assert (found is None) is (code is None)


@pytest.mark.parametrize("code", [None, 7, ["internal"], "", "intern al", "ok"])
def test_what_is_no_code_is_none(code: object) -> None:
    assert not etelecom_errors.is_error_code(code)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"code":"invalid_argument","msg":"bad","meta":{"x":null}}', "bad"),
        (b'{"code":"Invalid_Argument","msg":"bad","meta":["x"]}', "bad"),
        (b'{"code":"invalid_argument","msg":"b\xe4d sort"}', "b\ufffdd sort"),
        (b'\xef\xbb\xbf{"code":"invalid_argument","msg":"b\xe4d","meta":{"x":1}}', "b\ufffdd"),
        (b'{"error":{"code":"invalid_argument","message":"bad"}}', "bad"),
        (b'{"code":"invalid_argument","msg":["bad"]}', ""),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_the_words_of_an_error_are_repeated_whatever_stands_beside_them(body: bytes, said: str, status: int) -> None:
    found = etelecom_errors.failure(Answer(status, body), COMMAND, None, "shop", "eTelecom", "id:secret")

    assert found.message == (
        f"eTelecom refused with invalid_argument: “{said}”; correct the command's filter, sort or page_size"
    )


def test_what_is_hidden_is_the_same_where_it_is_found_out_late() -> None:
    some = FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(name="Hoa", phone="09"))
    late = etelecom_errors.NotToBeRepeated(some, "id:secret")

    assert list(late) == list(late) == etelecom_errors.not_to_be_repeated(some, "id:secret")


def test_all_that_a_request_says_of_people_and_keys_is_hidden() -> None:
    hidden = etelecom_errors.not_to_be_repeated
    some = FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(name="Hoa", phone="09"))

    assert hidden(COMMAND, "id:secret") == ["id:secret", "id", "secret"]
    assert hidden(some, "id:secret") == ["id:secret", "id", "secret", "Hoa", "09"]
