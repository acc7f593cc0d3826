"""eTelecom's paging cursor as the ancestor of its code writes it (PROVIDERS 1.4)."""

import base64
import binascii
import struct
from typing import NamedTuple

FIELDS = {
    "id": 1,
    "updated_at": 2,
    "external_created_time": 3,
    "last_message_at": 4,
    "created_at": 5,
    "started_at": 6,
}
_NAMES = {tag: name for name, tag in FIELDS.items()}
_NONCE = 0x70


class Cursor(NamedTuple):
    """A place in a sorted list: one row's value of the sort field, then its id (once, when sorted by id)."""

    items: tuple[tuple[str, int], ...]
    """(field, value); times in microseconds since 1970."""
    descending: bool
    nonce: int | None = None
    """Not part of the provider's format: tells apart cursors of different requests, on demand only."""


def encode(cursor: Cursor) -> str:
    """The cursor as base64url with padding. Raises KeyError for a field that no cursor can hold."""
    tags = [FIELDS[field] for field, _ in cursor.items]
    if cursor.descending:
        tags[0] = -tags[0]
    values = [value for _, value in cursor.items]
    packed = b"".join(struct.pack("<bq", *item) for item in zip(tags, values, strict=True))
    if cursor.nonce is not None:
        packed += struct.pack("<bq", _NONCE, cursor.nonce)
    return base64.urlsafe_b64encode(packed[::-1]).decode()


def decode(text: str) -> Cursor:
    """Read a cursor back. Raises ValueError, saying why, for anything that `encode` does not write."""
    try:
        packed = base64.b64decode(text, altchars=b"-_", validate=True)[::-1]
    except (binascii.Error, ValueError) as error:
        raise ValueError("cursor is not base64url") from error
    if not packed or len(packed) % 9:
        raise ValueError("cursor has a wrong length")
    parts = list(struct.iter_unpack("<bq", packed))
    nonce = parts.pop()[1] if len(parts) > 1 and parts[-1][0] == _NONCE else None
    descending = parts[0][0] < 0
    if descending:
        parts[0] = (-parts[0][0], parts[0][1])
    if any(tag not in _NAMES for tag, _ in parts):
        raise ValueError("cursor has an unknown field")
    return Cursor(tuple((_NAMES[tag], value) for tag, value in parts), descending, nonce)
