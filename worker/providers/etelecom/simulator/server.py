"""eTelecom's `Zalo/ListFollowers` for Shop and Partner keys, as PROVIDERS section 1 describes it."""

import re
from typing import Any

import msgspec

from worker.providers.etelecom.simulator.config import EtelecomConfig
from worker.providers.etelecom.simulator.cursor import Cursor, encode
from worker.providers.etelecom.simulator.fields import lowered
from worker.providers.etelecom.simulator.query import Paging, read_filter, read_paging
from worker.providers.etelecom.simulator.search import Found, find
from worker.providers.etelecom.simulator.twirp import TwirpError, error_answer
from worker.simulators.data import People
from worker.simulators.exchange import Answer, Call
from worker.simulators.listing import Listing
from worker.simulators.server import Server

_ROUTES = {
    f"/v1/{kind}.{method}": kind
    for kind in ("shop", "partner")
    for method in ("Zalo/ListFollowers", "Zalo/ListOA", "Misc/CurrentAccount")
}
_KEY = re.compile(r"(shop)?([0-9]+):[A-Za-z0-9]{16,}")
_CACHED_BYTES = 16_000_000


class EtelecomSimulator(Server):
    """Answers under `/v1/shop` and `/v1/partner`; without `filter.oa_id` all OAs are listed."""

    config: EtelecomConfig
    list_path = ("followers",)

    def __init__(self, config: EtelecomConfig | None = None) -> None:
        """Raises ValueError for an OA id that is not a decimal int64, as eTelecom's are."""
        super().__init__(config or EtelecomConfig())
        if wrong := [oa for oa in self.config.followers if not oa.isdecimal() or int(oa) >= 2**63]:
            raise ValueError(f"EtelecomConfig.followers: OA ids are decimal, below 2^63, not {', '.join(wrong)}")
        self._rows: dict[tuple[str, int, int], bytes] = {}
        self._rows_bytes = 0

    @property
    def shop_url(self) -> str:
        """The base URL for a Shop's key."""
        return f"{self.url}/v1/shop"

    @property
    def partner_url(self) -> str:
        """The base URL for a partner's shop key."""
        return f"{self.url}/v1/partner"

    def ids(self, oa_id: str, *, state: str | None = None) -> list[str]:
        """Zalo user ids, newest first as by default, of all rows or those in one state. Raises KeyError."""
        listing = self.listing(oa_id)
        return [
            str(listing.people.user_id(index))
            for index in range(listing.count - 1, -1, -1)
            if state is None or listing.state(index) == state
        ]

    def rows(self, oa_id: str, *, state: str | None = None) -> list[dict[str, Any]]:
        """The rows as sent, in the default order (newest first). Raises KeyError."""
        listing = self.listing(oa_id)
        rows = (listing.row(index) for index in range(listing.count - 1, -1, -1))
        return [row for row in rows if state is None or row["state"] == state]

    def make_listing(self, oa_id: str, count: int) -> Listing:
        people = People(
            self.config.seed,
            oa_id,
            count,
            notes_padding=self.config.notes_padding,
            unfollowed_every=self.config.unfollowed_every,
            unknown_state_every=self.config.unknown_state_every,
        )
        return Listing(people, count)

    def identify(self, call: Call) -> None:
        call.endpoint = call.path.rpartition("/")[2]
        if isinstance(call.body, dict):
            chosen = lowered(call.body).get("filter")
            oa_id = lowered(chosen).get("oa_id") if isinstance(chosen, dict) else None
            call.oa_id = "" if oa_id is None else str(oa_id)

    def is_list(self, call: Call) -> bool:
        return call.endpoint == "ListFollowers"

    def failure(self, code: str, message: str) -> Answer:
        return error_answer(TwirpError(code, message or "lỗi được giả lập"), self.config.custom_codes)

    async def looped(self, call: Call, answer: Answer) -> Answer:
        document = msgspec.json.decode(answer.body)
        asked = document["paging"]["after"]
        if asked not in ("", "."):
            document["paging"]["next"] = asked
        return Answer(body=msgspec.json.encode(document), rows=answer.rows)

    async def answer(self, call: Call) -> Answer:
        # The order of these checks is observable: bad JSON with a bad key is 400 (PROVIDERS 1.2).
        try:
            if call.method != "POST":
                raise _bad_route(call, f'unsupported method "{call.method}" (only POST is allowed)')
            if call.content_type.partition(";")[0].strip().lower() != "application/json":
                raise _bad_route(call, f'unexpected Content-Type: "{call.content_type}"')
            if call.path not in _ROUTES:
                raise _bad_route(call, f'no handler for path "{call.path}"')
            body = _decode(call.raw)
            self._authenticate(call, _ROUTES[call.path])
            if call.endpoint == "ListFollowers":
                return await self._list_followers(call, body)
            return self._list_oas() if call.endpoint == "ListOA" else _current_account(call)
        except TwirpError as error:
            return error_answer(error, self.config.custom_codes)

    def _authenticate(self, call: Call, kind: str) -> None:
        scheme, _, key = call.authorization.partition(" ")
        if scheme != "Bearer" or not key.strip():
            call.auth = "missing"
            raise TwirpError("unauthenticated", "Yêu cầu chưa được xác thực")
        known = self.config.shop_keys if kind == "shop" else self.config.partner_keys
        if key in known:
            call.auth = "ok"
            return
        shape = _KEY.fullmatch(key)
        if shape and bool(shape[1]) != (kind == "partner"):
            call.auth = "wrong_type"
            raise TwirpError("unauthenticated", "api_key không hợp lệ", reason="wrong key type")
        call.auth = "unknown" if shape else "malformed"
        if shape and kind == "partner":
            raise TwirpError("permission_denied", "Không có quyền truy cập cửa hàng này")
        raise TwirpError("unauthenticated", "api_key không hợp lệ")

    async def _list_followers(self, call: Call, body: dict[str, object]) -> Answer:
        chosen = read_filter(body, require_both_dates=self.config.require_both_dates)
        paging = read_paging(body, self.config.sorts)
        if chosen.oa_id and str(chosen.oa_id) not in self.listings:
            raise TwirpError("not_found", "Không tìm thấy Zalo OA", reason="oa_id")
        listings = [self.listings[str(chosen.oa_id)]] if chosen.oa_id else list(self.listings.values())
        found = await find(listings, chosen, paging)
        nonce = call.number if self.config.cursor_nonce else None
        echo = {
            "before": paging.before,
            "after": paging.after,
            "limit": paging.limit,
            "sort": paging.sort,
            "next": _cursor(found[-1], paging, nonce) if found else "",
            "prev": _cursor(found[0], paging, nonce) if found else "",
        }
        rows = b",".join([self._encoded(listing, index) for listing, index in found])
        page = b'{"followers":[%b],"paging":%b}' % (rows, msgspec.json.encode(echo))
        return Answer(body=page, rows=len(found))

    def _encoded(self, listing: Listing, index: int) -> bytes:
        key = (listing.people.oa_id, listing.version, index)
        row = self._rows.get(key)
        if row is None:
            if self._rows_bytes > _CACHED_BYTES:
                self._rows.clear()
                self._rows_bytes = 0
            row = self._rows[key] = msgspec.json.encode(listing.row(index))
            self._rows_bytes += len(row)
        return row

    def _list_oas(self) -> Answer:
        # Only `expires_at` and the status letters are known of this answer (PROVIDERS 3).
        oas = [
            {
                "id": str(number),
                "oa_id": oa_id,
                "name": f"OA {oa_id[-4:]}",
                "status": "P",
                "expires_at": "2030-01-01T00:00:00Z",
            }
            for number, oa_id in enumerate(self.listings, 1_160_000_000_000_000_001)
        ]
        return Answer(body=msgspec.json.encode({"oas": oas}))


def _current_account(call: Call) -> Answer:
    # The real answer's fields are not documented (PROVIDERS 1.1): only that it is a 200 for a good key.
    account = call.authorization.removeprefix("Bearer ").partition(":")[0]
    return Answer(body=msgspec.json.encode({"id": account.removeprefix("shop"), "name": "Tài khoản giả lập"}))


def _bad_route(call: Call, message: str) -> TwirpError:
    return TwirpError("bad_route", message, invalid_route=f"{call.method} {call.path}")


def _decode(raw: bytes) -> dict[str, object]:
    cause = "unexpected end of JSON input"
    try:
        body = msgspec.json.decode(raw)
        if body is None or isinstance(body, dict):
            return lowered(body or {})
        cause = "cannot unmarshal the value into a Go struct"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        cause = str(error) or cause
    raise TwirpError("malformed", "the json request could not be decoded", cause=cause)


def _cursor(found: Found, paging: Paging, nonce: int | None) -> str:
    listing, index = found
    value, row_id = listing.place(paging.field, index)
    items = (("id", row_id),) if paging.field == "id" else ((paging.field, value), ("id", row_id))
    return encode(Cursor(items, paging.descending, nonce))
