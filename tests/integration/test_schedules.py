"""Schedules on a real nats-server: a week of two replicas, workers as processes, the command line, old servers."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from schemas import JobCompleted, JobEvent, JobStarted, JobStatus, decode, encode
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, JOBS_BUCKET, SCHEDULES_BUCKET
from tests.fakes import Clock
from tests.integration import stage
from tests.schedule_kit import VIETNAM, Replica, live, schedule, vietnam
from worker.app import Worker
from worker.cli import app
from worker.core.schedules import scheduler
from worker.core.schedules.decision import Run, ScheduleState, job_id_at
from worker.core.schedules.ports import ScheduleUnavailableError
from worker.core.schedules.timing import Every
from worker.embedded import EmbeddedServer
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.kv.schedules import JetStreamScheduleDesk
from worker.jetstream.topology import reconcile as topology
from worker.jetstream.topology.permissions import SCHEDULING, User, accounts_block, inbox_prefix
from worker.jetstream.topology.reconcile import TopologyConfig, check, missing, reconcile
from worker.providers.simulators import OA_ID
from worker.settings import Settings

MONDAY = vietnam("2026-11-23T00:00")
WEEK = timedelta(days=7)
BUCKET = f"KV_{SCHEDULES_BUCKET}"


class SkewedDesk(JetStreamScheduleDesk):
    """The real one, at a time that the test makes; its commands are done as soon as they are published."""

    def __init__(self, client: Client, clock: Clock, skew: float, done: list[str]) -> None:
        super().__init__(client, timeout=2)
        self._clock, self._skew, self._done = clock, timedelta(seconds=skew), done

    async def now(self) -> datetime:
        return self._clock.time + self._skew

    async def publish(self, provider: Any, command: bytes, job_id: str) -> int:
        sequence = await super().publish(provider, command, job_id)
        self._done.append(json.loads(command)["id"])
        await self._js.delete_msg(COMMANDS_STREAM, sequence)
        return sequence


async def test_two_replicas_with_different_clocks_publish_each_time_of_a_week_once(
    nats_client: Client, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "LONGEST_SLEEP", 86_400.0)
    await reconcile(nats_client, TopologyConfig())
    clock, done = Clock(MONDAY), list[str]()
    plan = schedule(), schedule("often", Every(3600, VIETNAM)), schedule("odd", "17 */5 * * MON-FRI")
    replicas = [
        Replica(
            SkewedDesk(nats_client, clock, skew, done),
            clock,
            *plan,
            name=name,
            log=JetStreamLog(nats_client, timeout=2),
        )
        for name, skew in (("ahead", 150.0), ("behind", -170.0))
    ]
    for replica in replicas:
        await replica.round()

    await live(MONDAY + WEEK + timedelta(minutes=10), *replicas)

    expected = []
    for one in plan:
        assert one.timing is not None
        due = one.timing.next_after(MONDAY + timedelta(minutes=5))
        while due is not None and due <= MONDAY + WEEK:
            expected.append(job_id_at(one.name, due))
            due = one.timing.next_after(due)
    assert len(expected) == 7 + 7 * 24 + 5 * 5
    assert Counter(done) == Counter(expected), "published once each: the stream's window for duplicates hides nothing"


async def test_workers_publish_their_schedules_and_the_jobs_complete_also_when_one_is_killed(tmp_path: Path) -> None:
    tick = {"every": 1, "provider": "etelecom", "oa_id": OA_ID, "labels": {"by": "schedule"}}
    async with stage.server() as server, stage.providers(followers=30) as providers:
        sections = stage.sections_for(
            server.url, providers.accounts, nats={"auto_setup": True}, schedules={"tick": tick}
        )
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            opened = [stack.enter_async_context(stage.replica(sections, folder)) for folder in folders]
            first, second = [await one for one in opened]
            client = await nats.connect(server.url, allow_reconnect=False)
            stack.push_async_callback(client.close)

            async def completed() -> list[str]:
                return [event.job_id for event in await job_events(client) if isinstance(event, JobCompleted)]

            async def more_than(count: int) -> None:
                async def are_there() -> bool:
                    return len(await completed()) > count

                await stage.until(are_there, 30)

            await more_than(1)
            first.process.kill()
            await more_than(len(await completed()) + 1)
            code = await second.stop()
            events = await job_events(client)

    begun = [event for event in events if isinstance(event, JobStarted) and event.attempt == 1]
    ended = [event.job_id for event in events if isinstance(event, JobCompleted)]
    assert code == 0
    assert len({event.job_id for event in begun}) == len(begun) >= 4
    assert len(set(ended)) == len(ended) >= len(begun) - 1, "each ends once, but for one that is under way"
    for event in begun:
        due = datetime.strptime(event.job_id, "tick-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        assert event.started_at >= due, "nothing comes before its time"
        assert event.labels == {"by": "schedule"}
    published = [line["job_id"] for one in (first, second) for line in one.events("schedule.published")]
    assert len(published) == len(set(published)) >= 3


async def job_events(client: Client) -> list[JobEvent]:
    """All job events that there are, in order."""
    last = (await client.jetstream().stream_info(EVENTS_STREAM)).state.last_seq
    log = JetStreamLog(client, timeout=5)
    return [decode(entry.data, JobEvent) async for entry in log.read("followers.job.>", 1, last)]


NIGHTLY = {"cron": "0 3 * * *", "provider": "etelecom", "oa_id": OA_ID}


def settings(server: EmbeddedServer, schedules: Any = None, **sections: Any) -> Settings:
    accounts = {"shop": {"provider": "etelecom", "api_key": "1:invented"}}
    return stage.settings(server.url, accounts, schedules=schedules or {"nightly": NIGHTLY}, **sections)


async def test_a_worker_on_a_server_without_the_bucket_works_with_its_schedules_off(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext
) -> None:
    await reconcile(nats_client, TopologyConfig(ack_wait=2))
    await js.delete_stream(BUCKET)
    assert await missing(nats_client) is None
    assert [difference.name for difference in await check(nats_client, TopologyConfig(ack_wait=2))] == [
        SCHEDULES_BUCKET
    ]

    with capture_logs() as lines:
        async with Worker(settings(nats_server)) as worker:
            await stage.until(lambda: any(line["event"] == "schedules.off" for line in lines), 10)
            assert worker.readiness.ready

    [line] = [line for line in lines if line["event"].startswith("schedule")]
    assert line["reason"] == f"bucket {SCHEDULES_BUCKET} is missing: run `followers setup`"


async def test_a_worker_with_schedules_sees_them_begin(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext
) -> None:
    await reconcile(nats_client, TopologyConfig(ack_wait=2))
    bucket = await js.key_value(SCHEDULES_BUCKET)

    async def there() -> bool:
        return "nightly" in await keys(js)

    async with Worker(settings(nats_server)):
        await stage.until(there, 10)

    state = decode((await bucket.get("nightly")).value or b"", ScheduleState)
    assert (state.outcome, state.due) == ("", None)


async def keys(js: JetStreamContext) -> set[str]:
    info = await js.stream_info(BUCKET, subjects_filter="$KV.>")
    return {subject.rpartition(".")[2] for subject in info.state.subjects or {}}


@pytest.fixture(scope="module")
async def guarded() -> Any:
    """A server with two users of workers, one of which may publish what its schedules say."""
    lame = [(f"lame{number}", line) for number, line in enumerate(SCHEDULING)]
    users = [
        *(User(role="worker", login={"user": name, "password": "invented"}, schedules=True) for name, _ in lame),
        User(role="worker", login={"user": "scheduling", "password": "invented"}, schedules=True),
        User(role="worker", login={"user": "plain", "password": "invented"}),
        User(role="admin", login={"user": "admin", "password": "invented"}),
    ]
    block = json.loads(accounts_block(users).removeprefix("accounts: "))
    for listed, (_, line) in zip(block["FOLLOWERS"]["users"], lame, strict=False):
        listed["permissions"]["publish"]["allow"].remove(line)
    async with stage.server(f"accounts: {json.dumps(block)}\n") as server:
        yield server


@pytest.mark.parametrize("number", range(len(SCHEDULING)))
async def test_each_right_that_schedules_take_is_needed(guarded: EmbeddedServer, number: int) -> None:
    admin = await nats.connect(guarded.url, user="admin", password="invented")
    await reconcile(admin, TopologyConfig(ack_wait=2))
    line = SCHEDULING[number]
    refused = []
    for name in ("scheduling", f"lame{number}"):
        client = await nats.connect(
            guarded.url, user=name, password="invented", inbox_prefix=inbox_prefix("worker"), allow_reconnect=False
        )
        try:
            await _needing(line, JetStreamScheduleDesk(client, timeout=0.5 if name != "scheduling" else 5))
        except ScheduleUnavailableError:
            refused.append(name)
        await client.close()
    await admin.close()

    assert refused == [f"lame{number}"]


async def _needing(line: str, desk: JetStreamScheduleDesk) -> object:
    """Do what takes the right `line`."""
    provider = line.rpartition(".")[2]
    if line.startswith("followers.fetch."):
        return await desk.publish("esms" if provider == "esms" else "etelecom", b"{}", "once")
    if ".STREAM.INFO." in line:
        return await desk.now()
    if ".MSG.GET." in line:
        return await desk.read("nobody")
    return await desk.write(f"n{uuid.uuid4().hex[:8]}", ScheduleState(definition="d", since=MONDAY), 0)


@pytest.mark.parametrize("name", ["scheduling", "plain"])
async def test_a_worker_keeps_schedules_with_the_rights_for_it_and_else_says_what_lacks(
    guarded: EmbeddedServer, name: str
) -> None:
    admin = await nats.connect(guarded.url, user="admin", password="invented")
    await reconcile(admin, TopologyConfig(ack_wait=2))
    await admin.jetstream().purge_stream(BUCKET)
    login = {"user": name, "password": "invented", "inbox_prefix": inbox_prefix("worker")}
    often = {"every": 1, "provider": "etelecom", "oa_id": OA_ID}

    async def ordered() -> bool:
        return (await admin.jetstream().stream_info(COMMANDS_STREAM)).state.last_seq > 0

    with capture_logs() as lines:
        async with Worker(settings(guarded, {"often": often}, nats=login)) as worker:
            if name == "scheduling":
                await stage.until(ordered, 15)
            else:
                await stage.until(lambda: any(line["event"] == "schedules.off" for line in lines), 10)
            # Nothing was tried that the server refuses: that would make the worker unready.
            assert worker.readiness.ready
    await admin.close()

    assert [line for line in lines if line["event"] == "nats.permission_denied"] == []
    if name == "plain":
        [line] = [line for line in lines if line["event"] == "schedules.off"]
        assert all(f"publish {right}" in line["reason"] for right in SCHEDULING)


async def test_setup_with_the_rights_of_the_version_before_does_all_but_the_bucket() -> None:
    users = [User(role="setup", login={"user": "setup", "password": "invented"})]
    block = json.loads(accounts_block(users).removeprefix("accounts: "))
    rights = block["FOLLOWERS"]["users"][0]["permissions"]["publish"]
    rights["allow"] = [line for line in rights["allow"] if SCHEDULES_BUCKET not in line]
    async with stage.server(f"accounts: {json.dumps(block)}\n") as server:
        client = await nats.connect(
            server.url, user="setup", password="invented", inbox_prefix=inbox_prefix("setup"), allow_reconnect=False
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(topology, "_API_TIMEOUT", 0.5)
            changes = await reconcile(client, TopologyConfig())
            differences = await check(client, TopologyConfig())
        await client.close()

    assert Counter(change.outcome for change in changes) == {"created": len(changes) - 1, "failed": 1}
    [failed], [difference] = [change for change in changes if change.outcome == "failed"], differences
    assert (failed.name, difference.name, difference.state) == (SCHEDULES_BUCKET, SCHEDULES_BUCKET, "refused")
    assert "may this user use" in failed.detail


def followers(server: EmbeddedServer, *arguments: str, config: Path) -> Any:
    """Run the command line in a thread: it has an event loop of its own."""
    sections = {
        "nats": {"servers": [server.url]},
        "accounts": {"shop": {"provider": "etelecom", "api_key": "1:invented"}},
        "schedules": {"nightly": NIGHTLY, "off": NIGHTLY | {"enabled": False}, "new": NIGHTLY},
    }
    config.write_text(stage.toml(sections), encoding="utf-8")
    return asyncio.to_thread(CliRunner().invoke, app, ["--config", str(config), *arguments])


async def test_the_command_line_says_when_each_schedule_is_due_and_what_became_of_it(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> None:
    await reconcile(nats_client, TopologyConfig())
    last = datetime.now(VIETNAM).replace(hour=3, minute=0, second=0, microsecond=0)
    if last > datetime.now(VIETNAM):
        last -= timedelta(days=1)
    last = last.astimezone(UTC)
    job_id = job_id_at("nightly", last)
    run = Run(job_id=job_id, provider="etelecom", oa_id=OA_ID)
    state = ScheduleState(definition="older", since=MONDAY, due=last, outcome="published", at=last, run=run)
    await js.publish(f"$KV.{SCHEDULES_BUCKET}.nightly", encode(state))
    status = JobStatus(
        job_id=job_id, provider="etelecom", account="shop", oa_id=OA_ID, state="running", updated_at=last
    )
    await js.publish(f"$KV.{JOBS_BUCKET}.{job_id}", encode(status))

    listed: Result = await followers(nats_server, "schedules", config=tmp_path / "a.toml")
    as_json: Result = await followers(nats_server, "schedules", "--json", config=tmp_path / "b.toml")

    assert (listed.exit_code, as_json.exit_code) == (0, 0), listed.output + as_json.output
    nightly, off, new = json.loads(as_json.stdout)
    shown = {name: nightly[name] for name in ("schedule", "last_due", "state", "job_id", "job_state")}
    stamp = f"{last:%Y-%m-%dT%H:%M:%SZ}"
    assert shown == {
        "schedule": "nightly", "last_due": stamp, "state": "published", "job_id": job_id, "job_state": "running"
    }  # fmt: skip
    assert nightly["next_due"] == new["next_due"] == f"{last + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    assert "other settings" in nightly["note"]
    assert (off["state"], off["next_due"], new["state"], new["job_id"]) == ("disabled", None, "new", None)
    assert listed.stdout.splitlines()[0].split()[:3] == ["SCHEDULE", "NEXT", "LAST"]
    assert len(listed.stdout.splitlines()) == 4


async def test_the_command_line_says_what_lacks(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> None:
    result: Result = await followers(nats_server, "schedules", config=tmp_path / "a.toml")

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"bucket {SCHEDULES_BUCKET} is missing: run `followers setup`" in result.stderr


async def test_without_schedules_the_command_line_says_how_to_add_one(nats_server: EmbeddedServer) -> None:
    env = {"FOLLOWERS_NATS__SERVERS": json.dumps([nats_server.url])}

    result = await asyncio.to_thread(CliRunner().invoke, app, ["schedules", "--json"], env=env)

    assert (result.exit_code, result.stdout.strip()) == (0, "[]")
    assert "add [schedules.NAME]" in result.stderr
