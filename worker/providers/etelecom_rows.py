"""eTelecom's rows in, followers out: typed where they are as documented, else loosely (PROVIDERS 1.3)."""

from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.follower import Follower, SharedInfo
from schemas.types import Gender
from worker.core.errors import BadResponseError
from worker.core.ports import ProviderPage
from worker.providers import normalise
from worker.providers.normalise import nfc, phone
from worker.providers.refusals import decode, wrong_shape

_LONGEST_CURSOR = 2048
_NO_PHONE = (None, None)
_GENDERS: dict[object, Gender | None] = {
    None: None, "": None, "unknown": "unknown", "male": "male", "female": "female", "other": "other",
    0: "unknown", 1: "male", 2: "female", 3: "other",
}  # fmt: skip


class _SharedInfo(Struct, gc=False):
    name: str | None = None
    phone: str | int | None = None
    address: str | None = None
    ward: str | None = None
    district: str | None = None
    city: str | None = None


class _TagsAndNotes(Struct, gc=False):
    notes: list[str] | None = None
    tag_names: list[str] | None = None


class _Row(Struct, gc=False):
    """A follower in the documented types (PROVIDERS 1.3)."""

    zl_user_id: str
    id: str | None = None
    shop_id: str | None = None
    zl_user_id_by_app: str | None = None
    assigned_user_id: str | None = None
    full_name: str | None = None
    avatar: str | None = None
    avatars: dict[str, str] | None = None
    gender: str | int | None = None
    phone: str | int | None = None
    state: Literal["follow", "unfollow", "unknown", ""] | None = None
    has_conversation: bool | None = None
    shared_info: _SharedInfo | None = None
    tags_and_notes_info: _TagsAndNotes | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class _Paging(Struct, gc=False):
    next: str | None = None


class _Page(Struct, gc=False):
    followers: list[_Row] | UnsetType | None = UNSET
    paging: _Paging | None = None


class _LoosePage(Struct):
    """The same with rows of any shape, for what the documented types refuse (a bare id, `""` for a time)."""

    followers: list[msgspec.Raw] | UnsetType | None = UNSET
    paging: _Paging | None = None


_page = msgspec.json.Decoder(_Page)
_loose_page = msgspec.json.Decoder(_LoosePage)
_row = msgspec.json.Decoder(_Row)
_loose_row = msgspec.json.Decoder(dict[str, Any])


def read_page(body: bytes, where: str, *, steady: bool = False) -> ProviderPage:
    try:
        page: _Page | _LoosePage = decode(_page, body, where)
    except msgspec.ValidationError:
        try:
            page = decode(_loose_page, body, where)
        except msgspec.ValidationError as error:
            raise wrong_shape(error, where) from error
    rows = page.followers
    more = page.paging.next if page.paging is not None else None
    if rows is UNSET:
        _refuse(where, "no list of followers")
    if not rows:
        # An empty Go slice may be written as null; that with a next page is a contradiction.
        if rows is None and more:
            _refuse(where, "null instead of a list of followers, and a next page")
        return ProviderPage(followers=(), next_cursor=None, steady=steady)
    if page.paging is None:
        _refuse(where, "followers without paging, so nobody knows whether the list goes on")
    if more and len(more) > _LONGEST_CURSOR:
        _refuse(where, f"a cursor of more than {_LONGEST_CURSOR} characters")
    if isinstance(page, _Page):
        followers = [_follower(row, where) for row in rows]  # type: ignore[arg-type]
    else:
        followers = [_any_follower(row, where) for row in rows]  # type: ignore[arg-type]
    return ProviderPage(followers=followers, next_cursor=more or None, steady=steady)


def _follower(row: _Row, where: str) -> Follower:
    """The hot path, a hundred times a page: what is absent or plain costs no call."""
    user_id, by_app, own = row.zl_user_id, row.zl_user_id_by_app, row.id
    shop, assigned, name, avatars, state = (
        row.shop_id,
        row.assigned_user_id,
        row.full_name,
        row.avatars,
        row.state,
    )
    number, shared, extra = row.phone, row.shared_info, row.tags_and_notes_info
    created, updated = row.created_at, row.updated_at
    if not user_id or user_id == "0":
        _refuse(where, "a follower without zl_user_id")
    if avatars and "" in avatars.values():
        avatars = normalise.addresses(avatars)
    # Most times are in UTC already, and after 1970: nothing to do.
    if created is not None and (created.tzinfo is not UTC or created.year <= 1970):
        created = normalise.instant(created)
    if updated is not None and (updated.tzinfo is not UTC or updated.year <= 1970):
        updated = normalise.instant(updated)
    e164, raw = phone(number) if number else _NO_PHONE
    return Follower(
        user_id=user_id,
        user_id_by_app=by_app if by_app and by_app != "0" else None,
        provider_id=own if own and own != "0" else None,
        shop_id=shop if shop and shop != "0" else None,
        display_name=nfc(name) if name else None,
        avatar=row.avatar or None,
        avatars=avatars or {},
        gender=_GENDERS.get(row.gender, "unknown"),
        state=state if state == "follow" or state == "unfollow" else None,
        phone=e164,
        phone_raw=raw,
        shared_info=None if shared is None else _shared_info(shared, number, e164 or raw),
        tags=[] if extra is None or not extra.tag_names else _nfc(extra.tag_names),
        notes=[] if extra is None or not extra.notes else _nfc(extra.notes),
        assigned_user_id=assigned if assigned and assigned != "0" else None,
        has_conversation=row.has_conversation,
        created_at=created,
        updated_at=updated,
    )


def _nfc(given: list[str]) -> list[str]:
    return [nfc(item) for item in given if item]


def _shared_info(info: _SharedInfo, phone_of_row: str | int | None, normal: str | None) -> SharedInfo | None:
    """Return what is shared; `normal` is what became of the row's own phone, which people mostly share."""
    number = normal
    if info.phone != phone_of_row:
        e164, raw = phone(info.phone) if info.phone else _NO_PHONE
        number = e164 or raw
    name, address, ward, district, city = info.name, info.address, info.ward, info.district, info.city
    if not (number or name or address or ward or district or city):
        return None
    return SharedInfo(
        name=nfc(name) if name else None,
        phone=number,
        address=nfc(address) if address else None,
        ward=nfc(ward) if ward else None,
        district=nfc(district) if district else None,
        city=nfc(city) if city else None,
    )


def _any_follower(raw: msgspec.Raw, where: str) -> Follower:
    """Read a row of any shape: bring it into the documented types, drop what can't be brought there."""
    try:
        return _follower(_row.decode(raw), where)
    except msgspec.ValidationError:
        pass
    try:
        row = _loose_row.decode(raw)
    except msgspec.ValidationError as error:
        raise wrong_shape(error, where) from error
    shared, extra, state = row.get("shared_info"), row.get("tags_and_notes_info"), row.get("state")
    gender = row.get("gender")
    return _follower(
        _Row(
            zl_user_id=normalise.identifier(row.get("zl_user_id")) or "",
            **{name: normalise.identifier(row.get(name)) for name in _IDS},
            **{name: normalise.text(row.get(name)) for name in ("full_name", "avatar", "phone")},
            avatars=normalise.addresses(row.get("avatars")),
            gender=gender if gender is None or isinstance(gender, str | int) else "unknown",
            state=state if state in ("follow", "unfollow") else None,
            has_conversation=normalise.truth(row.get("has_conversation")),
            shared_info=(
                _SharedInfo(**{name: normalise.text(shared.get(name)) for name in _SharedInfo.__struct_fields__})
                if isinstance(shared, dict)
                else None
            ),
            tags_and_notes_info=(
                _TagsAndNotes(normalise.texts(extra.get("notes")), normalise.texts(extra.get("tag_names")))
                if isinstance(extra, dict)
                else None
            ),
            created_at=normalise.instant(row.get("created_at")),
            updated_at=normalise.instant(row.get("updated_at")),
        ),
        where,
    )


_IDS = ("id", "shop_id", "zl_user_id_by_app", "assigned_user_id")


def _refuse(where: str, what: str) -> NoReturn:
    raise BadResponseError(
        f"{where} answered with {what} (PROVIDERS 1.3, 1.4); the job stops rather than lose followers. "
        "Report it to eTelecom",
        http_status=200,
    )
