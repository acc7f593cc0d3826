"""Whether an account's key is good, and which Official Accounts it may read: one request that changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from schemas.commands import FetchEtelecomFollowers
from worker.core.account import Account, EsmsAccount, EtelecomAccount
from worker.core.errors import NotFoundError, UnauthorizedError, UnsupportedError
from worker.providers import normalise
from worker.providers.esms import errors as esms_errors
from worker.providers.etelecom import errors as etelecom_errors
from worker.providers.etelecom.client import HEADER_SAFE
from worker.providers.http.client import Answer, HttpClient
from worker.providers.http.responses import away, decode, status_failure, wrong_shape

MAX_BYTES = 4 * 2**20
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
# A refused list of OAs says nothing of a command; the errors want one for what they must not repeat.
_NO_COMMAND = FetchEtelecomFollowers(oa_id="none")


@dataclass(frozen=True, kw_only=True)
class OfficialAccount:
    """An OA that an account lists."""

    oa_id: str
    name: str | None = None
    connected: bool | None = None
    """None when the provider doesn't say (eTelecom: status P or N, PROVIDERS 3)."""
    expires_at: datetime | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def official_accounts(
    account: Account, *, timeout: float = 10.0, now: Callable[[], datetime] = _utc_now
) -> list[OfficialAccount] | None:
    """Return the OAs that `account` may read; None when its key is good but the provider has no such list.

    `timeout`: seconds for each of at most two requests. Raises FetchFailure with what is wrong and what to do.
    """
    http = HttpClient(request_timeout=timeout, max_response_bytes=MAX_BYTES, max_connections=1, now=now)
    try:
        return await (_etelecom(account, http) if isinstance(account, EtelecomAccount) else _esms(account, http))
    finally:
        await http.close()


async def _etelecom(account: EtelecomAccount, http: HttpClient) -> list[OfficialAccount] | None:
    """`Zalo/ListOA`; `Misc/CurrentAccount` where that isn't there (PROVIDERS 1.1)."""
    key = account.api_key.reveal()
    if not HEADER_SAFE.fullmatch(key):
        raise UnauthorizedError(
            f"accounts.{account.name}.api_key is empty or holds blanks or signs that no key has: put the key alone in"
        )
    base = account.base_url.rstrip("/")
    if httpx.URL(base).path in ("", "/"):
        # The method follows without a slash (PROVIDERS 1.1), so it would become a part of the host's name.
        raise NotFoundError(
            f"accounts.{account.name}.base_url has no path: eTelecom's ends in /v1/shop or /v1/partner", requests=0
        )

    async def ask(method: str) -> Answer:
        url = httpx.URL(f"{base}.{method}")
        answer = await http.post(url, b"{}", {"Authorization": f"Bearer {key}"})
        asked = (_NO_COMMAND, None, account.name, f"eTelecom {method} at {url.host}", key)
        if answer.status != 200:
            raise etelecom_errors.failure(answer, *asked)
        if refusal := etelecom_errors.refusal_in(answer, *asked):
            raise refusal
        return answer

    try:
        answer = await ask("Zalo/ListOA")
    except (NotFoundError, UnsupportedError):
        await ask("Misc/CurrentAccount")
        return None
    return _listed(_read_object(answer, "eTelecom Zalo/ListOA", _hidden(key)))


def _hidden(key: str) -> list[str]:
    return etelecom_errors.not_to_be_repeated(_NO_COMMAND, key)


async def _esms(account: EsmsAccount, http: HttpClient) -> list[OfficialAccount] | None:
    """`ZNS/GetListZOA/` (PROVIDERS 2.3, 2.4)."""
    keys = [account.api_key.reveal(), account.secret_key.reveal()]
    url = httpx.URL(account.base_url.rstrip("/") + "/MainService.svc/json/ZNS/GetListZOA/")
    where = f"eSMS GetListZOA at {url.host}"
    answer = await http.post(url, msgspec.json.encode({"ApiKey": keys[0], "SecretKey": keys[1]}))
    if answer.status != 200:
        raise status_failure(answer, where, keys)
    top = _read_object(answer, where, keys)
    code = normalise.text(top.get("coderesult", top.get("coderesponse")))
    if code is None:
        raise away(answer, where, keys, why="JSON without CodeResult")
    if code.strip() != esms_errors.SUCCESS:
        said = top.get("errormessage") or top.get("message")
        raise esms_errors.failure(code.strip(), said, answer, account.name, where, keys)
    return _listed(top)


def _read_object(answer: Answer, where: str, hidden: Sequence[str]) -> dict[str, Any]:
    try:
        return _folded(decode(_anything, answer.body, where, hidden))
    except msgspec.ValidationError as error:  # a number out of all bounds
        raise wrong_shape(error, where) from error


def _listed(top: dict[str, Any]) -> list[OfficialAccount] | None:
    """The OAs in the first list of an answer: its name isn't documented for both (PROVIDERS 2.3, 3)."""
    rows: Sequence[Any] | None = next((value for value in top.values() if isinstance(value, list)), None)
    if rows is None:
        return None
    found = [_read(_folded(row) if isinstance(row, dict) else {"oaid": row}) for row in rows]
    return [one for one in found if one is not None]


def _read(row: dict[str, Any]) -> OfficialAccount | None:
    oa_id = next((found for name in ("oaid", "zloaid", "id") if (found := normalise.identifier(row.get(name)))), None)
    if oa_id is None:
        return None
    status = row.get("status")
    return OfficialAccount(
        oa_id=oa_id,
        name=normalise.text(row.get("name", row.get("oaname"))),
        connected={"P": True, "N": False}.get(status) if isinstance(status, str) else None,
        expires_at=normalise.instant(row.get("expiresat")),
    )


def _folded(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {str(key).lower().replace("_", ""): item for key, item in value.items()}
