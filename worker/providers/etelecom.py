"""eTelecom `Zalo/ListFollowers`, with a Shop or a Partner key (PROVIDERS 1)."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import httpx
import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.commands import FetchEtelecomFollowers, FetchFollowers
from schemas.follower import Follower, SharedInfo
from schemas.types import FollowState, Gender
from worker.core.account import EtelecomAccount
from worker.core.errors import BadResponseError, InvalidCommandError, UnauthorizedError
from worker.core.ports import ProviderPage
from worker.providers import normalise
from worker.providers.credentials import with_current
from worker.providers.etelecom_errors import failure
from worker.providers.http import HttpClient
from worker.providers.refusals import decode, wrong_shape

DEFAULT_BASE_URL = "https://api.etelecom.vn/v1/shop"

_UNMOVING_SORTS = (None, "created_at", "-created_at")
_LONGEST_CURSOR = 2048
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_GENDERS: dict[object, Gender] = {
    "unknown": "unknown", "male": "male", "female": "female", "other": "other",
    0: "unknown", 1: "male", 2: "female", 3: "other",
}  # fmt: skip
_STATES: dict[object, FollowState] = {"follow": "follow", "unfollow": "unfollow"}


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
    """A follower in the documented types (PROVIDERS 1.3); int64 are text or bare."""

    zl_user_id: str | int
    id: str | int | None = None
    shop_id: str | int | None = None
    zl_user_id_by_app: str | int | None = None
    assigned_user_id: str | int | None = None
    full_name: str | None = None
    avatar: str | None = None
    avatars: dict[str, str] | None = None
    gender: str | int | None = None
    phone: str | int | None = None
    state: str | int | None = None
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
    """The same with rows of any shape, for what the documented types refuse (`""` for a time, and so on)."""

    followers: list[dict[str, Any]] | UnsetType | None = UNSET
    paging: _Paging | None = None


_page = msgspec.json.Decoder(_Page)
_loose_page = msgspec.json.Decoder(_LoosePage)


class EtelecomClient:
    """One eTelecom account; implements the core's ProviderClient."""

    def __init__(self, account: EtelecomAccount, http: HttpClient) -> None:
        """`account` says where and with which key; `http` is this client's own and is closed with it."""
        self._account = account
        self._http = http
        self._url = httpx.URL(account.base_url.rstrip("/") + ".Zalo/ListFollowers")
        self._where = f"eTelecom at {self._url.host}"

    def check(self, command: FetchFollowers) -> None:
        """Raise InvalidCommandError for another provider's command; its own can all be done."""
        _own(command)

    def moves(self, command: FetchFollowers) -> bool:
        """Say whether rows may shift between pages: under any sort that isn't by creation (PROVIDERS 1.4)."""
        return _own(command).sort not in _UNMOVING_SORTS

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """Return the page after `cursor`; see ProviderClient.fetch."""
        body = _body(_own(command), cursor)

        async def attempt(keys: Sequence[str]) -> ProviderPage:
            return await self._attempt(_own(command), cursor, body, keys[0])

        return await with_current(self._account.name, (self._account.api_key,), attempt)

    def read_ahead(self, command: FetchFollowers, page: ProviderPage, count: int) -> list[str]:
        """Return the next cursor, if any: each is known only from the page before."""
        return [page.next_cursor] if page.next_cursor is not None and count > 0 else []

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _attempt(
        self, command: FetchEtelecomFollowers, cursor: str | None, body: bytes, key: str
    ) -> ProviderPage:
        if not _HEADER_SAFE.fullmatch(key):
            raise UnauthorizedError(
                f"accounts.{self._account.name}.api_key is empty or holds blanks or signs that no key has: "
                "put the key alone into it",
                requests=0,
            )
        answer = await self._http.post(self._url, body, {"Authorization": f"Bearer {key}"})
        if answer.status != 200:
            raise failure(answer, command, cursor, self._account.name, self._where, key)
        return _read(answer.body, self._where)


def _own(command: FetchFollowers) -> FetchEtelecomFollowers:
    if not isinstance(command, FetchEtelecomFollowers):
        raise InvalidCommandError(
            "an eTelecom account was given an eSMS command: name an account of that provider"
        )
    return command


def _body(command: FetchEtelecomFollowers, cursor: str | None) -> bytes:
    # The cursor holds neither filter nor sort, so each page says both again (PROVIDERS 1.4).
    wanted: dict[str, Any] = {"oa_id": command.oa_id}
    if command.filter is not None:
        wanted |= msgspec.to_builtins(command.filter)
    paging: dict[str, Any] = {"limit": command.page_size}
    if cursor is not None:
        paging["after"] = cursor
    if command.sort is not None:
        paging["sort"] = command.sort
    return msgspec.json.encode({"filter": wanted, "paging": paging})


def _read(body: bytes, where: str) -> ProviderPage:
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
        return ProviderPage(followers=(), next_cursor=None)
    if page.paging is None:
        _refuse(where, "followers without paging, so nobody knows whether the list goes on")
    if more and len(more) > _LONGEST_CURSOR:
        _refuse(where, f"a cursor of more than {_LONGEST_CURSOR} characters")
    if isinstance(page, _Page):
        followers = [_follower(row, where) for row in rows]  # type: ignore[arg-type]
    else:
        followers = [_loose_follower(row, where) for row in rows]  # type: ignore[arg-type]
    return ProviderPage(followers=followers, next_cursor=more or None)


def _follower(row: _Row, where: str) -> Follower:
    """The hot path, fifty times a page: what is absent or plain ASCII costs no call."""
    user_id = normalise.identifier(row.zl_user_id)
    if user_id is None:
        _refuse(where, "a follower without zl_user_id")
    name, avatar, seen, extra = row.full_name, row.avatar, row.phone, row.tags_and_notes_info
    phone, phone_raw = normalise.phone(seen) if seen else (None, None)
    return Follower(
        user_id=user_id,
        user_id_by_app=normalise.identifier(row.zl_user_id_by_app),
        provider_id=normalise.identifier(row.id),
        shop_id=normalise.identifier(row.shop_id),
        display_name=name if name and name.isascii() else normalise.text(name),
        avatar=avatar if avatar and avatar.isascii() else normalise.text(avatar),
        avatars=normalise.addresses(row.avatars) if row.avatars else {},
        gender=None if row.gender is None else _GENDERS.get(row.gender, "unknown"),
        state=_STATES.get(row.state),
        phone=phone,
        phone_raw=phone_raw,
        shared_info=None if row.shared_info is None else _shared_info(row.shared_info),
        tags=normalise.texts(extra.tag_names) if extra is not None and extra.tag_names else [],
        notes=normalise.texts(extra.notes) if extra is not None and extra.notes else [],
        assigned_user_id=normalise.identifier(row.assigned_user_id),
        has_conversation=row.has_conversation,
        created_at=normalise.instant(row.created_at),
        updated_at=normalise.instant(row.updated_at),
    )


def _shared_info(info: _SharedInfo) -> SharedInfo | None:
    number, raw = normalise.phone(info.phone) if info.phone else (None, None)
    shared = SharedInfo(
        name=normalise.text(info.name),
        phone=number or raw,
        address=normalise.text(info.address),
        ward=normalise.text(info.ward),
        district=normalise.text(info.district),
        city=normalise.text(info.city),
    )
    return None if shared == _NOTHING_SHARED else shared


def _loose_follower(row: dict[str, Any], where: str) -> Follower:
    """Bring the row into the documented types, dropping what can't be brought there, then read it."""
    shared, extra = row.get("shared_info"), row.get("tags_and_notes_info")
    gender = row.get("gender")
    return _follower(
        _Row(
            zl_user_id=normalise.identifier(row.get("zl_user_id")) or "",
            **{name: normalise.identifier(row.get(name)) for name in _IDS},
            **{name: normalise.text(row.get(name)) for name in ("full_name", "avatar", "phone", "state")},
            avatars=normalise.addresses(row.get("avatars")),
            gender=gender if gender is None or isinstance(gender, str | int) else "unknown",
            has_conversation=normalise.truth(row.get("has_conversation")),
            shared_info=(
                _SharedInfo(
                    **{name: normalise.text(shared.get(name)) for name in _SharedInfo.__struct_fields__}
                )
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
_NOTHING_SHARED = SharedInfo()


def _refuse(where: str, what: str) -> NoReturn:
    raise BadResponseError(
        f"{where} answered with {what} (PROVIDERS 1.3, 1.4); the job stops rather than lose followers. "
        "Report it to eTelecom",
        http_status=200,
    )
