"""What is logged and counted of a command: one line an outcome, which names the job."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from tests.fakes import FakeClient, FakeDelivery
from tests.replica import Replica, command
from worker.core.errors import ProviderUnavailableError, UnauthorizedError

OUTCOMES = {
    *(f"job.{state}" for state in ("completed", "failed", "cancelled", "queued")),
    *(f"command.{what}" for what in ("rejected", "duplicate", "already_done", "fenced", "fault", "handed_back")),
}
"""What can become of a delivery; k8s/components/monitoring/README.md explains each."""


@pytest.fixture(autouse=True)
def _at_level_info(_logs_as_before: None) -> None:
    """As in production: what is logged below that is no outcome."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


Scene = Callable[[Replica], Awaitable[FakeDelivery]]


async def done(replica: Replica) -> FakeDelivery:
    return await replica.handle(command())


async def done_before(replica: Replica) -> FakeDelivery:
    await Replica(log=replica.log, status=replica.board, worker="worker-2").handle(command())
    return await replica.handle(command(deliveries=2))


async def refused_by_the_provider(replica: Replica) -> FakeDelivery:
    replica.client.fail_next(UnauthorizedError("the key is not accepted: correct it"))
    return await replica.handle(command())


async def tried_again(replica: Replica) -> FakeDelivery:
    replica.client.fail_next(ProviderUnavailableError("down"), ProviderUnavailableError("down"))
    return await replica.handle(command())


async def wrong(replica: Replica) -> FakeDelivery:
    return await replica.handle(command(colour="red"))


async def no_command_at_all(replica: Replica) -> FakeDelivery:
    return await replica.handle(FakeDelivery(data=b"{", headers={"Nats-Msg-Id": "j1"}))


async def a_bug(replica: Replica) -> FakeDelivery:
    replica.client.fail_next(ZeroDivisionError("a bug"))
    return await replica.handle(command())


async def draining(replica: Replica) -> FakeDelivery:
    replica.draining.set()
    return await replica.handle(command())


async def _held(replica: Replica, act: Callable[[asyncio.Task[None]], Awaitable[object]]) -> FakeDelivery:
    replica.client.gate.clear()
    delivery = command()
    task = asyncio.create_task(replica.handler.handle(delivery))
    while not replica.client.requests:
        await asyncio.sleep(0)
    await act(task)
    replica.client.gate.set()
    await asyncio.wait([task])
    return delivery


async def cancelled(replica: Replica) -> FakeDelivery:
    async def act(task: asyncio.Task[None]) -> None:
        replica.handler.cancel("j1")

    return await _held(replica, act)


async def drained_in_mid_job(replica: Replica) -> FakeDelivery:
    async def act(task: asyncio.Task[None]) -> None:
        replica.draining.set()

    return await _held(replica, act)


async def stopped_in_mid_job(replica: Replica) -> FakeDelivery:
    async def act(task: asyncio.Task[None]) -> None:
        task.cancel()

    return await _held(replica, act)


async def taken_over(replica: Replica) -> FakeDelivery:
    async def act(task: asyncio.Task[None]) -> None:
        with capture_logs():  # the rival's lines are another worker's
            await Replica(FakeClient(12), log=replica.log, worker="worker-2").handle(command(deliveries=2))

    return await _held(replica, act)


@pytest.mark.parametrize(
    ("scene", "says"),
    [
        (done, "job.completed"),
        (refused_by_the_provider, "job.failed"),
        (cancelled, "job.cancelled"),
        (drained_in_mid_job, "job.queued"),
        (tried_again, "job.completed"),
        (wrong, "command.rejected"),
        (no_command_at_all, "command.rejected"),
        (a_bug, "command.fault"),
        (draining, "command.handed_back"),
        (stopped_in_mid_job, "command.handed_back"),
        (taken_over, "command.fenced"),
    ],
)
async def test_each_delivery_has_one_line_that_says_what_became_of_it_and_names_the_job(scene: Scene, says: str):
    replica = Replica()

    lines = await logged(scene, replica)

    assert [line["event"] for line in lines if line["event"] in OUTCOMES] == [says]
    assert {line.get("job_id") for line in lines} == {"j1"}
    assert get_contextvars() == {}


async def test_a_line_says_how_a_job_ended():
    (done_line,) = [line for line in await logged(done, Replica()) if line["event"] == "job.completed"]
    (failed,) = [line for line in await logged(refused_by_the_provider, Replica()) if line["event"] == "job.failed"]

    assert (done_line["verdict"], done_line["requests"]) == ("complete", 3)
    assert (failed["code"], failed["reason"]) == ("unauthorized", "the key is not accepted: correct it")


async def test_a_job_that_is_done_already_says_so_in_one_line():
    lines = await logged(done_before, Replica())

    ours = [line["event"] for line in lines if line["event"] in OUTCOMES]
    assert ours == ["job.completed", "command.already_done"]
    assert {line["job_id"] for line in lines} == {"j1"}


async def test_a_second_message_of_a_running_job_says_so_in_one_line():
    replica = Replica()

    async def scene(replica: Replica) -> FakeDelivery:
        return await _held(replica, lambda task: replica.handle(command(sequence=2)))

    lines = await logged(scene, replica)

    assert [line["event"] for line in lines] == ["command.duplicate", "job.completed"]
    assert {line["job_id"] for line in lines} == {"j1"}


async def test_redeliveries_dead_letters_and_faults_are_counted():
    replica = Replica()

    with capture_logs():
        await a_bug(replica)
        await replica.handle(command(deliveries=2))
        await replica.handle(command(id="j2", sequence=2, colour="red"))

    meter = replica.meter
    assert (meter.faults, meter.redeliveries) == ({"etelecom": 1}, {"etelecom": 1})
    assert meter.letters == {("etelecom", "invalid_command"): 1}


async def logged(scene: Scene, replica: Replica) -> list[dict[str, Any]]:
    """Return the lines that `scene` makes the worker say, each with what they say of every command."""
    with capture_logs(processors=[merge_contextvars]) as lines:
        await scene(replica)
    return [dict(line) for line in lines]
