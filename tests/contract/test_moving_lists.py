"""The core reads lists over real sockets: lists that move meanwhile, and lists beyond eSMS's ceiling."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas import FollowerPage, JobCompleted, JobEvent, decode
from schemas.subjects import command_subject, job_subject, page_subject
from schemas.types import Provider
from tests.contract.providers_kit import KEYS, AnySimulator, account
from tests.fakes import FakeDelivery, FakeLog, make_world
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.providers import open_client
from worker.providers.simulators import OA_ID, EsmsConfig, EtelecomConfig, Fault, ListChange, Simulator

NOON = datetime(2023, 12, 1, 12, tzinfo=UTC)
BOUNDS = {"request_timeout": 10.0, "max_response_bytes": 1 << 20}


async def fetched(
    simulator: AnySimulator, variant: str = "QueryListUID", prefetch: int = 8, **fields: Any
) -> tuple[list[FollowerPage], JobCompleted]:
    """Return the pages and the end of a job that fetches the simulator's list."""
    log = FakeLog()
    world = make_world(log=log, prefetch=prefetch)
    client = open_client(account(variant, simulator.url), now=lambda: NOON, **BOUNDS)  # type: ignore[arg-type]
    provider: Provider = "etelecom" if variant in KEYS else "esms"
    handler = CommandHandler({"mine": OpenAccount("mine", provider, client)}, world, asyncio.Event())
    body = msgspec.json.encode({"provider": provider, "oa_id": OA_ID, "id": "j"} | fields)
    try:
        await handler.handle(FakeDelivery(subject=command_subject(provider), data=body))
    finally:
        await client.close()
    pages = [decode(entry.data, FollowerPage) for entry in log.on(page_subject(provider, OA_ID, "j"))]
    end: JobEvent = decode(log.on(job_subject(provider, OA_ID, "j"))[-1].data, JobEvent)
    assert isinstance(end, JobCompleted), end
    return pages, end


def ids(pages: list[FollowerPage]) -> list[str]:
    """The user ids of pages, in order."""
    return [follower.user_id for page in pages for follower in page.followers]


async def test_a_list_that_does_not_move_is_complete_in_full_pages_for_a_request_more_in_fifty() -> None:
    async with Simulator(EsmsConfig(followers={OA_ID: 2_420})) as simulator:
        pages, end = await fetched(simulator, "GetFollowers")

        assert ids(pages) == simulator.ids(OA_ID)
        offsets: list[int] = sorted(entry.body["Offset"] for entry in simulator.requests)  # type: ignore[index]
    assert [len(page.followers) for page in pages] == [50] * 48 + [20]
    assert (end.verdict, end.missed_at_most, end.duplicates_dropped) == ("complete", 0, 0)
    assert offsets[:4] == [0, 49, 98, 147]
    assert len(offsets) == end.requests <= 49 + 1


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("prefetch", [1, 8])
@pytest.mark.parametrize("endpoint", ["GetFollowers", "QueryListUID"])
async def test_nobody_is_missed_when_people_come_and_go_meanwhile(endpoint: str, prefetch: int, order: Any) -> None:
    async with Simulator(EsmsConfig(followers={OA_ID: 1_000}, order=order)) as simulator:
        served = simulator.ids(OA_ID)
        gone = served[10:30]
        simulator.change(ListChange(oa_id=OA_ID, before_request=6, unfollow=gone[:12]))
        simulator.change(ListChange(oa_id=OA_ID, before_request=9, follow=7, unfollow=gone[12:]))
        simulator.change(ListChange(oa_id=OA_ID, before_request=12, follow=3))

        pages, end = await fetched(simulator, endpoint, prefetch)

    assert set(served) - set(gone) <= set(ids(pages))
    assert len(set(ids(pages))) == len(ids(pages))
    assert (end.verdict, end.missed_at_most) == ("drifted", 0)


async def test_sixty_thousand_behind_a_ceiling_of_ten_thousand_are_all_found_once() -> None:
    config = EsmsConfig(followers={OA_ID: 60_000}, per_day={OA_ID: [500] * 120})
    async with Simulator(config) as simulator:
        pages, end = await fetched(simulator, prefetch=16)

        assert sorted(ids(pages)) == sorted(simulator.ids(OA_ID))
    assert {len(page.followers) for page in pages} == {50}
    assert (end.verdict, end.missed_at_most, end.window) == ("complete", 0, None)
    assert (end.total_first, end.total_last, end.followers) == (60_000, 60_000, 60_000)
    assert {page.total for page in pages} == {60_000}
    assert end.requests < 1_200 * 50 / 49 * 1.05


async def test_a_day_above_the_ceiling_is_named_and_the_days_around_it_are_whole() -> None:
    config = EsmsConfig(followers={OA_ID: 14_000}, per_day={OA_ID: [900, 100, 12_000, 1_000]})
    async with Simulator(config) as simulator:
        pages, end = await fetched(simulator, prefetch=16)

        everybody = simulator.ids(OA_ID)
    assert (end.verdict, end.reason, end.window) == ("truncated", "provider_cap", "2023-03-03")
    assert (end.followers, end.missed_at_most) == (12_000, 2_000)
    assert set(ids(pages)) == set(everybody[:11_000] + everybody[13_000:])


async def test_get_followers_by_name_ends_at_the_ceiling_and_tells_how_many_are_beyond() -> None:
    async with Simulator(EsmsConfig(followers={OA_ID: 10_120})) as simulator:
        pages, end = await fetched(simulator, "GetFollowers", prefetch=16)

        assert ids(pages) == simulator.ids(OA_ID)[:10_000]
    assert (end.verdict, end.reason, end.missed_at_most, end.window) == ("truncated", "provider_cap", 120, None)


async def test_a_list_above_the_ceiling_is_read_by_days_where_either_endpoint_may_be_asked() -> None:
    config = EsmsConfig(followers={OA_ID: 10_120}, per_day={OA_ID: [1_012] * 10}, order="oldest")
    async with Simulator(config) as simulator:
        pages, end = await fetched(simulator, "auto", prefetch=16)

        assert ids(pages) == simulator.ids(OA_ID)
        paths = [entry.path.split("/")[-2] for entry in simulator.requests]
    assert (paths[0], set(paths[1:-1]), paths[-1]) == ("GetFollowers", {"QueryListUID"}, "GetFollowers")
    assert (end.verdict, end.missed_at_most) == ("complete", 0)


async def test_a_list_that_grows_beyond_the_ceiling_while_it_is_read_is_finished_by_days() -> None:
    config = EsmsConfig(followers={OA_ID: 9_990}, per_day={OA_ID: [999] * 10})
    async with Simulator(config) as simulator:
        served = simulator.ids(OA_ID)
        simulator.change(ListChange(oa_id=OA_ID, before_request=100, follow=60))

        pages, end = await fetched(simulator, prefetch=16)

    assert set(served) <= set(ids(pages))
    assert len(set(ids(pages))) == len(ids(pages))
    assert (end.verdict, end.missed_at_most) == ("drifted", 0)


# eTelecom: each page starts where the one before ended.


@pytest.mark.parametrize("sort", [None, "created_at", "-created_at", "updated_at"])
async def test_nobody_is_missed_under_a_sort_by_which_people_only_move_on(sort: str | None) -> None:
    async with Simulator(EtelecomConfig(followers={OA_ID: 300})) as simulator:
        served = simulator.ids(OA_ID)
        simulator.change(ListChange(oa_id=OA_ID, before_request=3, update=served[20:290:9], follow=5))

        pages, end = await fetched(simulator, "shop", sort=sort)

    assert set(served) <= set(ids(pages))
    assert end.missed_at_most == 0
    assert end.requests == len(pages) + 1, (
        "the empty end is asked for again; the head is read where that tells something"
    )


async def test_a_descending_sort_is_proven_when_the_head_is_as_it_was() -> None:
    async with Simulator(EtelecomConfig(followers={OA_ID: 300})) as simulator:
        pages, end = await fetched(simulator, "shop", sort="-updated_at")

        assert set(ids(pages)) == set(simulator.ids(OA_ID))
    assert (end.verdict, end.missed_at_most, end.requests) == ("complete", 0, len(pages) + 2)


async def test_somebody_who_was_updated_before_being_reached_is_missed_and_the_verdict_says_so() -> None:
    async with Simulator(EtelecomConfig(followers={OA_ID: 300})) as simulator:
        oldest_change = simulator.ids(OA_ID)[-1]
        simulator.change(ListChange(oa_id=OA_ID, before_request=2, update=[oldest_change]))

        pages, end = await fetched(simulator, "shop", sort="-updated_at")

    assert oldest_change not in ids(pages)
    assert (end.verdict, end.missed_at_most) == ("drifted", None)


async def test_a_head_that_cannot_be_read_again_leaves_open_who_was_missed() -> None:
    async with Simulator(EtelecomConfig(followers={OA_ID: 150})) as simulator:
        simulator.inject(Fault(kind="status", status=403, skip=4, times=0))

        pages, end = await fetched(simulator, "shop", sort="-updated_at")

        assert set(ids(pages)) == set(simulator.ids(OA_ID))
    assert (end.verdict, end.missed_at_most) == ("drifted", None)
