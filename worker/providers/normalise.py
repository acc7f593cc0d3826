"""From what providers send to what our events say. Pure functions that take anything and never raise."""

import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from unicodedata import normalize

LONGEST_ID = 30
"""Digits; int64 has 19 at most, and msgspec and `text` know no longer number."""

_LONGEST_RUN = 60
_SAMPLE = 29
"""Of so many signs in a row at least one is looked at: a longer run than allowed has 29, as each stands for two at most
and the sign before them ends in two at most."""
_JOINER = "\u034f"
_COMBINE_APART = "\u0f73\u0f75\u0f81"
"""Tibetan vowels that don't count as combining signs, yet consist of them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(value: object) -> str | None:
    """Return `value` as NFC text; numbers as their digits; None for what is empty or neither."""
    if value.__class__ is str:
        return clean(value) if value else None
    if isinstance(value, str):
        return clean(value) or None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        # Longer ones are no id or phone, and Python refuses to print past 4,300 digits.
        return str(value) if -(10**30) < value < 10**30 else None
    return None


def clean(value: str) -> str:
    """Return `value` in NFC, lone surrogates replaced: text that can be encoded."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return nfc(value)


def nfc(value: str) -> str:
    """Return `value` in NFC; a run of more than 60 combining signs is parted by U+034F, which nobody sees.

    To sort such a run takes time that grows with its square: 10 s at 160 KB. No language has one of more than 30
    (UAX #15, Stream-Safe Text Format, which parts them so).
    """
    if len(value) < _SAMPLE or not any(map(_combines, value[_SAMPLE - 1 :: _SAMPLE])):
        return normalize("NFC", value)
    return normalize("NFC", _parted(value))


def identifier(value: object) -> str | None:
    """Return an id: decimal digits without a leading zero, as text or as a whole number. All else gives None.

    The one rule for all ids of all providers: int64 as text, in which "0" stands for nothing (PROVIDERS 1.3, 3).
    Blanks around it don't count. A float, also as text, has lost the last digits of the id that was meant.
    """
    if value.__class__ is int:
        value = text(value)
    if not isinstance(value, str):
        return None
    digits = value.strip()
    good = digits.isdigit() and digits.isascii() and digits[0] != "0" and len(digits) <= LONGEST_ID
    return digits if good else None


def identifiers(values: list[Any]) -> list[str | None]:
    """Return `identifier` of each; texts of digits, the usual case, are looked at all at once."""
    with suppress(TypeError, ValueError):
        if "".join(values).encode().isdigit() and min(values) >= "1" and len(max(values, key=len)) <= LONGEST_ID:
            return values
    return [identifier(value) for value in values]


def instant(value: object) -> datetime | None:
    """Return an RFC 3339 time (text or datetime) in UTC; None for nothing, nonsense, zero (PROVIDERS 1.3).

    A time without an offset is nothing: whether it means Vietnam or UTC is seven hours' guesswork.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().upper())
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    try:
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    except (OverflowError, ValueError):
        return None
    return utc if utc > _EPOCH else None


def texts(value: object) -> list[str]:
    """Return the texts in a list; anything else gives an empty one."""
    if not isinstance(value, list | tuple):
        return []
    return [found for item in value if (found := text(item)) is not None]


def addresses(value: object) -> dict[str, str]:
    """Return the URL by size in a map; anything else gives an empty one."""
    if not isinstance(value, dict):
        return {}
    return {name: url for key, item in value.items() if (name := text(key)) and (url := text(item))}


def truth(value: object) -> bool | None:
    """Return a boolean, also from `"true"`, `"false"`, 1 and 0; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def count(value: object) -> int | None:
    """Return a number of things, 0 or more, also from text; None for anything else."""
    found = text(value)
    if found is None or not found.strip().isascii() or not found.strip().isdigit() or len(found) > 18:
        return None
    return int(found)


def _parted(value: str) -> str:
    signs, run = [], 0
    # Sign by sign first: some stand for two combining ones, some end in them.
    for sign in chain.from_iterable(normalize("NFC", sign) for sign in value):
        run = run + 1 if unicodedata.combining(sign) else 0
        if run > _LONGEST_RUN:
            signs.append(_JOINER)
            run = 1
        signs.append(sign)
    return "".join(signs)


def _combines(sign: str) -> bool:
    return unicodedata.combining(sign) != 0 or sign in _COMBINE_APART
