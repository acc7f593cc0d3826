"""What both providers' answers share: JSON that may be none, and statuses that a proxy in front may set.

What can't be the API, or isn't a whole answer of it, is the provider being away, whatever the HTTP status says:

| answer | outcome |
| --- | --- |
| none in time, cut short, broken HTTP or gzip, an encoding that was not asked for | away |
| 2xx without JSON: empty, HTML, text, JSON cut in the middle | away |
| 2xx with JSON that is no object, or has neither a list nor an error of the API | away |
| success with no list, or `null` for it, where nothing else says that it is empty (eSMS's total of 0, eTelecom's \
paging without a next page) | away |
| eTelecom's list beside an error of no code that is known | away |
| 302, 303, 307, as a captive portal says; 408, 425, 5xx but 501 | away |
| 429, or the API's own word for it | too many requests |
| an error object of eTelecom in a 200, a CodeResult of eSMS | by its code, whatever the HTTP status |
| a code of eSMS that nobody documented | `bad_response` after some tries |
| a list of another type, a follower without an id, text that isn't UTF-8 in whole JSON | `bad_response` at once |
| followers of eTelecom whose paging has no next, or an end beside a word that more follow | `bad_response` at once |
| larger, deeper or more crowded than any page is | `bad_response` at once |
| any other status without the API's own words | by the status, at once |

Away is `provider_unavailable`: tried for `retry_for` like a 503, with what was answered in the error.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
)
from worker.providers.http.client import Answer
from worker.providers.quotes import kind_of, mask, quoted

T = TypeVar("T")

MOST_VALUES = 100_000
"""JSON values in a large answer; a page of 100 rows has some thousands. Each may take 100 bytes once decoded."""

_LARGE = 512 * 1024
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_BOM = b"\xef\xbb\xbf"
# Every escape in turn, so that the second half of an escaped backslash isn't taken for the start of another.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, where: str, hidden: Iterable[str] | None = None) -> T:
    """Return `body` as `decoder`'s type; a byte order mark is skipped, half a surrogate pair becomes U+FFFD.

    `hidden`: what not to repeat of the body's words; None: nothing is repeated. Raises ProviderUnavailableError (not
    JSON), BadResponseError (nested or crowded beyond bounds, or not UTF-8), msgspec.ValidationError (JSON of another
    shape, for the caller to read more loosely or refuse).
    """
    # A body of tiny values takes 35 times its size in memory, and seconds to walk through.
    if len(body) > _LARGE and sum(body.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise BadResponseError(
            f"{where} answered JSON of more than {MOST_VALUES} values, which no page has; nothing was taken from it. "
            "Ask for fewer rows with page_size, and report it to the provider"
        )
    if body[:3] == _BOM:
        body = body[3:]
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except RecursionError as error:
        raise BadResponseError(f"{where} answered JSON that is nested too deeply; report it to the provider") from error
    except ValueError as error:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        # A name cut in the middle of an emoji must not hold up the whole list.
        if len(body) <= _LARGE or body.count(b"\\") <= MOST_VALUES:
            mended = _ESCAPES.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], body)
            if mended != body:
                return decode(decoder, mended, where, hidden)
        if _is_whole_but_for_its_text(body):
            raise BadResponseError(
                f"{where} answered JSON with text that isn't UTF-8; the job stops rather than guess names or ids. "
                "Report it to the provider",
                http_status=200,
            ) from error
        raise away(Answer(200, body), where, hidden) from error


def away(answer: Answer, where: str, hidden: Iterable[str] | None = None, *, why: str = "") -> ProviderUnavailableError:
    """Return the error for an `answer` that can't be the API's, or isn't a whole one.

    `why`: what is wrong with it, where that isn't its kind. `hidden`: see `decode`.
    """
    what = why or kind_of(answer.body)
    if hidden is not None:
        what += quoted(answer.body, hidden)
    return ProviderUnavailableError(
        f"{where} answered HTTP {answer.status} with {what}: that is no answer of the API, so it counts as away and "
        "is tried again later; check the account's base_url, and what stands between, if it goes on",
        retry_after=answer.retry_after,
        http_status=answer.status,
    )


def is_object(body: bytes) -> bool:
    """Say whether `body`, which is JSON, is an object."""
    return body.removeprefix(_BOM).lstrip(b" \t\r\n")[:1] == b"{"


def wrong_shape(error: msgspec.ValidationError, where: str) -> BadResponseError:
    """Return the error for JSON of a shape that can't be read; msgspec's text has types and paths only."""
    return BadResponseError(
        f"{where} answered JSON of an unknown shape ({mask(str(error))}); nothing was taken from it. "
        "Report it to the provider, or look for a newer version of this software"
    )


def status_failure(answer: Answer, where: str, hidden: Iterable[str] | None = None) -> FetchFailure:
    """Return the error for an answer that isn't the API's own: the HTTP status tells what to do.

    `hidden`: see `decode`.
    """
    status = answer.status
    if 200 <= status < 300:
        return away(answer, where, hidden)
    if status in _PORTAL:
        return away(answer, where, hidden, why="a redirect, refused so that no key travels to another address")
    said = f"{where} answered HTTP {status} with {kind_of(answer.body)}"
    if hidden is not None:
        said += quoted(answer.body, hidden)
    if status == 429:
        return RateLimitedError(
            f"{said}: too many requests; lower the account's rate_limit if it goes on",
            retry_after=answer.retry_after,
            http_status=status,
        )
    if status in (408, 425) or (status >= 500 and status != 501):
        return ProviderUnavailableError(
            f"{said}: the provider or a proxy before it is down; it is tried again later",
            retry_after=answer.retry_after,
            http_status=status,
        )
    kind, advice = _BY_STATUS.get(status, (BadResponseError, "nothing here answers so: check the account's base_url"))
    if 300 <= status < 400:
        advice = "a redirect, refused so that no key travels to another address: check the account's base_url"
    return kind(f"{said}: {advice}", http_status=status)


def _is_whole_but_for_its_text(body: bytes) -> bool:
    try:
        _anything.decode(body.decode("utf-8", "replace").encode())
    except (ValueError, RecursionError):
        return False
    return True


_PORTAL = frozenset({302, 303, 307})
"""Temporary redirects: somebody between us and the API wants something first."""
_GONE = (NotFoundError, "the API is not at this address: check the account's base_url")
_BY_STATUS: dict[int, tuple[type[FetchFailure], str]] = {
    401: (UnauthorizedError, "the key isn't accepted: check the account's key"),
    403: (
        ForbiddenError,
        "a firewall or the provider refuses this client: ask for this machine's address to be allowed",
    ),
    404: _GONE,
    405: _GONE,
    407: (ForbiddenError, "a proxy asks for credentials: let this machine reach the provider directly"),
    410: _GONE,
    413: (InvalidCommandError, "the request is too large: shorten the filter"),
    501: _GONE,
}
