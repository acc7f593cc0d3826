"""The cursor format of PROVIDERS 1.4, against the vectors recorded there."""

import pytest

from worker.providers.etelecom.simulator.cursor import Cursor, decode, encode

UPDATED = 1_577_995_805_123_456  # 2020-01-02T20:10:05.123456Z
ID = 1234567890123456789

VECTORS = [
    ("AAAAAAAAJpQB", Cursor((("id", 9876),), descending=False)),
    ("AAAAAAAAJpT_", Cursor((("id", 9876),), descending=True)),
    ("AAWbLcdr44ACAAAAAAAABNIB", Cursor((("id", 1234), ("updated_at", UPDATED)), descending=False)),
    ("AAWbLcdr44ACAAAAAAAABNL_", Cursor((("id", 1234), ("updated_at", UPDATED)), descending=True)),
    ("ESIQ9H3pgRX_", Cursor((("id", ID),), descending=True)),
    ("ESIQ9H3pgRUBAAWbLcdr44D7", Cursor((("created_at", UPDATED), ("id", ID)), descending=True)),
    ("ESIQ9H3pgRUBAAWbLcdr44AF", Cursor((("created_at", UPDATED), ("id", ID)), descending=False)),
]


@pytest.mark.parametrize(("text", "cursor"), VECTORS)
def test_a_cursor_is_written_and_read_as_in_the_recorded_vectors(text: str, cursor: Cursor) -> None:
    assert encode(cursor) == text
    assert decode(text) == cursor


def test_a_nonce_can_be_read_back_and_leaves_the_place_alone() -> None:
    cursor = Cursor((("created_at", UPDATED), ("id", ID)), descending=True, nonce=77)

    assert decode(encode(cursor)) == cursor


@pytest.mark.parametrize("garbage", ["x", "AAAA", "not base64!", "AAAAAAAAJpQC_", "AAAAAAAAJpRj", "ééé", ""])
def test_garbage_is_refused_with_a_reason(garbage: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        decode(garbage)
