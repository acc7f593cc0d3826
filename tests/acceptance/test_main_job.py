"""The main job: a command in, a complete and ordered run of follower pages out."""

import sys

import pytest

from tests.acceptance.broker import COMMANDS, new_id
from tests.acceptance.checking import check_run, check_schema
from tests.acceptance.providers import Simulator
from tests.acceptance.world import World

VARIANTS = ["shop", "partner", "esms-get", "esms-list", "esms-auto"]


def simulator_of(world: World, account: str) -> Simulator:
    """The simulator that this account reaches."""
    providers = world.providers
    if account == "esms-auto":
        return providers.withdrawn
    return providers.esms if account.startswith("esms") else providers.etelecom


@pytest.mark.parametrize("account", VARIANTS)
async def test_1234_followers_arrive_complete_and_in_order(world: World, account: str) -> None:
    oa = world.providers.oa(1234)

    job = await world.publish(account, oa, labels={"campaign": "tết-2027"})
    run = await job.end()

    ids = simulator_of(world, account).ids(oa)
    end = check_run(run, ids=ids, account=account, labels={"campaign": "tết-2027"})
    counts = {key: end[key] for key in ("type", "verdict", "followers", "distinct", "duplicates_dropped")}
    assert counts == {
        "type": "completed",
        "verdict": "complete",
        "followers": 1234,
        "distinct": 1234,
        "duplicates_dropped": 0,
    }
    assert end["requests"] == len(world.providers.requests(oa))
    total = 1234 if account.startswith("esms") else None  # eTelecom says no total (PROVIDERS 1.3)
    assert (end["total_first"], end["total_last"]) == (total, total)
    await world.broker.settled(job.sequence)


async def test_auto_falls_back_once_when_get_followers_is_gone(world: World) -> None:
    first, second = world.providers.oa(250), world.providers.oa(250)

    await (await world.publish("esms-auto", first)).end()
    await (await world.publish("esms-auto", second)).end()

    endpoints = [entry.endpoint for entry in world.providers.withdrawn.requests]
    assert endpoints.count("GetFollowers") <= 1, "the worker remembers that GetFollowers is gone"
    assert {entry.endpoint for entry in world.providers.requests(second)} == {"QueryListUID"}


async def test_setup_one_worker_one_command_and_an_empty_work_queue_after_it(private_world: World) -> None:
    accounts = private_world.config["accounts"]
    private_world.config["accounts"] = {name: accounts[name] for name in ("shop", "esms-get")}
    oa = private_world.providers.oa(250)
    broker = private_world.broker
    check = await private_world.run("setup", "--check")
    again = await private_world.run("setup")

    async with private_world.worker():
        job_id = new_id()
        ack = await broker.publish("etelecom", {"provider": "etelecom", "id": job_id, "oa_id": oa})
        run = await private_world.follow("etelecom", job_id, oa, ack.seq).end()
        await broker.settled(ack.seq)
        status = await broker.status_in(job_id, "completed")

    assert (check.code, again.code) == (0, 0)
    check_run(run, ids=private_world.providers.etelecom.ids(oa), account="shop")
    assert (await broker.js.stream_info(COMMANDS)).state.messages == 0
    check_schema("JobStatus", status)
    assert (status["followers"], status["page"], status["verdict"]) == (250, run.end["pages"], "complete")


async def test_the_status_of_a_completed_job_says_so(world: World) -> None:
    oa = world.providers.oa(25)

    job = await world.publish("esms-get", oa, labels={"shift": "night"})
    run = await job.end()
    status = await world.broker.status_in(job.id, "completed")

    check_schema("JobStatus", status)
    assert (status["job_id"], status["provider"], status["account"]) == (job.id, "esms", "esms-get")
    assert (status["oa_id"], status["labels"]) == (oa, {"shift": "night"})
    assert (status["followers"], status["total"], status["verdict"]) == (25, 25, "complete")
    assert (status["page"], status["percent"]) == (run.end["pages"], 100)
    assert status["finished_at"].endswith("Z")


@pytest.mark.parametrize("content_type", ["application/msgpack", "application/json", "application/json; charset=utf-8"])
async def test_commands_are_read_by_their_content_type(world: World, content_type: str) -> None:
    oa = world.providers.oa(25)
    job_id = new_id()
    command = {"provider": "etelecom", "id": job_id, "account": "shop", "oa_id": oa, "labels": {"a": "b"}}
    packed = "msgpack" if "msgpack" in content_type else None

    ack = await world.broker.publish(
        "etelecom", command, encoding=packed, headers=None if packed else {"Content-Type": content_type}
    )
    run = await world.follow("etelecom", job_id, oa, ack.seq).end()

    check_run(run, ids=world.providers.etelecom.ids(oa), labels={"a": "b"})


async def test_events_are_message_pack_when_the_worker_is_told_so(private_world: World) -> None:
    private_world.config["worker"]["encoding"] = "json"  # the environment wins (CONTRACT 5)
    oa = private_world.providers.oa(250)

    async with private_world.worker(environment={"FOLLOWERS_WORKER__ENCODING": "msgpack"}):
        job = await private_world.publish("shop", oa)
        run = await job.end()

    check_run(run, ids=private_world.providers.etelecom.ids(oa), encoding="msgpack")


async def test_the_worker_runs_under_faststreams_own_command_too(private_world: World) -> None:
    oa = private_world.providers.oa(250)

    program = [sys.executable, "-m", "faststream", "run", "worker.app:app"]
    async with private_world.worker(program=program) as worker:
        job = await private_world.publish("shop", oa)
        run = await job.end()
        await private_world.broker.settled(job.sequence)
        stopped = await worker.stop()

    check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert stopped.code == 0, stopped.err


async def test_a_follower_carries_what_the_provider_said_and_nothing_more(world: World) -> None:
    oa = world.providers.oa(250)

    run = await (await world.publish("shop", oa)).end()

    rows = world.providers.etelecom.rows(oa)
    assert [follower["user_id"] for follower in run.followers] == [row["zl_user_id"] for row in rows]
    for follower, row in zip(run.followers, rows, strict=True):
        assert follower["provider_id"] == row["id"]
        assert follower.get("assigned_user_id") == (None if row["assigned_user_id"] == "0" else row["assigned_user_id"])
        assert follower.get("phone", "+84").startswith("+84")
        assert not str(follower.get("created_at")).startswith("0001")
    assert b"last_conversation" not in b"".join(page.data for page in run.pages)
