"""What may pass by itself is tried again, no sooner than the provider asked."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.checking import check_run
from tests.acceptance.world import World
from worker.providers.simulators import Fault


def simulator_of(world: World, provider: str) -> Any:
    """The simulator behind the spare accounts of `provider`."""
    return world.providers.esms if provider == "esms" else world.providers.etelecom


@pytest.mark.parametrize("provider", ["etelecom", "esms"])
async def test_a_provider_that_answers_500_twice_is_asked_a_third_time(world: World, provider: str) -> None:
    oa, simulator = world.providers.oa(250), simulator_of(world, provider)
    simulator.inject(Fault(kind="status", status=500, oa_id=oa, skip=1, times=2))

    run = await (await world.publish(world.providers.spare(provider), oa)).end()

    end = check_run(run, ids=simulator.ids(oa))
    requests = world.providers.requests(oa)
    assert [entry.status for entry in requests].count(500) == 2
    assert (end["verdict"], end["requests"]) == ("complete", len(requests))


async def test_retry_after_is_honoured_and_the_wait_is_told(world: World) -> None:
    oa = world.providers.oa(250)
    fault = Fault(kind="status", status=429, retry_after="2", body="json", oa_id=oa, skip=1, times=1)
    world.providers.etelecom.inject(fault)

    run = await (await world.publish(world.providers.spare("etelecom"), oa)).end()

    end = check_run(run, ids=world.providers.etelecom.ids(oa))
    assert end["verdict"] == "complete"
    pauses = [
        later.at - (earlier.at + earlier.seconds)
        for earlier, later in pairwise(world.providers.requests(oa))
        if earlier.status == 429
    ]
    assert len(pauses) == 1
    assert 2.0 <= pauses[0] < 8, f"the next request came after {pauses[0]:.2f} s"
    (waiting,) = run.of_type("waiting")
    assert waiting["reason"] == "rate_limited"
    (told,) = [event for event in run.job_events if event.body["type"] == "waiting"]
    until, said = (datetime.fromisoformat(text) for text in (waiting["until"], told.headers["ce-time"]))
    assert 1.5 < (until - said).total_seconds() < 8


async def test_a_rotated_secret_file_is_read_again_without_a_restart(world: World) -> None:
    oa = world.providers.oa(25)
    path = Path(world.config["accounts"]["rotated"]["api_key_file"])
    path.write_text(
        Path(world.config["accounts"]["shop"]["api_key_file"]).read_text(encoding="utf-8"), encoding="utf-8"
    )

    run = await (await world.publish("rotated", oa)).end()

    check_run(run, ids=world.providers.etelecom.ids(oa))
    assert [entry.status for entry in world.providers.requests(oa)][:2] == [401, 200]


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        ("etelecom", Fault(kind="html")),
        ("etelecom", Fault(kind="reset_middle")),
        ("etelecom", Fault(kind="status", status=502)),
        ("etelecom", Fault(kind="error", code="resource_exhausted")),
        ("esms", Fault(kind="error", code="160")),
        ("esms", Fault(kind="bad_json")),
        ("esms", Fault(kind="status", status=503, retry_after="1")),
    ],
    ids=lambda value: f"{value.kind}-{value.code or value.status}" if isinstance(value, Fault) else value,
)
async def test_one_bad_answer_costs_nobody_a_follower(world: World, provider: str, fault: Fault) -> None:
    oa, simulator = world.providers.oa(300), simulator_of(world, provider)
    plan = {name: getattr(fault, name) for name in fault.__struct_fields__} | {"oa_id": oa, "skip": 1}
    simulator.inject(Fault(**plan))
    account = "shop" if provider == "etelecom" else "esms-get"

    run = await (await world.publish(account, oa)).end()

    end = check_run(run, ids=simulator.ids(oa))
    assert end["verdict"] == "complete"
    assert any(entry.faults for entry in world.providers.requests(oa)), "the fault did not fire"
