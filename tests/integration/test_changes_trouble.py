"""The change feed of whole workers, where answers are lost, workers die, clocks are wrong, and people reset a feed."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from nats.aio.client import Client

from schemas.changes import ChangeCounts, Compared, Feed, FeedBaseline, FeedClaim, FeedJob, Held, Unfollowed
from schemas.subjects import release_subject
from schemas.wire import decode
from tests.acceptance.road import road
from tests.integration import stage
from tests.integration.lossy import lossy
from tests.integration.test_changes import FEEDS, SUBJECT, TOPOLOGY, command_line, count, fetch, told
from worker import app as worker_app
from worker.app import Worker
from worker.cli import changes as changes_command
from worker.embedded import EmbeddedServer
from worker.jetstream.changes import feeds as feeds_module
from worker.jetstream.changes.feeds import JetStreamFeeds
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import OA_ID, ListChange

FEED = f"etelecom.shop.{OA_ID}.all"
DIRECT_GET = f"$JS.API.DIRECT.GET.{FEEDS[0]}"
HELD = 2
"""Events before a release: the baseline, and that a list is held."""


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


async def held_list(client: Client, providers: stage.Providers) -> int:
    """Have a list held; return how many events its release gives."""
    await fetch(client, "monday")
    providers.etelecom.change(ListChange(oa_id=OA_ID, unfollow=70))
    await fetch(client, "tuesday")
    held = (await told(client))[-1]
    assert isinstance(held, Held)
    return held.counts.total + 1


async def test_a_release_is_answered_soon_after_an_answer_to_a_direct_get_was_lost(
    server: EmbeddedServer, client: Client
) -> None:
    async with stage.providers(followers=200) as providers, lossy(server.url, DIRECT_GET, losses=0) as way:
        settings = stage.settings(way.url, providers.accounts)
        async with Worker(settings) as worker:
            released = await held_list(client, providers)
            way.losses = 1

            async with asyncio.timeout(10):
                answer = await client.request(release_subject("tuesday"), timeout=10)
                nobody = await client.request(release_subject("nobody"), timeout=10)

            async def all_out() -> bool:
                return await count(client) == HELD + released

            await stage.until(all_out, 10)
            assert worker.readiness.ready

    assert way.lost == 1
    assert decode(answer.data, Feed).next is not None
    assert json.loads(nobody.data)["error"]["code"] == "not_found"


async def test_a_worker_killed_in_mid_release_is_followed_by_one_that_publishes_all_of_it(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with (
        stage.providers(followers=200) as providers,
        road(server.url, b":change.6\r\n") as first_way,
        lossy(server.url, DIRECT_GET, losses=3) as second_way,
    ):
        accounts = providers.accounts
        async with stage.replica(stage.sections_for(first_way.url, accounts), tmp_path) as first:
            released = await held_list(client, providers)
            assert released == 71
            await client.request(release_subject("tuesday"), timeout=10)
            await asyncio.wait_for(first_way.reached.wait(), 20)
        assert first.process.poll() is not None
        assert await count(client) == HELD + 5

        async with stage.replica(stage.sections_for(second_way.url, accounts), tmp_path) as second:

            async def all_out() -> bool:
                return await count(client) == HELD + released

            await stage.until(all_out, 30, lambda: second.log[-3000:])
            assert second_way.lost >= 1
            assert second.events("task.failed") == []

    events = (await told(client))[HELD:]
    assert [type(event) for event in events] == [Unfollowed] * 70 + [Compared]
    assert [event.number for event in events] == list(range(1, 72))
    feed, _ = await JetStreamFeeds(client, timeout=5).get(FEED)
    assert feed is not None
    assert feed.current is not None
    assert (feed.current.job_id, feed.next, feed.held) == ("tuesday", None, None)


class AnHourAhead:
    """A clock."""

    @staticmethod
    def now(tz: tzinfo) -> datetime:
        return datetime.now(tz) + timedelta(hours=1)


async def test_a_worker_whose_clock_is_an_hour_ahead_freezes_no_feed(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.providers(followers=30) as providers:
        settings = stage.settings(server.url, providers.accounts)
        with monkeypatch.context() as patch:
            patch.setattr(worker_app, "datetime", AnHourAhead)
            async with Worker(settings):
                await fetch(client, "monday")
        feed, _ = await JetStreamFeeds(client, timeout=5).get(FEED)
        assert feed is not None
        assert feed.current is not None
        assert feed.current.started_at > datetime.now(UTC) + timedelta(minutes=50)
        providers.etelecom.change(ListChange(oa_id=OA_ID, unfollow=1))
        async with Worker(settings):
            await fetch(client, "tuesday")

    assert [type(event) for event in await told(client)] == [FeedBaseline, Unfollowed, Compared]


async def test_a_list_that_was_set_aside_is_told_in_the_log_and_in_the_list_of_feeds(
    server: EmbeddedServer, client: Client
) -> None:
    async with stage.providers(followers=30) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await fetch(client, "monday")
        # Somebody comes to the head of a list that is read from its head: who else moved there, nobody knows.
        providers.etelecom.change(ListChange(oa_id=OA_ID, before_request=5, follow=1))
        with structlog.testing.capture_logs() as logs:
            await fetch(client, "tuesday", sort="-updated_at", page_size=10)
        listed = await command_line(server, "changes", "list")
        as_json = await command_line(server, "changes", "list", "--json")

    (said,) = [line for line in logs if line["event"] == "changes.unproven"]
    assert (said["log_level"], said["job_id"]) == ("warning", "tuesday")
    assert f"job tuesday was set aside: {said['reason']}" in listed.stdout
    assert FEED in listed.stdout
    (feed,) = json.loads(as_json.stdout)
    assert (feed["feed"], feed["set_aside"]["job_id"], feed["set_aside"]["reason"]) == (FEED, "tuesday", "unproven")
    assert feed["current"]["job_id"] == "monday"


async def test_a_feed_is_reset_from_the_command_line_and_begins_anew_with_the_next_list(
    server: EmbeddedServer, client: Client
) -> None:
    async with stage.providers(followers=200) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await held_list(client, providers)

        reset = await command_line(server, "changes", "reset", FEED)
        as_json = await command_line(server, "changes", "reset", FEED, "--json")
        listed = await command_line(server, "changes", "list", "--json")
        refused = await command_line(server, "changes", "release", "tuesday")
        await fetch(client, "wednesday")
        await fetch(client, "thursday")

    followers = (await told(client))[0]
    assert isinstance(followers, FeedBaseline)
    assert (reset.exit_code, reset.stdout) == (0, "")
    assert reset.stderr == (
        f"feed {FEED} is reset: it has forgotten the list of job monday ({followers.count:,} followers) and the held"
        f" list of job tuesday ({followers.count - 70:,} followers); the next complete list becomes a baseline\n"
    )
    assert json.loads(as_json.stdout) == {"feed": FEED, "forgotten": {"current": None, "held": None}}
    assert as_json.stderr == f"feed {FEED} is reset: it had no list; the next complete list becomes a baseline\n"
    (feed,) = json.loads(listed.stdout)
    assert (feed["current"], feed["held"], feed["gone"]) == (None, None, ["monday", "tuesday"])
    assert (refused.exit_code, "no list of job tuesday is held back" in refused.stderr) == (1, True)
    events = await told(client)
    assert [(type(event), event.job_id) for event in events[HELD:]] == [
        (FeedBaseline, "wednesday"), (Compared, "thursday")
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["etelecom.shop.1.all", "nonsense", ">", "etelecom.shop.*.all", "a.b..c", ""])
async def test_a_feed_that_is_not_there_ends_with_1_and_a_line(
    server: EmbeddedServer, client: Client, name: str
) -> None:
    result = await command_line(server, "changes", "reset", name)

    line = f"there is no feed {name}: `followers changes list` names them in its column FEED\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", line)


async def test_without_its_bucket_a_reset_says_what_to_run(server: EmbeddedServer, client: Client) -> None:
    await client.jetstream().delete_stream(FEEDS[0])

    result = await command_line(server, "changes", "reset", FEED)

    assert (result.exit_code, result.stderr) == (2, "bucket FOLLOWERS_FEEDS is missing: run `followers setup`\n")


def pointer(**fields: Any) -> Feed:
    monday = FeedJob(job_id="monday", started_at=datetime(2026, 1, 1, tzinfo=UTC), followers=3)
    return msgspec.structs.replace(
        Feed(provider="etelecom", account="shop", oa_id=OA_ID), **({"current": monday} | fields)
    )


CLAIM = FeedClaim(
    job=FeedJob(job_id="tuesday", started_at=datetime(2026, 1, 2, tzinfo=UTC), followers=4),
    act="changes",
    counts=ChangeCounts(followed=1),
    after=0,
)


async def test_a_feed_whose_changes_are_being_published_is_not_reset_and_the_command_says_so(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_command, "_PUBLISHED_WITHIN", 0.1)
    feeds, busy = JetStreamFeeds(client, timeout=5), pointer(next=CLAIM)
    await feeds.put(FEED, busy, 0)

    result = await command_line(server, "changes", "reset", FEED)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"the changes of job tuesday are being published in feed {FEED}, so nothing was")
    assert "`followers changes release tuesday` has one do so" in result.stderr
    assert (await feeds.get(FEED))[0] == busy


async def test_a_reset_waits_for_changes_that_are_being_published(server: EmbeddedServer, client: Client) -> None:
    feeds = JetStreamFeeds(client, timeout=5)
    revision = await feeds.put(FEED, pointer(next=CLAIM), 0)
    resetting = asyncio.create_task(command_line(server, "changes", "reset", FEED))
    await asyncio.sleep(0.2)

    await feeds.put(FEED, pointer(current=CLAIM.job), revision)

    result = await resetting
    assert (result.exit_code, "has forgotten the list of job tuesday (4 followers)" in result.stderr) == (0, True)
    after, _ = await feeds.get(FEED)
    assert after == pointer(current=None, gone=["tuesday"])


async def test_a_worker_that_changes_the_feed_in_mid_reset_is_not_overwritten(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = JetStreamFeeds(client, timeout=5)
    await feeds.put(FEED, pointer(), 0)
    raced = 0

    class Raced(JetStreamFeeds):
        """A bucket that a worker changes between the look and the write."""

        async def get(self, key: str) -> tuple[Feed | None, int]:
            nonlocal raced
            found, revision = await super().get(key)
            if not raced:
                raced += 1
                await self.put(key, pointer(current=CLAIM.job, gone=["monday"]), revision)
            return found, revision

    monkeypatch.setattr(feeds_module, "JetStreamFeeds", Raced)

    result = await command_line(server, "changes", "reset", FEED)

    assert raced == 1
    assert "has forgotten the list of job tuesday (4 followers);" in result.stderr
    assert (await feeds.get(FEED))[0] == pointer(current=None, gone=["monday", "tuesday"])


async def test_a_change_that_nobody_can_read_is_left_out_of_those_that_are_shown(
    server: EmbeddedServer, client: Client
) -> None:
    async with stage.providers(followers=30) as providers, Worker(stage.settings(server.url, providers.accounts)):
        await client.jetstream().publish(SUBJECT, b"\xff Nguyen")
        await fetch(client, "monday")

    shown = await command_line(server, "changes", "show", "monday")

    assert (shown.exit_code, json.loads(shown.stdout)["type"]) == (0, "baseline")
    assert shown.stderr.startswith(f"left out: message 1 on {SUBJECT} can't be read: ")
    assert "Nguyen" not in shown.stderr


async def test_a_feed_that_can_not_be_read_is_named_in_the_log_and_hides_no_other(
    server: EmbeddedServer, client: Client
) -> None:
    feeds = JetStreamFeeds(client, timeout=5)
    await feeds.put(FEED, pointer(), 0)
    await client.jetstream().publish(f"$KV.FOLLOWERS_FEEDS.{FEED}x", b'{"provider":"Nguyen"}')

    with structlog.testing.capture_logs() as logs:
        found = await feeds.all()

    assert found == [(FEED, pointer())]
    (said,) = [line for line in logs if line["event"] == "feeds.undecodable"]
    assert said["feed"] == f"{FEED}x"
    assert "Nguyen" not in said["error"]
