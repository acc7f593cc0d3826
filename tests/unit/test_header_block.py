"""Headers as they go over the wire: one line each, whatever stands in their values."""

import pytest

from worker.jetstream.client.fast import header_block


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain", "plain"),
        ("  around\r\n", "around"),
        ("a\nb", "a b"),
        ("a\rb", "a b"),
        ("a\r\nNats-Msg-Id: b", "a  Nats-Msg-Id: b"),
        ("Trần Thị", "Trần Thị"),
        ("", ""),
    ],
)
def test_no_value_begins_another_header(value: str, line: str) -> None:
    assert header_block({"A": value, " B ": "c", " ": "no name"}) == f"NATS/1.0\r\nA: {line}\r\nB: c\r\n\r\n".encode()
