"""Lists at the edge: nobody, exactly one page, pages too big for a message, ceilings, deadlines."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.checking import check_run
from tests.acceptance.world import World
from worker.providers.simulators import Fault

MAX_PAYLOAD = 1024 * 1024
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("account", ["shop", "partner", "esms-get", "esms-list"])
async def test_a_list_of_nobody_is_one_page_with_no_followers(world: World, account: str) -> None:
    run = await (await world.publish(account, world.providers.oa(0))).end()

    end = check_run(run, ids=[])
    (page,) = run.pages
    assert (page.body["page"], page.body["followers"], page.body["last"]) == (1, [], True)
    assert (end["verdict"], end["pages"], end["followers"]) == ("complete", 1, 0)


@pytest.mark.parametrize(("account", "size"), [("shop", 100), ("esms-get", 50), ("esms-list", 50)])
async def test_a_list_of_exactly_one_full_page_is_complete(world: World, account: str, size: int) -> None:
    oa = world.providers.oa(size)

    run = await (await world.publish(account, oa)).end()

    simulator = world.providers.esms if account.startswith("esms") else world.providers.etelecom
    end = check_run(run, ids=simulator.ids(oa))
    assert (end["verdict"], end["followers"]) == ("complete", size)
    assert len(run.pages[0].body["followers"]) == size


@pytest.mark.parametrize(("account", "size"), [("shop", 7), ("esms-get", 7)])
async def test_page_size_is_the_size_of_a_page(world: World, account: str, size: int) -> None:
    oa = world.providers.oa(25)

    run = await (await world.publish(account, oa, page_size=size)).end()

    check_run(run)
    assert [len(page.body["followers"]) for page in run.pages if page.body["followers"]] == [7, 7, 7, 4]


async def test_a_page_too_big_for_one_message_comes_in_parts(world: World) -> None:
    oa = world.providers.oa(100)

    run = await (await world.publish("heavy", oa)).end()

    end = check_run(run, ids=world.providers.heavy.ids(oa))
    first = [page for page in run.pages if page.body["page"] == 1]
    assert len(first) > 1
    assert {part.body["parts"] for part in first} == {len(first)}
    assert all(len(page.data) <= MAX_PAYLOAD for page in run.pages)
    assert len(run.pages[0].body["followers"][0]["notes"][-1].encode()) > 20_000
    assert (end["verdict"], end["followers"], end["pages"]) == ("complete", 100, run.pages[-1].body["page"])


@pytest.mark.parametrize("account", ["shop", "esms-get"])
async def test_max_pages_stops_after_so_many_provider_pages(world: World, account: str) -> None:
    oa = world.providers.oa(250)

    run = await (await world.publish(account, oa, page_size=20, max_pages=2)).end()

    simulator = world.providers.esms if account.startswith("esms") else world.providers.etelecom
    end = check_run(run, ids=simulator.ids(oa)[:40])
    assert (end["verdict"], end["reason"], end["pages"]) == ("truncated", "max_pages", 2)
    assert run.pages[-1].body["last"] is True
    assert len(world.providers.requests(oa)) == 2, "no page is asked for beyond the ceiling"


@pytest.mark.parametrize("account", ["shop", "esms-get"])
async def test_max_followers_cuts_in_the_middle_of_a_page(world: World, account: str) -> None:
    oa = world.providers.oa(250)

    run = await (await world.publish(account, oa, page_size=20, max_followers=30)).end()

    simulator = world.providers.esms if account.startswith("esms") else world.providers.etelecom
    end = check_run(run, ids=simulator.ids(oa)[:30])
    assert (end["verdict"], end["reason"], end["followers"]) == ("truncated", "max_followers", 30)
    assert len(world.providers.requests(oa)) == 2


async def test_ceilings_that_are_not_reached_change_nothing(world: World) -> None:
    oa = world.providers.oa(25)

    run = await (await world.publish("shop", oa, max_pages=9, max_followers=900)).end()

    end = check_run(run, ids=world.providers.etelecom.ids(oa))
    assert (end["verdict"], end.get("reason")) == ("complete", None)


async def test_a_list_beyond_what_esms_gives_is_truncated_by_the_providers_cap(world: World) -> None:
    oa = world.providers.oa(10_050)

    run = await (await world.publish("esms-get", oa)).end(timeout=90)

    end = check_run(run, ids=world.providers.esms.ids(oa)[:10_000])
    assert (end["verdict"], end["reason"], end["followers"]) == ("truncated", "provider_cap", 10_000)


async def test_sixteen_labels_stand_on_every_event(world: World) -> None:
    labels = {f"label-{n}": f"giá trị {n}" for n in range(16)}

    run = await (await world.publish("esms-get", world.providers.oa(25), labels=labels)).end()

    check_run(run, labels=labels)


async def test_the_commands_trace_goes_on_in_every_event(world: World) -> None:
    oa, job_id = world.providers.oa(25), "traced-job"
    command = {"provider": "etelecom", "id": job_id, "account": "shop", "oa_id": oa}

    ack = await world.broker.publish("etelecom", command, headers={"traceparent": TRACEPARENT})
    run = await world.follow("etelecom", job_id, oa, ack.seq).end()

    traces = [event.headers["traceparent"].split("-")[1] for event in run.events]
    assert set(traces) == {TRACEPARENT.split("-")[1]}


async def test_a_command_without_a_trace_gives_events_without_one(world: World) -> None:
    run = await (await world.publish("shop", world.providers.oa(25))).end()

    assert not any("traceparent" in event.headers for event in run.events)


async def test_a_deadline_in_the_past_ends_the_job_before_any_request(world: World) -> None:
    oa = world.providers.oa(25)

    job = await world.publish("shop", oa, not_after="2026-01-01T00:00:00Z")
    run = await job.end()

    end = check_run(run)
    assert (end["type"], end["error"]["code"]) == ("failed", "deadline_exceeded")
    assert world.providers.requests(oa) == []
    letter = await world.broker.dead_letter("etelecom", job.sequence)
    assert (letter.headers or {})["Followers-Error-Code"] == "deadline_exceeded"
    await world.broker.settled(job.sequence)


@pytest.mark.parametrize("provider", ["etelecom", "esms"])
async def test_a_deadline_that_passes_while_the_job_waits_ends_it_then(world: World, provider: str) -> None:
    oa = world.providers.oa(25)
    simulator = world.providers.esms if provider == "esms" else world.providers.etelecom
    simulator.inject(Fault(kind="status", status=429, retry_after="60", oa_id=oa, times=0))
    deadline = datetime.now(UTC) + timedelta(seconds=2)

    started = time.monotonic()
    job = await world.publish(world.providers.spare(provider), oa, not_after=deadline.isoformat())
    run = await job.end(timeout=20)

    end = check_run(run)
    assert (end["type"], end["error"]["code"]) == ("failed", "deadline_exceeded")
    assert 1.5 < time.monotonic() - started < 8
    early = [deadline.timestamp() - entry.at for entry in world.providers.requests(oa)[1:]]
    assert not early, f"Retry-After: 60 was not honoured: asked again {early} s before the deadline"
