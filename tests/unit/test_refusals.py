"""JSON that is meant to hurt whoever decodes it."""

import tracemalloc
from typing import Any

import msgspec
import pytest

from worker.core.errors import BadResponseError, ProviderUnavailableError
from worker.providers.refusals import decode

ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
MEGABYTES = 8 * 2**20


@pytest.mark.parametrize(
    "piece", [b"[],", b"{},", b"1,", b'{"a":{}},', b"[" * 400 + b"]" * 400 + b","], ids=["[]", "{}", "1", "a", "deep"]
)
def test_megabytes_of_tiny_values_are_refused_before_they_are_made(piece: bytes) -> None:
    body = b"[" + (piece * (MEGABYTES // len(piece)))[:-1] + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(BadResponseError, match="more than 100000 values"):
            decode(ANYTHING, body, "provider")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_megabytes_of_half_surrogates_are_not_mended() -> None:
    body = b'"' + b"\\ud83d" * (MEGABYTES // 6) + b'"'
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailableError):
            decode(ANYTHING, body, "provider")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * MEGABYTES


def test_megabytes_of_text_are_no_crowd() -> None:
    text = "ghi chú, " * 90_000

    assert decode(ANYTHING, msgspec.json.encode([text]), "provider") == [text]
