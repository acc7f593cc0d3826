"""eTelecom's ListFollowers as PROVIDERS section 1 describes it, over real sockets."""

import unicodedata
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from worker.providers.etelecom.simulator.cursor import decode
from worker.providers.simulators import (
    CANARY,
    EMPTY_OA_ID,
    OA_ID,
    PARTNER_KEY,
    SHOP_KEY,
    EtelecomConfig,
    EtelecomSimulator,
    ListChange,
    Simulator,
)

OTHER_OA = "2801000000000000003"


@pytest.fixture
async def simulator() -> AsyncIterator[EtelecomSimulator]:
    config = EtelecomConfig(followers={OA_ID: 250, EMPTY_OA_ID: 0, OTHER_OA: 30})
    async with Simulator(config) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


async def fetch(client: httpx.AsyncClient, url: str, key: str = SHOP_KEY, **body: Any) -> dict[str, Any]:
    response = await client.post(f"{url}.Zalo/ListFollowers", headers={"Authorization": f"Bearer {key}"}, json=body)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def sweep(client: httpx.AsyncClient, url: str, *, limit: int = 100, sort: str = "", **chosen: Any) -> list[Any]:
    rows: list[Any] = []
    after = ""
    while True:
        paging = {"limit": limit, "sort": sort, "after": after}
        page = await fetch(client, url, filter={"oa_id": OA_ID, **chosen}, paging=paging)
        if not page["followers"]:
            return rows
        rows += page["followers"]
        after = page["paging"]["next"]


async def test_a_sweep_returns_every_row_in_the_default_order(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: newest first, keyset paging."""
    rows = await sweep(client, simulator.shop_url)

    assert rows == simulator.rows(OA_ID)
    assert [row["zl_user_id"] for row in rows] == simulator.ids(OA_ID)
    assert len(rows) == 250


async def test_a_partner_key_reads_the_same_list_on_the_partner_path(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.1: /v1/partner.Zalo/ListFollowers."""
    page = await fetch(client, simulator.partner_url, PARTNER_KEY, filter={"oa_id": OA_ID})

    assert page["followers"] == simulator.rows(OA_ID)[:100]


async def test_the_last_full_page_still_has_a_cursor_and_only_the_empty_page_has_none(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: next and prev are set on every non-empty page, the last included."""
    last = await fetch(client, simulator.shop_url, filter={"oa_id": OTHER_OA}, paging={"limit": 30})
    after = last["paging"]["next"]
    empty = await fetch(client, simulator.shop_url, filter={"oa_id": OTHER_OA}, paging={"limit": 30, "after": after})

    assert len(last["followers"]) == 30
    assert last["paging"]["next"]
    assert last["paging"]["prev"]
    assert empty == {
        "followers": [],
        "paging": {"before": "", "after": after, "limit": 30, "sort": "", "next": "", "prev": ""},
    }


async def test_next_names_the_last_row_and_prev_the_first(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: cursor of the last and of the first row."""
    page = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID}, paging={"limit": 7})

    assert decode(page["paging"]["next"]).items == (("id", int(page["followers"][-1]["id"])),)
    assert decode(page["paging"]["prev"]).items == (("id", int(page["followers"][0]["id"])),)
    assert decode(page["paging"]["next"]).descending


@pytest.mark.parametrize(
    "paging", [None, {}, {"after": ""}, {"after": "", "before": ""}, {"after": "."}, {"AFTER": "."}]
)
async def test_page_one_can_be_asked_for_in_many_ways_and_is_echoed_as_a_dot(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, paging: object
) -> None:
    """PROVIDERS 1.4: omitted, blank or "." all mean page one; the echo says "."."""
    page = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID}, paging=paging)

    assert page["followers"] == simulator.rows(OA_ID)[:100]
    assert page["paging"]["after"] == "."
    assert page["paging"]["before"] == ""


@pytest.mark.parametrize(("limit", "effective"), [(0, 100), (1, 1), (100, 100), (101, 100), (5000, 100), (None, 100)])
async def test_a_limit_out_of_reach_silently_becomes_100(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, limit: int | None, effective: int
) -> None:
    """PROVIDERS 1.4: 0 or >100 silently becomes 100."""
    page = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID}, paging={"limit": limit})

    assert len(page["followers"]) == effective
    assert page["paging"]["limit"] == effective


async def test_before_reads_the_pages_backwards(simulator: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    """PROVIDERS 1.4: before pages back, before "." is the last page."""
    rows = simulator.rows(OA_ID)
    chosen = {"oa_id": OA_ID}

    last = await fetch(client, simulator.shop_url, filter=chosen, paging={"before": ".", "limit": 20})
    paging = {"before": last["paging"]["prev"], "limit": 20}
    previous = await fetch(client, simulator.shop_url, filter=chosen, paging=paging)

    assert last["followers"] == rows[-20:]
    assert previous["followers"] == rows[-40:-20]


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "updated_at", "-updated_at"])
async def test_a_sort_is_kept_over_pages_whether_repeated_or_not(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, sort: str
) -> None:
    """PROVIDERS 1.4: sort on later pages equals the cursor's own or is absent."""
    rows = await sweep(client, simulator.shop_url, sort=sort)
    first = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID}, paging={"sort": sort})
    after = first["paging"]["next"]
    second = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID}, paging={"after": after})

    times = [decode_time(row, sort) for row in rows if decode_time(row, sort) is not None]
    assert times == sorted(times, reverse=sort.startswith("-"))  # type: ignore[type-var]
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in simulator.rows(OA_ID))
    assert second["followers"] == rows[100:200]
    assert (first["paging"]["sort"], second["paging"]["sort"]) == (sort, "")


def decode_time(row: dict[str, Any], sort: str) -> float | None:
    text = row[sort.removeprefix("-")]
    return None if text is None or text.startswith("0001") else datetime.fromisoformat(text).timestamp()


async def test_people_who_come_in_the_middle_of_a_sweep_move_nobody(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: newer rows are missed until the next sweep, nothing shifts."""
    before = simulator.ids(OA_ID)
    simulator.change(ListChange(oa_id=OA_ID, before_request=2, follow=5))

    rows = await sweep(client, simulator.shop_url)

    assert [row["zl_user_id"] for row in rows] == before
    assert len(simulator.ids(OA_ID)) == 255


async def test_an_ascending_sweep_catches_those_who_come_meanwhile(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: caught when ascending."""
    simulator.change(ListChange(oa_id=OA_ID, before_request=2, follow=5))

    assert len(await sweep(client, simulator.shop_url, sort="created_at")) == 255


async def test_a_row_updated_ahead_of_a_descending_sweep_is_missed(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: with updated_at descending it jumps ahead and is missed."""
    last = (await sweep(client, simulator.shop_url, sort="-updated_at"))[-1]["zl_user_id"]
    simulator.reset()
    simulator.change(ListChange(oa_id=OA_ID, before_request=2, update=[last]))

    rows = await sweep(client, simulator.shop_url, sort="-updated_at")

    assert len(rows) == 249
    assert last not in {row["zl_user_id"] for row in rows}


async def test_a_row_updated_behind_an_ascending_sweep_comes_twice(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.4: with updated_at ascending it can appear twice."""
    first = (await sweep(client, simulator.shop_url, sort="updated_at"))[0]["zl_user_id"]
    simulator.reset()
    simulator.change(ListChange(oa_id=OA_ID, before_request=2, update=[first]))

    ids = [row["zl_user_id"] for row in await sweep(client, simulator.shop_url, sort="updated_at")]

    assert len(ids) == 251
    assert ids.count(first) == 2


async def test_those_who_left_stay_in_the_list_unless_filtered(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.3: unfollow rows are returned unless filtered."""
    gone = simulator.change(ListChange(oa_id=OA_ID, unfollow=1)).unfollowed

    everybody = await sweep(client, simulator.shop_url)
    followers = await sweep(client, simulator.shop_url, state="follow")

    assert len(everybody) == 250
    assert everybody[0]["zl_user_id"] in gone or gone[0] in {row["zl_user_id"] for row in everybody}
    assert {row["state"] for row in followers} == {"follow"}
    assert [row["zl_user_id"] for row in followers] == simulator.ids(OA_ID, state="follow")
    assert gone[0] not in {row["zl_user_id"] for row in followers}


async def test_each_filter_chooses_and_an_unknown_enum_chooses_nothing(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.3: twelve filters; gender unknown, 0, null and "" mean no filter."""
    rows = simulator.rows(OA_ID)
    agent = next(row["assigned_user_id"] for row in rows if row["assigned_user_id"] != "0")
    person = rows[40]["zl_user_id"]
    three = [rows[index]["zl_user_id"] for index in (5, 90, 200)]

    async def ids(**chosen: Any) -> list[str]:
        return [row["zl_user_id"] for row in await sweep(client, simulator.shop_url, limit=30, **chosen)]

    def expected(keep: Any) -> list[str]:
        return [row["zl_user_id"] for row in rows if keep(row)]

    assert await ids(gender="female") == expected(lambda row: row["gender"] == "female")
    assert await ids(gender=2) == await ids(gender="female")
    for nothing in ("unknown", 0, None, ""):
        assert await ids(gender=nothing) == simulator.ids(OA_ID)
    assert await ids(state="unfollow") == expected(lambda row: row["state"] == "unfollow")
    assert await ids(has_conversation=True) == expected(lambda row: row["has_conversation"])
    assert await ids(has_conversation=False) == expected(lambda row: not row["has_conversation"])
    assert await ids(assigned_user_id=agent) == expected(lambda row: row["assigned_user_id"] == agent)
    assert await ids(assigned_user_id=int(agent)) == await ids(assigned_user_id=agent)
    assert await ids(tags=["VIP"]) == expected(
        lambda row: "VIP" in (row["tags_and_notes_info"] or {}).get("tag_names", [])
    )
    assert await ids(zl_user_id=person) == [person]
    assert await ids(zl_user_ids=three) == three
    assert await ids(zl_user_ids=[*three, "42"], state="follow") == expected(
        lambda row: row["zl_user_id"] in three and row["state"] == "follow"
    )
    assert await ids(name="NGỌC") == expected(lambda row: "Ngọc" in unicodedata.normalize("NFC", row["full_name"]))


async def test_dates_are_inclusive_and_may_carry_any_offset(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.3: RFC 3339, inclusive, "" and null are unset."""
    rows = simulator.rows(OA_ID)
    exact = [
        row for row in rows if row["created_at"] and row["created_at"].startswith("2023") and "." in row["created_at"]
    ]
    newest, oldest = exact[10]["created_at"], exact[60]["created_at"]

    got = await sweep(client, simulator.shop_url, date_from=oldest, date_to=newest)
    one_sided = await sweep(client, simulator.shop_url, date_from=oldest, date_to="")
    day = await sweep(
        client,
        simulator.shop_url,
        date_from="2023-03-02T00:00:00+07:00",
        date_to="2023-03-02T23:59:59.999999+07:00",
    )

    assert got == rows[rows.index(exact[10]) : rows.index(exact[60]) + 1]
    assert one_sided == rows[: rows.index(exact[60]) + 1]
    assert 100 < len(day) < 200


@pytest.mark.parametrize("shape", ["0{}", "84{}", "+84{}"])
async def test_a_phone_is_found_in_whatever_shape(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, shape: str
) -> None:
    """PROVIDERS 1.3: the filter's format is unknown, so all usual ones work."""
    row = next(row for row in simulator.rows(OA_ID) if row["phone"].startswith("84") and len(row["phone"]) == 11)

    found = await sweep(client, simulator.shop_url, phone=shape.format(row["phone"][2:]))

    assert row["zl_user_id"] in {each["zl_user_id"] for each in found}


@pytest.mark.parametrize("sort", ["", "-created_at", "updated_at"])
async def test_without_an_oa_the_lists_of_all_are_merged(
    simulator: EtelecomSimulator, client: httpx.AsyncClient, sort: str
) -> None:
    """PROVIDERS 1.3: every filter is optional, oa_id too."""
    rows, after = [], ""
    while True:
        page = await fetch(client, simulator.shop_url, paging={"after": after, "sort": sort, "limit": 60})
        if not page["followers"]:
            break
        rows += page["followers"]
        after = page["paging"]["next"]

    assert sorted(row["zl_user_id"] for row in rows) == sorted(simulator.ids(OA_ID) + simulator.ids(OTHER_OA))


async def test_an_empty_oa_gives_an_empty_list_not_null(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.3: empty lists are []."""
    page = await fetch(client, simulator.shop_url, filter={"oa_id": EMPTY_OA_ID})

    assert page["followers"] == []
    assert page["paging"]["next"] == page["paging"]["prev"] == ""


async def test_keys_match_in_any_case_and_unknown_ones_are_ignored(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.2: Go's JSON."""
    page = await fetch(client, simulator.shop_url, Filter={"OA_ID": OA_ID, "colour": 1}, PAGING={"Limit": 3}, more=None)

    assert page["followers"] == simulator.rows(OA_ID)[:3]


async def test_chat_text_is_in_the_answer_so_a_leak_can_show(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.3: last_conversation."""
    rows = await sweep(client, simulator.shop_url)

    assert any(row.get("last_conversation", {}).get("message") == CANARY for row in rows)


async def test_pages_can_be_made_large(client: httpx.AsyncClient) -> None:
    config = EtelecomConfig(followers={OA_ID: 100}, notes_padding=20_000)
    async with Simulator(config) as simulator:
        response = await client.post(
            f"{simulator.shop_url}.Zalo/ListFollowers",
            headers={"Authorization": f"Bearer {SHOP_KEY}"},
            json={},
        )

    assert len(response.content) > 2_000_000
    assert len(response.json()["followers"]) == 100


async def test_a_list_of_a_million_is_read_from_either_end(client: httpx.AsyncClient) -> None:
    async with Simulator(EtelecomConfig(followers={OA_ID: 1_000_000})) as simulator:
        people = simulator.listing(OA_ID).people
        newest = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID})
        oldest = await fetch(client, simulator.shop_url, paging={"sort": "-updated_at", "before": "."})
        found = await fetch(client, simulator.shop_url, filter={"zl_user_id": str(people.user_id(400_000))})

    assert newest["followers"][0]["zl_user_id"] == str(people.user_id(999_999))
    assert oldest["followers"][-1]["zl_user_id"] == str(people.user_id(people.by_rank(0)))
    assert len(found["followers"]) == 1


async def test_a_nonce_in_the_cursor_names_the_request_that_gave_it(client: httpx.AsyncClient) -> None:
    async with Simulator(EtelecomConfig(followers={OA_ID: 250}, cursor_nonce=True)) as simulator:
        rows = await sweep(client, simulator.shop_url, sort="-created_at")
        first = await fetch(client, simulator.shop_url, filter={"oa_id": OA_ID})

        assert [row["zl_user_id"] for row in rows] == simulator.ids(OA_ID)
        assert decode(first["paging"]["next"]).nonce == simulator.requests[-1].number


async def test_the_credential_check_and_the_list_of_oas_answer(
    simulator: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    """PROVIDERS 1.1, 3: Misc/CurrentAccount with {}, ListOA with status P."""
    headers = {"Authorization": f"Bearer {PARTNER_KEY}"}

    account = await client.post(f"{simulator.partner_url}.Misc/CurrentAccount", headers=headers, json={})
    oas = await client.post(f"{simulator.partner_url}.Zalo/ListOA", headers=headers, json={})

    assert account.json()["id"] == "1150000000000000001"
    assert [oa["oa_id"] for oa in oas.json()["oas"]] == [OA_ID, EMPTY_OA_ID, OTHER_OA]
    assert {oa["status"] for oa in oas.json()["oas"]} == {"P"}


def test_an_oa_id_that_is_no_number_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="OA ids are decimal"):
        Simulator(EtelecomConfig(followers={"my-oa": 5}))
