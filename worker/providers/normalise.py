"""From what providers send to what our events say. Pure functions that take anything and never raise."""

import re
import unicodedata
from datetime import UTC, datetime
from unicodedata import normalize

_SEPARATORS = re.compile(r"[\s.\-()/]+")
_MOBILE = frozenset("35789")
_LONGEST_PHONE = 256
_LONGEST_TEXT = 1024
_PIECE = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The three digits after the 0 of an 11-digit mobile number, and the two that replaced them in 2018
# (PROVIDERS 5).
_RENUMBERED = {
    "120": "70", "121": "79", "122": "77", "126": "76", "128": "78",
    "123": "83", "124": "84", "125": "85", "127": "81", "129": "82",
    "162": "32", "163": "33", "164": "34", "165": "35", "166": "36", "167": "37", "168": "38", "169": "39",
    "186": "56", "188": "58", "199": "59",
}  # fmt: skip


def phone(value: object) -> tuple[str | None, str | None]:
    """Return (E.164 or None, the value as received where that differs). Nothing at all gives (None, None).

    Knows Vietnam's mobiles and 02x landlines with `0`, `84`, `+84`, `0084` or nothing before them, the
    numbers of before 2018, and those that start with another country's `+` code (PROVIDERS 5). A 9-digit
    `84…` is an 084 number that lost its 0; `84` counts as the country
    code only before 9 digits (10 for landlines).
    """
    raw = value if value.__class__ is str else text(value)
    if not raw:
        return None, None
    # Plain digits, the usual case, need no regular expression.
    if raw.isdigit() and raw.isascii():
        length = len(raw)
        if length == 10 and raw[0] == "0" and raw[1] in _MOBILE:
            return "+84" + raw[1:], raw
        if length == 11 and raw[:2] == "84" and raw[2] in _MOBILE:
            return "+" + raw, raw
        return (_e164(raw, international=False), raw) if raw.strip("0") else (None, None)
    if raw[:3] == "+84" and len(raw) == 12 and raw[3] in _MOBILE and raw[1:].isdigit() and raw.isascii():
        return raw, None
    if len(raw) > _LONGEST_PHONE:
        return None, clean(raw)
    plain = _SEPARATORS.sub("", normalize("NFKC", raw))
    digits = plain.removeprefix("+")
    if not digits:
        return None, None
    usable = digits.isdigit() and digits.isascii()
    number = _e164(digits, international=plain[0] == "+") if usable else None
    return number, None if number == raw else clean(raw)


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
    """Return `value` in NFC; beyond 1,024 signs by pieces, so a letter may stay apart from its marks there."""
    if len(value) <= _LONGEST_TEXT:
        return normalize("NFC", value)
    # The time it takes grows with the square of a run of combining signs: 10 s at 160 KB, days at 16 MB.
    pieces, start = [], 0
    while start < len(value):
        end = start + _PIECE
        while end > start + 1 and end < len(value) and unicodedata.combining(value[end]):
            end -= 1
        end = end if end > start + 1 else start + _PIECE
        pieces.append(normalize("NFC", value[start:end]))
        start = end
    return "".join(pieces)


def identifier(value: object) -> str | None:
    """Return an id as text; None for nothing and for zero, which stands for nothing (PROVIDERS 1.3).

    A number that came as a float is refused: past 2^53 it is no longer the id that was meant.
    """
    if value.__class__ is str and value != "0":
        name: str = value
        if name.isalnum() and name.isascii() and name[0] != "0":
            return name
    if isinstance(value, float):
        return None
    found = (text(value) or "").strip()
    return found if found.strip("0") else None


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


def _e164(digits: str, *, international: bool) -> str | None:
    """`digits` are ASCII digits and at least one; `international`: a `+` stood before them."""
    if digits.startswith("00"):
        international, digits = True, digits[2:]
    if not international and digits[0] == "0":
        national = _national(digits[1:])
    elif digits[:2] == "84" and (international or len(digits) > 10):
        national = _national(digits[2:].removeprefix("0"))
    elif international:
        return f"+{digits}" if 8 <= len(digits) <= 15 and digits[0] != "0" else None
    else:
        national = _national(digits)
    return None if national is None else f"+84{national}"


def _national(digits: str) -> str | None:
    """The number after the trunk 0, if it is a mobile's (9 digits) or a landline's (10, starting with 2)."""
    if len(digits) == 9:
        return digits if digits[0] in _MOBILE else None
    if len(digits) != 10:
        return None
    if digits[0] == "1" and digits[:3] in _RENUMBERED:
        return _RENUMBERED[digits[:3]] + digits[3:]
    return digits if digits[0] == "2" else None
