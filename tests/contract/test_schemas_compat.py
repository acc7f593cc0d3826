"""The compatibility gate: what breaks the last release is named, what only grows passes, old messages stay readable."""

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import schemas
from schemas.compat import breaks
from schemas.examples import EXAMPLES
from schemas.release import broken, freeze, releases
from schemas.render import MESSAGES, schema

PACKAGE = Path(schemas.__file__).parent
GOLDEN = [path for release in releases() for path in sorted((release / "golden").iterdir())]


def changed(tmp_path: Path, *edits: tuple[str, str, str]) -> subprocess.CompletedProcess[str]:
    """Run the gate on a copy of the package in which `(file, old text, new text)` were replaced."""
    shutil.copytree(PACKAGE, tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in edits:
        path = tmp_path / "schemas" / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")
    run = [sys.executable, "-m", "schemas"]
    subprocess.run(run, cwd=tmp_path, check=True, timeout=30)
    return subprocess.run([*run, "--check"], cwd=tmp_path, capture_output=True, text=True, timeout=30)


DELIBERATE = {
    "a removed field": (
        [
            ("events.py", "    distinct: Annotated", "    different: Annotated"),
            ("examples.py", "distinct=", "different="),
        ],
        [
            "JobEvent<type 'completed'>.distinct: is removed",
            "JobEvent<type 'completed'>.different: is now required",
            "JobEvent.3.json: can't be decoded any more",
        ],
    ),
    "a changed type": (
        [
            ("events.py", "    resumed_at_page: Annotated[Ordinal,", "    resumed_at_page: Annotated[str,"),
            ("examples.py", "resumed_at_page=4", 'resumed_at_page="4"'),
        ],
        ["JobEvent<type 'started'>.resumed_at_page: integer is gone: its type changed"],
    ),
    "a narrowed enum": (
        [("types.py", '"rate_limited", "provider_unavailable", "circuit_open"]', '"rate_limited", "circuit_open"]')],
        ["JobEvent<type 'waiting'>.reason: no longer provider_unavailable"],
    ),
    "a newly required field": (
        [
            ("commands.py", "    labels: Labels = {}", "    labels: Labels"),
            ("examples.py", 'tag="VIP"), max_pages=20', 'tag="VIP"), max_pages=20, labels={}'),
        ],
        ["FetchFollowers<provider 'esms'>.labels: is now required", "FetchFollowers.2.json: can't be decoded"],
    ),
    "a tightened bound": (
        [
            ("commands.py", "ge=1, le=100", "ge=1, le=99"),
            (
                "commands.py",
                'page_size: Annotated[int, Meta(ge=1, le=99, description="Rows asked for at once.")] = 100',
                'page_size: Annotated[int, Meta(ge=1, le=99, description="Rows asked for at once.")] = 99',
            ),
        ],
        [
            "FetchFollowers<provider 'etelecom'>.page_size: maximum is now 99, was 100",
            "FetchFollowers<provider 'etelecom'>.page_size: what a left out field means is now 99, was 100",
        ],
    ),
    "a kind of event that is gone": (
        [
            ("events.py", 'tag="cancelled"', 'tag="stopped"'),
        ],
        ["JobEvent: type 'cancelled' is gone", "JobEvent.6.json: can't be decoded any more"],
    ),
}


@pytest.mark.parametrize("arguments", [(), ("--check",), ("--release", "99.0.0")])
def test_a_removed_field_that_an_example_still_has_is_one_line_with_its_place(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    events = tmp_path / "schemas" / "events.py"
    kept = [line for line in events.read_text("utf-8").splitlines() if not line.startswith("    distinct: ")]
    events.write_text("\n".join(kept), "utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "schemas", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"schemas/examples\.py:\d+: Unexpected keyword argument 'distinct': it doesn't fit the messages as they are"
        r" now; messages only ever grow: put back what was removed or renamed, or, [^\n]*\n",
        done.stderr,
    )


@pytest.mark.parametrize(("edits", "said"), DELIBERATE.values(), ids=DELIBERATE)
def test_a_deliberate_breaking_change_fails_with_the_fields_path(
    tmp_path: Path, edits: list[tuple[str, str, str]], said: list[str]
) -> None:
    done = changed(tmp_path, *edits)

    assert done.returncode == 1
    for line in said:
        assert line in done.stderr
    assert "messages only ever grow" in done.stderr


def test_a_new_optional_field_passes(tmp_path: Path) -> None:
    field = '    nickname: Annotated[str, Meta(description="New.")] | None = None\n    tags:'

    done = changed(tmp_path, ("follower.py", "    tags:", field))

    assert (done.returncode, done.stderr) == (0, "")


def edited(name: str, edit: Any) -> list[str]:
    """Break lines after `edit` of today's schema of `name`."""
    new = copy.deepcopy(schema(name))
    edit(new)
    return breaks(name, schema(name), new)


def test_a_looser_command_breaks_nobody_but_a_looser_event_breaks_its_readers() -> None:
    assert edited("FetchFollowers", lambda one: one["$defs"]["FetchEsmsFollowers"]["required"].remove("oa_id")) == []
    assert edited("FollowerPage", lambda page: page["required"].remove("last")) == [
        "FollowerPage.last: may now be missing, which readers of the release don't expect"
    ]
    assert edited(
        "FollowerPage",
        lambda page: page["properties"].update(page={"anyOf": [page["properties"]["page"], {"type": "null"}]}),
    ) == ["FollowerPage.page: may now be null, which readers of the release don't expect"]


def test_what_has_not_changed_breaks_nothing() -> None:
    for name in MESSAGES:
        assert breaks(name, schema(name), schema(name)) == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_golden_messages_of_every_release_decode_for_ever(path: Path) -> None:
    assert [line for line in broken() if path.name in line] == []


def test_a_release_holds_every_message_in_both_encodings(tmp_path: Path) -> None:
    target = freeze("1.0.0", tmp_path)

    names = {path.name for path in (target / "golden").iterdir()}
    wanted = {
        f"{name}.{number}.{ending}"
        for name in MESSAGES
        for number in range(1, len(EXAMPLES[name]) + 1)
        for ending in ("json", "msgpack")
    }
    assert names == wanted
    assert {path.stem for path in target.glob("*.json")} == set(MESSAGES)
    assert list(broken(tmp_path)) == []


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9", "next"])
def test_a_release_is_never_written_again(tmp_path: Path, version: str) -> None:
    freeze("1.0.0", tmp_path)

    with pytest.raises(ValueError, match=r"not above the last release|is no version"):
        freeze(version, tmp_path)


def test_a_golden_message_that_reads_differently_is_named(tmp_path: Path) -> None:
    target = freeze("1.0.0", tmp_path)
    golden = target / "golden" / "Follower.2.json"
    golden.write_text('{"user_id": "1", "was_once": "here"}')

    assert list(broken(tmp_path)) == ["golden 1.0.0/Follower.2.json: reads differently: Follower.was_once"]


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    freeze("0.9.0", tmp_path)
    freeze("0.10.0", tmp_path)

    assert [path.name for path in releases(tmp_path)] == ["0.9.0", "0.10.0"]


def test_the_repository_has_a_release_to_compare_with() -> None:
    assert GOLDEN
