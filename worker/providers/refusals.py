"""What both providers' answers share: JSON that may be none, and statuses that a proxy in front may set."""

import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    GarbledResponseError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
)
from worker.providers.http import Answer
from worker.providers.normalise import clean

T = TypeVar("T")

MOST_VALUES = 100_000
"""JSON values in a large answer; a page of 100 rows has some thousands. Each may take 100 bytes once decoded."""

_LARGE = 512 * 1024
_LONGEST = 200
_PHONE_OR_ID = re.compile(r"\+?\d(?:[ .\-]?\d){8,}")
_DATA = re.compile(r"[{<\[]")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_BOM = b"\xef\xbb\xbf"
# Every escape in turn, so that the second half of an escaped backslash isn't taken for the start of another.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, where: str) -> T:
    """Return `body` as `decoder`'s type; a byte order mark is skipped, half a surrogate pair becomes U+FFFD.

    Raises GarbledResponseError (not JSON: another try may help), BadResponseError (nested or crowded beyond bounds),
    msgspec.ValidationError (JSON of another shape, for the caller to read more loosely or refuse).
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
                return decode(decoder, mended, where)
        raise GarbledResponseError(f"{where} answered {_kind(body)} instead of JSON; it is asked for again") from error


def wrong_shape(error: msgspec.ValidationError, where: str) -> BadResponseError:
    """Return the error for JSON of a shape that can't be read; msgspec's text has types and paths only."""
    return BadResponseError(
        f"{where} answered JSON of an unknown shape ({mask(str(error))}); nothing was taken from it. "
        "Report it to the provider, or look for a newer version of this software"
    )


def mask(message: object, hidden: Iterable[str] = ()) -> str:
    """Return a provider's own words fit for an error: one line, at most 200 characters, nothing of `hidden`.

    Runs of 9 or more digits go too: they may be phones or ids.
    """
    line = " ".join(clean(message if isinstance(message, str) else "").split())
    line = "".join(character for character in line if character.isprintable())
    for value in sorted({value for value in hidden if value}, key=len, reverse=True):
        line = re.sub(re.escape(clean(value)), "***", line, flags=re.IGNORECASE)
    line = _PHONE_OR_ID.sub("***", line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def words(message: object, hidden: Iterable[str] = ()) -> str:
    """Return what `mask` leaves of a provider's words, up to where they quote data: a request or a row, echoed."""
    line = mask(message, hidden)
    plain = _DATA.split(line, maxsplit=1)[0]
    return plain if plain == line else f"{plain.rstrip()}…"


def plain_code(code: str, hidden: Iterable[str] = ()) -> str:
    """Return a provider's error code, or `odd` for what is none and may be anything."""
    return code if _CODE.fullmatch(code) and mask(code, hidden) == code else "odd"


def status_failure(answer: Answer, where: str) -> FetchFailure:
    """Return the error for an answer that isn't the API's own: the HTTP status is all that it says."""
    status = answer.status
    said = f"{where} answered HTTP {status} with {_kind(answer.body)}"
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


def _kind(body: bytes) -> str:
    """What a body looks like; never what it says."""
    start = body[:64].lstrip(_BOM).lstrip()
    if not start:
        return "an empty body"
    return "an HTML page" if start[:1] == b"<" else "text that is not the API's"
