"""A message's header block: how many bytes it takes, which names nats-py can publish, and reading it as UTF-8."""

import re
from collections.abc import Mapping
from typing import Any

from nats.js.api import Header

MAX_HEADER_BYTES = 65_535
"""The largest header block that JetStream stores, whatever `max_payload` is (error 10097)."""

_VERSION = b"NATS/1.0"
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def message_bytes(data: bytes, headers: Mapping[str, str]) -> int:
    """Return what the server counts against `max_payload`: the header block and the body.

    nats-py looks at the body alone, and what it lets through costs the whole connection.
    """
    # At once, as each page's are counted: one by one takes several times as long.
    text = "".join(headers) + "".join(headers.values())
    size = len(text) if text.isascii() else len(text.encode())
    return len(_VERSION) + len("\r\n") + size + len(": \r\n") * len(headers) + len("\r\n") + len(data)


def can_be_published(name: str) -> bool:
    """Say whether nats-py accepts `name`; other clients publish names that it doesn't."""
    return _NAME.fullmatch(name) is not None


class StoredHeaders(dict[str, str]):
    """The headers of a message out of a stream, whatever they are called: data of whoever published it.

    nats-py takes a header named `Status` for the server's word, and drops the message. It asks for that by its own
    enum, and gets nothing here; by its text the header is found, as published.
    """

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict does, except for nats-py."""
        return default if isinstance(name, Header) else super().get(name, default)


def is_stored(reply: str, headers: Mapping[str, str]) -> bool:
    """Say whether a message comes out of a stream: as a delivery, or as the answer to a direct get.

    The server's own words about its state have neither such a reply nor these headers.
    """
    return reply.startswith("$JS.ACK.") or ("Nats-Sequence" in headers and "Nats-Subject" in headers)


def parse_headers(block: bytes) -> dict[str, str]:
    """Return the headers in `block`, as they stand in a stream; bytes that are no UTF-8 become U+FFFD."""
    headers = {}
    for line in block.split(b"\r\n")[1:]:
        name, separator, value = line.partition(b":")
        if separator:
            headers[name.strip().decode("utf-8", "replace")] = value.strip().decode("utf-8", "replace")
    return headers
