"""Reads the body of eTelecom's `ListFollowers` the way its Go server does (PROVIDERS 1.3, 1.4)."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec

from worker.providers.etelecom.simulator.cursor import FIELDS, Cursor, decode
from worker.providers.etelecom.simulator.fields import Fields
from worker.providers.etelecom.simulator.twirp import TwirpError
from worker.simulators.listing import Listing

GENDERS = ("unknown", "male", "female", "other")
STATES = ("unknown", "follow", "unfollow")


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
    tags: list[str] = []
    user_ids: list[int] = []
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
    given = Fields(body.get("filter"), "Filter")
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
    given = Fields(body.get("paging"), "Paging")
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


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _national(phone: str) -> str:
    digits = re.sub(r"[^0-9]", "", phone)
    if digits.startswith("84") and len(digits) > 9:
        digits = digits[2:]
    return digits.removeprefix("0")
