"""The change feed of a whole worker on a real nats-server: kills, held lists, servers of the previous version."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from nats.aio.client import Client
from nats.errors import NoRespondersError
from typer.testing import CliRunner, Result

from schemas.changes import ChangeEvent, Compared, Feed, FeedBaseline, Followed, Held, Unfollowed
from schemas.jobs import ControlError
from schemas.subjects import EVENTS_STREAM, change_subject, release_subject
from schemas.wire import decode, encode
from tests.changes_kit import Mirror, changes
from tests.integration import stage
from worker import app as worker_app
from worker.app import Worker
from worker.cli import app
from worker.embedded import EmbeddedServer
from worker.jetstream.changes.open import open_changes
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.topology.permissions import CHANGES, CHANGES_HEARD, User, accounts_block, inbox_prefix
from worker.jetstream.topology.reconcile import TopologyConfig, TopologyError, reconcile
from worker.providers.simulators import OA_ID, ListChange

TOPOLOGY = TopologyConfig(ack_wait=2)
SUBJECT = change_subject("etelecom", OA_ID)
FEEDS = ("KV_FOLLOWERS_FEEDS", "OBJ_FOLLOWERS_SNAPSHOTS")


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


async def fetch(client: Client, job_id: str, **fields: Any) -> None:
    """Have a job done, its changes included."""
    await stage.command_settled(client, await order(client, job_id, **fields), timeout=30)


async def order(client: Client, job_id: str, **fields: Any) -> int:
    body = encode({"provider": "etelecom", "oa_id": OA_ID, "id": job_id, **fields})
    return (await client.jetstream().publish("followers.fetch.etelecom", body)).seq


async def told(client: Client) -> list[ChangeEvent]:
    """Every change so far."""
    return await changes(JetStreamLog(client, timeout=5), SUBJECT)


async def count(client: Client) -> int:
    info = await client.jetstream().stream_info(EVENTS_STREAM, subjects_filter=SUBJECT)
    return sum((info.state.subjects or {}).values())


async def command_line(server: EmbeddedServer, *words: str) -> Result:
    """Run `followers`; in a thread, since it has an event loop of its own."""
    environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([server.url])}
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=environment)


async def test_who_came_and_went_at_the_provider_is_told_once_by_a_worker_killed_again_and_again(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    mirror = Mirror()
    async with stage.providers(followers=3_000) as providers:
        sections = stage.sections_for(server.url, providers.accounts)
        async with stage.replica(sections, tmp_path) as first:
            await fetch(client, "monday")
            (baseline,) = await told(client)
            assert isinstance(baseline, FeedBaseline)
            mirror.take(baseline)
            before = await following(client, "monday")
            mirror.know("shop", "{}", before)
            providers.etelecom.change(ListChange(oa_id=OA_ID, unfollow=500, follow=700))
            sequence = await order(client, "tuesday")
            await killed_after(client, first, 200)
        for reached in (500, 900):
            async with stage.replica(sections, tmp_path, ready=False) as next_one:
                await killed_after(client, next_one, reached)
        async with stage.replica(sections, tmp_path):
            await stage.command_settled(client, sequence, timeout=30)

    events = (await told(client))[1:]
    for event in events:
        mirror.take(event)
    assert mirror.problems == []
    assert mirror.lists["shop", "{}"] == await following(client, "tuesday")
    assert sum(isinstance(event, Followed) for event in events) == 700
    assert all(event.at is not None for event in events if isinstance(event, Unfollowed))
    assert isinstance(events[-1], Compared)


async def killed_after(client: Client, replica: stage.Replica, events: int) -> None:
    """Kill the replica once there are so many change events."""

    async def there() -> bool:
        return await count(client) >= events

    await stage.until(there, 30, lambda: replica.log[-3000:])
    replica.process.kill()
    await asyncio.to_thread(replica.process.wait)


async def following(client: Client, job_id: str) -> set[str]:
    """Who follows by a job's own pages."""
    log = JetStreamLog(client, timeout=5)
    subject = f"followers.page.etelecom.{OA_ID}.{job_id}"
    tail = await log.last(subject)
    assert tail is not None
    return {
        follower["user_id"]
        async for entry in log.read(subject, 1, tail.sequence)
        for follower in json.loads(entry.data)["followers"]
        if follower.get("state") != "unfollow"
    }


async def test_a_held_list_is_listed_released_and_shown_from_the_command_line(
    server: EmbeddedServer, client: Client
) -> None:
    async with stage.providers(followers=100) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await fetch(client, "monday")
        providers.etelecom.change(ListChange(oa_id=OA_ID, unfollow=50))
        await fetch(client, "tuesday", labels={"campaign": "tet"})

        listed = await command_line(server, "changes", "list", "--held")
        as_json = await command_line(server, "changes", "list", "--json")
        unknown = await command_line(server, "changes", "release", "monday-1")
        released = await command_line(server, "changes", "release", "tuesday")
        again = await command_line(server, "changes", "release", "tuesday", "--json")
        shown = await command_line(server, "changes", "show", "tuesday")
        nothing = await command_line(server, "changes", "show", "nobody")

    held = (await told(client))[1]
    assert isinstance(held, Held)
    assert held.labels == {"campaign": "tet"}
    assert "job tuesday is held" in listed.stdout
    (feed,) = json.loads(as_json.stdout)
    assert feed["held"]["counts"]["unfollowed"] == held.counts.unfollowed
    assert (unknown.exit_code, unknown.stderr) == (
        1, "no list of job monday-1 is held back: see `followers changes list`\n"
    )  # fmt: skip
    assert (released.exit_code, released.stderr) == (0, "the changes of job tuesday are published\n")
    assert json.loads(again.stdout)["current"]["job_id"] == "tuesday"
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["held", *["unfollowed"] * held.counts.unfollowed, "compared"]
    assert (nothing.exit_code, "has no changes" in nothing.stderr) == (1, True)


async def test_a_request_to_release_is_answered_with_the_feed_or_why_not(
    server: EmbeddedServer, client: Client
) -> None:
    async with stage.providers(followers=30) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await fetch(client, "monday")

        known = await client.request(release_subject("monday"), timeout=5)
        nobody = await client.request(release_subject("nobody"), timeout=5)

    assert decode(known.data, Feed).current is not None
    assert decode(nobody.data, ControlError).error.code == "not_found"


@pytest.mark.parametrize("why", ["previous", "disabled"])
async def test_a_worker_works_without_a_change_feed_and_says_so_once(
    server: EmbeddedServer, client: Client, why: str
) -> None:
    if why == "previous":
        for stream in FEEDS:
            await client.jetstream().delete_stream(stream)
    async with stage.providers(followers=30) as providers:
        settings = stage.settings(server.url, providers.accounts).model_copy(
            update={"changes": stage.settings(server.url, {}).changes.model_copy(update={"enabled": why != "disabled"})}
        )
        with structlog.testing.capture_logs() as logs:
            async with Worker(settings) as worker:
                await fetch(client, "monday")
                assert worker.readiness.ready
                with pytest.raises(NoRespondersError):
                    await client.request(release_subject("monday"), timeout=5)

    assert await told(client) == []
    said = [line for line in logs if line["event"] == "changes.off"]
    assert len(said) == (1 if why == "previous" else 0)
    if said:
        assert "FOLLOWERS_FEEDS" in said[0]["reason"]
        assert "followers setup" in said[0]["reason"]


async def test_a_server_that_restarts_as_a_worker_starts_does_not_turn_the_feed_off(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    silences = iter([True, True, False])

    async def open_late(*given: Any, **settings: Any) -> Any:
        if next(silences):
            raise TopologyError("JetStream doesn't answer")
        return await open_changes(*given, **settings)

    monkeypatch.setattr(worker_app, "open_changes", open_late)
    async with stage.providers(followers=30) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await fetch(client, "monday")

    assert [event.job_id for event in await told(client)] == ["monday"]


async def test_a_worker_whose_user_has_the_rights_of_the_previous_version_is_ready_without_a_change_feed() -> None:
    users = [User(role="worker", login={"user": "w", "password": "invented"}),
             User(role="admin", login={"user": "admin", "password": "invented"})]  # fmt: skip
    accounts = json.loads(accounts_block(users).removeprefix("accounts: "))
    allowed = accounts["FOLLOWERS"]["users"][0]["permissions"]
    new = {*CHANGES, *CHANGES_HEARD, *(f"$JS.API.STREAM.INFO.{stream}" for stream in FEEDS)}
    for act in ("publish", "subscribe"):
        allowed[act]["allow"] = [line for line in allowed[act]["allow"] if line not in new]
    login = {"user": "w", "password": "invented", "inbox_prefix": inbox_prefix("worker")}
    async with stage.server(f"accounts: {json.dumps(accounts)}\n") as old, stage.providers(followers=30) as providers:
        admin = await connect(NatsOptions(servers=(old.url,), user="admin", password="invented"))
        await reconcile(admin, TOPOLOGY)
        with structlog.testing.capture_logs() as logs:
            async with Worker(stage.settings(old.url, providers.accounts, nats=login)) as worker:
                await fetch(admin, "monday")
                assert worker.readiness.ready, worker.readiness.why
        assert await told(admin) == []
        await admin.close()

    (said,) = [line for line in logs if line["event"] == "changes.off"]
    assert "followers.change.>" in said["reason"]
    assert [line for line in logs if line["event"] == "nats.permission_denied"] == []


async def test_buckets_that_vanish_stop_no_job(server: EmbeddedServer, client: Client) -> None:
    async with stage.providers(followers=30) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await fetch(client, "monday")
        for stream in FEEDS:
            await client.jetstream().delete_stream(stream)

        await fetch(client, "tuesday")
        await reconcile(client, TOPOLOGY)
        await fetch(client, "wednesday")

    assert [type(event) for event in await told(client)] == [FeedBaseline, FeedBaseline]
