"""Reads the body of eTelecom's `ListFollowers` the way its Go server does (PROVIDERS 1.3, 1.4)."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from worker.simulators.cursor import FIELDS, Cursor, decode
from worker.simulators.data import micros
from worker.simulators.listing import Listing
from worker.simulators.twirp import TwirpError

GENDERS = ("unknown", "male", "female", "other")
STATES = ("unknown", "follow", "unfollow")
_INT64 = 2**63


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """The twelve filters; None, 0 and empty mean: not filtered by this."""

    assigned_user_id: int = 0
    date_from: int | None = None
    """Microseconds since 1970, as `date_to`; both inclusive, on `created_at`."""
    date_to: int | None = None
    gender: str = "unknown"
    has_conversation: bool | None = None
    name: str = ""
    oa_id: int = 0
    phone: str = ""
    state: str = "unknown"
    tags: list[str] = []  # noqa: RUF012  msgspec copies it
    user_ids: list[int] = []  # noqa: RUF012  msgspec copies it
    """`zl_user_id` and `zl_user_ids` together."""


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """Where to read. Exactly one of `after` and `before` is set; "." is the list's end on that side."""

    after: str
    before: str
    limit: int
    sort: str
    """As requested, for the echo."""
    field: str
    descending: bool
    cursor: Cursor | None


def read_filter(body: Mapping[str, object], *, require_both_dates: bool) -> Filter:
    """The `filter` of a request. Raises TwirpError for a value that Go would not decode."""
    given = _Fields(body.get("filter"), "Filter")
    date_from, date_to = given.moment("date_from"), given.moment("date_to")
    if require_both_dates and (date_from is None) != (date_to is None):
        raise TwirpError("invalid_argument", "must provide both DateFrom and DateTo")
    if date_from is not None and date_to is not None and date_to < date_from:
        raise TwirpError("invalid_argument", "DateTo must not be before DateFrom")
    user_ids = [given.int64("zl_user_id"), *given.int64_list("zl_user_ids")]
    return Filter(
        assigned_user_id=given.int64("assigned_user_id"),
        date_from=date_from,
        date_to=date_to,
        gender=given.enum("gender", GENDERS),
        has_conversation=given.boolean("has_conversation"),
        name=given.text("name"),
        oa_id=given.int64("oa_id"),
        phone=given.text("phone"),
        state=given.enum("state", STATES),
        tags=given.text_list("tags"),
        user_ids=[user_id for user_id in user_ids if user_id],
    )


def read_paging(body: Mapping[str, object], sorts: tuple[str, ...]) -> Paging:
    """The `paging` of a request, absent or not. Raises TwirpError."""
    given = _Fields(body.get("paging"), "Paging")
    after, before, limit, sort = given.text("after"), given.text("before"), given.limit(), given.text("sort")
    if limit < 0:
        raise TwirpError("invalid_argument", "paging is invalid (limit outside of range)")
    if after and before:
        raise TwirpError("invalid_argument", "paging is invalid")
    if not after and not before:
        after = "."
    wanted = _read_sort(sort, sorts)
    cursor = _read_cursor(after or before)
    if cursor:
        own = (cursor.items[0][0], cursor.descending)
        if wanted and wanted != own:
            raise TwirpError("invalid_argument", "paging is invalid (sort does not match)")
        wanted = own
    field, descending = wanted or ("id", True)
    return Paging(
        after=after,
        before=before,
        limit=limit if 0 < limit <= 100 else 100,
        sort=sort,
        field=field,
        descending=descending,
        cursor=cursor,
    )


def keeps(chosen: Filter, listing: Listing, index: int) -> bool:
    """Whether a follower passes all filters that are set."""
    created = listing.people.created(index)
    if (chosen.date_from is not None and created < chosen.date_from) or (
        chosen.date_to is not None and created > chosen.date_to
    ):
        return False
    if chosen.state != "unknown" and listing.state(index) != chosen.state:
        return False
    if chosen.tags and not set(chosen.tags) & set(listing.people.tags(index)):
        return False
    unset = (0, "unknown", None, "", "")
    if (chosen.assigned_user_id, chosen.gender, chosen.has_conversation, chosen.name, chosen.phone) == unset:
        return True
    row: dict[str, Any] = listing.row(index)
    return (
        (not chosen.assigned_user_id or row["assigned_user_id"] == str(chosen.assigned_user_id))
        and (chosen.gender == "unknown" or row["gender"] == chosen.gender)
        and (chosen.has_conversation is None or row["has_conversation"] == chosen.has_conversation)
        and (not chosen.name or _plain(chosen.name) in _plain(row["full_name"]))
        and (not chosen.phone or _national(chosen.phone) == _national(row["phone"]))
    )


def lowered(value: Mapping[Any, object]) -> dict[str, object]:
    """Go matches JSON keys whatever their case."""
    return {str(key).lower(): item for key, item in value.items()}


def _read_sort(sort: str, sorts: tuple[str, ...]) -> tuple[str, bool] | None:
    if not sort:
        return None
    if "," in sort or " " in sort.strip():
        raise TwirpError("invalid_argument", "only one sort field is supported")
    name = sort.removeprefix("-")
    if name == "id":
        raise TwirpError("invalid_argument", "can not sort by id")
    if name not in FIELDS:
        raise TwirpError("invalid_argument", f"sorting by {name} is not supported")
    if name not in sorts:
        raise TwirpError("invalid_argument", f"sort by {name} is not allowed")
    return name, sort.startswith("-")


def _read_cursor(text: str) -> Cursor | None:
    if text == ".":
        return None
    try:
        cursor = decode(text)
    except ValueError as error:
        raise TwirpError("invalid_argument", f"paging is invalid ({error})") from error
    shape = [field for field, _ in cursor.items]
    if shape != ["id"] and (len(shape) != 2 or shape[0] == "id" or shape[1] != "id"):
        raise TwirpError("invalid_argument", "paging is invalid (cursor does not fit the list)")
    if shape[0] not in {"id", "created_at", "updated_at"}:
        raise TwirpError("invalid_argument", f"paging is invalid (sort by {shape[0]} is not allowed)")
    return cursor


class _Fields:
    """The fields of one JSON object, each read as its Go type."""

    def __init__(self, value: object, struct: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise _undecodable(f"cannot unmarshal {_kind(value)} into Go value of type {struct}")
        self._values = lowered(value or {})
        self._struct = struct

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, value, "string")
        return value or ""

    def text_list(self, name: str) -> list[str]:
        return [item if isinstance(item, str) else self._refuse(name, item, "string") for item in self._list(name)]

    def boolean(self, name: str) -> bool | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value, "bool")
        return value

    def limit(self) -> int:
        value = self._values.get("limit")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._wrong("limit", value, "int32")
        return value or 0

    def int64(self, name: str) -> int:
        return self._int64(name, self._values.get(name))

    def int64_list(self, name: str) -> list[int]:
        return [self._int64(name, item) for item in self._list(name)]

    def moment(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text) if "T" in text else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise _undecodable(f'parsing time "{text}" as RFC 3339: cannot parse')
        return micros(moment)

    def enum(self, name: str, names: tuple[str, ...]) -> str:
        value = self._values.get(name)
        if value is None or value == "":
            return names[0]
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        if isinstance(value, str) and value in names:
            return value
        raise _undecodable(f"invalid value {value!r} for enum {name}")

    def _list(self, name: str) -> list[object]:
        value = self._values.get(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, value, "[]string")
        return value or []

    def _int64(self, name: str, value: object) -> int:
        if value is None or value == "":
            return 0
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
            raise self._wrong(name, value, "int64")
        return value

    def _refuse(self, name: str, value: object, kind: str) -> str:
        raise self._wrong(name, value, kind)

    def _wrong(self, name: str, value: object, kind: str) -> TwirpError:
        return _undecodable(f"cannot unmarshal {_kind(value)} into Go struct field {self._struct}.{name} of type {kind}")


def _undecodable(cause: str) -> TwirpError:
    return TwirpError("malformed", "the json request could not be decoded", cause=f"json: {cause}")


def _kind(value: object) -> str:
    kinds = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "value")


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _national(phone: str) -> str:
    digits = re.sub(r"[^0-9]", "", phone)
    if digits.startswith("84") and len(digits) > 9:
        digits = digits[2:]
    return digits.removeprefix("0")
