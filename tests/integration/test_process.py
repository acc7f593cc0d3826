"""The worker as a process: signals, outages, vanished consumers, probes."""

import asyncio
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from schemas.jobs import JobStatus
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, JOBS_BUCKET, consumer_name
from schemas.wire import decode, encode
from tests.integration import stage
from worker.embedded import EmbeddedServer
from worker.jetstream.connection import NatsOptions, connect
from worker.jetstream.topology import TopologyConfig, reconcile
from worker.simulators import OA_ID, Fault

TOPOLOGY = TopologyConfig(ack_wait=2)
HANG = Fault(kind="hang", times=0)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server() as server:
        yield server


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,)))
    await reconcile(client, TOPOLOGY)
    yield client
    await client.close()


@pytest.fixture
async def providers() -> AsyncIterator[stage.Providers]:
    async with stage.providers() as providers:
        yield providers


async def publish(client: Client, job_id: str, provider: str = "etelecom") -> int:
    body = encode({"provider": provider, "oa_id": OA_ID, "id": job_id})
    return (await client.jetstream().publish(f"followers.fetch.{provider}", body)).seq


async def status(client: Client, job_id: str) -> JobStatus:
    entry = await (await client.jetstream().key_value(JOBS_BUCKET)).get(job_id)
    return decode(entry.value or b"", JobStatus)


async def page(client: Client, job_id: str, number: int) -> None:
    """Wait for a job's page."""

    async def there() -> bool:
        info = await client.jetstream().stream_info(EVENTS_STREAM, subjects_filter=f"followers.page.*.*.{job_id}")
        return sum((info.state.subjects or {}).values()) >= number

    await stage.until(there, 20)


async def in_hand(providers: stage.Providers, requests: int = 1) -> None:
    """Wait until the provider has been asked."""
    await stage.until(lambda: len(providers.etelecom.requests) >= requests, 20)


async def redeliveries(client: Client) -> int:
    info = await client.jetstream().consumer_info(COMMANDS_STREAM, consumer_name("etelecom"))
    return info.num_redelivered or 0


# What vanishes on the server.


@pytest.mark.parametrize("gone", ["consumer", "stream"])
async def test_what_vanishes_turns_readiness_off_without_spinning_and_setup_turns_it_on_again(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path, gone: str
) -> None:
    js = client.jetstream()
    async with stage.replica(stage.sections_for(server.url, providers.accounts), tmp_path) as replica:
        if gone == "consumer":
            await js.delete_consumer(COMMANDS_STREAM, consumer_name("etelecom"))
        else:
            await js.delete_stream(COMMANDS_STREAM)
        await replica.answers("/readyz", 503, "run `followers setup`", timeout=5)
        before = replica.cpu_seconds()
        await asyncio.sleep(2)
        spent = replica.cpu_seconds() - before
        assert (await replica.get("/healthz"))[0] == 200

        await reconcile(client, TOPOLOGY)
        await replica.answers("/readyz", 200, timeout=5)
        await stage.command_settled(client, await publish(client, "after"))

    assert spent < 0.3, f"{spent:.2f} s of processor time in 2 s"


async def test_a_broker_outage_turns_readiness_off_and_leaves_liveness_on(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path
) -> None:
    async with stage.replica(stage.sections_for(server.url, providers.accounts), tmp_path) as replica:
        await server.kill()
        await replica.answers("/readyz", 503, "NATS is not connected", timeout=5)
        before = replica.cpu_seconds()
        await asyncio.sleep(1)
        spent = replica.cpu_seconds() - before
        alive = await replica.get("/healthz")
        await server.start()
        await replica.answers("/readyz", 200, timeout=10)
        await stage.command_settled(client, await publish(client, "after"))

    assert alive == (200, "ok\n")
    assert spent < 0.3


async def test_a_connection_closed_for_good_ends_the_process_with_the_reason(tmp_path: Path) -> None:
    """A user taken off the server: nats-py closes for ever, so only a new process has a chance."""
    users = 'authorization: {{users: [{{user: "{}", password: "right"}}, {{user: "admin", password: "right"}}]}}'
    async with stage.server(users.format("worker")) as server:
        admin = await connect(NatsOptions(servers=(server.url,), user="admin", password="right"))
        await reconcile(admin, TOPOLOGY)
        await admin.close()
        sections = stage.sections_for(server.url, {}, nats={"user": "worker", "password": "right"})
        async with stage.replica(sections, tmp_path) as replica:
            config = server.folder / "nats-server.conf"
            config.write_text(config.read_text("utf-8").replace('"worker"', '"somebody"'), "utf-8")
            os.kill(server.pid, signal.SIGHUP)

            assert await replica.ended() == 70
            said = await replica.says("nats.closed")

    assert "refuses the credentials" in said["reason"]


async def test_a_blocked_event_loop_fails_the_liveness_probe(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """A kubelet's probe has a time-out: what doesn't answer is not alive."""
    program = tmp_path / "blocked.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio, signal, time
            from worker import app, settings

            worker = app.Worker(settings.load())

            async def run():
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 3)
                await worker.app.run()

            asyncio.run(run())
        """),
        "utf-8",
    )
    sections = stage.sections_for(server.url, {})
    async with stage.replica(sections, tmp_path, program=[sys.executable, str(program)]) as replica:
        before = await replica.get("/healthz", timeout=1)
        replica.process.send_signal(signal.SIGUSR1)
        blocked = await replica.get("/healthz", timeout=1)

    assert before[0] == 200
    assert blocked[0] == 0


# Being told to stop.


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
async def test_a_signal_while_starting_stops_the_worker(server: EmbeddedServer, tmp_path: Path, after: float) -> None:
    async with stage.replica(stage.sections_for(server.url, {}), tmp_path, ready=False) as replica:
        await asyncio.sleep(after)

        # Before our first line ran, Python itself dies of it.
        assert await replica.stop(timeout=8) in (0, -signal.SIGTERM)


async def test_a_signal_while_nats_was_never_there_stops_at_once(tmp_path: Path) -> None:
    async with stage.replica(stage.sections_for("nats://127.0.0.1:1", {}), tmp_path, ready=False) as replica:
        await replica.answers("/readyz", 503, "NATS is not connected")

        assert await replica.stop(timeout=3) == 0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a job in hand"])
async def test_a_signal_while_nats_is_down_stops_within_seconds(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path, busy: bool
) -> None:
    sections = stage.sections_for(server.url, providers.accounts, worker={"drain_timeout": 60.0})
    providers.etelecom.inject(Fault(kind="latency", seconds=0.3, times=0))
    async with stage.replica(sections, tmp_path) as replica:
        if busy:
            await publish(client, "job")
            await in_hand(providers)
        await server.kill()
        await replica.answers("/readyz", 503, timeout=5)

        assert await replica.stop(timeout=6) == 0


async def test_a_second_signal_changes_nothing(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path
) -> None:
    providers.etelecom.inject(Fault(kind="latency", seconds=1.5, times=0))
    async with stage.replica(stage.sections_for(server.url, providers.accounts), tmp_path) as replica:
        await publish(client, "job")
        await in_hand(providers)
        replica.process.send_signal(signal.SIGTERM)
        await replica.says("worker.draining")
        replica.process.send_signal(signal.SIGTERM)
        replica.process.send_signal(signal.SIGINT)

        assert await replica.ended() == 0
    await page(client, "job", 1)
    assert (await status(client, "job")).state == "queued"


async def test_a_drain_with_a_hanging_provider_ends_in_time_and_hands_the_job_back(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path
) -> None:
    await reconcile(client, TopologyConfig(ack_wait=30))
    sections = stage.sections_for(server.url, providers.accounts, worker={"drain_timeout": 1.0, "ack_wait": 30.0})
    providers.etelecom.inject(HANG)
    async with stage.replica(sections, tmp_path) as replica:
        sequence = await publish(client, "job")
        await in_hand(providers)
        began = asyncio.get_running_loop().time()

        assert await replica.stop() == 0
        took = asyncio.get_running_loop().time() - began

    providers.etelecom.reset()
    async with stage.replica(sections, tmp_path):
        # Long before ack_wait is over: it was handed back, not lost and found again.
        await stage.command_settled(client, sequence, timeout=8)
    assert 0.9 < took < 4


async def test_a_draining_worker_goes_on_with_its_heartbeats(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path
) -> None:
    await reconcile(client, TopologyConfig(ack_wait=1))
    sections = stage.sections_for(server.url, providers.accounts, worker={"drain_timeout": 20.0, "ack_wait": 1.0})
    providers.etelecom.inject(Fault(kind="latency", seconds=3.0))
    async with stage.replica(sections, tmp_path) as leaving:
        await publish(client, "job")
        await in_hand(providers)
        async with stage.replica(sections, tmp_path) as other:
            leaving.process.send_signal(signal.SIGTERM)

            assert await leaving.ended() == 0
            assert other.events("command.duplicate") == []
            assert len(providers.etelecom.requests) >= 1
            await stage.until(lambda: bool(other.events("job.completed")), 15)
            ended = other.events("job.completed")[0]

    assert ended["attempt"] == 2, "one delivery to each"


async def test_a_restarted_pod_is_not_taken_for_its_predecessor(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path
) -> None:
    names = []
    for job in ("first", "second"):
        async with stage.replica(stage.sections_for(server.url, providers.accounts), tmp_path) as replica:
            names.append((await replica.says("worker.ready"))["worker"])
            await stage.command_settled(client, await publish(client, job))
            assert await replica.stop() == 0
        names.append((await status(client, job)).worker)

    assert names[0] == names[1] != names[2] == names[3]
    assert socket.gethostname() not in names
