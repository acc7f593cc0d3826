"""What of a follower is compared, and how it becomes numbers: a snapshot holds no person's data."""

from hashlib import blake2b
from operator import attrgetter
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from schemas.follower import SharedInfo
from schemas.types import FollowState

COMPARED = (
    "user_id_by_app",
    "provider_id",
    "shop_id",
    "display_name",
    "gender",
    "phone",
    "shared_info",
    "tags",
    "notes",
    "assigned_user_id",
    "has_conversation",
)
"""Left out is what changes without news: pictures, whose addresses providers renew, spellings of a phone number, and
the provider's own times."""

_values = attrgetter(*COMPARED)
_pack = msgspec.msgpack.Encoder().encode
_text = msgspec.json.Encoder(order="sorted").encode


class Row(Struct, gc=False):
    """As much of a `Follower` as is compared; the rest isn't even decoded."""

    user_id: str
    state: FollowState | None = None
    user_id_by_app: str | None = None
    provider_id: str | None = None
    shop_id: str | None = None
    display_name: str | None = None
    gender: str | None = None
    phone: str | None = None
    shared_info: SharedInfo | None = None
    tags: list[str] = []
    notes: list[str] = []
    assigned_user_id: str | None = None
    has_conversation: bool | None = None


class PageRows(Struct):
    """As much of a `FollowerPage`."""

    job_id: str
    followers: list[Row]
    last: bool


def canonical(row: Any) -> list[bytes]:
    """Return each compared field of a `Row` or `Follower` as bytes that are equal when it is no news."""
    return [
        value.encode() if type(value) is str else b"" if value is None or value == [] else _bytes(value)
        for value in _values(row)
    ]


def digest(parts: list[bytes]) -> int:
    """Return 64 bits of all of them, never 0."""
    return int.from_bytes(blake2b(_pack(parts), digest_size=8).digest(), "little") | 1


def marks(parts: list[bytes]) -> list[int]:
    """Return 16 bits of each one; 0 for nothing."""
    return [crc32(part) & 0xFFFF if part else 0 for part in parts]


def different(old: Any, new: Any) -> list[str]:
    """Return the names of the compared fields in which two followers differ."""
    pairs = zip(COMPARED, canonical(old), canonical(new), strict=True)
    return [name for name, before, after in pairs if before != after]


def value_of(follower: Any, name: str) -> Any:
    """Return the value of a compared field as an event has it."""
    value = getattr(follower, name)
    return (msgspec.to_builtins(value) or None) if isinstance(value, SharedInfo) else value


def _bytes(value: Any) -> bytes:
    # The order of tags is no news; that of notes, where it changes, is.
    if isinstance(value, list):
        return _text(sorted(value))
    return _text(value)
