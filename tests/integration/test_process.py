"""The worker as a process: signals, outages, vanished consumers, probes."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from schemas.jobs import JobStatus
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, JOBS_BUCKET, command_subject, consumer_name
from schemas.wire import decode, encode
from tests.integration import stage
from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, Fault

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


@pytest.mark.parametrize("gone", ["consumer", pytest.param("stream", marks=stage.in_the_long_run)])
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
        await asyncio.sleep(1.5)
        spent = replica.cpu_seconds() - before
        assert (await replica.get("/healthz"))[0] == 200

        await reconcile(client, TOPOLOGY)
        await replica.answers("/readyz", 200, timeout=5)
        await stage.command_settled(client, await publish(client, "after"))

    assert spent < 0.3, f"{spent:.2f} s of processor time in 1.5 s"


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


async def test_a_connection_closed_for_good_ends_the_process(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """FastStream would go on without a connection, and nothing would ever bring it back."""
    close = "loop.create_task(worker.broker._connection.close())"
    async with stage.replica(
        stage.sections_for(server.url, {}), tmp_path, program=on_signal(close, tmp_path)
    ) as replica:
        replica.process.send_signal(signal.SIGUSR1)

        assert await replica.ended() == 70
    assert "nats.closed" in replica.log


async def test_a_blocked_event_loop_fails_the_liveness_probe(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """A kubelet's probe has a time-out: what doesn't answer is not alive."""
    block = on_signal("time.sleep(3)", tmp_path)
    async with stage.replica(stage.sections_for(server.url, {}), tmp_path, program=block) as replica:
        before = await replica.get("/healthz", timeout=1)
        replica.process.send_signal(signal.SIGUSR1)
        blocked = await replica.get("/healthz", timeout=1)

    assert before[0] == 200
    assert blocked[0] == 0


def on_signal(act: str, folder: Path) -> list[str]:
    """A program that is a worker, and does `act` in its event loop on SIGUSR1."""
    program = folder / "program.py"
    program.write_text(
        textwrap.dedent(f"""
            import asyncio, signal, time
            from worker import app, settings

            worker = app.Worker(settings.load())

            async def run():
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGUSR1, lambda: {act})
                await worker.app.run()

            asyncio.run(run())
        """),
        "utf-8",
    )
    return [sys.executable, str(program)]


# Being told to stop.


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2])
async def test_a_signal_while_starting_stops_the_worker(server: EmbeddedServer, tmp_path: Path, after: float) -> None:
    async with stage.replica(stage.sections_for(server.url, {}), tmp_path, ready=False) as replica:
        await asyncio.sleep(after)

        # Before our first line ran, Python itself dies of it.
        assert await replica.stop(timeout=8) in (0, -signal.SIGTERM)


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="needs the right to make a process namespace",
)
async def test_a_signal_is_heeded_as_process_1_before_the_heavy_imports_are_done(tmp_path: Path) -> None:
    """The kernel drops what process 1 has no handler for: the pod would live on to the end of its grace period."""
    alone = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-X", "importtime", "-m", "worker", "worker"]
    async with stage.replica(
        stage.sections_for("nats://127.0.0.1:1", {}), tmp_path, ready=False, program=alone
    ) as replica:
        # Importtime writes as it goes: our settings are imported right behind the handler, FastStream long after.
        await stage.until(lambda: "worker.settings" in replica.log, 10)
        assert "faststream.app" not in replica.log
        children = Path(f"/proc/{replica.process.pid}/task/{replica.process.pid}/children").read_text("utf-8")
        os.kill(int(children), signal.SIGTERM)

        assert await replica.ended(timeout=8) == 0


async def test_a_signal_while_nats_was_never_there_stops_at_once(tmp_path: Path) -> None:
    async with stage.replica(stage.sections_for("nats://127.0.0.1:1", {}), tmp_path, ready=False) as replica:
        await replica.answers("/readyz", 503, "NATS is not connected")

        assert await replica.stop(timeout=3) == 0


@pytest.mark.parametrize(
    "busy",
    [pytest.param(False, id="idle", marks=stage.in_the_long_run), pytest.param(True, id="with a job in hand")],
)
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


async def test_an_interrupted_worker_drains_and_says_that_it_was_interrupted(
    server: EmbeddedServer, client: Client, providers: stage.Providers, tmp_path: Path
) -> None:
    providers.etelecom.inject(Fault(kind="latency", seconds=0.5, times=0))
    async with stage.replica(stage.sections_for(server.url, providers.accounts), tmp_path) as replica:
        await publish(client, "job")
        await in_hand(providers)
        replica.process.send_signal(signal.SIGINT)

        assert await replica.ended() == 130
    await page(client, "job", 1)
    assert (await status(client, "job")).state == "queued"


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
    server: EmbeddedServer, client: Client, providers: stage.Providers
) -> None:
    names = []
    for job in ("first", "second"):
        async with Worker(stage.settings(server.url, providers.accounts)) as worker:
            await stage.command_settled(client, await publish(client, job))
        names += [worker.name, (await status(client, job)).worker]

    assert names[0] == names[1] != names[2] == names[3]
    assert socket.gethostname() not in names


async def test_a_worker_told_to_stop_while_it_starts_keeps_no_command_from_others(
    server: EmbeddedServer, client: Client, providers: stage.Providers
) -> None:
    """What its first pulls brought would else come back after `ack_wait` only."""
    await reconcile(client, TopologyConfig(ack_wait=600))
    for number in range(12):
        await publish(client, f"early-{number}")
        worker = Worker(stage.settings(server.url, providers.accounts, worker={"ack_wait": 600.0}))
        starting = asyncio.create_task(worker.__aenter__())
        await stage.until(lambda: worker._handler is not None, 10)  # noqa: B023
        await asyncio.sleep(number / 1000)

        await worker.__aexit__()
        await asyncio.gather(starting, return_exceptions=True)

    async with Worker(stage.settings(server.url, providers.accounts, worker={"ack_wait": 600.0})):
        await stage.until(lambda: nothing_left(client), 20)


async def test_a_worker_that_stops_leaves_no_command_to_itself(
    server: EmbeddedServer, client: Client, providers: stage.Providers
) -> None:
    """What the server delivers at the very moment of the stop would else come back after `ack_wait` only."""
    await reconcile(client, TopologyConfig(ack_wait=600))
    settings = stage.settings(server.url, providers.accounts, worker={"ack_wait": 600.0})
    js = client.jetstream()

    async def flood() -> None:
        while True:  # rejected at once, so that one after the other is pulled
            await js.publish(command_subject("etelecom"), b"{}")

    flooding = asyncio.create_task(flood())
    try:
        for number in range(25):
            async with Worker(settings):
                await asyncio.sleep(0.05 + number / 1000)
    finally:
        flooding.cancel()

    async with Worker(settings):
        await stage.until(lambda: nothing_left(client), 20)


async def nothing_left(client: Client) -> bool:
    return (await client.jetstream().stream_info(COMMANDS_STREAM)).state.messages == 0
