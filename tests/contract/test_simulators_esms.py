"""eSMS's GetFollowers and QueryListUID as PROVIDERS section 2 describes them, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from worker.providers.simulators import (
    API_KEY,
    EMPTY_OA_ID,
    OA_ID,
    SECRET_KEY,
    EsmsConfig,
    EsmsSimulator,
    ListChange,
    Simulator,
)

GET_FOLLOWERS = "/MainService.svc/json/ZNS/GetFollowers/"
QUERY_LIST_UID = "/MainService.svc/json/QueryListUID/"
DATES = {"FromDate": "01/01/2020", "ToDate": "31/12/2030", "IsFollower": "1", "TagName": ""}


@pytest.fixture
async def simulator() -> AsyncIterator[EsmsSimulator]:
    async with Simulator(EsmsConfig(followers={OA_ID: 208, EMPTY_OA_ID: 0})) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


async def ask(client: httpx.AsyncClient, simulator: EsmsSimulator, path: str, **body: Any) -> dict[str, Any]:
    keys = {"ApiKey": API_KEY, "SecretKey": SECRET_KEY, "OAID": OA_ID, "Offset": 0, "Count": 50}
    if path == QUERY_LIST_UID:
        keys |= DATES
    response = await client.post(simulator.url + path, json={**keys, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def users(answer: dict[str, Any]) -> list[str]:
    if "Data" in answer:
        return list(answer["Data"]["Users"])
    return [follower["User_Id"] for follower in answer["Followers"]]


async def sweep(client: httpx.AsyncClient, simulator: EsmsSimulator, path: str, **body: Any) -> list[str]:
    got: list[str] = []
    while page := users(await ask(client, simulator, path, Offset=len(got), **body)):
        got += page
    return got


@pytest.mark.parametrize("path", [GET_FOLLOWERS, QUERY_LIST_UID])
@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_sweep_by_offset_returns_everybody(client: httpx.AsyncClient, path: str, order: Any) -> None:
    """PROVIDERS 2.6: Offset += rows received until an empty page."""
    async with Simulator(EsmsConfig(followers={OA_ID: 208}, order=order)) as simulator:
        assert await sweep(client, simulator, path) == simulator.ids(OA_ID)
        assert len(simulator.ids(OA_ID)) == 208


async def test_get_followers_answers_with_ids_and_a_total(simulator: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.3: CodeResult is a string, Total a number, followers hold nothing but an id."""
    answer = await ask(client, simulator, GET_FOLLOWERS, Count=2)

    assert answer == {
        "CodeResult": "100",
        "ErrorMessage": "success",
        "Followers": simulator.rows(OA_ID)[:2],
        "Total": 208,
    }
    assert list(answer["Followers"][0]) == ["User_Id"]


async def test_query_list_uid_answers_with_data_and_no_error_message(
    simulator: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 2.1: {CodeResult, Data:{Count, Offset, Total, Users}}."""
    answer = await ask(client, simulator, QUERY_LIST_UID, Offset=200)

    assert answer == {
        "CodeResult": "100",
        "Data": {"Count": 8, "Offset": 200, "Total": 208, "Users": simulator.ids(OA_ID)[200:]},
    }


async def test_an_empty_list_is_a_success(simulator: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.6: loop until an empty page."""
    assert (await ask(client, simulator, GET_FOLLOWERS, OAID=EMPTY_OA_ID))["Followers"] == []
    assert (await ask(client, simulator, QUERY_LIST_UID, OAID=EMPTY_OA_ID))["Data"]["Users"] == []


@pytest.mark.parametrize("path", [GET_FOLLOWERS, QUERY_LIST_UID])
@pytest.mark.parametrize("wrong", [{"ApiKey": "x"}, {"SecretKey": "x"}, {"ApiKey": None}, {"ApiKey": ""}])
async def test_a_wrong_key_is_code_101_over_http_200(
    simulator: EsmsSimulator, client: httpx.AsyncClient, path: str, wrong: dict[str, Any]
) -> None:
    """PROVIDERS 2.3, 2.4: Followers and Total absent."""
    answer = await ask(client, simulator, path, **wrong)

    assert answer == {"CodeResult": "101", "ErrorMessage": "Authorize Failed"}
    assert simulator.requests[-1].auth == "unknown"


@pytest.mark.parametrize("code", ["799", "204"])
async def test_an_unknown_oa_has_its_code(client: httpx.AsyncClient, code: Any) -> None:
    """PROVIDERS 2.5: 799 not added to the account, 204 unknown to the system, 791 missing."""
    async with Simulator(EsmsConfig(unknown_oa_code=code)) as simulator:
        assert (await ask(client, simulator, GET_FOLLOWERS, OAID="7"))["CodeResult"] == code
        assert (await ask(client, simulator, QUERY_LIST_UID, OAID="7"))["CodeResult"] == code
        assert (await ask(client, simulator, GET_FOLLOWERS, OAID=""))["CodeResult"] == "791"


@pytest.mark.parametrize("value", ["", None, "2024-01-01", "1/2/2024", "31/02/2024", "01/13/2024", 5])
@pytest.mark.parametrize("name", ["FromDate", "ToDate"])
async def test_a_bad_date_is_code_161(
    simulator: EsmsSimulator, client: httpx.AsyncClient, name: str, value: object
) -> None:
    """PROVIDERS 2.1: dd/MM/yyyy, required."""
    answer = await ask(client, simulator, QUERY_LIST_UID, **{name: value})

    assert answer == {"CodeResult": "161", "ErrorMessage": f"{name} is invalid date format."}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (QUERY_LIST_UID, "Offset", 9951),
        (QUERY_LIST_UID, "Offset", -1),
        (QUERY_LIST_UID, "Offset", "x"),
        (QUERY_LIST_UID, "Count", 51),
        (QUERY_LIST_UID, "Count", 0),
        (GET_FOLLOWERS, "Offset", -1),
        (GET_FOLLOWERS, "Count", 0),
    ],
)
async def test_an_offset_or_count_out_of_range_is_code_162(
    simulator: EsmsSimulator, client: httpx.AsyncClient, path: str, name: str, value: object
) -> None:
    """PROVIDERS 2.1: Offset at most 9950, Count at most 50."""
    answer = await ask(client, simulator, path, **{name: value})

    assert answer == {"CodeResult": "162", "ErrorMessage": f"{name} is invalid."}


async def test_get_followers_silently_caps_its_count_at_50(simulator: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.2: use 50."""
    assert len(users(await ask(client, simulator, GET_FOLLOWERS, Count=100))) == 50


async def test_quoted_numbers_are_read(simulator: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.2: .NET parses quoted ints."""
    for path in (GET_FOLLOWERS, QUERY_LIST_UID):
        assert users(await ask(client, simulator, path, Offset="3", Count="4")) == simulator.ids(OA_ID)[3:7]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "text/plain"),
    ],
)
@pytest.mark.parametrize("path", [GET_FOLLOWERS, QUERY_LIST_UID])
async def test_what_wcf_cannot_read_is_an_html_request_error(
    simulator: EsmsSimulator, client: httpx.AsyncClient, path: str, content: bytes, content_type: str
) -> None:
    """PROVIDERS 2.4: HTTP 400 with an HTML "Request Error" page."""
    response = await client.post(simulator.url + path, content=content, headers={"Content-Type": content_type})

    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/html")
    assert "Request Error" in response.text


async def test_a_number_that_wcf_cannot_read_is_an_html_request_error(
    simulator: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 2.2: Offset and Count are xs:int in GetFollowers' model."""
    body = {"ApiKey": API_KEY, "SecretKey": SECRET_KEY, "OAID": OA_ID, "Offset": "many", "Count": 50}

    assert (await client.post(simulator.url + GET_FOLLOWERS, json=body)).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", GET_FOLLOWERS, 405),
        ("PUT", QUERY_LIST_UID, 405),
        ("POST", "/MainService.svc/json/ZNS/Nothing/", 404),
        ("POST", "/", 404),
    ],
)
async def test_a_wrong_verb_is_405_and_a_wrong_path_404_in_html(
    simulator: EsmsSimulator, client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """PROVIDERS 2.4."""
    response = await client.request(method, simulator.url + path, json={})

    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.headers.get("Allow") == ("POST" if status == 405 else None)


async def test_get_followers_can_be_gone_while_its_successor_answers(client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.1: hidden since 2025-03-25; QueryListUID is the fallback."""
    async with Simulator(EsmsConfig(get_followers_gone=True)) as simulator:
        gone = await client.post(simulator.url + GET_FOLLOWERS, json={})

        assert (gone.status_code, gone.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")
        assert len(users(await ask(client, simulator, QUERY_LIST_UID))) == 50


async def test_names_of_keys_and_types_vary_on_demand(client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.3: CodeResponse, User_id, ZaloUid; CodeResult or Total of another type."""
    config = EsmsConfig(code_key="CodeResponse", user_key="User_id", code_as_number=True, total_as_text=True)
    async with Simulator(config) as simulator:
        answer = await ask(client, simulator, GET_FOLLOWERS, Count=1)

        assert answer["CodeResponse"] == 100
        assert answer["Total"] == "1234"
        assert answer["Followers"] == [{"User_id": simulator.ids(OA_ID)[0]}]


async def test_nobody_beyond_the_ceiling_can_be_reached(client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.1, 2.2: offset at most 9950, so 10 000 users."""
    async with Simulator(EsmsConfig(followers={OA_ID: 10_020})) as simulator:
        newest = simulator.ids(OA_ID)
        last = await ask(client, simulator, QUERY_LIST_UID, Offset=9950)
        edge = await ask(client, simulator, GET_FOLLOWERS, Offset=9980)
        beyond = await ask(client, simulator, GET_FOLLOWERS, Offset=10_000)

    assert users(last) == newest[9950:10_000]
    assert users(edge) == newest[9980:10_000]
    assert (users(beyond), beyond["Total"]) == ([], 10_020)


async def test_the_total_may_wander_from_page_to_page(client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.6: Total may drift between pages."""
    async with Simulator(EsmsConfig(followers={OA_ID: 208}, total_drift=3)) as simulator:
        totals = {(await ask(client, simulator, GET_FOLLOWERS))["Total"] for _ in range(20)}

    assert totals <= set(range(205, 212))
    assert len(totals) > 1


async def test_people_who_come_in_the_middle_make_duplicates(
    simulator: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 2.6: offset paging over a live list shifts rows."""
    before = simulator.ids(OA_ID)
    simulator.change(ListChange(oa_id=OA_ID, before_request=2, follow=3))

    got = await sweep(client, simulator, GET_FOLLOWERS)

    assert got == before[:50] + before[47:]


async def test_people_who_leave_in_the_middle_make_gaps(simulator: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.6: offset paging over a live list shifts rows."""
    before = simulator.ids(OA_ID)
    simulator.change(ListChange(oa_id=OA_ID, before_request=2, unfollow=before[10:12]))

    got = await sweep(client, simulator, GET_FOLLOWERS)

    assert got == before[:50] + before[52:]
    assert (await ask(client, simulator, GET_FOLLOWERS))["Total"] == 206


async def test_is_follower_chooses_who_is_listed(client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.1: "1", "0", "" = all; GetFollowers knows followers only."""
    async with Simulator(EsmsConfig(followers={OA_ID: 100}, unfollowed_every=4)) as simulator:
        following = await sweep(client, simulator, QUERY_LIST_UID, IsFollower="1")
        others = await sweep(client, simulator, QUERY_LIST_UID, IsFollower="0")
        everybody = await sweep(client, simulator, QUERY_LIST_UID, IsFollower="")

        assert (len(following), len(others), len(everybody)) == (75, 25, 100)
        assert following == simulator.ids(OA_ID) == await sweep(client, simulator, GET_FOLLOWERS)
        assert others == simulator.ids(OA_ID, state="unfollow")
        assert everybody == simulator.ids(OA_ID, state="all")


async def test_dates_are_whole_days_in_vietnam_both_included(
    simulator: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 2.5, 5: zone-less local dates, +07."""
    one = await sweep(client, simulator, QUERY_LIST_UID, FromDate="01/03/2023", ToDate="01/03/2023")
    two = await sweep(client, simulator, QUERY_LIST_UID, FromDate="02/03/2023", ToDate="31/12/2030")
    none = await sweep(client, simulator, QUERY_LIST_UID, FromDate="01/01/2020", ToDate="28/02/2023")

    # The first follower came just after midnight of 1 March in Vietnam, the others every ten minutes or so.
    assert len(one) == 144
    assert two + one == simulator.ids(OA_ID)
    assert none == []


async def test_so_many_people_come_on_each_day_as_the_configuration_says(client: httpx.AsyncClient) -> None:
    config = EsmsConfig(followers={OA_ID: 70}, per_day={OA_ID: [3, 0, 60, 5]})
    async with Simulator(config) as simulator:
        days = ("01/03/2023", "02/03/2023", "03/03/2023", "04/03/2023", "05/03/2023")
        found = [await sweep(client, simulator, QUERY_LIST_UID, FromDate=day, ToDate=day) for day in days]

        assert [len(people) for people in found] == [3, 0, 60, 5, 2]
        assert [user for people in found[::-1] for user in people] == simulator.ids(OA_ID)


async def test_a_tag_chooses_its_people_and_the_total_counts_them(
    simulator: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 2.1: TagName."""
    people = simulator.listing(OA_ID).people
    tagged = [str(people.user_id(index)) for index in range(207, -1, -1) if "đã xác minh" in people.tags(index)]

    answer = await ask(client, simulator, QUERY_LIST_UID, TagName="đã xác minh")

    assert len(tagged) == 52
    assert answer["Data"]["Total"] == 52
    assert await sweep(client, simulator, QUERY_LIST_UID, TagName="đã xác minh") == tagged
    assert await sweep(client, simulator, QUERY_LIST_UID, TagName="no such tag") == []


async def test_a_session_cookie_is_offered_and_its_return_is_noticed(simulator: EsmsSimulator) -> None:
    """PROVIDERS 2.4: clients should not persist it."""
    async with httpx.AsyncClient() as keeping:
        await ask(keeping, simulator, GET_FOLLOWERS)
        await ask(keeping, simulator, GET_FOLLOWERS)

        assert "ASP.NET_SessionId" in keeping.cookies
    assert [entry.cookie for entry in simulator.requests] == [False, True]


async def test_usable_oas_are_listed(simulator: EsmsSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 2.3, 2.4: ZNS/GetListZOA/ and its key ZOAList."""
    path = "/MainService.svc/json/ZNS/GetListZOA/"
    answer = await ask(client, simulator, path)

    assert [oa["OAID"] for oa in answer["ZOAList"]] == [OA_ID, EMPTY_OA_ID]
    assert (await ask(client, simulator, path, ApiKey="x"))["CodeResult"] == "101"
