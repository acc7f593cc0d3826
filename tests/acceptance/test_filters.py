"""Filters reach the provider as they were given, on every page; what a provider can't do is refused by name."""

from typing import Any

import pytest

from tests.acceptance.checking import check_run
from tests.acceptance.world import World

ETELECOM_FILTER = {
    "assigned_user_id": "1149000000000000011",
    "date_from": "2023-01-01T00:00:00+07:00",
    "date_to": "2026-06-30T23:59:59+07:00",
    "gender": "female",
    "has_conversation": True,
    "name": "Nguyễn",
    "phone": "84900000000",
    "state": "follow",
    "tags": ["VIP", "khách mới"],
    "zl_user_id": "7800378501923859642",
    "zl_user_ids": ["7800378501923859642", "961919545811768483"],
}


async def test_every_etelecom_filter_reaches_the_provider_unchanged(world: World) -> None:
    oa = world.providers.oa(25)

    run = await (await world.publish("shop", oa, filter=ETELECOM_FILTER)).end()

    check_run(run, ids=[])
    sent = [entry.body["filter"] for entry in world.providers.requests(oa)]
    assert sent
    assert all(
        {key: str(value) for key, value in each.items()} == _as_text({"oa_id": oa, **ETELECOM_FILTER}) for each in sent
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", "unfollow"), ("gender", "male"), ("has_conversation", False), ("tags", ["VIP"])],
)
async def test_one_etelecom_filter_is_sent_alone_and_on_every_page(world: World, name: str, value: Any) -> None:
    oa = world.providers.oa(300)

    run = await (await world.publish("shop", oa, page_size=5, max_pages=4, filter={name: value})).end()

    check_run(run)
    bodies = [entry.body for entry in world.providers.requests(oa)]
    assert len(bodies) >= 2
    assert [body["filter"] for body in bodies] == [{"oa_id": oa, name: value}] * len(bodies)
    assert run.user_ids, "the filter lets somebody through"


async def test_the_filtered_list_is_the_providers_filtered_list(world: World) -> None:
    oa = world.providers.oa(300)

    run = await (await world.publish("shop", oa, filter={"state": "follow"})).end()

    end = check_run(run, ids=world.providers.etelecom.ids(oa, state="follow"))
    assert end["verdict"] == "complete"


@pytest.mark.parametrize("sort", ["created_at", "-updated_at"])
async def test_sort_reaches_etelecom_and_the_list_is_whole(world: World, sort: str) -> None:
    oa = world.providers.oa(250)

    run = await (await world.publish("shop", oa, sort=sort)).end()

    check_run(run)
    assert sorted(run.user_ids) == sorted(world.providers.etelecom.ids(oa))
    assert world.providers.requests(oa)[0].body["paging"]["sort"] == sort


async def test_esms_filters_reach_query_list_uid_in_its_own_words(world: World) -> None:
    oa = world.providers.oa(300)
    chosen = {"date_from": "2023-01-01", "date_to": "31/12/2026", "state": "follow", "tag": "VIP"}

    run = await (await world.publish("esms-list", oa, page_size=10, filter=chosen)).end()

    check_run(run)
    requests = world.providers.requests(oa)
    assert {entry.endpoint for entry in requests} == {"QueryListUID"}
    expected = {"FromDate": "01/01/2023", "ToDate": "31/12/2026", "IsFollower": "1", "TagName": "VIP"}
    assert all({key: entry.body[key] for key in expected} == expected for entry in requests)
    assert 0 < len(run.user_ids) < 300


async def test_auto_takes_the_endpoint_that_can_filter(world: World) -> None:
    oa = world.providers.oa(25)

    run = await (await world.publish("esms-auto", oa, filter={"state": "follow"})).end()

    check_run(run, ids=world.providers.withdrawn.ids(oa))
    assert {entry.endpoint for entry in world.providers.requests(oa)} == {"QueryListUID"}


@pytest.mark.parametrize(
    ("account", "command", "named"),
    [
        ("esms-get", {"filter": {"state": "follow"}}, "state"),
        ("esms-get", {"filter": {"tag": "VIP"}}, "tag"),
        ("esms-get", {"filter": {"date_from": "2026-01-01"}}, "date_from"),
        ("esms-list", {"filter": {"gender": "female"}}, "gender"),
        ("esms-list", {"filter": {"zl_user_ids": ["7800378501923859642"]}}, "zl_user_ids"),
        ("esms-list", {"sort": "-created_at"}, "sort"),
        ("shop", {"filter": {"tag": "VIP"}}, "tag"),
    ],
)
async def test_what_a_provider_cannot_do_is_refused_by_name(
    world: World, account: str, command: dict[str, Any], named: str
) -> None:
    oa = world.providers.oa(25)

    job = await world.publish(account, oa, **command)
    run = await job.end()

    end = check_run(run)
    assert (end["type"], end["error"]["code"], end["error"]["retryable"]) == ("failed", "unsupported", False)
    assert named in end["error"]["message"]
    assert world.providers.requests(oa) == []
    letter = await world.broker.dead_letter(job.provider, job.sequence)
    assert (letter.headers or {})["Followers-Error-Code"] == "unsupported"
    await world.broker.settled(job.sequence)


def _as_text(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}
