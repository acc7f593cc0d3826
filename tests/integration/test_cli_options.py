"""The command line without a server: help, usage, validation, schemas."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from worker import __version__
from worker.cli import app

COMMANDS = (
    *("demo", "worker", "setup", "fetch", "jobs", "status", "cancel", "pages", "verify", "schedules", "schema"),
    "simulate",
)


def followers(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env=env)


def test_help_names_every_command() -> None:
    result = followers("--help")

    assert result.exit_code == 0
    assert [name for name in COMMANDS if name not in result.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_teaches_by_example(command: str) -> None:
    result = followers(command, "--help")

    assert result.exit_code == 0
    assert f"followers {command}" in result.stdout.partition("Examples")[2]


@pytest.mark.parametrize("command", ["list", "show", "retry", "purge"])
def test_help_of_each_command_for_dead_letters_teaches_by_example(command: str) -> None:
    result = followers("dead", command, "--help")

    assert result.exit_code == 0
    assert f"followers dead {command}" in result.stdout.partition("Examples")[2]


def test_the_version_is_printed() -> None:
    assert followers("--version").stdout == f"followers {__version__}\n"


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = "import sys, worker.cli; print(*(name for name in sys.modules if '.' not in name))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    heavy = {"nats", "pydantic", "faststream", "msgspec", "aiohttp", "httpx", "structlog", "asyncio"}
    assert heavy & set(loaded) == set()


def test_people_are_told_where_to_read_on_and_programs_get_their_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker", "--config", "gone.toml", "schedules"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    terminal, end = os.openpty()
    piped = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    shown = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=end, check=False)
    os.close(end)
    said = os.read(terminal, 10_000).decode().splitlines()
    os.close(terminal)

    line = "gone.toml: this settings file does not exist; correct --config or FOLLOWERS_CONFIG"
    assert (piped.returncode, piped.stderr.splitlines()) == (2, [line])
    assert (shown.returncode, said) == (2, [line, "see README.md#when-something-is-wrong"])


@pytest.mark.parametrize("arguments", [("fetch",), ("fetch", "zalo", "1"), ("jobs", "--state", "gone"), ("dance",)])
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert followers(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("esms", "no spaces"), "oa_id: isn't of the expected form [A-Za-z0-9_-]{1,64}"),
        (("esms", "1", "--id", "a.b"), "id: isn't of the expected form [A-Za-z0-9_-]{1,64}"),
        (("esms", "1", "--page-size", "51"), "page_size: expected `int` <= 50"),
        (("etelecom", "1", "--page-size", "many"), "page_size: expected `int`, got `str`"),
        (("etelecom", "1", "--max-pages", "0"), "max_pages: expected `int` >= 1"),
        (("esms", "1", "--sort", "name"), "sort: esms doesn't know this"),
        (
            ("esms", "1", "--filter", "gender=male"),
            "filter.gender: esms doesn't know this: esms has date_from, date_to, state, tag",
        ),
        (("etelecom", "1", "--filter", "state=left"), "filter.state: invalid enum value 'left'"),
        (("etelecom", "1", "--filter", "has_conversation=maybe"), "filter.has_conversation: expected `bool | null`"),
        (
            ("etelecom", "1", "--filter", "state=follow", "--filter", "state=unfollow"),
            "filter.state: given twice, but it takes one value",
        ),
        (("etelecom", "1", "--filter", "vip"), "--filter vip: write it as key=value"),
        (("etelecom", "1", "--label", "=x"), "--label =x: write it as key=value"),
        (("etelecom", "1", "--not-after", "tomorrow"), "not_after: invalid RFC3339 encoded datetime"),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_published(arguments: tuple[str, ...], line: str) -> None:
    result = followers("fetch", *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_wrong_setting_is_named_and_ends_with_2() -> None:
    result = followers("jobs", env={"FOLLOWERS_NATS__REPLICAS": "many"})

    assert result.exit_code == 2
    assert "FOLLOWERS_NATS__REPLICAS" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("before", [True, False])
def test_the_settings_file_is_named_before_or_behind_the_command(before: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[nats]\nservres = []\n")
    option = ("--config", str(file))

    result = followers(*option, "setup") if before else followers("setup", *option)

    assert result.exit_code == 2
    assert "servres" in result.stderr
    assert str(file) in result.stderr


def test_schema_lists_the_messages() -> None:
    assert "FollowerPage" in followers("schema").stdout.splitlines()
    assert "FollowerPage" in json.loads(followers("schema", "--json").stdout)


def test_schema_prints_one_message() -> None:
    document = json.loads(followers("schema", "FetchFollowers").stdout)

    assert document["title"] == "FetchFollowers"


def test_schema_of_an_unknown_message_names_the_known_ones() -> None:
    result = followers("schema", "Follow")

    assert result.exit_code == 2
    assert "FollowerPage" in result.stderr
