"""`followers watch` as a process: in a pipe, as JSON, on a terminal; and shell completion."""

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from rich.console import Console

from schemas import FetchError, JobStatus, encode
from tests.integration.test_cli_processes import finish, followers, on_a_terminal, until
from worker.cli.watch import drawing, line
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def status(job: str = "job", **fields: Any) -> JobStatus:
    given: dict[str, Any] = {
        "provider": "esms",
        "account": "main",
        "oa_id": "1",
        "state": "running",
        "updated_at": NOW,
    } | fields
    return JobStatus(job_id=job, **given)


async def put(js: JetStreamContext, *statuses: JobStatus) -> None:
    bucket = await js.key_value("FOLLOWERS_JOBS")
    for each in statuses:
        await bucket.put(each.job_id, encode(each))


@pytest.fixture
async def servers(nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext) -> str:
    await reconcile(nats_client, TopologyConfig())
    return json.dumps([nats_server.url])


async def test_a_pipe_gets_what_is_there_and_a_line_for_each_change(
    servers: str, js: JetStreamContext, tmp_path: Path
) -> None:
    await put(js, status(followers=100, total=400))
    async with followers("watch", folder=tmp_path, FOLLOWERS_NATS__SERVERS=servers) as process:
        await until(process.stdout, "12:00:00Z job esms 1 running: 100 of 400 followers\n")
        await js.publish("$KV.FOLLOWERS_JOBS.foreign", b"no status")
        await put(js, status(state="waiting", reason="rate_limited", until=NOW, followers=100, total=400))
        await until(process.stdout, "waiting: 100 of 400 followers, rate limited until 12:00:00 UTC\n")
        process.send_signal(signal.SIGINT)
        code, _, err = await finish(process)

    assert (code, err) == (130, "")


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1)])
async def test_watching_one_job_ends_with_it(
    servers: str, js: JetStreamContext, tmp_path: Path, state: str, code: int
) -> None:
    await put(js, status("other", state="failed"), status("job"))
    async with followers("watch", "job", "--json", folder=tmp_path, FOLLOWERS_NATS__SERVERS=servers) as process:
        await until(process.stdout, '"state":"running"')
        await put(js, status("job", state=state))
        ended, out, _ = await finish(process)

    assert (ended, json.loads(out)["state"]) == (code, state)


async def test_only_one_providers_jobs_on_demand(servers: str, js: JetStreamContext, tmp_path: Path) -> None:
    await put(js, status("a"), status("b", provider="etelecom"))
    async with followers(
        "watch", "--provider", "etelecom", "--json", folder=tmp_path, FOLLOWERS_NATS__SERVERS=servers
    ) as process:
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["job_id"] == "b"


async def test_watching_goes_on_after_a_restart_of_the_server(
    private_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    client = await nats.connect(private_nats_server.url)
    await reconcile(client, TopologyConfig())
    await put(client.jetstream(), status())
    await client.close()
    servers = json.dumps([private_nats_server.url])
    async with followers("watch", folder=tmp_path, FOLLOWERS_NATS__SERVERS=servers) as process:
        await until(process.stdout, "running")
        await private_nats_server.kill()
        await private_nats_server.restart()
        other = await nats.connect(private_nats_server.url)
        await put(other.jetstream(), status(state="completed"))
        await other.close()
        await until(process.stdout, "completed")


async def test_a_terminal_shows_a_table_that_moves(servers: str, js: JetStreamContext) -> None:
    await put(js, status(followers=100, total=400, percent=25.0))

    code, drawn = await on_a_terminal("watch", interrupt_at="100 of 400 followers", FOLLOWERS_NATS__SERVERS=servers)

    assert code == 130
    assert "━" in drawn
    assert "1 in hand, 0 over" in drawn
    assert "Traceback" not in drawn


async def test_without_setup_it_says_what_to_run(
    nats_server: EmbeddedServer, js: JetStreamContext, tmp_path: Path
) -> None:
    async with followers("watch", folder=tmp_path, FOLLOWERS_NATS__SERVERS=json.dumps([nats_server.url])) as process:
        code, out, err = await finish(process)

    assert (code, out, err) == (2, "", "bucket FOLLOWERS_JOBS is missing: run `followers setup`\n")


def test_what_runs_stands_first_and_the_oldest_ends_leave_a_full_screen() -> None:
    error = FetchError(code="unauthorized", message="check [api_key]", retryable=False)
    jobs = {
        "old": status("old", state="completed", updated_at=NOW - timedelta(hours=1)),
        "bad": status("bad", state="failed", error=error),
        "now": status("now", updated_at=NOW - timedelta(minutes=1), eta=NOW),
    }
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - closed below

    console.print(drawing(jobs, NOW, 2))

    console.file.close()
    rows = [text.split()[0] for text in console.export_text().splitlines()]
    assert rows == ["JOB", "now", "bad", "1"]
    assert line(jobs["bad"]).endswith("failed: 0 followers, unauthorized: check [api_key]")
    assert line(jobs["now"]).endswith("running: 0 followers, ready about 12:00:00 UTC")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_shell_completes_commands(shell: str) -> None:
    words = {"COMP_WORDS": "followers ex", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "followers ex"}
    program = "import sys; sys.argv[0] = 'followers'; from worker.cli import app; app(prog_name='followers')"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ, **words,
            "_FOLLOWERS_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    )  # fmt: skip
    out, _ = await process.communicate()

    assert b"export" in out
    assert b"fetch" not in out
