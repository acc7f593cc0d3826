"""Each party's work on the generated accounts, with a whole worker; and moving over to them and back.

NATS_SERVER_BIN names another nats-server to run all of it on.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from schemas.consume import Pages
from schemas.events import FollowerPage
from schemas.jobs import JobStatus
from schemas.subjects import EVENTS_STREAM, JOBS_BUCKET, command_subject, page_subject
from schemas.wire import decode, encode
from tests.chaos.cluster import Cluster
from tests.integration import stage
from tests.integration.parties import LAYOUTS, READER, Parties, block, followers, login, move, parties
from tests.integration.test_consumer_kit import page, store
from worker.core.status.askers import asker_of
from worker.jetstream.client.inboxes import REQUEST_INFO
from worker.jetstream.topology.permissions import Layout
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, Fault

TOPOLOGY = TopologyConfig(ack_wait=2, readers={READER: ("followers.page.>",)})


async def order(publisher: Client, job_id: str) -> None:
    command = {"provider": "etelecom", "oa_id": OA_ID, "id": job_id, "page_size": 20}
    await publisher.jetstream().publish(command_subject("etelecom"), encode(command))


async def ask(client: Client, act: str, job_id: str) -> JobStatus:
    return decode((await client.request(f"followers.{act}.{job_id}", b"", timeout=5)).data, JobStatus)


async def comes_to(client: Client, job_id: str, state: str) -> None:
    async def there() -> bool:
        with contextlib.suppress(nats.errors.Error, ValueError):
            return (await ask(client, "status", job_id)).state == state
        return False

    await stage.until(there, 20, lambda: f"{job_id} doesn't come to {state}")


@pytest.fixture(scope="module", params=LAYOUTS)
async def placed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Layout, str, stage.Providers]]:
    """A server in a layout, with a worker, and a job `done` on it."""
    async with (
        stage.server(block(request.param)) as server,
        stage.providers(followers=90) as providers,
        parties(server.url) as here,
    ):
        await reconcile(await here.enter("setup"), TOPOLOGY)
        sections = stage.sections_for(server.url, providers.accounts, nats=login("worker"))
        async with stage.replica(sections, tmp_path_factory.mktemp("worker")) as replica:
            publisher = await here.enter("publisher")
            await order(publisher, "done")
            await comes_to(publisher, "done", "completed")
            yield request.param, server.url, providers
            assert (await replica.get("/readyz"))[0] == 200
        assert here.refused == []
        assert "permission" not in replica.log


@pytest.fixture
async def here(placed: tuple[Layout, str, stage.Providers]) -> AsyncIterator[Parties]:
    async with parties(placed[1]) as here:
        yield here
        assert here.refused == []


async def test_a_publisher_orders_cancels_and_asks(here: Parties, placed: tuple[Layout, str, stage.Providers]) -> None:
    publisher, slow = await here.enter("publisher"), Fault(kind="latency", seconds=0.3, times=0)
    placed[2].etelecom.inject(slow)
    job_id = f"cancelled-{placed[0]}"
    try:
        await order(publisher, job_id)
        await comes_to(publisher, job_id, "running")
        await ask(publisher, "cancel", job_id)
        await comes_to(publisher, job_id, "cancelled")
    finally:
        placed[2].etelecom.faults.clear()
    held = await publisher.request("followers.release.nobody", b"", timeout=5)

    assert b"not_found" in held.data


async def test_a_reader_reads_its_durable_and_asks(here: Parties) -> None:
    reader = await here.enter("consumer")
    async with asyncio.timeout(20), Pages(reader.jetstream(), READER) as pages:
        found: list[FollowerPage] = []
        async for each in pages:
            found.append(each)
            if each.job_id == "done" and each.last:
                break
    bucket = await reader.jetstream().key_value(JOBS_BUCKET)

    pages_of_it = [each.page for each in found if each.job_id == "done"]
    assert pages_of_it == list(range(1, len(pages_of_it) + 1))
    assert len(pages_of_it) >= 5
    assert (await ask(reader, "status", "done")).state == "completed"
    assert decode((await bucket.get("done")).value or b"", JobStatus).state == "completed"


@pytest.mark.parametrize(
    ("arguments", "shows"),
    [
        (("jobs",), "done"),
        (("jobs", "--state", "completed", "--json"), '"job_id":"done"'),
        (("jobs", "--state", "queued"), ""),
        (("status", "done"), "completed"),
        (("watch", "done"), "completed: 90 followers"),
        (("pages", "done"), '"user_id"'),
        (("pages", "done", "--provider-pages"), '"page":5'),
        (("verify", "done"), "verified: 90 followers in "),
        (("export", "done", "-", "--format", "csv"), "user_id"),
        (("changes", "show", "done"), '"job_id":"done"'),
    ],
    ids=" ".join,
)
async def test_a_viewer_sees_without_a_consumer(here: Parties, arguments: tuple[str, ...], shows: str) -> None:
    admin = await here.enter("admin")
    made = await admin.subscribe("$JS.API.CONSUMER.CREATE.>")
    await admin.flush()

    result = await followers(here.url, "viewer", *arguments)
    await admin.flush()

    assert (result.exit_code, result.exception) == (0, None), result.stderr
    assert shows in result.stdout
    assert "NATS" not in result.stderr
    assert made.pending_msgs == 0


async def test_a_viewer_watches_a_job_to_its_end_and_sees_what_waits(
    here: Parties, placed: tuple[Layout, str, stage.Providers]
) -> None:
    publisher, job_id = await here.enter("publisher"), f"watched-{placed[0]}"
    placed[2].etelecom.inject(Fault(kind="latency", seconds=0.2, times=0))
    try:
        await order(publisher, job_id)
        watching = asyncio.ensure_future(followers(here.url, "viewer", "watch", job_id, "--json"))
        await comes_to(publisher, job_id, "running")
        status = await followers(here.url, "viewer", "status", job_id)
        result = await watching
    finally:
        placed[2].etelecom.faults.clear()

    states = [json.loads(line)["state"] for line in result.stdout.splitlines()]
    assert result.exit_code == 0, result.stderr
    assert states[-1] == "completed"
    assert "running" in states
    assert "running" in status.stdout


NOT_ALLOWED = [
    ("publisher", ("jobs",), "publish to $JS.API.STREAM.INFO.KV_FOLLOWERS_JOBS"),
    ("publisher", ("watch",), "publish to $JS.API.STREAM.INFO.KV_FOLLOWERS_JOBS"),
    ("publisher", ("status", "done"), "publish to $JS.API.STREAM.INFO.KV_FOLLOWERS_JOBS"),
    ("publisher", ("pages", "done"), "publish to $JS.API.STREAM.INFO.FOLLOWERS_EVENTS"),
    ("publisher", ("verify", "done"), "publish to $JS.API.STREAM.INFO.FOLLOWERS_EVENTS"),
    ("publisher", ("export", "done", "-", "--format", "csv"), "publish to $JS.API.STREAM.INFO.FOLLOWERS_EVENTS"),
    ("consumer", ("jobs",), "publish to $JS.API.STREAM.MSG.GET.KV_FOLLOWERS_JOBS"),
    ("consumer", ("watch",), "subscribe to $KV.FOLLOWERS_JOBS.*"),
    ("consumer", ("status", "unknown"), "publish to $JS.API.STREAM.INFO.FOLLOWERS_COMMANDS"),
    ("consumer", ("pages", "done"), "publish to $JS.API.STREAM.INFO.FOLLOWERS_EVENTS"),
    ("viewer", ("cancel", "done"), "publish to followers.cancel.done"),
    ("viewer", ("dead", "list"), "publish to $JS.API."),
    ("viewer", ("fetch", "esms", OA_ID, "--no-wait"), "publish to followers.fetch.esms"),
]


@pytest.mark.parametrize(
    ("role", "arguments", "right"), NOT_ALLOWED, ids=[f"{a} {' '.join(b)}" for a, b, _ in NOT_ALLOWED]
)
async def test_a_right_that_lacks_is_one_line(here: Parties, role: Any, arguments: tuple[str, ...], right: str) -> None:
    result = await followers(here.url, role, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert f"NATS does not let this user {right}" in result.stderr


async def test_a_worker_answers_no_inbox_of_its_own_account_but_the_peoples(
    here: Parties, placed: tuple[Layout, str, stage.Providers]
) -> None:
    admin = await here.enter("admin")
    own = {"accounts": (), "one": ("_INBOX_publisher.x",)}[placed[0]]
    heard = await admin.subscribe(">")
    await admin.flush()
    targets = (
        "_INBOX_worker.x",
        "_INBOX_setup.x",
        "_INBOX_publisher.x",
        "_INBOXX.x",
        "orders.new",
        "$KV.FOLLOWERS_JOBS.x",
    )
    for target in targets:
        await admin.publish("followers.status.done", b"", reply=target)
    assert (await ask(admin, "status", "done")).state == "completed"
    await asyncio.sleep(0.2)  # nothing is to come, and that takes its time
    subjects = []
    while heard.pending_msgs:
        subjects.append((await heard.next_msg(1)).subject)

    assert [subject for subject in subjects if subject in targets] == list(own)


async def test_two_publishers_of_an_account_are_told_apart(
    here: Parties, placed: tuple[Layout, str, stage.Providers]
) -> None:
    """Else the questions of one would stand in line behind all of another one's."""
    admin = await here.enter("admin")
    heard = await admin.subscribe("followers.status.*")
    await admin.flush()
    for _ in range(2):
        publisher = await here.enter("publisher")
        for _ in range(2):
            await ask(publisher, "status", "done")
    requests = [await heard.next_msg(1) for _ in range(4)]

    askers = [asker_of(one.reply, (one.headers or {}).get(REQUEST_INFO)) for one in requests]
    assert len(set(askers)) == 2
    assert askers[0] == askers[1]
    assert askers[2] == askers[3]


# A reader that leaves.


@pytest.mark.parametrize("nodes", [1, 3])
async def test_what_came_for_a_reader_that_left_while_waiting_is_not_kept(nodes: int) -> None:
    """A pull can't be taken back, and between accounts or servers nobody sees that its asker has gone."""
    named = os.environ.get("NATS_SERVER_BIN")
    async with contextlib.AsyncExitStack() as stack:
        if nodes == 1:
            urls = [(await stack.enter_async_context(stage.server(block("accounts")))).url]
        else:
            cluster = Cluster(Path(named) if named else None, extra_config=block("accounts"))
            urls = (await stack.enter_async_context(cluster)).urls
        here = await stack.enter_async_context(parties(urls[0]))
        topology = TopologyConfig(readers={READER: ("followers.page.>",)}, replicas=nodes)
        await reconcile(await here.enter("setup"), topology)
        worker = await here.enter("worker")
        for number, url in enumerate(urls * (3 // nodes), 1):
            reader = await (await stack.enter_async_context(parties(url))).enter("consumer")
            waiting = asyncio.ensure_future(read_one(reader))
            await asyncio.sleep(0.2)
            waiting.cancel()
            await store(worker.jetstream(), page(1, job=f"job{number}"))
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            began = time.monotonic()

            assert (await asyncio.wait_for(read_one(reader), 10)).job_id == f"job{number}"
            assert time.monotonic() - began < 3, "it waited for ack_wait"
        assert here.refused == []


async def read_one(reader: Client) -> FollowerPage:
    async with Pages(reader.jetstream(), READER) as pages:
        return await anext(pages)


# Moving over.


async def test_a_server_moves_to_the_accounts_and_back_under_a_worker_that_goes_on(tmp_path: Path) -> None:
    async with stage.server(block("one")) as server, stage.providers(followers=200) as providers:
        providers.etelecom.inject(Fault(kind="latency", seconds=0.1, times=0))
        async with parties(server.url) as here:
            await reconcile(await here.enter("setup"), TOPOLOGY)
            sections = stage.sections_for(server.url, providers.accounts, nats=login("worker"))
            async with stage.replica(sections, tmp_path) as replica:
                publisher = await here.enter("publisher", reconnect_time_wait=0.1)
                reading = asyncio.ensure_future(
                    read_to_the_end(await here.enter("consumer", reconnect_time_wait=0.1), 4)
                )
                for number, (before, after, signals) in enumerate([("one", "accounts", 2), ("accounts", "one", 1)]):
                    await order(publisher, f"before-{number}")
                    await comes_to(publisher, f"before-{number}", "running")
                    await move(server, before, after, signals=signals)  # type: ignore[arg-type]
                    await comes_to(publisher, f"before-{number}", "completed")
                    await order(publisher, f"after-{number}")
                    await comes_to(publisher, f"after-{number}", "completed")
                assert await replica.stop() == 0
                read = await asyncio.wait_for(reading, 60)
            admin = await here.enter("admin")
            for job_id in ("before-0", "after-0", "before-1", "after-1"):
                pages = admin.jetstream().get_last_msg(EVENTS_STREAM, page_subject("etelecom", OA_ID, job_id))
                last = decode((await pages).data or b"", FollowerPage)
                assert (last.last, last.progress.followers) == (True, 200)
                assert (await followers(server.url, "admin", "verify", job_id)).exit_code == 0
    assert [line for line in replica.log.splitlines() if "permission_denied" in line] == []
    assert read == {job_id: list(range(1, len(pages) + 1)) for job_id, pages in read.items()}


async def read_to_the_end(reader: Client, jobs: int) -> dict[str, list[int]]:
    """The numbers of all pages of so many jobs, as they came."""
    found: dict[str, list[int]] = {}
    async with Pages(reader.jetstream(), READER) as pages:
        async for each in pages:
            found.setdefault(each.job_id, []).append(each.page)
            jobs -= each.last
            if not jobs:
                break
    return found
