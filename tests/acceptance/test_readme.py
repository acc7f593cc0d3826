"""The README's commands and programs, run as they stand there; `make run` and `make test` are run by CI itself."""

import asyncio
import re
import shlex
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

from schemas.types import ErrorCode
from tests.acceptance import product
from tests.acceptance.world import World
from worker.cli import app
from worker.core.schedules.decision import job_id_at
from worker.settings import load

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
OA = "579745863508352884"


def block(language: str, mark: str = "") -> str:
    """The first fenced block of a language, after `mark`."""
    found = re.search(rf"```{language}\n(.*?)```", TEXT[TEXT.index(mark) :], re.DOTALL)
    assert found is not None
    return found[1]


def commands() -> list[list[str]]:
    """Every `followers …` line of the README's shell blocks."""
    lines = [line for text in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("followers ")]


async def python(program: str, folder: Path, world: World) -> asyncio.subprocess.Process:
    """Start a program of the README against this world's server."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    environment = product.environment_for({"NATS_URL": world.broker.url})
    return await asyncio.create_subprocess_exec(
        sys.executable, str(path), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def test_what_one_program_asks_for_the_other_reads(private_world: World) -> None:
    world = private_world
    oa = world.providers.oa(120)
    names = {OA: oa, "my-shop": "shop"}
    publish, read = (
        re.sub("|".join(names), lambda found: names[found[0]], block("python", f"<!-- test: {mark} -->"))
        for mark in ("publish", "read")
    )

    async with world.worker():
        publisher = await python(publish, world.new_folder("publish"), world)
        _, complaints = await publisher.communicate()
        assert (publisher.returncode, complaints) == (0, b"")
        reader = await python(read, world.new_folder("read"), world)
        out, complaints = await asyncio.wait_for(reader.communicate(), 30)

    assert (reader.returncode, complaints) == (0, b"")
    lines = [line.split(" ", 2) for line in out.decode().splitlines()]
    assert [(job, user) for job, user, _ in lines] == [
        ("first-fetch", user) for user in world.providers.etelecom.ids(oa)
    ]


async def test_the_commands_to_run_it_for_real_work_in_their_order(private_world: World) -> None:
    world = private_world
    oa = world.providers.oa(60)
    setup, _, fetch, pages, jobs, status, cancel, dead, retry = commands()[:9]
    assert [words[1] for words in (setup, fetch, pages, jobs)] == ["setup", "fetch", "pages", "jobs"]
    world.config["accounts"] = {"shop": world.config["accounts"]["shop"]}  # the README's command names no account

    assert (await world.run(*setup[1:])).code == 0
    async with world.worker():
        fetched = await world.run(*[oa if word == OA else word for word in fetch[1:]])
        job = fetched.out.split()[0]
        printed = await world.run(*[job if word == "JOB" else word for word in pages[1 : pages.index(">")]])
        steered = [
            await world.run(*[job if word == "JOB" else word for word in words[1:]])
            for words in (jobs, status, cancel, dead, retry)
        ]

    assert fetched.code == 0
    assert len(printed.lines) == 60
    # The job is over and no letter is there: said, and nothing done.
    assert [result.code for result in steered[:4]] == [0, 0, 0, 0]
    assert "completed" in steered[0].out
    assert steered[4].code in (0, 1)


def test_the_configuration_is_one_that_a_worker_takes(tmp_path: Path) -> None:
    text = block("toml")
    for name in set(re.findall(r"/run/secrets/([a-z-]+)", text)):
        (tmp_path / name).write_text("1:secret", encoding="utf-8")
    path = tmp_path / "followers.toml"
    path.write_text(text.replace("/run/secrets", str(tmp_path)), encoding="utf-8")

    settings = load(path, {})

    assert sorted(settings.accounts) == sorted(tomllib.loads(text)["accounts"])


def test_the_schedule_is_one_that_a_worker_takes(tmp_path: Path) -> None:
    text = block("toml") + block("toml", "<!-- test: schedules -->")
    for name in set(re.findall(r"/run/secrets/([a-z-]+)", text)):
        (tmp_path / name).write_text("1:secret", encoding="utf-8")
    path = tmp_path / "followers.toml"
    path.write_text(text.replace("/run/secrets", str(tmp_path)), encoding="utf-8")

    [schedule] = load(path, {}).schedule_list()

    assert schedule.timing is not None
    due = schedule.timing.next_after(datetime(2026, 11, 27, tzinfo=UTC))
    assert due is not None
    assert f"`{job_id_at(schedule.name, due)}`" in TEXT


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_every_link_into_the_repository_leads_somewhere(link: str) -> None:
    assert link.startswith("https://") or (README.parent / link).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]*#[^)]+)\)", TEXT))))
def test_every_link_to_a_section_leads_to_one(link: str) -> None:
    file, _, anchor = link.partition("#")
    text = (README.parent / file).read_text(encoding="utf-8") if file else TEXT

    assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_command_line_is_one_that_the_program_takes() -> None:
    inline = [shlex.split(text) for text in re.findall(r"`(followers [^`]+)`", TEXT)]
    root: Any = get_command(app)

    for words in (*commands(), *inline):
        _, name, *rest = [word for word in words if word not in ("…", "...")]
        if ">" in rest:
            rest = rest[: rest.index(">")]
        if name.startswith("-") or name == "COMMAND":
            continue
        assert name in root.commands, words
        command = root.commands[name]
        if hasattr(command, "commands"):
            group, name, rest = command, rest[0].partition("|")[0], rest[1:]
            command = group.commands[name]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options, words


def test_every_block_of_commands_is_run() -> None:
    """Each stands in the blocks of "Run it for real", or behind a mark that a test looks for."""
    blocks = re.findall(r"(?:<!-- test: (\w+) -->\n)?```sh\n(.*?)```", TEXT, re.DOTALL)
    unmarked = [text for mark, text in blocks if not mark and "followers " in text]
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_readme*.py"))

    run_for_real = TEXT[TEXT.index("## Run it for real") : TEXT.index("## Publish a command")]
    assert [text for text in unmarked if text not in run_for_real and "kubectl" not in text] == []
    assert {mark for mark, _ in blocks if mark and f'"{mark}"' not in sources} == set()


def test_the_table_of_error_codes_has_all_of_them_and_no_others() -> None:
    text = TEXT[TEXT.index("| code | it means | do |") :]
    table = text[: text.index("\n\n")]

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(get_args(ErrorCode))


def test_every_target_that_is_named_exists() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")

    for target in set(re.findall(r"`?make ([a-z0-9-]+)`?", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
