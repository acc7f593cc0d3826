"""What of a follower is compared, and how it becomes numbers: a snapshot holds no person's data."""

from collections.abc import Iterable, Sequence
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

_NO_TEXT = {"shared_info", "tags", "notes", "has_conversation"}
_LARGEST = 2**64 - 1
_values = attrgetter(*COMPARED)
_pack = msgspec.msgpack.Encoder().encode


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


def numbers_of(ids: Sequence[str]) -> list[int] | None:
    """Return the ids as numbers of 64 bits, None where one isn't such a number, or would be written otherwise."""
    text = "".join(ids)
    if not (text.isascii() and text.isdigit()) or not all(ids):
        return None
    numbers = list(map(int, ids))
    return numbers if max(numbers) <= _LARGEST and list(map(str, numbers)) == list(ids) else None


def digests(rows: Sequence[Row]) -> list[int]:
    """Return, for each row, 64 bits of all compared fields; 0 for somebody who doesn't follow (any more)."""
    for row in rows:
        # The order of tags and notes is no news.
        row.tags.sort()
        row.notes.sort()
    hashes = [blake2b(_pack(values), digest_size=8).digest() for values in map(_values, rows)]
    return [
        0 if row.state == "unfollow" else int.from_bytes(one, "little") | 1
        for row, one in zip(rows, hashes, strict=True)
    ]


def marks(rows: Sequence[Row]) -> list[list[int]]:
    """Return, for each compared field, 16 bits of each row's value. There must be a row."""
    # Column by column, so that the loops are C's: row by row it takes several times as long.
    columns = zip(*map(_values, rows), strict=True)
    return [_marks(name, column) for name, column in zip(COMPARED, columns, strict=True)]


def different(old: Any, new: Any) -> list[str]:
    """Return the names of the compared fields in which two followers differ."""
    pairs = zip(COMPARED, _canonical(old), _canonical(new), strict=True)
    return [name for name, before, after in pairs if before != after]


def value_of(follower: Any, name: str) -> Any:
    """Return the value of a compared field as an event has it."""
    value = getattr(follower, name)
    return (msgspec.to_builtins(value) or None) if isinstance(value, SharedInfo) else value


def _canonical(row: Any) -> list[Any]:
    return [sorted(value) if isinstance(value, list) else value for value in _values(row)]


def _marks(name: str, column: Sequence[Any]) -> list[int]:
    if name in _NO_TEXT:
        parts: Iterable[bytes] = [b"" if value is None or value == [] else _pack(value) for value in column]
    else:
        parts = map(str.encode, [value or "" for value in column])
    return [mark & 0xFFFF for mark in map(crc32, parts)]
