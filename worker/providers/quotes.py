"""A provider's own words, fit for an error: one line, bounded, without secrets, phones, ids or quoted data."""

import html
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from worker.providers.hiding import without
from worker.providers.normalise import clean

_LONGEST = 200
_LOOKED_AT = 4096
"""Bytes of a page of text, or characters of a message, in which words are looked for."""
_LARGEST_JSON = 64 * 1024
LONG_RUN = 9
"""Digits in a row that may be a phone or an id."""
_PHONE_OR_ID = re.compile(rf"\+?\d(?:[ .\-()/]{{0,3}}\d){{{LONG_RUN - 1},}}")
_MAIL = re.compile(r"[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_DATA = re.compile(r"[{<\[]")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_BOM = b"\xef\xbb\xbf"
_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(
    r"<(script|style)\b.*?(?:</\1[^>]*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)", re.IGNORECASE | re.DOTALL
)
_SAYING = ("msg", "message", "errormessage", "error", "errordescription", "detail", "reason", "title")
_NONE = object()
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def mask(message: object, hidden: Iterable[str] = ()) -> str:
    """Return a provider's own words fit for an error: one line, at most 200 characters, nothing of `hidden`.

    Runs of 9 or more digits go too, which may be phones or ids, and so do addresses of e-mail.
    """
    line = " ".join(clean(message if isinstance(message, str) else "").split())
    line = "".join(character for character in line[:_LOOKED_AT] if character.isprintable())
    line = without(line, {clean(value) for value in hidden if value})
    line = _MAIL.sub("***", _PHONE_OR_ID.sub("***", line))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def words(message: object, hidden: Iterable[str] = ()) -> str:
    """Return what `mask` leaves of a provider's words, up to where they quote data: a request or a row, echoed."""
    line = mask(message, hidden)
    plain = _DATA.split(line, maxsplit=1)[0]
    return plain if plain == line else f"{plain.rstrip()}…"


def plain_code(code: str, hidden: Iterable[str] = ()) -> str:
    """Return a provider's error code, or `odd` for what is none and may be anything."""
    return code if _CODE.fullmatch(code) and mask(code, hidden) == code else "odd"


def kind_of(body: bytes) -> str:
    """Say what a body looks like; never what it says."""
    start = body[:_LOOKED_AT].lstrip(_BOM).lstrip()
    if not start:
        return "an empty body"
    if start[:1] == b"<":
        return "an HTML page"
    return "text that is not the API's" if _json(body) is _NONE else "JSON that is not the API's"


def quoted(body: bytes, hidden: Iterable[str]) -> str:
    """Return what a body that isn't the API's says for people to read, as ` (“…”)`; empty where that is nothing.

    Of JSON only its message counts, and of text that was JSON nothing: the rest may be rows.
    """
    said = words(_said(body), hidden)
    return f" (“{said}”)" if said.strip("… ") else ""


def _said(body: bytes) -> object:
    start = body[:_LOOKED_AT].lstrip(_BOM).lstrip()
    if start[:1] == b"<":
        page = body[:_LOOKED_AT].decode("utf-8", "replace")
        title = _TITLE.search(page)
        return html.unescape(title[1] if title and title[1].strip() else _UNSEEN.sub(" ", page))
    found = _json(body)
    if found is _NONE:
        return body[:_LOOKED_AT].decode("utf-8", "replace")
    if not isinstance(found, dict):
        return None
    several = found.get("errors")
    first = several[0] if isinstance(several, list) and several else several
    return _message(found) or _message(found.get("error")) or _message(first) or first


def _message(found: Any) -> object:
    if not isinstance(found, dict):
        return None
    folded = {str(key).lower().replace("_", ""): value for key, value in found.items()}
    return next((folded[key] for key in _SAYING if isinstance(folded.get(key), str) and folded[key]), None)


def _json(body: bytes) -> Any:
    """Return what a small body says as JSON; `_NONE` for any other."""
    if len(body) > _LARGEST_JSON:
        return _NONE
    try:
        # As far as it is text: whoever writes an error in another encoding has said it none the less.
        return _anything.decode(body.removeprefix(_BOM).decode("utf-8", "replace").encode())
    except (ValueError, RecursionError):
        return _NONE
