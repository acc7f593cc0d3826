"""Whole jobs against providers that misbehave in the middle of them, and the next job after each (HOSTILE.md)."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from schemas.events import JobCompleted, JobFailed, JobStarted, JobWaiting
from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, consumer_name
from tests.integration import hostile_table
from tests.integration.hostile_outcomes import BOTH
from tests.integration.hostile_rows import ROWS
from tests.integration.hostile_runs import (
    KEY,
    NEW_KEY,
    SECRET,
    Plan,
    Result,
    World,
    fresh_streams,
    hostile_world,
    plans,
)
from tests.integration.hostile_server import user_ids
from worker.embedded import EmbeddedServer

PLANS = plans(ROWS)


@pytest.fixture(scope="module")
async def world(
    nats_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """The shared worker, with the trials of all tests that were chosen under way."""
    chosen: list[Plan] = [
        cast(Plan, item.callspec.params["plan"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and "plan" in item.fixturenames
    ]
    url, folder = nats_server.url, tmp_path_factory.mktemp("keys")
    async with fresh_streams(url), hostile_world(url, folder, chosen) as made:
        yield made


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
async def test_a_hostile_provider_gets_the_stated_outcome_and_the_next_job_is_done(world: World, plan: Plan) -> None:
    result = await world.results[plan.name]

    check_outcome(plan, result)
    check_bounds(plan, result)
    check_pages(plan, result)
    assert isinstance(result.next_run.events[-1], JobCompleted)
    assert result.next_run.events[-1].verdict == "complete"
    assert result.next_run.user_ids == user_ids()


def check_outcome(plan: Plan, result: Result) -> None:
    outcome, run = plan.outcome, result.run
    end = run.events[-1]
    if isinstance(end, JobFailed):
        assert end.error.code == outcome.end, end.error
        assert outcome.http_status is None or end.error.http_status == outcome.http_status
    else:
        assert isinstance(end, JobCompleted)
        assert (end.verdict, end.reason) == (outcome.end, outcome.reason), end
        assert end.duplicates_dropped == outcome.dropped
        assert end.distinct == len(set(run.user_ids)) == len(run.user_ids)
    assert [event for event in run.events if isinstance(event, JobStarted)] == run.events[:1]
    waits = [event for event in run.events if isinstance(event, JobWaiting)]
    if outcome.waits is not None:
        assert waits
        assert waits[0].reason == outcome.waits
        assert (waits[0].until - run.at).total_seconds() >= outcome.until


def check_bounds(plan: Plan, result: Result) -> None:
    outcome, run = plan.outcome, result.run
    least, most = outcome.asked
    assert least <= result.asked <= most
    assert run.seconds <= outcome.seconds
    asked = result.trial.asked(2)
    if outcome.after:
        assert asked[1].started - asked[0].started >= outcome.after
    # No other page is asked for more than once for the trouble with one, unless the list seems to have moved.
    if plan.row.pages == {2} and outcome.end != "drifted":
        assert all(len(result.trial.asked(page)) <= 2 + (plan.row.key == "rotated-key") for page in (1, 3, 4))
    hostile_table.MEASURED.add(plan.row, plan.lasting, result.asked, run.seconds)


def check_pages(plan: Plan, result: Result) -> None:
    outcome, run = plan.outcome, result.run
    assert [page.page for page in run.pages] == list(range(1, outcome.pages + 1))
    assert all(page.part == page.parts == 1 for page in run.pages)
    if outcome.followers is None and plan.row.page_size is None:
        assert run.user_ids == user_ids(1, outcome.pages)
    else:
        assert len(run.user_ids) == outcome.followers


async def test_the_keys_travel_nowhere_else(world: World) -> None:
    results = [await task for task in world.results.values()]

    assert world.stranger.connections == 0
    canaries = [key.split(":")[-1].encode() for key in (KEY, NEW_KEY, SECRET)]
    published = [raw for result in results for run in (result.run, result.next_run) for raw in run.raw]
    assert published
    assert not [raw for raw in published if any(canary in raw for canary in canaries)]


async def test_every_command_is_done_once_and_each_failure_leaves_its_dead_letter(world: World) -> None:
    results = [await task for task in world.results.values()]

    js = world.client.jetstream()
    dead = await js.stream_info(DEAD_STREAM)
    failed = sum(isinstance(result.run.events[-1], JobFailed) for result in results)
    assert dead.state.messages == failed + world.met_circuit
    for provider in BOTH:
        consumer = await js.consumer_info(COMMANDS_STREAM, consumer_name(provider))
        assert (consumer.num_pending, consumer.num_redelivered) == (0, 0)


def test_the_table_says_what_the_tests_check() -> None:
    hostile_table.check()
