"""eTelecom's rows in, followers out: typed where they are as documented, else loosely (PROVIDERS 1.3).

A row is decoded into the very fields of a `Follower`, put right in place, and then declared to be one: making a second
object of each would take as long as half of the decoding (tests/bench/README.md).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn
from unicodedata import is_normalized

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.follower import Follower, SharedInfo
from schemas.types import Gender
from worker.core.errors import BadResponseError
from worker.core.ports.provider import ProviderPage
from worker.providers import normalise
from worker.providers.etelecom.beside import Beside, has_twice
from worker.providers.http.client import Answer
from worker.providers.http.responses import away, decode, is_object, wrong_shape
from worker.providers.normalise import LONGEST_ID, identifier, nfc
from worker.providers.phone import MOBILE_WITH_CODE, MOBILE_WITH_TRUNK, phone

_SHORT = 256
"""Characters that `is_normalized` has looked at in no time, whatever they are."""
_NO_USER_ID = "a follower without a usable zl_user_id"
_NO_PHONE = (None, None)
_NOTHING: list[str] = []
"""The tags and notes of all who have none; nobody changes what is published."""
_AS_PUBLISHED = frozenset({None, "unknown", "male", "female", "other"})
_GENDERS: dict[object, Gender | None] = {"": None, 1: "male", 2: "female", 3: "other"}
"""All else is unknown: 0, as eTelecom writes it, and what nobody documented."""


class _SharedInfo(Struct, gc=False):
    """`SharedInfo`, field by field, as eTelecom writes it."""

    name: str | None = None
    phone: str | int | None = None
    address: str | None = None
    ward: str | None = None
    district: str | None = None
    city: str | None = None


class _TagsAndNotes(Struct, gc=False):
    notes: list[str] | None = None
    tag_names: list[str] | None = None


_NAMES = {
    "provider_id": "id", "user_id": "zl_user_id", "user_id_by_app": "zl_user_id_by_app", "display_name": "full_name",
    "tags": "tags_and_notes_info", "notes": "(notes)", "phone_raw": "(phone_raw)",
}  # fmt: skip


_Id = Annotated[str, Meta(max_length=LONGEST_ID)]


class _Row(Struct, gc=False, kw_only=True, rename=_NAMES):
    """`Follower`, field by field, in eTelecom's names and documented types, which come in this order."""

    provider_id: _Id | None = None
    shop_id: _Id | None = None
    user_id: _Id
    user_id_by_app: _Id | None = None
    assigned_user_id: _Id | None = None
    display_name: str | None = None
    avatar: str | None = None
    avatars: dict[str, str] | None = None
    gender: str | int | None = None
    phone: str | int | None = None
    state: Literal["follow", "unfollow", "unknown", ""] | None = None
    has_conversation: bool | None = None
    shared_info: _SharedInfo | None = None
    tags: _TagsAndNotes | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    # Not eTelecom's. They take nothing: were these names ever sent, the row would be read loosely, without them.
    notes: Annotated[list[str], Meta(max_length=0)] = []
    phone_raw: None = None


class _Paging(Struct, gc=False):
    next: str | UnsetType | None = UNSET


class _Page(Struct, gc=False):
    followers: list[_Row] | UnsetType | None = UNSET
    paging: _Paging | None = None
    # Not read here: where one of these is there, all that stands beside the rows is looked at.
    code: msgspec.Raw | UnsetType = UNSET
    error: msgspec.Raw | UnsetType = UNSET
    errors: msgspec.Raw | UnsetType = UNSET
    success: msgspec.Raw | UnsetType = UNSET


class _LoosePage(Struct):
    """The same with rows of any shape, for what the documented types refuse (a bare id, `""` for a time)."""

    followers: list[msgspec.Raw] | UnsetType | None = UNSET
    paging: _Paging | None = None
    code: msgspec.Raw | UnsetType = UNSET
    error: msgspec.Raw | UnsetType = UNSET
    errors: msgspec.Raw | UnsetType = UNSET
    success: msgspec.Raw | UnsetType = UNSET


_page = msgspec.json.Decoder(_Page)
_loose_page = msgspec.json.Decoder(_LoosePage)
_row = msgspec.json.Decoder(_Row)
_loose_row = msgspec.json.Decoder(dict[str, Any])


def read_page(body: bytes, where: str, *, steady: bool = False, hidden: Iterable[str] = ()) -> ProviderPage:
    """Return the page in `body`, of a 200; `hidden` is what an error must not repeat of it.

    Raises ProviderUnavailableError for what isn't a whole answer of the API, an error object included, and
    BadResponseError for one that is wrong.
    """
    try:
        page: _Page | _LoosePage = decode(_page, body, where, hidden)
    except msgspec.ValidationError:
        try:
            page = decode(_loose_page, body, where, hidden)
        except msgspec.ValidationError as error:
            if not is_object(body):
                raise away(Answer(200, body), where, hidden) from error
            raise (Beside(body, where).error(body, where, hidden) or wrong_shape(error, where)) from error
    rows = page.followers
    more = page.paging.next if page.paging is not None else None
    if not rows or not more or _speaks(page):
        beside = Beside(body, where)
        if said := beside.error(body, where, hidden):
            raise said
        if rows is UNSET or (rows is None and (more or page.paging is None)):
            # An empty Go slice may be written as null, but then the paging says that nothing follows.
            why = f"{'no' if rows is UNSET else 'null for the'} list of followers"
            raise away(Answer(200, body), where, hidden, why=why)
        _refuse_contradictions(beside, body, where, nobody=not rows, ends=not more)
    if not rows:
        return ProviderPage(followers=(), next_cursor=more or None, steady=steady)
    if page.paging is None:
        _refuse(where, "followers without paging, so nobody knows whether the list goes on")
    if more is UNSET:
        _refuse(where, "followers and a paging that has no next, so nobody knows whether the list goes on")
    if isinstance(page, _Page):
        _mend_ids(rows, where)
        phones, texts = _has_plain_phones(rows), _has_plain_texts(rows)
        followers = [_follower(row, phones, texts) for row in rows]
    else:
        followers = [_any_follower(row, where) for row in rows]  # type: ignore[arg-type]
    return ProviderPage(followers=followers, next_cursor=more or None, steady=steady)


def _speaks(page: _Page | _LoosePage) -> bool:
    """Say whether a page has one of the fields that are looked at only where they are there."""
    return not (page.code is UNSET and page.error is UNSET and page.errors is UNSET and page.success is UNSET)


def _refuse_contradictions(beside: Beside, body: bytes, where: str, *, nobody: bool, ends: bool) -> None:
    if ends and (field := beside.more):
        _refuse(where, f"a paging that names no next page beside “{field}”, which says that more follow")
    if nobody and has_twice(body):
        _refuse(where, "an object that has the same field twice, so nobody knows which one counts")


def _mend_ids(rows: Iterable[Any], where: str) -> None:
    """Bring the ids of `rows`, which are `_Row`, into our form, as `identifier` has it."""
    ids = [f"{row.user_id}{row.user_id_by_app}{row.provider_id}{row.shop_id}{row.assigned_user_id}" for row in rows]
    # All at once, and as bytes: a fifth of the time. Of digits, those less than "1" are none.
    if "".join(ids).encode().isdigit():
        for row in rows:
            if row.user_id < "1":
                _refuse(where, _NO_USER_ID)
            if row.user_id_by_app < "1":
                row.user_id_by_app = None
            if row.provider_id < "1":
                row.provider_id = None
            if row.shop_id < "1":
                row.shop_id = None
            if row.assigned_user_id < "1":
                row.assigned_user_id = None
        return
    for row in rows:
        row.user_id = identifier(row.user_id)
        if row.user_id is None:
            _refuse(where, _NO_USER_ID)
        row.user_id_by_app = identifier(row.user_id_by_app)
        row.provider_id = identifier(row.provider_id)
        row.shop_id = identifier(row.shop_id)
        row.assigned_user_id = identifier(row.assigned_user_id)


def _has_plain_phones(rows: Iterable[Any]) -> bool:
    """Return whether all phones of `rows`, which are `_Row`, are ASCII digits or absent."""
    try:
        digits = "".join([row.phone or "" for row in rows])
    except TypeError:
        return False  # one came as a number
    return digits.isascii() and digits.encode().isdigit()


def _has_plain_texts(rows: Iterable[Any]) -> bool:
    """Return whether all that people shared in `rows`, which are `_Row`, is short, in NFC, and nowhere empty."""
    # An empty one leaves two ends of lines in a row.
    texts = [
        f"\n{info.name}\n{info.address}\n{info.ward}\n{info.district}\n{info.city}\n"
        for row in rows
        if (info := row.shared_info) is not None
    ]
    whole = "-".join(texts)
    return "\n\n" not in whole and max(map(len, texts), default=0) <= _SHORT and is_normalized("NFC", whole)


def _follower(row: Any, plain_phone: bool = False, plain_texts: bool = False) -> Follower:
    """Put `row`, a `_Row` whose ids are in our form, right and return it as a `Follower`.

    `plain_phone`, `plain_texts`: what was found of all rows at once, in a fraction of the time.
    The hot path, a hundred times a page: what is absent or plain costs no call.
    """
    if not row.avatar:
        row.avatar = None
    if not (text := row.display_name) or (not text.isascii() and (text := nfc(text)) is not row.display_name):
        row.display_name = text or None
    if not (avatars := row.avatars):
        row.avatars = {}
    elif "" in avatars.values():
        row.avatars = normalise.addresses(avatars)
    if (gender := row.gender) not in _AS_PUBLISHED:
        row.gender = _GENDERS.get(gender, "unknown")
    if (text := row.state) != "follow" and text != "unfollow":
        row.state = None
    given = row.phone
    if not given:
        row.phone = None
    elif plain_phone and len(given) == 10 and given[:4] in MOBILE_WITH_TRUNK:
        row.phone, row.phone_raw = "+84" + given[1:], given
    elif plain_phone and len(given) == 11 and given[:5] in MOBILE_WITH_CODE:
        row.phone, row.phone_raw = "+" + given, given
    else:
        row.phone, row.phone_raw = phone(given)
    if (info := row.shared_info) is not None:
        row.shared_info = _shared_info(info, given, row.phone or row.phone_raw, plain_texts)
    if (extra := row.tags) is None:
        row.tags = _NOTHING
    else:
        row.tags, row.notes = _nfc(extra.tag_names), _nfc(extra.notes)
    # Most times are in UTC already, and after 1970: nothing to do.
    if (time := row.created_at) is not None and (time.tzinfo is not UTC or time.year <= 1970):
        row.created_at = normalise.instant(time)
    if (time := row.updated_at) is not None and (time.tzinfo is not UTC or time.year <= 1970):
        row.updated_at = normalise.instant(time)
    # Python itself makes sure that both have the same fields, and raises TypeError otherwise.
    row.__class__ = Follower
    return row  # type: ignore[no-any-return]


def _nfc(given: list[str] | None) -> list[str]:
    return [nfc(item) for item in given if item] if given else _NOTHING


def _shared_info(info: Any, phone_of_row: str | int | None, normal: str | None, plain_texts: bool) -> SharedInfo | None:
    """As `_follower`, of a `_SharedInfo`; `normal` is what became of the row's own phone, which people mostly share."""
    if info.phone != phone_of_row:
        e164, raw = phone(info.phone) if info.phone else _NO_PHONE
        normal = e164 or raw
    info.phone = normal
    if not plain_texts:
        info.name, info.address, info.ward = map(normalise.text, (info.name, info.address, info.ward))
        info.district, info.city = normalise.text(info.district), normalise.text(info.city)
    if not (normal or info.name or info.address or info.ward or info.district or info.city):
        return None
    info.__class__ = SharedInfo
    return info  # type: ignore[no-any-return]


def _any_follower(raw: msgspec.Raw, where: str) -> Follower:
    """Read a row of any shape: bring it into the documented types, drop what can't be brought there."""
    # What is skipped in a page isn't looked at: a row may hold bytes that are no text.
    body = bytes(raw)
    try:
        typed = decode(_row, body, where)
        _mend_ids([typed], where)
        return _follower(typed)
    except msgspec.ValidationError:
        pass
    try:
        row = decode(_loose_row, body, where)
    except msgspec.ValidationError as error:
        raise wrong_shape(error, where) from error
    shared, extra, state = row.get("shared_info"), row.get("tags_and_notes_info"), row.get("state")
    gender = row.get("gender")
    typed = _Row(
        user_id=identifier(row.get("zl_user_id")) or "",
        user_id_by_app=identifier(row.get("zl_user_id_by_app")),
        provider_id=identifier(row.get("id")),
        shop_id=identifier(row.get("shop_id")),
        assigned_user_id=identifier(row.get("assigned_user_id")),
        display_name=normalise.text(row.get("full_name")),
        avatar=normalise.text(row.get("avatar")),
        phone=normalise.text(row.get("phone")),
        avatars=normalise.addresses(row.get("avatars")),
        gender=gender if gender is None or gender.__class__ in (str, int) else "unknown",
        state=state if state in ("follow", "unfollow") else None,
        has_conversation=normalise.truth(row.get("has_conversation")),
        shared_info=(
            _SharedInfo(**{name: normalise.text(shared.get(name)) for name in _SharedInfo.__struct_fields__})
            if isinstance(shared, dict)
            else None
        ),
        tags=(
            _TagsAndNotes(normalise.texts(extra.get("notes")), normalise.texts(extra.get("tag_names")))
            if isinstance(extra, dict)
            else None
        ),
        created_at=normalise.instant(row.get("created_at")),
        updated_at=normalise.instant(row.get("updated_at")),
    )
    _mend_ids([typed], where)
    return _follower(typed)


def _refuse(where: str, what: str) -> NoReturn:
    raise BadResponseError(
        f"{where} answered with {what} (PROVIDERS 1.3, 1.4); the job stops rather than lose followers. "
        "Report it to eTelecom",
        http_status=200,
    )
