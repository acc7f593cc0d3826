"""eSMS `ZNS/GetFollowers` and its successor `QueryListUID` (PROVIDERS 2)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

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
from worker.core.ports import ProviderPage
from worker.providers.credentials import with_current
from worker.providers.esms_answers import Endpoint, EndpointGoneError, read_answer
from worker.providers.esms_filter import days
from worker.providers.http import HttpClient

DEFAULT_BASE_URL = "https://rest.esms.vn"
LAST_OFFSET = 9950
"""The highest offset that eSMS and Zalo serve: 10,000 followers at 50 a page (PROVIDERS 2.1, 2.2)."""

_PATHS = {"GetFollowers": "ZNS/GetFollowers/", "QueryListUID": "QueryListUID/"}
_log = get_logger()


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

    def moves(self, command: FetchFollowers) -> bool:
        """Always: offsets over a living list shift with each follow and unfollow (PROVIDERS 2.6)."""
        return True

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """Return the page at the offset `cursor`; see ProviderClient.fetch."""
        own = _own(command)
        self.check(own)
        offset = _offset(cursor)
        secrets = (self._account.api_key, self._account.secret_key)
        return await with_current(self._account.name, secrets, lambda keys: self._from_either(own, offset, keys))

    def read_ahead(self, command: FetchFollowers, page: ProviderPage, count: int) -> list[str]:
        """Return the offsets that follow, a page's size apart, as far as the total and eSMS's ceiling reach.

        Only the next one where the total isn't known. A short page moves the offsets after it: use a page
        read ahead only if its cursor is the `next_cursor` of the page before it.
        """
        if page.next_cursor is None or count <= 0:
            return []
        first, size = _offset(page.next_cursor), _own(command).page_size
        if page.total is None:
            return [page.next_cursor]
        end = min(page.total, LAST_OFFSET + 1)
        return [str(first), *(str(offset) for offset in range(first + size, end, size))][:count]

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _from_either(self, command: FetchEsmsFollowers, offset: int, keys: Sequence[str]) -> ProviderPage:
        chosen = self._account.endpoint
        if chosen == "auto" and (self._gone or _given(command)):
            chosen = "QueryListUID"
        if chosen != "auto":
            return await self._page(chosen, command, offset, keys)
        try:
            return await self._page("GetFollowers", command, offset, keys)
        except EndpointGoneError as gone:
            spent, status = gone.requests, gone.http_status
        try:
            page = await self._page("QueryListUID", command, offset, keys)
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
        self, endpoint: Endpoint, command: FetchEsmsFollowers, offset: int, keys: Sequence[str]
    ) -> ProviderPage:
        url = self._urls[endpoint]
        where = f"eSMS {endpoint} at {url.host}"
        answer = await self._http.post(url, self._body(endpoint, command, offset, keys))
        user_ids, total = read_answer(answer, endpoint, self._account.name, where, keys)
        return paged(user_ids, total, offset, command.page_size)

    def _body(self, endpoint: Endpoint, command: FetchEsmsFollowers, offset: int, keys: Sequence[str]) -> bytes:
        # The page size is `Count`, though one table of the docs says Limit (PROVIDERS 2.2).
        body: dict[str, str | int] = {
            "ApiKey": keys[0],
            "SecretKey": keys[1],
            "OAID": command.oa_id,
            "Offset": offset,
            "Count": command.page_size,
        }
        if endpoint == "QueryListUID":
            wanted = command.filter
            body["FromDate"], body["ToDate"] = days(wanted, self._now())
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


def _given(command: FetchEsmsFollowers) -> list[str]:
    return list(msgspec.to_builtins(command.filter)) if command.filter is not None else []


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
        raise InternalError(
            "a cursor of eSMS must be an offset in digits; start the job anew under another id", requests=0
        )
    return int(cursor)


def paged(user_ids: list[str], total: int | None, offset: int, page_size: int) -> ProviderPage:
    """Decide where the list goes on: up to an empty page, the total, or the ceiling (PROVIDERS 2.6)."""
    followers = [Follower(user_id=user_id) for user_id in user_ids]
    after = offset + len(user_ids)
    full = len(user_ids) >= page_size
    # A total below what was just read is no end: a full page says that there may be more.
    ended = not user_ids or (total is not None and (after == total or (after > total and not full)))
    if ended:
        return ProviderPage(followers=followers, next_cursor=None, total=total)
    if after > LAST_OFFSET:
        capped = full if total is None else after < total
        return ProviderPage(followers=followers, next_cursor=None, total=total, capped=capped)
    return ProviderPage(followers=followers, next_cursor=str(after), total=total)
