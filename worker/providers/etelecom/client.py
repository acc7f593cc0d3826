"""eTelecom `Zalo/ListFollowers`, with a Shop or a Partner key (PROVIDERS 1)."""

import re
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from schemas.commands import FetchEtelecomFollowers, FetchFollowers
from worker.core.account import EtelecomAccount
from worker.core.errors import InvalidCommandError, ProviderUnavailableError, UnauthorizedError
from worker.core.ports.provider import Offsets, Order, ProviderPage
from worker.providers.etelecom.errors import NotToBeRepeated, failure, refusal_in
from worker.providers.etelecom.rows import read_page
from worker.providers.http.client import HttpClient
from worker.providers.http.rotation import with_current

DEFAULT_BASE_URL = "https://api.etelecom.vn/v1/shop"

_UNMOVING_SORTS = (None, "created_at", "-created_at")
_GROWING_SORTS = ("updated_at", "last_message_at")
HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


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

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """Return the page after `cursor`; see ProviderClient.fetch."""
        body = _body(_own(command), cursor)

        async def attempt(keys: Sequence[str]) -> ProviderPage:
            return await self._attempt(_own(command), cursor, body, keys[0])

        return await with_current(self._account.name, (self._account.api_key,), attempt)

    def order(self, command: FetchFollowers) -> Order:
        """Tell by the sort: times of creation stay, those of changes only grow (PROVIDERS 1.4)."""
        sort = _own(command).sort
        if sort in _UNMOVING_SORTS:
            return "still"
        if sort in _GROWING_SORTS:
            return "rises"
        return "falls" if sort == "-updated_at" else "unknown"  # no row says when its last message was

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        """Return None: each page names the next one."""
        return None

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _attempt(
        self, command: FetchEtelecomFollowers, cursor: str | None, body: bytes, key: str
    ) -> ProviderPage:
        if not HEADER_SAFE.fullmatch(key):
            raise UnauthorizedError(
                f"accounts.{self._account.name}.api_key is empty or holds blanks or signs that no key has: "
                "put the key alone into it",
                requests=0,
            )
        answer = await self._http.post(self._url, body, {"Authorization": f"Bearer {key}"})
        if answer.status != 200:
            raise failure(answer, command, cursor, self._account.name, self._where, key)
        hidden = NotToBeRepeated(command, key)
        try:
            return read_page(answer.body, self._where, steady=self.order(command) == "still", hidden=hidden)
        except ProviderUnavailableError as error:
            refusal = refusal_in(answer, command, cursor, self._account.name, self._where, key)
            error.retry_after = answer.retry_after
            raise refusal or error from error.__cause__


def _own(command: FetchFollowers) -> FetchEtelecomFollowers:
    if not isinstance(command, FetchEtelecomFollowers):
        raise InvalidCommandError("an eTelecom account was given an eSMS command: name an account of that provider")
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
