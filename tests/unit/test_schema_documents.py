"""Tags, defaults and bounds of every message are those of the documents that others build on."""

import json
from pathlib import Path

import pytest

import schemas
from schemas.render import MESSAGES, schema

DOCUMENTS = Path(schemas.__file__).parent / "json"


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_what_its_document_says(name: str) -> None:
    assert json.loads((DOCUMENTS / f"{name}.json").read_text("utf-8")) == schema(name), "run `make schemas`"


def test_there_is_a_document_for_each_message_and_no_other() -> None:
    assert {path.stem for path in DOCUMENTS.glob("*.json")} == set(MESSAGES)
