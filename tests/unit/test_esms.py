"""eSMS's answers become pages or the right error; its dates and offsets are worked out right."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from schemas import EsmsFilter, FetchEsmsFollowers
from tests.contract.providers_kit import account
from worker.core.account import EsmsAccount
from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InternalError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnknownRefusalError,
    UnsupportedError,
)
from worker.core.ports.provider import ProviderClient
from worker.providers import open_client
from worker.providers.esms.client import listed
from worker.providers.esms.dates import days, written
from worker.providers.esms.rows import EndpointGoneError, read_answer
from worker.providers.http.client import Answer

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = ("THEAPIKEY", "THESECRETKEY")


def read(body: Any, status: int = 200, endpoint: Any = "GetFollowers") -> tuple[list[str], int | None]:
    return read_answer(Answer(status, json.dumps(body).encode(), 4.0), endpoint, "mine", "eSMS", KEYS)


def refusal(body: Any, status: int = 200) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        read(body, status)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {
            "CodeResult": "100",
            "ErrorMessage": "success",
            "Followers": [{"User_Id": "12"}, {"User_Id": "34"}],
            "Total": 9,
        },
        {"CodeResult": 100, "Followers": [{"User_Id": 12}, {"User_Id": 34}], "Total": "9"},
        {"coderesult": "100", "FOLLOWERS": [{"user_id": "12"}, {"USERID": "34"}], "total": 9.0},
        {"CodeResponse": "100", "Followers": [{"User_id": "12"}, {"ZaloUid": "34"}], "Total": 9},
        {"CodeResult": " 100 ", "Followers": ["12", 34], "Total": 9},
        {"CodeResult": "100", "Data": {"Users": ["12", 34], "Total": 9, "Count": 2, "Offset": 0}},
        {"CodeResult": "100", "data": {"users": ["12", "34"], "TOTAL": "9"}, "New": {"field": 1}},
    ],
)
@pytest.mark.parametrize("endpoint", ["GetFollowers", "QueryListUID"])
def test_all_spellings_give_the_same(body: Any, endpoint: str) -> None:
    assert read(body, endpoint=endpoint) == (["12", "34"], 9)


@pytest.mark.parametrize("total", [None, "many", -1, True])
def test_a_total_that_says_nothing_is_unknown(total: Any) -> None:
    assert read({"CodeResult": "100", "Followers": [{"User_Id": "1"}], "Total": total}) == (["1"], None)


def test_a_null_list_is_empty_only_where_the_total_says_so() -> None:
    assert read({"CodeResult": "100", "Followers": None, "Total": 0}) == ([], 0)
    for total in (5, None):
        assert type(refusal({"CodeResult": "100", "Followers": None, "Total": total})) is ProviderUnavailableError


@pytest.mark.parametrize(
    "body",
    [
        {"CodeResult": "100", "Followers": "[]", "Total": 1},
        {"CodeResult": "100", "Followers": {}, "Total": 0},
        {"CodeResult": "100", "Followers": 0, "Total": 0},
        {"CodeResult": "100", "Followers": [{"Name": "x"}], "Total": 1},
        {"CodeResult": "100", "Followers": [{"User_Id": None}], "Total": 1},
        {"CodeResult": "100", "Followers": [None], "Total": 1},
    ],
)
def test_what_would_lose_followers_in_silence_is_an_error(body: Any) -> None:
    assert type(refusal(body)) is BadResponseError


@pytest.mark.parametrize(
    "body",
    [
        {"CodeResult": "100", "ErrorMessage": "success", "Total": 208},
        {"CodeResult": "100", "Data": None},
        {"CodeResult": None, "Followers": [], "Total": 0},
        {"Followers": [{"User_Id": "1"}], "Total": 1},
        {"code": "unavailable", "msg": "try later"},
        [{"User_Id": "1"}],
        {},
        None,
    ],
)
def test_what_is_no_answer_of_the_api_counts_as_away_for_as_long_as_it_asks(body: Any) -> None:
    error = refusal(body)

    assert type(error) is ProviderUnavailableError
    assert (error.http_status, error.retry_after) == (200, 4.0)
    assert "so it counts as away and is tried again later" in str(error)


RELEVANT = {
    "101": UnauthorizedError, "102": ForbiddenError, "103": ForbiddenError, "110": InvalidCommandError,
    "140": ForbiddenError, "143": ForbiddenError, "160": RateLimitedError, "161": InvalidCommandError,
    "162": InvalidCommandError, "199": ProviderUnavailableError, "204": NotFoundError,
    "210": InvalidCommandError, "791": InvalidCommandError, "799": NotFoundError, "854": NotFoundError,
}  # fmt: skip
OF_SENDING = (
    99, 104, 105, 106, 107, 108, 115, 117, 118, 120, 124, 146, 163, 171, 177, 201, 300, 301, 687, 788, 789,
    790, 801, 802, 851, 852, 853,
)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "expected"), [*RELEVANT.items(), *((str(code), BadResponseError) for code in OF_SENDING)]
)
def test_every_documented_code_has_its_error(code: str, expected: type[FetchFailure]) -> None:
    error = refusal({"CodeResult": code, "ErrorMessage": "as eSMS puts it"})

    assert type(error) is expected
    assert error.provider_code == code
    assert code in str(error)
    assert "as eSMS puts it" in str(error)
    if isinstance(error, RateLimitedError | ProviderUnavailableError):
        assert error.retry_after == 4.0


def test_advice_names_what_a_person_has_to_do() -> None:
    assert "ask eSMS to allow this worker's IP" in str(refusal({"CodeResult": "140"}))
    assert "accounts.mine.api_key and secret_key" in str(refusal({"CodeResult": "101"}))


@pytest.mark.parametrize("code", ["777", "-32", "0", "success", ""])
def test_a_code_that_nobody_documented_is_tried_again_and_told(code: str) -> None:
    error = refusal({"CodeResult": code, "ErrorMessage": "new"})

    if code == "":
        assert type(error) is ProviderUnavailableError
    else:
        assert type(error) is UnknownRefusalError
        assert error.provider_code == code


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"CodeResult": "101"}, 500, UnauthorizedError),
        ({"CodeResult": "777"}, 500, ProviderUnavailableError),
        ({"CodeResult": "100", "Followers": []}, 500, ProviderUnavailableError),
        ({"CodeResult": "101"}, 429, RateLimitedError),
        ({"Message": "no route"}, 404, NotFoundError),
        ({"CodeResult": "204"}, 404, NotFoundError),
    ],
)
def test_code_and_status_are_read_together(body: Any, status: int, expected: type[FetchFailure]) -> None:
    error = refusal(body, status)

    assert isinstance(error, expected)
    assert error.http_status == status


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            {"rows": []},
            200,
            "with JSON without CodeResult: that is no answer of the API",
        ),
        ([], 200, "with JSON without CodeResult: that is no answer of the API"),
        ({"rows": []}, 400, "HTTP 400 with JSON that is not the API's: nothing here answers so"),
        (
            {"CodeResult": "100"},
            201,
            "HTTP 201 with JSON that is not the API's: that is no answer of the API",
        ),
        ({"CodeResult": "100", "Total": 3}, 200, "success without a list of followers, and no total of 0"),
    ],
)
def test_what_is_not_the_apis_is_told_by_its_kind(body: Any, status: int, message: str) -> None:
    assert message in str(refusal(body, status))


def test_a_message_repeats_no_key() -> None:
    error = refusal({"CodeResult": "101", "ErrorMessage": "bad theapikey / THESECRETKEY, 0912000111"})

    assert not [word for word in ("theapikey", "THESECRETKEY", "0912") if word in str(error)]


# Offsets.


def test_an_answer_says_nothing_of_where_the_list_ends() -> None:
    page = listed(["2", "1"], 2)

    assert ([row.user_id for row in page.followers], page.total, page.next_cursor, page.capped) == (
        ["2", "1"],
        2,
        None,
        False,
    )


def client(endpoint: Any = "auto") -> ProviderClient:
    mine = account(endpoint, "http://127.0.0.1:9")
    assert isinstance(mine, EsmsAccount)
    return open_client(mine, request_timeout=1, max_response_bytes=1000, now=lambda: NOON)


@pytest.mark.parametrize(("page_size", "count"), [(50, 50), (7, 7), (1, 2)])
def test_a_request_asks_for_a_page_and_two_rows_at_least(page_size: int, count: int) -> None:
    plan = client().offsets(FetchEsmsFollowers(oa_id="1", page_size=page_size))

    assert plan is not None
    assert (plan.count, plan.last) == (count, 9950)


def test_a_list_can_be_read_by_days_where_query_list_uid_may_be_asked() -> None:
    january = FetchEsmsFollowers(oa_id="1", filter=EsmsFilter(date_from="2026-01-01", date_to="2026-01-31"))
    plans = [client("auto").offsets(january), client("QueryListUID").offsets(FetchEsmsFollowers(oa_id="1"))]

    assert [plan.days for plan in plans if plan] == [
        (date(2026, 1, 1), date(2026, 1, 31)),
        (date(2012, 1, 1), date(2026, 11, 24)),
    ]
    plan = client("GetFollowers").offsets(FetchEsmsFollowers(oa_id="1"))
    assert plan is not None
    assert plan.days is None


async def test_get_followers_alone_reads_no_days() -> None:
    with pytest.raises(UnsupportedError, match="by days"):
        await client("GetFollowers").fetch(FetchEsmsFollowers(oa_id="1"), "2026-01-01/2026-01-31@49")


@pytest.mark.parametrize(
    ("endpoint", "wanted", "expected"),
    [
        ("GetFollowers", EsmsFilter(tag="VIP"), UnsupportedError),
        ("auto", EsmsFilter(date_from="31/02/2026"), InvalidCommandError),
    ],
)
async def test_what_cannot_be_asked_is_refused_without_a_request(
    endpoint: str, wanted: EsmsFilter, expected: type[FetchFailure]
) -> None:
    with pytest.raises(expected) as caught:
        await client(endpoint).fetch(FetchEsmsFollowers(oa_id="1", filter=wanted), None)

    assert caught.value.requests == 0


@pytest.mark.parametrize(
    "cursor",
    ["abc", "-50", "1.5", "٣", "9" * 30, "2026-01-01@5", "2026-01-01/x@5", "2026-01-01/2026-01-31@"],
)
async def test_a_cursor_that_is_no_offset_is_refused(cursor: str) -> None:
    with pytest.raises(InternalError):
        await client().fetch(FetchEsmsFollowers(oa_id="1"), cursor)


# Filters and dates.


@pytest.mark.parametrize(
    ("filter", "name"),
    [
        (EsmsFilter(date_from="2026-01-31"), "date_from"),
        (EsmsFilter(date_to="2026-01-31"), "date_to"),
        (EsmsFilter(state="follow"), "state"),
        (EsmsFilter(tag="VIP"), "tag"),
    ],
)
def test_get_followers_alone_can_do_no_filter(filter: EsmsFilter, name: str) -> None:
    wanted = FetchEsmsFollowers(oa_id="1", filter=filter)

    with pytest.raises(UnsupportedError, match=rf"filter\.{name}.*endpoint"):
        client("GetFollowers").check(wanted)
    client("QueryListUID").check(wanted)
    client("auto").check(wanted)


def test_an_empty_filter_is_no_filter() -> None:
    client("GetFollowers").check(FetchEsmsFollowers(oa_id="1", filter=EsmsFilter()))


@pytest.mark.parametrize(
    ("given", "day"),
    [
        ("2026-01-31", "31/01/2026"),
        ("31/01/2026", "31/01/2026"),
        ("2026-01-31T00:00:00+07:00", "31/01/2026"),
        ("2026-01-30T17:00:00Z", "31/01/2026"),
        ("2026-01-30T16:59:59.999999999z", "30/01/2026"),
        ("2026-01-31t23:30:00-05:00", "01/02/2026"),
        ("2024-02-29", "29/02/2024"),
        ("0999-01-01", "01/01/0999"),
    ],
)
def test_a_day_is_vietnams_day(given: str, day: str) -> None:
    first, last = days(EsmsFilter(date_from=given, date_to=given), NOON)

    assert written(first) == written(last) == day


@pytest.mark.parametrize(
    "given",
    ["2026-02-30", "31/04/2026", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "9999-12-31T23:59:59Z"],
)
def test_a_day_that_does_not_exist_is_refused_before_any_request(given: str) -> None:
    for name in ("date_from", "date_to"):
        wanted = FetchEsmsFollowers(
            oa_id="1",
            filter=EsmsFilter(date_from=given) if name == "date_from" else EsmsFilter(date_to=given),
        )
        with pytest.raises(InvalidCommandError, match=rf"filter\.{name}") as caught:
            client().check(wanted)
        assert caught.value.requests == 0


def test_days_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(InvalidCommandError, match="2026-02-01 is after date_to 2026-01-31"):
        days(EsmsFilter(date_from="01/02/2026", date_to="2026-01-31"), NOON)


def test_unset_days_reach_from_zalos_first_year_to_tomorrow_in_vietnam() -> None:
    assert days(None, NOON) == (date(2012, 1, 1), date(2026, 11, 24))
    assert days(None, NOON + timedelta(hours=5)) == (date(2012, 1, 1), date(2026, 11, 25))


@pytest.mark.parametrize("status", [404, 405, 410, 501])
def test_an_endpoint_is_gone_where_the_status_says_so(status: int) -> None:
    answer = Answer(status, b"<html>", None)

    with pytest.raises(EndpointGoneError) as caught:
        read_answer(answer, "GetFollowers", "mine", "eSMS", KEYS)
    assert caught.value.http_status == status


@pytest.mark.parametrize("status", [400, 403, 406, 409, 411, 500, 502])
def test_any_other_status_leaves_the_endpoint_where_it_is(status: int) -> None:
    with pytest.raises(FetchFailure) as caught:
        read_answer(Answer(status, b"<html>", None), "GetFollowers", "mine", "eSMS", KEYS)
    assert not isinstance(caught.value, EndpointGoneError)


@pytest.mark.parametrize("name", ["User_Id", "userid", "Zalo_Uid", "ZaloUID", "uid", "UID"])
def test_an_id_is_found_under_each_of_its_names(name: str) -> None:
    assert read({"CodeResult": "100", "Followers": [{name: "12", "Other": "34"}], "Total": 1}) == (["12"], 1)
