"""eSMS's `ZNS/GetFollowers` and `QueryListUID`, as PROVIDERS section 2 describes them."""

import asyncio
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from worker.providers.esms.simulator_config import EsmsConfig
from worker.simulators.data import People, vietnam_day
from worker.simulators.exchange import Answer, Call
from worker.simulators.listing import Listing
from worker.simulators.server import Server

_ROOT = "/MainService.svc/json/"
_GET_FOLLOWERS = f"{_ROOT}ZNS/GetFollowers/"
_QUERY_LIST_UID = f"{_ROOT}QueryListUID/"
_LIST_OAS = f"{_ROOT}ZNS/GetListZOA/"
_DAY = 86_400_000_000
_MESSAGES = {
    "101": "Authorize Failed",
    "140": "IP is not allowed",
    "143": "Account is locked",
    "160": "TPS limit exceeded",
    "204": "OAID is not exist",
    "791": "OAID is required",
    "799": "OAID is invalid",
}
_ERROR_PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"""


class EsmsSimulator(Server):
    """Answers under `url` + `/MainService.svc/json/`. Paths must end in the documented slash."""

    config: EsmsConfig
    list_path = ("Followers",)

    def __init__(self, config: EsmsConfig | None = None) -> None:
        super().__init__(config or EsmsConfig())
        self._windows: dict[tuple[object, ...], Sequence[int]] = {}

    def ids(self, oa_id: str, *, state: str | None = None) -> list[str]:
        """User ids in the order served: followers (`None`, `follow`), others (`unfollow`) or `all`."""
        people = self.listing(oa_id).people
        chosen = {None: "1", "follow": "1", "unfollow": "0", "all": ""}[state]
        return [str(people.user_id(index)) for index in self._ordered(self._everybody(oa_id, chosen))]

    def rows(self, oa_id: str, *, state: str | None = None) -> list[dict[str, Any]]:
        """The rows as GetFollowers sends them: nothing but an id."""
        return [{self.config.user_key: user_id} for user_id in self.ids(oa_id, state=state)]

    def make_listing(self, oa_id: str, count: int) -> Listing:
        people = People(
            self.config.seed, oa_id, count,
            unfollowed_every=self.config.unfollowed_every, per_day=self.config.per_day.get(oa_id, ()),
        )  # fmt: skip
        return Listing(people, count)

    def identify(self, call: Call) -> None:
        call.endpoint = call.path.rstrip("/").rpartition("/")[2]
        if isinstance(call.body, dict):
            call.oa_id = str(call.body.get("OAID") or "")

    def is_list(self, call: Call) -> bool:
        return call.path in (_GET_FOLLOWERS, _QUERY_LIST_UID)

    def list_path_of(self, call: Call) -> tuple[str, ...]:
        return ("Data", "Users") if call.path == _QUERY_LIST_UID else self.list_path

    def failure(self, code: str, message: str) -> Answer:
        return self._result(code, {"ErrorMessage": message or _MESSAGES.get(code, "Error")})

    async def looped(self, call: Call, answer: Answer) -> Answer:
        assert isinstance(call.body, dict)
        return await self._list(call, {**call.body, "Offset": 0})

    async def answer(self, call: Call) -> Answer:
        answer = await self._respond(call)
        if not call.cookie:
            cookie = f"ASP.NET_SessionId=simulated{call.number}; path=/; HttpOnly"
            answer.headers = {**answer.headers, "Set-Cookie": cookie}
        return answer

    async def _respond(self, call: Call) -> Answer:
        gone = self.config.get_followers_gone and call.path == _GET_FOLLOWERS
        if gone or call.path not in (_GET_FOLLOWERS, _QUERY_LIST_UID, _LIST_OAS):
            return _page(404, "Service", "Endpoint not found.")
        if call.method != "POST":
            return _page(405, "Service", "Method not allowed.")
        if call.content_type.partition(";")[0].strip().lower() not in ("application/json", "text/json"):
            return _request_error()
        if not isinstance(call.body, dict):
            return _request_error()
        return self._list_oas(call.body, call) if call.path == _LIST_OAS else await self._list(call, call.body)

    async def _list(self, call: Call, body: Mapping[str, object]) -> Answer:
        if refused := self._refused(body, call):
            return refused
        if call.path == _QUERY_LIST_UID:
            return await self._query_list_uid(body)
        return self._get_followers(body)

    def _refused(self, body: Mapping[str, object], call: Call) -> Answer | None:
        given = (body.get("ApiKey"), body.get("SecretKey"))
        call.auth = "ok" if given == (self.config.api_key, self.config.secret_key) else "unknown"
        if call.auth != "ok":
            return self.failure("101", "")
        if call.path == _LIST_OAS:
            return None
        if not call.oa_id:
            return self.failure("791", "")
        return None if call.oa_id in self.listings else self.failure(self.config.unknown_oa_code, "")

    def _get_followers(self, body: Mapping[str, object]) -> Answer:
        offset, count = _whole(body.get("Offset")), _whole(body.get("Count"))
        if offset is None or count is None:
            return _request_error()  # xs:int in the model (PROVIDERS 2.2), so WCF itself refuses what does not parse
        if offset < 0 or count < 1:
            return self.failure("162", f"{'Offset' if offset < 0 else 'Count'} is invalid.")
        oa_id = str(body["OAID"])
        everybody = self._everybody(oa_id, "1")
        users = self._page(oa_id, everybody, offset, min(count, 50))
        followers = [{self.config.user_key: user} for user in users]
        total = self._total(len(everybody))
        rest = {"ErrorMessage": "success", "Followers": followers, "Total": total}
        return self._result("100", rest, len(users))

    async def _query_list_uid(self, body: Mapping[str, object]) -> Answer:
        window: list[int] = []
        for name in ("FromDate", "ToDate"):
            try:
                window.append(_day(body.get(name)))
            except ValueError:
                return self.failure("161", f"{name} is invalid date format.")
        offset, count = _whole(body.get("Offset")), _whole(body.get("Count"))
        if offset is None or not 0 <= offset <= self.config.ceiling - 50:
            return self.failure("162", "Offset is invalid.")
        if count is None or not 1 <= count <= 50:
            return self.failure("162", "Count is invalid.")
        oa_id, follower = str(body["OAID"]), str(body.get("IsFollower") or "")
        chosen = await self._window(oa_id, follower, window[0], window[1] + _DAY, str(body.get("TagName") or ""))
        users = self._page(oa_id, chosen, offset, count)
        data = {"Count": len(users), "Offset": offset, "Total": self._total(len(chosen)), "Users": users}
        return self._result("100", {"Data": data}, len(users))

    def _list_oas(self, body: Mapping[str, object], call: Call) -> Answer:
        if refused := self._refused(body, call):
            return refused
        oas = [{"OAID": oa_id, "OAName": f"OA {oa_id[-4:]}"} for oa_id in self.listings]
        return self._result("100", {"ErrorMessage": "success", "ZOAList": oas})

    def _everybody(self, oa_id: str, follower: str) -> Sequence[int]:
        listing = self.listing(oa_id)
        if follower == "1":
            return listing.followed()
        if follower == "0":
            return [index for index in range(listing.count) if listing.state(index) != "follow"]
        return range(listing.count)

    async def _window(self, oa_id: str, follower: str, start: int, end: int, tag: str) -> Sequence[int]:
        key = (oa_id, self.listings[oa_id].version, follower, start, end, tag)
        if key not in self._windows:
            chosen = await self._select(self.listings[oa_id], follower, start, end, tag)
            if len(self._windows) >= 8:
                self._windows.clear()
            self._windows[key] = chosen
        return self._windows[key]

    async def _select(self, listing: Listing, follower: str, start: int, end: int, tag: str) -> Sequence[int]:
        people = listing.people
        everybody = listing.followed() if follower == "1" else range(listing.count)
        first = bisect_left(everybody, start, key=people.created)
        chosen: Sequence[int] = everybody[first : bisect_left(everybody, end, key=people.created)]
        if follower == "0":
            chosen = await _sift(chosen, lambda index: listing.state(index) != "follow")
        return await _sift(chosen, lambda index: tag in people.tags(index)) if tag else chosen

    def _ordered(self, everybody: Sequence[int]) -> Sequence[int]:
        return everybody[::-1] if self.config.order == "newest" else everybody

    def _page(self, oa_id: str, chosen: Sequence[int], offset: int, count: int) -> list[str]:
        end = min(offset + count, self.config.ceiling, len(chosen))
        if self.config.order == "newest":
            page = chosen[max(len(chosen) - end, 0) : max(len(chosen) - offset, 0)][::-1]
        else:
            page = chosen[offset:end]
        people = self.listings[oa_id].people
        return [str(people.user_id(index)) for index in page]

    def _total(self, total: int) -> int | str:
        if drift := self.config.total_drift:
            total = max(0, total + self._dice.randint(-drift, drift))
        return str(total) if self.config.total_as_text else total

    def _result(self, code: str, rest: Mapping[str, object], rows: int = 0) -> Answer:
        written = int(code) if self.config.code_as_number and code.isdecimal() else code
        body = msgspec.json.encode({self.config.code_key: written, **rest})
        return Answer(body=body, content_type="application/json; charset=utf-8", code=code, rows=rows)


async def _sift(indexes: Sequence[int], keep: Callable[[int], bool]) -> list[int]:
    kept: list[int] = []
    for start in range(0, len(indexes), 5000):
        kept += filter(keep, indexes[start : start + 5000])
        await asyncio.sleep(0)  # a long list must not hold up the event loop
    return kept


def _whole(value: object) -> int | None:
    """A number as .NET reads it for an int: absent is 0, quoted is fine, else None."""
    if value is None:
        return 0
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _day(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{2}/[0-9]{2}/[0-9]{4}", value):
        raise ValueError("not dd/MM/yyyy")
    day, month, year = value.split("/")
    return vietnam_day(int(year), int(month), int(day))


def _page(status: int, title: str, text: str) -> Answer:
    headers = {"Allow": "POST"} if status == 405 else {}
    body = _ERROR_PAGE.format(title=title, text=text).encode()
    return Answer(status=status, body=body, content_type="text/html; charset=UTF-8", headers=headers)


def _request_error() -> Answer:
    return _page(400, "Request Error", "The server encountered an error processing the request.")
