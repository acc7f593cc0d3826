"""`followers export` against a real nats-server: each format is read back by the library that people read it with."""

import asyncio
import contextlib
import csv
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow.parquet
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from typer.testing import CliRunner, Result

from schemas import Follower, FollowerPage, JobStarted, SharedInfo
from schemas.digest import START, next_digest
from schemas.subjects import EVENTS_STREAM
from tests.integration.test_cli import NOW, OA, common, completed, failed, page, publish
from worker.cli import app, export_files
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

Run = Callable[..., Awaitable[Result]]
FORMATS = ["jsonl", "csv", "parquet", "duckdb"]
RICH = Follower(
    user_id="7800378501923859642",
    display_name='Bùi "Lê", Thị\n=1+1',
    avatars={"120": "https://a.example/1", "240": "https://a.example/2"},
    gender="female",
    state="follow",
    phone="+84900000001",
    shared_info=SharedInfo(name="Lê", city="Huế"),
    tags=["vip", "mới"],
    has_conversation=False,
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
)


@pytest.fixture
async def followers(nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext) -> Run:
    """Runs the command line against the test's server, where `followers setup` has run."""
    await reconcile(nats_client, TopologyConfig())

    async def run(*arguments: str, **env: str) -> Result:
        environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([nats_server.url])} | env
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    return run


def rich_page() -> FollowerPage:
    return msgspec.structs.replace(page("job", 1, 1), followers=[RICH, Follower(user_id="2")])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What the file has, whatever it is."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(path).to_pylist())
    times = ", ".join(f"{name}::VARCHAR AS {name}" for name in ("fetched_at", "created_at", "updated_at"))
    with duckdb.connect(str(path), read_only=True) as database:
        return list(database.sql(f"SELECT * REPLACE ({times}) FROM followers").to_arrow_table().to_pylist())


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_has_all_followers_in_order(
    followers: Run, js: JetStreamContext, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "_CHUNK", 7)
    monkeypatch.setattr(export_files, "_GROUP", 20)
    await publish(js, *(page("job", number, 30) for number in range(1, 31)), completed("job", 30))
    await publish(js, page("other", 1, 1), completed("other", 1))
    target = tmp_path / f"list.{kind}"

    result = await followers("export", "job", str(target), "--json")

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (0, f"{target}: 60 followers of 30 pages")
    rows = rows_of(target)
    assert [row["user_id"] for row in rows] == [str(number) for number in range(60)]
    assert {(row["provider"], row["oa_id"], row["job_id"]) for row in rows} == {("esms", OA, "job")}
    assert [int(row["page"]) for row in rows] == [number for number in range(1, 31) for _ in range(2)]
    assert json.loads(result.stdout) == {
        "job_id": "job", "file": str(target), "format": kind, "bytes": target.stat().st_size,
        "followers": 60, "pages": 30, "complete": True,
    }  # fmt: skip
    assert left_in(tmp_path) == [target.name]


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_field_arrives_as_it_was_published(
    followers: Run, js: JetStreamContext, tmp_path: Path, kind: str
) -> None:
    await publish(js, rich_page(), completed("job", 1))
    target = tmp_path / f"list.{kind}"

    assert (await followers("export", "job", "-o", str(target))).exit_code == 0

    rich, bare = rows_of(target)
    nothing = "" if kind == "csv" else None
    assert (rich["user_id"], rich["display_name"], rich["phone"]) == (RICH.user_id, RICH.display_name, RICH.phone)
    assert bare.get("display_name", nothing) == nothing
    assert bare.get("has_conversation", nothing) == nothing
    if kind == "csv":
        assert rich["has_conversation"] == "false"
        rich |= {name: json.loads(rich[name]) for name in ("tags", "avatars", "shared_info")}
    assert rich["tags"] == RICH.tags
    assert dict(rich["avatars"]) == RICH.avatars
    assert {key: value for key, value in rich["shared_info"].items() if value} == {"name": "Lê", "city": "Huế"}
    if kind == "parquet":
        assert rich["created_at"] == RICH.created_at
        assert rich["fetched_at"] == NOW
    else:
        assert "03:04:05.678901" in rich["created_at"]
        assert "12:00:00" in rich["fetched_at"]


async def test_a_page_that_is_not_as_it_was_published_gives_no_file_unless_that_is_wanted(
    followers: Run, js: JetStreamContext, tmp_path: Path
) -> None:
    first = page("job", 1, 2)
    digest = next_digest(START, first.followers)
    first = msgspec.structs.replace(first, count=2, digest=digest)
    second = msgspec.structs.replace(page("job", 2, 2), count=2, digest=digest)
    await publish(js, first, second, completed("job", 2))

    whole = await followers("export", "job", str(tmp_path / "list.csv"))
    partial = await followers("export", "job", str(tmp_path / "partial.csv"), "--partial")

    assert (whole.exit_code, partial.exit_code) == (1, 0)
    assert "page 2 of job job isn't as it was published" in whole.stderr
    assert left_in(tmp_path) == ["partial.csv"]


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_list_of_nobody_is_a_file_without_rows(
    followers: Run, js: JetStreamContext, tmp_path: Path, kind: str
) -> None:
    end = msgspec.structs.replace(completed("job", 1), followers=0)
    await publish(js, msgspec.structs.replace(page("job", 1, 1), followers=[]), end)

    result = await followers("export", "job", str(tmp_path / f"list.{kind}"))

    assert result.exit_code == 0
    assert rows_of(tmp_path / f"list.{kind}") == []


async def test_an_incomplete_job_is_refused_unless_partial(
    followers: Run, js: JetStreamContext, tmp_path: Path
) -> None:
    await publish(js, page("job", 1, 2))
    target = str(tmp_path / "list.csv")

    refused = await followers("export", "job", target)
    left = left_in(tmp_path)
    partial = await followers("export", "job", target, "--partial", "--json")

    assert (refused.exit_code, left) == (1, [])
    assert refused.stderr == "job job is not complete: see `followers status job`, or use --partial\n"
    assert partial.exit_code == 0
    assert json.loads(partial.stdout)["complete"] is False
    assert partial.stderr.endswith("list.csv: 2 followers of 1 page, not complete\n")


async def test_a_job_that_failed_and_was_retried_is_judged_by_its_last_event(
    followers: Run, js: JetStreamContext, tmp_path: Path
) -> None:
    await publish(js, page("job", 1, 2), failed("job"))
    failure = await followers("export", "job", str(tmp_path / "a.csv"))
    await publish(js, JobStarted(**common("job"), resumed_at_page=2, started_at=NOW, generation=2))
    running = await followers("export", "job", str(tmp_path / "b.csv"))
    await publish(js, page("job", 2, 2), completed("job", 2))
    over = await followers("export", "job", str(tmp_path / "c.csv"))

    assert [failure.exit_code, running.exit_code, over.exit_code] == [1, 1, 0]


async def test_pages_that_have_left_the_stream_are_noticed(
    followers: Run, js: JetStreamContext, tmp_path: Path
) -> None:
    await publish(js, *(page("job", number, 3) for number in (1, 2, 3)), completed("job", 3))
    await js.purge_stream(EVENTS_STREAM, seq=3)
    target = str(tmp_path / "list.jsonl")

    refused = await followers("export", "job", target)
    left = left_in(tmp_path)
    partial = await followers("export", "job", target, "--partial")

    assert (refused.exit_code, left) == (1, [])
    assert "pages of job job have left the stream" in refused.stderr
    assert partial.exit_code == 0
    assert [row["user_id"] for row in rows_of(Path(target))] == ["4", "5"]


async def test_pages_that_are_all_gone_are_noticed(followers: Run, js: JetStreamContext, tmp_path: Path) -> None:
    await publish(js, completed("job", 3))

    result = await followers("export", "job", str(tmp_path / "list.jsonl"))

    assert result.exit_code == 1
    assert "have left the stream" in result.stderr


async def test_two_jobs_with_one_id_are_told_apart(followers: Run, js: JetStreamContext, tmp_path: Path) -> None:
    other = msgspec.structs.replace(page("job", 1, 1), oa_id="7", followers=[Follower(user_id="x")])
    end = msgspec.structs.replace(completed("job", 1), oa_id="7", followers=1)
    await publish(js, page("job", 1, 1), completed("job", 1), other, end)

    unclear = await followers("export", "job", str(tmp_path / "a.jsonl"))
    chosen = await followers("export", "job", str(tmp_path / "b.jsonl"), "--oa", "7")

    assert unclear.exit_code == 2
    assert f"several jobs have the id job (esms {OA}, esms 7): choose with --provider and --oa" in unclear.stderr
    assert chosen.exit_code == 0
    assert [row["user_id"] for row in rows_of(tmp_path / "b.jsonl")] == ["x"]


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_file_that_is_there_stays_unless_forced(
    followers: Run, js: JetStreamContext, tmp_path: Path, kind: str
) -> None:
    await publish(js, page("job", 1, 1), completed("job", 1))
    target = tmp_path / f"list.{kind}"
    target.write_text("precious")

    refused = await followers("export", "job", str(target))
    kept = target.read_text()
    forced = await followers("export", "job", str(target), "--force")

    assert (refused.exit_code, kept) == (2, "precious")
    assert "is there already: use --force" in refused.stderr
    assert forced.exit_code == 0
    assert len(rows_of(target)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.xlsx",), "a.xlsx: the ending must be one of .jsonl, .ndjson, .csv, .parquet, .duckdb, or use --format"),
        ((), "name one file: followers export JOB FILE"),
        (("a.csv", "-o", "b.csv"), "name one file: followers export JOB FILE"),
        (("nowhere/a.csv",), "nowhere/a.csv: the folder nowhere isn't there"),
    ],
)
async def test_a_wrong_file_is_a_usage_error(followers: Run, arguments: tuple[str, ...], words: str) -> None:
    result = await followers("export", "job", *arguments)

    assert (result.exit_code, result.stderr) == (2, words + "\n")


@pytest.mark.parametrize("job", ["nobody", "no.body"])
async def test_an_unknown_job_ends_with_1(followers: Run, tmp_path: Path, job: str) -> None:
    result = await followers("export", job, str(tmp_path / "a.csv"))

    assert result.exit_code == 1
    assert result.stderr.startswith(f"job {job} isn't known")


@pytest.mark.parametrize(("kind", "library"), [("parquet", "pyarrow"), ("duckdb", "duckdb")])
async def test_a_library_that_is_not_installed_is_named(
    followers: Run, tmp_path: Path, kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    result = await followers("export", "job", str(tmp_path / f"a.{kind}"))

    assert result.exit_code == 2
    assert result.stderr.startswith(f"{kind} needs {library}, which isn't installed: pip install pyarrow")


@pytest.mark.parametrize("kind", ["csv", "duckdb"])
async def test_a_full_disk_is_said_and_nothing_is_left(
    nats_server: EmbeddedServer, followers: Run, js: JetStreamContext, tmp_path: Path, kind: str
) -> None:
    await publish(js, *(page("job", number, 300, size=100) for number in range(1, 301)))
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)); from worker.cli import main; main()"
    )
    servers = json.dumps([nats_server.url])

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, "export", "job", str(tmp_path / f"a.{kind}"), "--partial"),
        # Coverage's own file would not fit either.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        | {"FOLLOWERS_NATS__SERVERS": servers},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, err = await process.communicate()

    assert process.returncode == 1, err.decode()
    assert "can't be written" in err.decode()
    assert "Traceback" not in err.decode()
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_export_leaves_nothing(
    nats_server: EmbeddedServer, followers: Run, js: JetStreamContext, tmp_path: Path, told: signal.Signals
) -> None:
    large = [Follower(user_id=str(number), notes=["x" * 1000]) for number in range(100)]
    for number in range(1, 301):
        await publish(js, msgspec.structs.replace(page("job", number, 300), followers=large))
    servers = json.dumps([nats_server.url])

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "export", "job", str(tmp_path / "a.csv"), "--partial"),
        env={**os.environ, "FOLLOWERS_NATS__SERVERS": servers},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        while not left_in(tmp_path):
            await asyncio.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(told)
        _, err = await process.communicate()

    assert process.returncode == 130, err.decode()
    assert left_in(tmp_path) == []
