"""`followers` at a terminal and in a script: data on standard output, progress on standard error, exit codes."""

import json
import signal
from typing import Any

import pytest

from tests.acceptance.broker import new_id
from tests.acceptance.checking import SCHEMAS, check_run, check_schema
from tests.acceptance.product import Running, write_config
from tests.acceptance.world import World


def documents(text: str) -> list[Any]:
    """The JSON documents in `text`: one value (a list is taken apart) or one a line."""
    try:
        whole = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return whole if isinstance(whole, list) else [whole]


async def test_fetch_follows_its_job_to_the_end(world: World) -> None:
    oa, job_id = world.providers.oa(250), new_id()

    result = await world.run(
        "fetch", "etelecom", oa, "--account", "shop", "--id", job_id, "--label", "shift=night", "--page-size", "50",
        "--filter", "state=follow", "--json",
    )  # fmt: skip

    assert result.code == 0, result.err
    assert documents(result.out)[-1]["job_id"] == job_id
    run = await world.broker.reader(job_id).to_end()
    check_run(run, ids=world.providers.etelecom.ids(oa, state="follow"), labels={"shift": "night"})
    assert {entry.body["paging"]["limit"] for entry in world.providers.requests(oa)} == {50}


async def test_fetch_without_json_tells_the_outcome_in_words(world: World) -> None:
    oa = world.providers.oa(25)

    result = await world.run("fetch", "esms", oa, "--account", "esms-get")

    assert result.code == 0, result.err
    assert "25" in result.out + result.err
    assert "Traceback" not in result.err


async def test_fetch_no_wait_publishes_and_leaves(world: World) -> None:
    oa, job_id = world.providers.oa(250), new_id()

    result = await world.run(
        "fetch", "etelecom", oa, "--account", "shop", "--id", job_id, "--max-pages", "1", "--no-wait"
    )

    assert result.code == 0, result.err
    assert job_id in result.out
    end = check_run(await world.broker.reader(job_id).to_end())
    assert end["reason"] == "max_pages"


async def test_fetch_of_a_job_that_fails_exits_with_one_and_says_why(world: World) -> None:
    result = await world.run("fetch", "etelecom", world.providers.oa(25), "--account", "shop-wrong-key")

    assert result.code == 1
    assert "unauthorized" in result.out + result.err
    assert "Traceback" not in result.err


async def test_fetch_interrupted_exits_with_130_and_the_job_goes_on(world: World) -> None:
    oa, job_id = world.providers.oa(250), new_id()
    world.providers.slow(oa, 0.7)
    folder = world.new_folder("command")
    path = write_config(world.config, folder)

    running = Running(
        ["fetch", "etelecom", oa, "--account", "shop", "--id", job_id], folder, {"FOLLOWERS_CONFIG": str(path)}
    )
    try:
        await world.broker.reader(job_id).page(1)
        running.signal(signal.SIGINT)
        result = await running.ended(10)
    finally:
        await running.destroy()

    assert result.code == 130
    assert "Traceback" not in result.err
    check_run(await world.broker.reader(job_id).to_end(), ids=world.providers.etelecom.ids(oa))


async def test_pages_prints_the_followers_as_json_lines_in_order(world: World) -> None:
    oa = world.providers.oa(300)
    job = await world.publish("shop", oa)
    run = await job.end()

    result = await world.run("pages", job.id)

    assert result.code == 0, result.err
    assert result.json_lines == run.followers


async def test_pages_joins_the_parts_of_a_page(world: World) -> None:
    oa = world.providers.oa(100)
    job = await world.publish("heavy", oa)
    await job.end()

    result = await world.run("pages", job.id)

    assert [follower["user_id"] for follower in result.json_lines] == world.providers.heavy.ids(oa)


async def test_status_and_jobs_show_the_job(world: World) -> None:
    job = await world.publish("esms-get", world.providers.oa(25))
    await job.end()
    await world.broker.status_in(job.id, "completed")

    status = await world.run("status", job.id, "--json")
    jobs = await world.run("jobs", "--json")
    words = await world.run("jobs")

    (document,) = documents(status.out)
    check_schema("JobStatus", document)
    assert (status.code, document["state"], document["followers"]) == (0, "completed", 25)
    listed = {each["job_id"]: each for each in documents(jobs.out)}
    assert jobs.code == 0
    assert listed[job.id] == document
    assert words.code == 0
    assert job.id in words.out


@pytest.mark.parametrize("command", [["status", "nobody-knows"], ["pages", "nobody-knows"]])
async def test_a_job_that_nobody_knows_is_said_in_one_line(world: World, command: list[str]) -> None:
    result = await world.run(*command)

    assert result.code == 1
    assert "nobody-knows" in result.err
    assert "Traceback" not in result.err


async def test_schema_prints_the_committed_schemas(world: World) -> None:
    names = [path.stem for path in SCHEMAS.glob("*.json")]

    page = await world.run("schema", "FollowerPage")
    everything = await world.run("schema")
    unknown = await world.run("schema", "Nonsense")

    assert json.loads(page.out) == json.loads((SCHEMAS / "FollowerPage.json").read_text(encoding="utf-8"))
    assert (page.code, everything.code) == (0, 0)
    assert all(name in everything.out for name in names)
    assert unknown.code == 2
    assert "FollowerPage" in unknown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["fetch", "zalo", "2801000000000000001"],
        ["fetch", "etelecom"],
        ["fetch", "etelecom", "a.b", "--account", "shop"],
        ["fetch", "etelecom", "2801000000000000001", "--filter", "state"],
        ["nonsense"],
    ],
    ids=" ".join,
)
async def test_wrong_usage_exits_with_two(world: World, arguments: list[str]) -> None:
    result = await world.run(*arguments)

    assert result.code == 2
    assert result.err.strip()
    assert "Traceback" not in result.err


async def test_commands_without_a_nats_server_say_so_and_exit(world: World) -> None:
    folder = world.new_folder("command")
    path = write_config(world.config | {"nats": {"servers": ["nats://127.0.0.1:1"]}}, folder)

    running = Running(["jobs"], folder, {"FOLLOWERS_CONFIG": str(path)})
    try:
        result = await running.ended(30)
    finally:
        await running.destroy()

    assert result.code in (1, 2)
    assert "127.0.0.1:1" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "command", ["", "demo", "worker", "setup", "fetch", "jobs", "status", "pages", "schema", "simulate"]
)
async def test_help_teaches_every_command(world: World, command: str) -> None:
    result = await world.run(*command.split(), "--help")

    assert result.code == 0
    assert f"followers {command}".strip() in result.out
