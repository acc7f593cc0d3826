"""What an answer of eTelecom's says beside its rows."""

import json
from typing import Any

import pytest

from worker.core.errors import BadResponseError, ProviderUnavailableError
from worker.providers.etelecom.rows import read_page

NOBODY: dict[str, Any] = {"followers": [], "paging": {"next": ""}}
SOMEBODY: dict[str, Any] = {"followers": [{"zl_user_id": "1"}], "paging": {"next": "c1"}}
LAST: dict[str, Any] = {"followers": [{"zl_user_id": "1"}], "paging": {"next": ""}}
PREFIX = "eTelecom answered HTTP 200 with an error"


def refusal(body: Any) -> ProviderUnavailableError:
    with pytest.raises(ProviderUnavailableError) as caught:
        read_page(body if isinstance(body, bytes) else json.dumps(body).encode(), "eTelecom", hidden=["tr0ub4dor"])
    assert caught.value.http_status == 200
    return caught.value


@pytest.mark.parametrize("page", [NOBODY, SOMEBODY, LAST, {"followers": {}}, {"followers": "", "paging": 7}, {}])
@pytest.mark.parametrize(
    ("spoken", "code"),
    [
        ({"code": 503}, "503"),
        ({"code": 1}, "1"),
        ({"code": "too_busy"}, "too_busy"),
        ({"code": "UNAVAILABLE"}, "UNAVAILABLE"),
        ({"code": {"x": 1}}, None),
        ({"code": True}, None),
        ({"code": float("1e300")}, None),
        ({"code": "a word of tr0ub4dor"}, None),
        ({"error": "boom"}, None),
        ({"error": {"code": 0}}, None),
        ({"error": True}, None),
        ({"errors": ["boom"]}, None),
        ({"success": False}, None),
        ({"success": "False"}, None),
        ({"success": 0}, None),
        ({"code": "ok", "error": "boom"}, None),
    ],
)
def test_whatever_speaks_of_an_error_is_no_page(page: dict[str, Any], spoken: dict[str, Any], code: str | None) -> None:
    error = refusal(page | spoken)

    assert error.provider_code == code
    assert error.message.startswith(f"{PREFIX}, {error.provider_code}" if error.provider_code else PREFIX)
    assert "tr0ub4dor" not in error.message


@pytest.mark.parametrize("page", [NOBODY, LAST])
@pytest.mark.parametrize(
    "spoken",
    [
        {"Code": 503},
        {"error_code": "x"},
        {"errCode": 7},
        {"err": "boom"},
        {"errorMessage": "boom"},
        {"has-error": True},
        {"ok": False},
        {"status": "error"},
        {"status": "Failed"},
        {"status": 503},
        {"status": False},
        {"StatusCode": "404"},
        {"paging": {"next": "", "error": "boom"}},
    ],
)
def test_at_the_lists_end_an_error_counts_under_any_name(page: dict[str, Any], spoken: dict[str, Any]) -> None:
    assert refusal(page | spoken).message.startswith(PREFIX)


@pytest.mark.parametrize("page", [NOBODY, SOMEBODY, LAST])
@pytest.mark.parametrize(
    "harmless",
    [
        {},
        {"code": "ok", "msg": "done", "error": None, "errors": [], "success": True},
        {"code": 0, "error": "", "errors": {}, "success": "true"},
        {"code": 200, "error": False, "errors": None, "success": 1},
        {"code": "204", "error": 0, "success": None},
        {"code": None, "error": "no error", "status": "ok", "ok": True},
        {"code": " ok ", "success": " "},
        {"code": "", "error": "Success", "status": 200, "took": 503},
        {"code": "Successful", "status": "follow", "error_count": 0, "trace": {"error": "x"}, "version": "next"},
        {"stats": {"followers": 0, "next": 1}, "paging ": {"next": "x"}},
        {"status": 1, "meta": {"code": 500}, "has_more": False, "next_page": None, "hasNext": "false"},
    ],
)
def test_what_a_success_may_hold_does_no_harm(page: dict[str, Any], harmless: dict[str, Any]) -> None:
    found = read_page(json.dumps(page | harmless).encode(), "eTelecom")

    assert (len(found.followers), found.next_cursor) == (len(page["followers"]), page["paging"]["next"] or None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (NOBODY | {"code": 503, "msg": "upstream timeout"}, ", 503 (“upstream timeout”): "),
        (NOBODY | {"error": "boom"}, " (“boom”): "),
        (NOBODY | {"errors": ["it is down", "x"]}, " (“it is down”): "),
        (NOBODY | {"errors": [{"message": "it is down"}]}, " (“it is down”): "),
        (NOBODY | {"errors": "it is down"}, " (“it is down”): "),
        (NOBODY | {"errors": [7]}, ": "),
        (b'{"followers":[],"paging":{"next":""},"code":"busy","msg":"b\xe4d"}', ", busy (“b\ufffdd”): "),
        (b'{"followers":[],"paging":{"next":""},"error":"b\xe4d"}', " (“b\ufffdd”): "),
    ],
)
def test_the_providers_words_are_in_the_error(body: Any, said: str) -> None:
    assert refusal(body).message == (
        f"{PREFIX}{said}that is no answer of the API, so it counts as away and is tried again later; check the "
        "account's base_url, and what stands between, if it goes on"
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            {"followers": [{"zl_user_id": "1"}], "paging": {"prev": "x"}},
            "followers and a paging that has no next, so nobody knows whether the list goes on",
        ),
        (
            {**LAST, "has_more": True},
            "a paging that names no next page beside “has_more”, which says that more follow",
        ),
        (
            {**LAST, "next_of_0912345678": True},
            "a paging that names no next page beside “odd”, which says that more follow",
        ),
        (
            {"followers": [], "paging": {"next_cursor": "c1"}},
            "a paging that names no next page beside “paging.next_cursor”, which says that more follow",
        ),
    ],
)
def test_an_end_that_contradicts_itself_is_refused(body: Any, why: str) -> None:
    with pytest.raises(BadResponseError) as caught:
        read_page(json.dumps(body).encode(), "eTelecom")

    assert caught.value.message.startswith(f"eTelecom answered with {why} (PROVIDERS 1.3, 1.4)")


@pytest.mark.parametrize(
    "body",
    [
        b'{"followers":[{"zl_user_id":"1"}],"followers":[],"paging":{"next":""}}',
        b'{"followers":[],"paging":{"next":"c1"},"paging":{"next":""}}',
        b'{"followers":[],"paging":{"next":"c1","next":""}}',
        b'\xef\xbb\xbf{"followers":[],"followers":[]}',
    ],
)
def test_an_answer_of_nobody_that_has_a_field_twice_is_refused(body: bytes) -> None:
    with pytest.raises(BadResponseError, match="has the same field twice"):
        read_page(body, "eTelecom")


def test_what_is_no_text_hides_nothing_beside_it() -> None:
    with pytest.raises(BadResponseError, match="has_more"):
        read_page(b'{"followers":[],"paging":{"next":"","prev":"\xe4","has_more":true}}', "eTelecom")


@pytest.mark.parametrize("field", ["code", "error", "errors"])
def test_a_number_that_no_reader_takes_is_no_code_of_success(field: str) -> None:
    assert refusal(b'{"followers":[],"paging":{"next":""},"%b":1e999}' % field.encode()).message.startswith(PREFIX)
