"""Every provider client keeps the port's contract, against the simulators over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from schemas import EsmsFilter, EtelecomFilter, FetchEsmsFollowers, FetchEtelecomFollowers
from tests.contract.providers_kit import KEYS, VARIANTS, Case, FileSecret, account, ids, running, sweep
from worker.core.account import EsmsAccount, EtelecomAccount
from worker.core.errors import FetchFailure, ForbiddenError, InvalidCommandError, NotFoundError, UnauthorizedError
from worker.providers import open_client
from worker.providers.simulators import API_KEY, CANARY, OA_ID, SHOP_KEY, Fault

EMPTY, ONE, FULL, OVER = (f"281000000000000000{n}" for n in range(4))


@pytest.fixture(params=VARIANTS)
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    limit = 100 if request.param in KEYS else 50
    lists = {OA_ID: 234, EMPTY: 0, ONE: 1, FULL: limit, OVER: limit + 1}
    async with running(request.param, lists) as case:
        yield case


@pytest.mark.parametrize("oa_id", [OA_ID, EMPTY, ONE, FULL, OVER])
async def test_a_list_of_any_length_is_read_whole_and_in_order(case: Case, oa_id: str) -> None:
    pages = await sweep(case.client, case.command(oa_id))

    assert ids(pages) == case.simulator.ids(oa_id)
    assert not any(page.capped for page in pages)


@pytest.mark.parametrize("page_size", [1, 7, 50])
async def test_the_page_size_is_kept(case: Case, page_size: int) -> None:
    page = await case.client.fetch(case.command(page_size=page_size), None)

    rows = page_size if case.variant in KEYS else max(2, page_size)  # two at least, or requests could not overlap
    assert ids([page]) == case.simulator.ids(OA_ID)[:rows]


async def test_a_page_is_found_again_by_its_cursor(case: Case) -> None:
    first = await case.client.fetch(case.command(page_size=20), None)

    cursor = first.next_cursor if case.variant in KEYS else "20"
    again = [await case.reopen().fetch(case.command(page_size=20), cursor) for _ in range(2)]

    assert ids(again[:1]) == ids(again[1:]) == case.simulator.ids(OA_ID)[20:40]


async def test_the_request_count_is_what_reached_the_provider(case: Case) -> None:
    pages = await sweep(case.client, case.command())

    assert sum(page.requests for page in pages) == len(case.simulator.requests)


async def test_the_rows_of_a_list_that_is_read_by_numbers_are_where_the_plan_says(case: Case) -> None:
    wanted = case.command(page_size=20)
    plan = case.client.offsets(wanted)
    if case.variant in KEYS:
        assert plan is None
        return

    assert plan is not None
    pages = [await case.client.fetch(wanted, cursor) for cursor in ("1", "215", "234")]
    assert plan.count == 20
    assert [ids([page]) for page in pages] == [case.simulator.ids(OA_ID)[at : at + 20] for at in (1, 215, 234)]
    assert not any(page.next_cursor or page.capped for page in pages), "the reader finds out where it goes on"


@pytest.mark.parametrize(
    "key", ["wrong", "115000000000000001:wrongwrongwrongwrong", "shop1150000000000000009:" + "wrongwrong" * 4]
)
async def test_a_wrong_key_is_refused_with_what_to_do(case: Case, key: str) -> None:
    if case.variant == "partner" and key.startswith("shop"):
        expected: type[Exception] = ForbiddenError  # well-formed but unknown: 403 (PROVIDERS 1.2)
    else:
        expected = UnauthorizedError

    with pytest.raises(expected, match=r"check accounts\.mine\.api_key") as caught:
        await case.reopen(key=key).fetch(case.command(), None)

    assert "wrongwrong" not in str(caught.value)
    assert case.simulator.requests[-1].auth != "ok"


async def test_an_unknown_oa_is_not_found(case: Case) -> None:
    with pytest.raises(NotFoundError, match=r"check .*oa_id") as caught:
        await case.client.fetch(case.command("2809999999999999999"), None)

    assert caught.value.provider_code in ("not_found", "799")


async def test_another_providers_command_is_refused(case: Case) -> None:
    foreign = FetchEsmsFollowers(oa_id=OA_ID) if case.variant in KEYS else FetchEtelecomFollowers(oa_id=OA_ID)

    with pytest.raises(InvalidCommandError, match="account"):
        case.client.check(foreign)


async def test_cookies_are_never_sent_back(case: Case) -> None:
    await sweep(case.client, case.command())

    assert not any(entry.cookie for entry in case.simulator.requests)


async def test_many_fetches_at_once_do_not_disturb_each_other(case: Case) -> None:
    pages = await asyncio.gather(*(case.client.fetch(case.command(page_size=30), None) for _ in range(40)))

    assert {tuple(ids([page])) for page in pages} == {tuple(case.simulator.ids(OA_ID)[:30])}


async def test_a_rotated_secret_is_read_again_once_and_used(case: Case) -> None:
    mine = account(case.variant, case.simulator.url, "1:outdated")
    right = account(case.variant, case.simulator.url)
    assert isinstance(mine.api_key, FileSecret)
    mine.api_key.in_file = right.api_key.reveal()
    if isinstance(mine, EsmsAccount) and isinstance(right, EsmsAccount):
        assert isinstance(mine.secret_key, FileSecret)
        mine.secret_key.in_file = right.secret_key.reveal()
    client = open_client(mine, request_timeout=5, max_response_bytes=1 << 20)
    case.opened.append(client)

    pages = await asyncio.gather(*(client.fetch(case.command(page_size=5), None) for _ in range(4)))

    assert all(ids([page]) == case.simulator.ids(OA_ID)[:5] for page in pages)
    assert sum(page.requests for page in pages) == len(case.simulator.requests)


async def test_a_secret_that_stays_refused_is_not_tried_twice(case: Case) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        await case.reopen(key="1:outdated").fetch(case.command(), None)

    refused = [entry for entry in case.simulator.requests if entry.status != 404]
    assert len(refused) == 1
    assert caught.value.requests == len(case.simulator.requests)


async def test_a_new_secret_that_is_refused_as_well_costs_two_requests(case: Case) -> None:
    mine = account(case.variant, case.simulator.url, "1:outdated")
    assert isinstance(mine.api_key, FileSecret)
    mine.api_key.in_file = "1:wrong-too"
    client = open_client(mine, request_timeout=5, max_response_bytes=1 << 20)
    case.opened.append(client)

    with pytest.raises(UnauthorizedError) as caught:
        await client.fetch(case.command(), None)

    assert caught.value.requests == len(case.simulator.requests)
    refused = [entry.auth for entry in case.simulator.requests if entry.status != 404]
    assert len(refused) == 2
    assert "ok" not in refused


async def test_a_secret_whose_file_is_gone_leaves_the_refusal_as_it_is(case: Case) -> None:
    class Gone(FileSecret):
        def reload(self) -> bool:
            raise FileNotFoundError("no such file")

    right = account(case.variant, case.simulator.url)
    client = open_client(replace(right, api_key=Gone("1:outdated")), request_timeout=5, max_response_bytes=1 << 20)
    case.opened.append(client)

    with capture_logs() as logs, pytest.raises(UnauthorizedError):
        await client.fetch(case.command(), None)

    assert [line["event"] for line in logs if line["event"] != "provider.endpoint_gone"] == [
        "provider.secret_unreadable"
    ]


async def test_only_listed_fields_come_through(case: Case) -> None:
    pages = await sweep(case.client, case.command())

    assert CANARY not in repr(pages)


# What only one provider can do.


EVERY_FILTER = EtelecomFilter(
    assigned_user_id="1149000000000000011",
    date_from="2020-01-01T00:00:00+07:00",
    date_to="2030-01-01T00:00:00.5Z",
    gender="female",
    has_conversation=False,
    name="Nguyễn",
    phone="0912000111",
    state="follow",
    tags=["VIP", "Huế"],
    zl_user_id="1438251841810134353",
    zl_user_ids=["1438251841810134353", "583770443303089156"],
)


@pytest.mark.parametrize("variant", ["shop", "partner"])
async def test_all_filters_reach_etelecom_unchanged_on_each_page(variant: str) -> None:
    async with running(variant) as case:
        wanted = case.command(filter=EVERY_FILTER, sort="-updated_at", page_size=42)
        await case.client.fetch(wanted, None)

        body = case.simulator.requests[-1].body

    assert body == {
        "filter": {
            "oa_id": OA_ID,
            "assigned_user_id": "1149000000000000011",
            "date_from": "2020-01-01T00:00:00+07:00",
            "date_to": "2030-01-01T00:00:00.5Z",
            "gender": "female",
            "has_conversation": False,
            "name": "Nguyễn",
            "phone": "0912000111",
            "state": "follow",
            "tags": ["VIP", "Huế"],
            "zl_user_id": "1438251841810134353",
            "zl_user_ids": ["1438251841810134353", "583770443303089156"],
        },
        "paging": {"limit": 42, "sort": "-updated_at"},
    }


@pytest.mark.parametrize("sort", [None, "created_at", "-created_at", "updated_at"])
async def test_later_pages_say_filter_and_sort_again(sort: str | None) -> None:
    async with running("shop") as case:
        wanted = case.command(filter=EtelecomFilter(state="follow"), sort=sort, page_size=50)
        pages = await sweep(case.client, wanted)
        bodies: list[Any] = [entry.body for entry in case.simulator.requests]

        assert len(set(ids(pages))) == len(case.simulator.ids(OA_ID, state="follow"))
    assert all(isinstance(body, dict) and body["filter"] == {"oa_id": OA_ID, "state": "follow"} for body in bodies)
    assert "after" not in bodies[0]["paging"]
    assert all(body["paging"].get("sort") == sort and body["paging"]["after"] for body in bodies[1:])


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (None, "still"),
        ("created_at", "still"),
        ("-created_at", "still"),
        ("updated_at", "rises"),
        ("-updated_at", "falls"),
    ],
)
async def test_etelecom_rows_move_only_under_a_sort_that_changes(sort: str | None, order: str) -> None:
    async with running("shop") as case:
        assert case.client.order(case.command(sort=sort)) == order
        page = await case.client.fetch(case.command(sort=sort), None)

    assert page.steady is (order == "still")


@pytest.mark.parametrize(("sort", "order"), [("last_message_at", "rises"), ("-last_message_at", "unknown")])
async def test_rows_that_do_not_say_by_what_they_are_sorted_show_nothing_of_who_moved(sort: str, order: str) -> None:
    async with running("shop") as case:
        assert case.client.order(case.command(sort=sort)) == order


async def test_a_sort_that_etelecom_refuses_is_the_commands_fault() -> None:
    async with running("shop") as case:
        with pytest.raises(InvalidCommandError, match="sort") as caught:
            await case.client.fetch(case.command(sort="shoe_size"), None)

    assert caught.value.http_status == 400
    assert caught.value.provider_code == "invalid_argument"


async def test_a_partner_key_on_the_shop_path_is_explained() -> None:
    async with running("shop") as case:
        with pytest.raises(UnauthorizedError, match=r"Partner keys to …/v1/partner"):
            await case.reopen(key=KEYS["partner"]).fetch(case.command(), None)


async def test_etelecom_followers_are_normalised() -> None:
    async with running("shop") as case:
        pages = await sweep(case.client, case.command())
        row = case.simulator.rows(OA_ID)[0]

    followers = [follower for page in pages for follower in page.followers]
    assert followers[0].user_id == row["zl_user_id"]
    assert followers[0].provider_id == row["id"]
    assert followers[0].shop_id == row["shop_id"]
    assert all(one.assigned_user_id != "0" for one in followers)
    assert all(one.phone is None or one.phone.startswith("+84") for one in followers)
    assert all(one.updated_at is None or one.updated_at.year > 1970 for one in followers)


async def test_the_old_spelling_of_a_bad_route_is_understood_too() -> None:
    async with running("shop", custom_codes="xcode") as case:
        client = open_client(
            EtelecomAccount(
                name="mine",
                base_url=case.simulator.url + "/v9/shop",
                api_key=FileSecret(SHOP_KEY),
                rate_limit=0,
            ),
            request_timeout=5,
            max_response_bytes=1 << 20,
        )
        case.opened.append(client)
        with pytest.raises(NotFoundError, match=r"check accounts\.mine\.base_url"):
            await client.fetch(case.command(), None)


async def test_the_fallback_is_found_once_and_remembered() -> None:
    async with running("auto") as case:
        pages = await sweep(case.client, case.command(page_size=20))
        paths = [entry.endpoint for entry in case.simulator.requests]

    assert ids(pages) == case.simulator.ids(OA_ID)
    assert paths.count("GetFollowers") == 1
    assert paths[0] == "GetFollowers"
    assert [page.requests for page in pages][:2] == [2, 1]


async def test_parallel_fetches_survive_the_fallback() -> None:
    async with running("auto") as case:
        wanted = case.command(page_size=50)
        pages = await asyncio.gather(*(case.client.fetch(wanted, str(n)) for n in range(0, 500, 50)))

        assert ids(list(pages)) == case.simulator.ids(OA_ID)[:500]


async def test_an_outage_is_no_reason_to_change_the_endpoint() -> None:
    async with running("QueryListUID") as case:
        client = open_client(account("auto", case.simulator.url), request_timeout=5, max_response_bytes=1 << 20)
        case.opened.append(client)
        case.simulator.inject(Fault(kind="status", status=503, endpoint="GetFollowers"))
        with pytest.raises(Exception, match="503"):
            await client.fetch(case.command(), None)

        await client.fetch(case.command(), None)

        assert [entry.endpoint for entry in case.simulator.requests] == ["GetFollowers", "GetFollowers"]


@pytest.mark.parametrize(
    ("fault", "asked_first_again"),
    [
        (Fault(kind="error", code="101", endpoint="QueryListUID"), "QueryListUID"),
        (Fault(kind="status", status=503, endpoint="QueryListUID"), "GetFollowers"),
    ],
)
async def test_only_an_answer_of_the_api_shows_that_the_other_endpoint_is_gone(
    fault: Fault, asked_first_again: str
) -> None:
    async with running("auto") as case:
        case.simulator.inject(fault)
        with pytest.raises(FetchFailure):
            await case.client.fetch(case.command(), None)

        await case.client.fetch(case.command(), None)

    assert [entry.endpoint for entry in case.simulator.requests][:3] == [
        "GetFollowers", "QueryListUID", asked_first_again,
    ]  # fmt: skip


async def test_a_filter_takes_the_endpoint_that_knows_it() -> None:
    async with running("QueryListUID", followers={OA_ID: 500}, unfollowed_every=7) as case:
        client = open_client(account("auto", case.simulator.url), request_timeout=5, max_response_bytes=1 << 20)
        case.opened.append(client)

        gone = await sweep(client, case.command(filter=EsmsFilter(state="unfollow")))
        tagged = await sweep(
            client, case.command(filter=EsmsFilter(tag="VIP", date_from="2014-05-06", date_to="31/12/2029"))
        )
        bodies: list[Any] = [entry.body for entry in case.simulator.requests]

        assert ids(gone) == case.simulator.ids(OA_ID, state="unfollow")
        assert 0 < len(ids(tagged)) < 500
    assert bodies[0] == {
        "ApiKey": "***", "SecretKey": "***", "OAID": OA_ID, "Offset": 0, "Count": 50,
        "FromDate": "01/01/2012", "ToDate": bodies[0]["ToDate"], "IsFollower": "0",
    }  # fmt: skip
    assert bodies[-1]["FromDate"] == "06/05/2014"
    assert bodies[-1]["ToDate"] == "31/12/2029"
    assert bodies[-1]["TagName"] == "VIP"
    assert bodies[-1]["IsFollower"] == "1"


@pytest.mark.parametrize("variant", ["GetFollowers", "QueryListUID"])
async def test_the_ceiling_of_esms_is_told(variant: str) -> None:
    async with running(variant, followers={OA_ID: 10_001}) as case:
        wanted = case.command()
        last = await case.client.fetch(wanted, "9950")

        plan = case.client.offsets(wanted)
    assert plan is not None
    assert plan.last == 9950
    assert (last.total, len(last.followers)) == (10_001, 50)


@pytest.mark.parametrize(
    "spelling",
    [
        {"code_key": "CodeResponse"},
        {"user_key": "User_id"},
        {"user_key": "ZaloUid"},
        {"code_as_number": True},
        {"total_as_text": True},
    ],
)
async def test_esms_spellings_that_vary_are_read(spelling: dict[str, object]) -> None:
    async with running("GetFollowers", followers={OA_ID: 120}, **spelling) as case:
        pages = await sweep(case.client, case.command())

        assert ids(pages) == case.simulator.ids(OA_ID)
        assert [page.total for page in pages] == [120, 120, 120]


async def test_a_wrong_esms_key_is_unauthorized_after_the_fallback_as_well() -> None:
    async with running("auto") as case:
        with pytest.raises(UnauthorizedError) as caught:
            await case.reopen(key=API_KEY[::-1]).fetch(case.command(), None)

    assert caught.value.provider_code == "101"
    assert caught.value.requests == 2
