"""eSMS `ZNS/GetFollowers` and its successor `QueryListUID` (PROVIDERS 2)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import NamedTuple

import httpx
import msgspec
from structlog import get_logger

from schemas.commands import FetchEsmsFollowers, FetchFollowers
from schemas.follower import Follower
from worker.core.account import EsmsAccount
from worker.core.errors import (
    FetchFailure,
    InternalError,
    InvalidCommandError,
    UnsupportedError,
)
from worker.core.ports.provider import Offsets, Order, ProviderPage
from worker.providers.esms.dates import days, written
from worker.providers.esms.rows import Endpoint, EndpointGoneError, read_answer
from worker.providers.http.client import HttpClient
from worker.providers.http.rotation import with_current

DEFAULT_BASE_URL = "https://rest.esms.vn"
LAST_OFFSET = 9950
"""The highest offset that eSMS and Zalo serve: 10,000 followers at 50 a page (PROVIDERS 2.1, 2.2)."""

_PATHS = {"GetFollowers": "ZNS/GetFollowers/", "QueryListUID": "QueryListUID/"}
_log = get_logger()


class _Place(NamedTuple):
    """What a cursor says."""

    offset: int
    days: tuple[date, date] | None
    """First and last day, where the cursor names them; else they are the command's."""


class EsmsClient:
    """One eSMS account; implements the core's ProviderClient."""

    def __init__(self, account: EsmsAccount, http: HttpClient, now: Callable[[], datetime]) -> None:
        """`account`: where, with which keys and endpoint; `http` is closed with this; `now` is aware."""
        self._account = account
        self._http = http
        self._now = now
        self._gone = False
        base = account.base_url.rstrip("/") + "/MainService.svc/json/"
        self._urls = {name: httpx.URL(base + path) for name, path in _PATHS.items()}

    def check(self, command: FetchFollowers) -> None:
        """Raise UnsupportedError for a filter that `endpoint` can't do, InvalidCommandError for its dates."""
        own = _own(command)
        given = _given(own)
        if given and self._account.endpoint == "GetFollowers":
            raise UnsupportedError(
                f"filter.{given[0]} needs eSMS's QueryListUID, but accounts.{self._account.name}.endpoint is "
                'GetFollowers: set it to "auto" or leave the filter out',
                requests=0,
            )
        if own.filter is not None:
            days(own.filter, self._now())

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """Return the page at the offset `cursor`; see ProviderClient.fetch."""
        own = _own(command)
        self.check(own)
        place = _place(cursor)
        secrets = (self._account.api_key, self._account.secret_key)
        return await with_current(self._account.name, secrets, lambda keys: self._from_either(own, place, keys))

    def order(self, command: FetchFollowers) -> Order:
        """Unknown: eSMS doesn't say (PROVIDERS 2.6)."""
        return "unknown"

    def offsets(self, command: FetchFollowers) -> Offsets:
        """Return rows and the ceiling, and the command's days where QueryListUID may be asked (PROVIDERS 2.1)."""
        own = _own(command)
        by_days = self._account.endpoint != "GetFollowers"
        return Offsets(count=_count(own), last=LAST_OFFSET, days=days(own.filter, self._now()) if by_days else None)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _from_either(self, command: FetchEsmsFollowers, place: _Place, keys: Sequence[str]) -> ProviderPage:
        chosen = self._account.endpoint
        if place.days and chosen == "GetFollowers":
            raise UnsupportedError(
                f"reading by days needs eSMS's QueryListUID, but accounts.{self._account.name}.endpoint is "
                'GetFollowers: set it to "auto", or start the job anew under another id',
                requests=0,
            )
        if chosen == "auto" and (self._gone or place.days or _given(command)):
            chosen = "QueryListUID"
        if chosen != "auto":
            return await self._page(chosen, command, place, keys)
        try:
            return await self._page("GetFollowers", command, place, keys)
        except EndpointGoneError as gone:
            spent, status = gone.requests, gone.http_status
        try:
            page = await self._page("QueryListUID", command, place, keys)
        except FetchFailure as error:
            error.requests += spent
            # Only an answer of the API proves that the other endpoint is gone, and not the whole address.
            if error.provider_code is not None:
                self._remember_gone(status)
            raise
        self._remember_gone(status)
        return replace(page, requests=page.requests + spent)

    def _remember_gone(self, status: int | None) -> None:
        if not self._gone:  # several requests at once find out; one line says so
            self._gone = True
            _log.warning(
                "provider.endpoint_gone",
                account=self._account.name, endpoint="GetFollowers", status=status, instead="QueryListUID",
            )  # fmt: skip

    async def _page(
        self, endpoint: Endpoint, command: FetchEsmsFollowers, place: _Place, keys: Sequence[str]
    ) -> ProviderPage:
        url = self._urls[endpoint]
        where = f"eSMS {endpoint} at {url.host}"
        answer = await self._http.post(url, self._body(endpoint, command, place, keys))
        hidden = [*keys, (command.filter and command.filter.tag) or ""]
        user_ids, total = read_answer(answer, endpoint, self._account.name, where, hidden)
        return listed(user_ids, total)

    def _body(self, endpoint: Endpoint, command: FetchEsmsFollowers, place: _Place, keys: Sequence[str]) -> bytes:
        # The page size is `Count`, though one table of the docs says Limit (PROVIDERS 2.2).
        body: dict[str, str | int] = {
            "ApiKey": keys[0],
            "SecretKey": keys[1],
            "OAID": command.oa_id,
            "Offset": place.offset,
            "Count": _count(command),
        }
        if endpoint == "QueryListUID":
            wanted = command.filter
            first, last = place.days or days(wanted, self._now())
            body["FromDate"], body["ToDate"] = written(first), written(last)
            # Without a state it lists all who ever wrote to the OA; the command is for its followers, as
            # GetFollowers gives them, so both endpoints answer the same question.
            body["IsFollower"] = "0" if wanted is not None and wanted.state == "unfollow" else "1"
            if wanted is not None and wanted.tag is not None:
                body["TagName"] = wanted.tag
        return msgspec.json.encode(body)


def _own(command: FetchFollowers) -> FetchEsmsFollowers:
    if not isinstance(command, FetchEsmsFollowers):
        raise InvalidCommandError("an eSMS account was given an eTelecom command: name an account of that provider")
    return command


def _count(command: FetchEsmsFollowers) -> int:
    return max(2, command.page_size)  # a request's last row has to be another one than its first


def _given(command: FetchEsmsFollowers) -> list[str]:
    return list(msgspec.to_builtins(command.filter)) if command.filter is not None else []


def _place(cursor: str | None) -> _Place:
    span, _, number = (cursor or "0").rpartition("@")
    try:
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise ValueError("no number")
        if not span:
            return _Place(int(number), None)
        first, _, last = span.partition("/")
        return _Place(int(number), (date.fromisoformat(first), date.fromisoformat(last)))
    except ValueError as error:
        raise InternalError(
            "a cursor of eSMS must be an offset in digits, after days where it has any; start the job anew under "
            "another id",
            requests=0,
        ) from error


def listed(user_ids: list[str], total: int | None) -> ProviderPage:
    """Return an answer as it is: where the list goes on and ends is the reader's to find out (PROVIDERS 2.6)."""
    followers = [Follower(user_id=id) for id in user_ids]
    return ProviderPage(followers=followers, next_cursor=None, total=total, ids_alone=True)
