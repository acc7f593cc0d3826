"""What probes and Prometheus get from a replica, over a real socket."""

import math
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import get_args

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from schemas.changes import ChangeEvent
from schemas.types import ErrorCode, JobState, Provider, WaitReason
from worker.core.ports.metrics import Circuit, Meter
from worker.metrics import LATENCIES, PrometheusMeter, product_version
from worker.ops import OpsServer, Readiness

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    text: str
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A served replica and a client of it."""

    readiness: Readiness
    meter: PrometheusMeter
    registry: CollectorRegistry
    session: aiohttp.ClientSession

    async def ask(self, path: str, method: str = "GET") -> Answer:
        """Send one request."""
        async with self.session.request(method, path) as response:
            return Answer(
                status=response.status, text=await response.text(), content_type=response.headers["Content-Type"]
            )

    async def samples(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return what `/metrics` says: values by name and label values."""
        families = text_string_to_metric_families((await self.ask("/metrics")).text)
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    """A replica that listens."""
    registry, readiness = CollectorRegistry(), Readiness()
    server, port = OpsServer(readiness, registry), free_port()
    await server.start(HOST, port)
    async with aiohttp.ClientSession(f"http://{HOST}:{port}") as session:
        yield Replica(readiness=readiness, meter=PrometheusMeter(registry), registry=registry, session=session)
    await server.stop()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


async def test_a_replica_is_alive_while_its_loop_answers_ready_or_not(replica: Replica) -> None:
    assert (await replica.ask("/healthz")).status == 200

    replica.readiness.why = "NATS is not connected"

    # A broker's outage must not restart every replica.
    assert (await replica.ask("/healthz")).status == 200


async def test_a_replica_that_starts_is_not_ready_and_says_why(replica: Replica) -> None:
    answer = await replica.ask("/readyz")

    assert (answer.status, answer.text) == (503, "starting\n")
    assert not replica.readiness.ready


async def test_a_replica_is_ready_while_nothing_stands_in_the_way(replica: Replica) -> None:
    replica.readiness.why = None
    assert ((await replica.ask("/readyz")).status, replica.readiness.ready) == (200, True)

    replica.readiness.why = "consumer worker-esms is missing: run `followers setup`"

    answer = await replica.ask("/readyz")
    assert (answer.status, answer.text) == (503, "consumer worker-esms is missing: run `followers setup`\n")


async def test_the_metrics_count_what_the_core_tells(replica: Replica) -> None:
    meter: Meter = replica.meter
    meter.page_published("esms", 50)
    meter.page_published("esms", 7)
    meter.page_published("etelecom", 0)
    meter.request_ended("etelecom", "rate_limited", 0.3)
    meter.request_ended("etelecom", "ok", 7.0)
    meter.dead_lettered("esms", "unauthorized")
    meter.redelivered("etelecom")
    meter.faulted("etelecom")
    meter.job_ended("esms", "completed")
    replica.meter.in_flight.labels("esms").inc()

    samples = await replica.samples()

    assert samples["followers_pages_total", ("esms",)] == 2
    assert samples["followers_followers_total", ("esms",)] == 57
    assert samples["followers_pages_total", ("etelecom",)] == 1
    assert samples["followers_requests_total", ("rate_limited", "etelecom")] == 1
    assert samples["followers_requests_total", ("ok", "etelecom")] == 1
    assert samples["followers_request_duration_seconds_bucket", ("0.5", "etelecom")] == 1
    assert samples["followers_request_duration_seconds_sum", ("etelecom",)] == pytest.approx(7.3)
    assert samples["followers_dead_letters_total", ("unauthorized", "esms")] == 1
    assert samples["followers_redeliveries_total", ("etelecom",)] == 1
    assert samples["followers_faults_total", ("etelecom",)] == 1
    assert samples["followers_jobs_total", ("esms", "completed")] == 1
    assert samples["followers_jobs_in_flight", ("esms",)] == 1


async def test_every_series_is_there_before_anything_happens(replica: Replica) -> None:
    """Prometheus sees no increase in a counter whose first value is 1."""
    before = await replica.samples()

    for provider in get_args(Provider):
        replica.meter.page_published(provider, 1)
        replica.meter.redelivered(provider)
        replica.meter.faulted(provider)
        for outcome in ("ok", *get_args(ErrorCode)):
            replica.meter.request_ended(provider, outcome, 1.0)
        for code in get_args(ErrorCode):
            replica.meter.dead_lettered(provider, code)
        for reason in get_args(WaitReason):
            replica.meter.request_waited(provider, reason, 1.0)
        for state in ("completed", "failed", "cancelled", "queued"):
            replica.meter.job_ended(provider, state)

    counters = {name for name, _ in before if name.startswith("followers_") and name.endswith(("_total", "_bucket"))}
    assert len(counters) > 8
    assert not any(before[key] for key in before if key[0] in counters)
    assert before.keys() == (await replica.samples()).keys()


async def test_what_the_queue_holds_is_shown_as_unknown_while_it_is(replica: Replica) -> None:
    async def shown() -> list[float]:
        samples = await replica.samples()
        names = ("followers_commands_pending", "followers_commands_unsettled")
        return [samples[name, ("esms",)] for name in names]

    assert all(math.isnan(value) for value in await shown())

    replica.meter.commands("esms", (12, 3))
    assert await shown() == [12, 3]

    replica.meter.commands("esms", None)
    assert all(math.isnan(value) for value in await shown())


async def test_readiness_and_standing_jobs_are_asked_for_at_each_scrape(replica: Replica) -> None:
    standing = 0
    replica.meter.watch(ready=lambda: replica.readiness.ready, waiting=lambda provider: standing)
    first = await replica.samples()

    replica.readiness.why, standing = None, 4

    second = await replica.samples()
    keys = [("followers_ready", ()), ("followers_jobs_waiting", ("esms",))]
    assert [first[key] for key in keys] == [0, 0]
    assert [second[key] for key in keys] == [1, 4]


async def test_the_metrics_are_what_prometheus_reads(replica: Replica) -> None:
    answer = await replica.ask("/metrics")

    assert answer.status == 200
    assert answer.content_type.startswith("text/plain; version=")


async def test_no_label_has_more_values_than_the_contract_knows(replica: Replica) -> None:
    bounds = {
        "provider": set(get_args(Provider)),
        "code": set(get_args(ErrorCode)),
        "outcome": {"ok", *get_args(ErrorCode)},
        "le": {*map(str, LATENCIES), "+Inf"},
        "version": {product_version()},
        "state": {*get_args(JobState), *get_args(Circuit)},
        "reason": set(get_args(WaitReason)),
        "type": {kind.__struct_config__.tag for kind in get_args(ChangeEvent)},
    }
    for provider in get_args(Provider):
        replica.meter.page_published(provider, 1)
        replica.meter.in_flight.labels(provider).inc()
        for code in get_args(ErrorCode):
            replica.meter.request_ended(provider, code, 1.0)
            replica.meter.dead_lettered(provider, code)
        for state in get_args(JobState):
            replica.meter.job_ended(provider, state)
        for reason in get_args(WaitReason):
            replica.meter.request_waited(provider, reason, 1.0)
        for circuit in get_args(Circuit):
            replica.meter.circuit_changed(provider, "an-account", circuit)

    samples = [sample for family in replica.registry.collect() for sample in family.samples]

    assert samples
    for sample in samples:
        assert sample.labels.keys() <= bounds.keys()
        assert all(value in bounds[label] for label, value in sample.labels.items())


async def test_there_is_nothing_else_and_nothing_to_change(replica: Replica) -> None:
    assert (await replica.ask("/nothing")).status == 404
    assert (await replica.ask("/healthz", "POST")).status == 405


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        server = OpsServer(Readiness(), CollectorRegistry())

        with pytest.raises(OSError, match="address already in use"):
            await server.start(HOST, listener.getsockname()[1])

        await server.stop()


async def test_a_server_that_was_stopped_listens_no_more() -> None:
    server, port = OpsServer(Readiness(), CollectorRegistry()), free_port()
    await server.start(HOST, port)

    await server.stop()
    await server.stop()

    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port), timeout=1):
        pass


async def test_a_server_that_never_started_can_be_stopped() -> None:
    await OpsServer(Readiness(), CollectorRegistry()).stop()
