"""What an answer of eTelecom's says beside its rows: an error, or that more follow (PROVIDERS 1.2, 1.4).

No success is documented to speak of an error, so whatever does is none, in whichever words.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from worker.core.errors import ProviderUnavailableError
from worker.providers.http.client import Answer
from worker.providers.http.responses import away, decode
from worker.providers.quotes import plain_code

_CODES = frozenset({"code", "errcode", "statuscode", "resultcode", "returncode", "err", "errmsg", "exception"})
_SUCCESSES = frozenset({"success", "ok", "successful", "succeeded"})
_FINE = re.compile(r"|0+|2\d\d|ok|success(ful(ly)?)?|succeeded|none|null|nil|false|no[ _]?errors?", re.IGNORECASE)
_FALSE = re.compile(r"0+|false|no|none|null", re.IGNORECASE)
_BAD_STATUS = re.compile(r"[45]\d\d|false|ko|fail(ed|ure)?|errors?", re.IGNORECASE)

_ONCE = ("followers", "paging", "next")

_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Beside:
    """All that stands in an answer beside its rows."""

    def __init__(self, body: bytes, where: str) -> None:
        """Take the `body` of a 200, an object that was decoded before; see `decode` for `where` and what is raised."""
        top = {name: raw for name, raw in decode(_top, body, where).items() if name != "followers"}
        self._top = {name: _value(bytes(raw)) for name, raw in top.items()}
        paging = self._top.get("paging")
        self._paging: Mapping[str, Any] = paging if isinstance(paging, dict) else {}

    def error(self, body: bytes, where: str, hidden: Iterable[str]) -> ProviderUnavailableError | None:
        """Return the error that the answer speaks of, None where it speaks of none."""
        for fields in (self._top, self._paging):
            for name, value in fields.items():
                if _is_error(_folded(name), value):
                    code = _code(_folded(name), value, hidden)
                    error = away(Answer(200, body), where, hidden, why=f"an error, {code}" if code else "an error")
                    error.provider_code = code
                    return error
        return None

    @property
    def more(self) -> str | None:
        """The field that says that more follow; None where none does."""
        paging = {f"paging.{name}": value for name, value in self._paging.items()}
        for place, value in (self._top | paging).items():
            name = _folded(place.rpartition(".")[2])
            says_so = name.startswith(("next", "hasnext")) or name in ("hasmore", "more")
            if says_so and value and not _FALSE.fullmatch(_text(value)):
                return plain_code(place)
        return None


def has_twice(body: bytes) -> bool:
    """Say whether an object in `body` has a field twice that a page is made of: JSON's readers take the last one."""

    def take(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if any(names.count(name) > 1 for name in _ONCE):
            raise _TwiceError

    try:
        json.loads(body.decode("utf-8", "replace").removeprefix("\ufeff"), object_pairs_hook=take, parse_int=str)
    except _TwiceError:
        return True
    except (ValueError, RecursionError):
        pass  # msgspec has read it
    return False


class _TwiceError(Exception):
    """A field that stands twice."""


def _code(name: str, value: object, hidden: Iterable[str]) -> str | None:
    """Return the error's code in a field, None where it says only that there is an error, or may say anything."""
    if not ("code" in name or name == "status") or isinstance(value, bool) or not isinstance(value, str | int):
        return None
    code = plain_code(str(value), hidden)
    return None if code == "odd" else code


def _is_error(name: str, value: object) -> bool:
    if name in _SUCCESSES:
        return bool(_FALSE.fullmatch(_text(value)))
    if name == "status":
        return bool(_BAD_STATUS.fullmatch(_text(value)))
    return (name in _CODES or "error" in name) and bool(value) and not _FINE.fullmatch(_text(value))


def _text(value: object) -> str:
    """Return a word, a number or a truth value as text; a blank for what is none of these."""
    return str(value).strip() if isinstance(value, str | int | float) else " "


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _value(raw: bytes) -> Any:
    try:
        return _anything.decode(raw.decode("utf-8", "replace").encode())
    except (ValueError, RecursionError):
        return raw  # what can't even be read is no success
