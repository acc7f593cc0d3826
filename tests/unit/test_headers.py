import pytest
from nats.js.api import Header

from worker.jetstream.client.headers import (
    MAX_HEADER_BYTES,
    StoredHeaders,
    can_be_published,
    is_stored,
    message_bytes,
    parse_headers,
)


def test_a_message_is_as_large_as_what_travels() -> None:
    block = "NATS/1.0\r\nA: b\r\nName: vàng\r\n\r\n".encode()

    assert message_bytes(b"body", {"A": "b", "Name": "vàng"}) == len(block) + 4
    assert message_bytes(b"", {}) == len(b"NATS/1.0\r\n\r\n")
    assert MAX_HEADER_BYTES == 65_535


@pytest.mark.parametrize("name", ["Nats-Msg-Id", "a", "!#$%&'*+-.^_`|~09AZaz"])
def test_a_token_can_be_published(name: str) -> None:
    assert can_be_published(name)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "vàng", "a\n", "(a)"])
def test_anything_else_cannot(name: str) -> None:
    assert not can_be_published(name)


def test_a_block_is_read_as_it_stands_in_a_stream() -> None:
    block = b"NATS/1.0\r\nA:b\r\nName:  v\xc3\xa0ng: gold \r\nBad:\xff\r\nB\xffd: 1\r\nno colon\r\nEmpty:\r\n\r\n"

    assert parse_headers(block) == {"A": "b", "Name": "vàng: gold", "Bad": "\ufffd", "B\ufffdd": "1", "Empty": ""}


def test_the_status_line_is_no_header() -> None:
    assert parse_headers(b"NATS/1.0 404: No Messages\r\nA: b\r\n\r\n") == {"A": "b"}


def test_stored_headers_have_all_that_was_published_except_for_nats_py() -> None:
    headers = StoredHeaders({"Status": "503", "x": "y"})

    assert (headers.get("Status"), headers["Status"], headers.get("x"), headers.get("z", "d")) == (
        "503",
        "503",
        "y",
        "d",
    )
    assert (headers.get(Header.STATUS), headers.get(Header.STATUS, "d")) == (None, "d")
    assert headers == {"Status": "503", "x": "y"}


@pytest.mark.parametrize(
    ("reply", "headers", "stored"),
    [
        ("$JS.ACK.S.d.1.1.1.1.0", {}, True),
        ("", {"Nats-Sequence": "1", "Nats-Subject": "a"}, True),
        ("", {"Nats-Sequence": "1"}, False),
        ("", {"Nats-Subject": "a"}, False),
        ("_INBOX.a", {}, False),
        ("a.$JS.ACK.", {}, False),
        ("$JS.ACKS", {}, False),
    ],
)
def test_what_comes_out_of_a_stream_is_told_by_its_reply_or_the_servers_headers(
    reply: str, headers: dict[str, str], stored: bool
) -> None:
    assert is_stored(reply, headers) is stored
