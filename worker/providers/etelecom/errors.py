"""eTelecom's errors: Twirp's codes in JSON under an HTTP status (PROVIDERS 1.2), or a proxy's page."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from schemas.commands import FetchEtelecomFollowers
from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnsupportedError,
)
from worker.providers.http.client import Answer
from worker.providers.http.responses import decode, status_failure
from worker.providers.quotes import LONG_RUN, words


class _Error(Struct):
    code: str
    msg: str | None = None
    meta: dict[str, str] | None = None


_error = msgspec.json.Decoder(_Error)
_loose_error = msgspec.json.Decoder(dict[str, Any])

_LATER = (ProviderUnavailableError, "it is tried again later")
_COMMAND = (InvalidCommandError, "correct the command's filter, sort or page_size")
_ROUTE = (
    NotFoundError,
    "no such method at this address: check accounts.{account}.base_url (…/v1/shop or …/v1/partner)",
)
_BY_CODE: dict[str, tuple[type[FetchFailure], str]] = {
    "canceled": _LATER,
    "unknown": _LATER,
    "deadline_exceeded": _LATER,
    "internal": _LATER,
    "runtime": _LATER,
    "external_service": _LATER,
    "unavailable": _LATER,
    "data_loss": _LATER,
    "aborted": _LATER,
    "invalid_argument": _COMMAND,
    "validation_failed": _COMMAND,
    "malformed": _COMMAND,
    "out_of_range": _COMMAND,
    "bad_route": _ROUTE,
    "not_found": (NotFoundError, "check the command's oa_id, and that the OA is connected to this account"),
    "already_exists": (BadResponseError, "no listing answers so; report it to eTelecom"),
    "permission_denied": (
        ForbiddenError,
        "the key isn't known or may not read this OA: check accounts.{account}.api_key, and oa_id",
    ),
    "account_closed": (ForbiddenError, "the account is closed: ask eTelecom"),
    "failed_precondition": (ForbiddenError, "the account or the OA isn't ready for this: ask eTelecom"),
    "unauthenticated": (
        UnauthorizedError,
        "check accounts.{account}.api_key in followers.toml, or the file that its api_key_file names; "
        "Shop keys belong to …/v1/shop, Partner keys to …/v1/partner",
    ),
    "resource_exhausted": (
        RateLimitedError,
        "too many requests; lower accounts.{account}.rate_limit if it goes on",
    ),
    "unimplemented": (
        UnsupportedError,
        "this eTelecom address doesn't list followers: check accounts.{account}.base_url",
    ),
}

_FOLDED = {code.replace("_", ""): code for code in _BY_CODE}


def failure(
    answer: Answer, command: FetchEtelecomFollowers, cursor: str | None, account: str, where: str, key: str
) -> FetchFailure:
    """Return our error for any `answer` without a page, with eTelecom's own words where they are safe to repeat.

    `key` is what was sent; neither it nor what the command's filter says of a person is repeated. An error object in
    a 200 says what it says under any other status.
    """
    said, hidden = _said(answer, where), not_to_be_repeated(command, key)
    if said is None or answer.status == 429 or 300 <= answer.status < 400:
        return _with_account(status_failure(answer, where, hidden), answer, account)
    # Today's eTelecom may name the precise code beside the standard one (PROVIDERS 1.2).
    code = _known((said.meta or {}).get("xcode")) or _known(said.code)
    if code is None:
        return status_failure(answer, where, hidden)
    kind, advice = _BY_CODE[code]
    if cursor is not None and kind is InvalidCommandError and "paging is invalid" in (said.msg or "").lower():
        kind, advice = (
            BadResponseError,
            "it refuses a cursor that it gave itself; start the job anew under another id",
        )
    message = f"{where} refused with {code}: “{words(said.msg, hidden)}”; " + advice.format(account=account)
    if issubclass(kind, RateLimitedError | ProviderUnavailableError):
        return kind(message, retry_after=answer.retry_after, provider_code=code, http_status=answer.status)
    return kind(message, provider_code=code, http_status=answer.status)


def refusal_in(
    answer: Answer, command: FetchEtelecomFollowers, cursor: str | None, account: str, where: str, key: str
) -> FetchFailure | None:
    """Return the error that a 200 holds in place of what was asked for; None when it holds none of eTelecom's."""
    said = _said(answer, where)
    if said is None or not (is_error_code(said.code) or is_error_code((said.meta or {}).get("xcode"))):
        return None
    return failure(answer, command, cursor, account, where, key)


def is_error_code(code: object) -> bool:
    """Say whether `code` is one of eTelecom's errors, in whichever case."""
    return _known(code) is not None


def _known(code: object) -> str | None:
    """Return `code` as it is documented, None where it isn't one of eTelecom's errors."""
    return _FOLDED.get(code.lower().replace("_", "").replace("-", "")) if isinstance(code, str) else None


def not_to_be_repeated(command: FetchEtelecomFollowers, key: str) -> list[str]:
    """Return what no error may repeat of a request: the key, and whom the filter names."""
    named = command.filter
    if named is None:
        return [key, *key.split(":")]
    ids = (named.assigned_user_id, named.zl_user_id, *(named.zl_user_ids or ()))
    # Of a thousand ids a pattern takes long to make, and a run of digits is never repeated.
    short = (one for one in ids if one is not None and len(one) < LONG_RUN)
    return [key, *key.split(":"), named.name or "", named.phone or "", *(named.tags or ()), *short]


class NotToBeRepeated(Struct, frozen=True):
    """The same, found out only where there is an error."""

    command: FetchEtelecomFollowers
    key: str

    def __iter__(self) -> Iterator[str]:
        """Go through all of it."""
        return iter(not_to_be_repeated(self.command, self.key))


def _said(answer: Answer, where: str) -> _Error | None:
    try:
        return decode(_error, answer.body, where)
    except (msgspec.ValidationError, FetchFailure):
        pass
    try:
        # An error's code and words count also where they stand beside what nobody expects, or aren't UTF-8.
        top = decode(_loose_error, answer.body.decode("utf-8", "replace").encode(), where)
    except (msgspec.ValidationError, FetchFailure):
        return None
    inner = top.get("error")
    if isinstance(top.get("code"), str):
        return _loosely(top)
    if isinstance(inner, dict) and isinstance(inner.get("code"), str):
        return _loosely(inner)
    return _loosely(top | {"code": inner}) if is_error_code(inner) else None


def _loosely(found: dict[str, Any]) -> _Error:
    message, meta = found.get("msg", found.get("message")), found.get("meta")
    return _Error(
        found["code"], message if isinstance(message, str) else None, meta if isinstance(meta, dict) else None
    )


def _with_account(error: FetchFailure, answer: Answer, account: str) -> FetchFailure:
    if isinstance(error, UnauthorizedError):
        advice = _BY_CODE["unauthenticated"][1].format(account=account)
        return UnauthorizedError(f"{error.message}; {advice}", http_status=answer.status)
    return error
