"""Told to stop while NATS stands still and large pages are being published: the process ends all the same."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration import stage
from worker.app import END_WITHIN, LEAVE_AFTER
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, SHOP_KEY, EtelecomConfig, EtelecomSimulator

JOBS = 6
ROW = 40_000
"""Bytes of a row: a page of 100 takes four messages."""
TRIES = [pytest.param(outage, 0, id=f"{outage}-0") for outage in ("paused", "killed")]
MORE = [
    pytest.param(outage, number, id=f"{outage}-{number}", marks=stage.in_the_long_run)
    for outage in ("paused", "killed")
    for number in range(1, 6)
]


@pytest.mark.parametrize(("outage", "number"), [*TRIES, *MORE])
async def test_a_signal_while_nats_stands_still_in_the_middle_of_large_pages_ends_the_process(
    tmp_path: Path, outage: str, number: int
) -> None:
    accounts = {"shop": {"provider": "etelecom", "api_key": SHOP_KEY, "rate_limit": 0.0}}
    config = EtelecomConfig(followers={OA_ID: 2_000}, notes_padding=ROW)
    async with stage.server() as server, EtelecomSimulator(config) as shop:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig(ack_wait=2))
        accounts["shop"]["base_url"] = shop.shop_url
        sections = stage.sections_for(server.url, accounts, worker={"drain_timeout": 1.0})
        async with stage.replica(sections, tmp_path) as replica:
            for job in range(JOBS):
                body = f'{{"provider": "etelecom", "oa_id": "{OA_ID}", "id": "job-{job}"}}'
                await client.jetstream().publish("followers.fetch.etelecom", body.encode())
            # Not at the same place each time: some pages are whole by then, and others half.
            await stage.until(lambda: len(shop.requests) >= 3 + 4 * number, 20)
            if outage == "paused":
                os.kill(server.pid, signal.SIGSTOP)
            else:
                await server.kill()
            try:
                code = await replica.stop(timeout=1.0 + LEAVE_AFTER + 4.0)
            finally:
                if outage == "paused":
                    os.kill(server.pid, signal.SIGCONT)
        await client.close()

    assert code == 0


async def test_a_task_that_cannot_be_ended_is_left_behind(tmp_path: Path) -> None:
    """The event loop itself would wait for it as it closes, without bound."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio, sys
            from worker import app, logs, settings

            async def stubborn():
                while True:
                    try:
                        await asyncio.sleep(1000)
                    except asyncio.CancelledError:
                        pass

            async def run_worker(settings, run=app.run_worker):
                task = asyncio.create_task(stubborn())
                return await run(settings)

            app.run_worker = run_worker
            logs.configure("info", "json")
            sys.exit(app.run(settings.load()))
        """),
        "utf-8",
    )
    async with stage.server() as server:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig(ack_wait=2))
        await client.close()
        sections = stage.sections_for(server.url, {}, worker={"drain_timeout": 60.0})
        async with stage.replica(sections, tmp_path, program=[sys.executable, str(program)]) as replica:
            assert await replica.stop(timeout=END_WITHIN + 7.0) == 0
            assert [line["exit_code"] for line in replica.events("worker.left")] == [0]
