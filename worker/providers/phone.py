"""A person's phone: E.164 or nothing. Plain Vietnamese mobiles are read here, all else by `phonenumbers`.

A stranger's number is worse than none: what isn't certainly one valid number becomes None, and is kept as it came.
"""

import re
import unicodedata
from functools import lru_cache

from worker.providers.normalise import clean, text

_LONGEST = 256
_REMEMBERED = 4096
_SHORTEST = 9
"""Digits of a Vietnamese number without the trunk 0 or country code."""

_WHOLE = {"3": "0123456789", "5": "1689", "7": "06789", "8": "12345678", "9": "012345678"}
_PARTLY = {"52": "238", "55": "9", "89": "6789", "99": "013456789"}
_MOBILE = frozenset(
    [first + second + third for first in _WHOLE for second in _WHOLE[first] for third in "0123456789"]
    + [start + third for start in _PARTLY for third in _PARTLY[start]]
)
"""The first three of a mobile's nine digits, as `phonenumbers` knows them; what it learns later it is asked for."""
_WITH_TRUNK, _WITH_CODE, _WITH_PLUS = (frozenset(before + start for start in _MOBILE) for before in ("0", "84", "+84"))

# The three digits after the 0 of an 11-digit mobile number, and the two that replaced them in 2018
# (PROVIDERS 5).
_RENUMBERED = {
    "120": "70", "121": "79", "122": "77", "126": "76", "128": "78",
    "123": "83", "124": "84", "125": "85", "127": "81", "129": "82",
    "162": "32", "163": "33", "164": "34", "165": "35", "166": "36", "167": "37", "168": "38", "169": "39",
    "186": "56", "188": "58", "199": "59",
}  # fmt: skip

_SEPARATORS = re.compile(r"[\s.\-()\[\]/]+", re.ASCII)
_AROUND = " \t\r\n'\"`"
_EXTENSION = re.compile(r"(?:;?ext|x|#)[.:=\s]*[0-9]{1,6}#?$", re.ASCII | re.IGNORECASE)
_APOSTROPHES = "‘’‛ʼ´′"
_DASHES = "−ー\uff70"
"""Minus and the long-vowel marks; all others say of themselves that they are dashes."""
_KEYCAP = "\ufe0f\u20e3"


def phone(value: object) -> tuple[str | None, str | None]:
    """Return (E.164 or None, the value as received where that differs). Nothing at all gives (None, None).

    A number without `+` or `00` before it is Vietnam's: a mobile or a landline with `0`, `84` or neither. A 9-digit
    `84…` is an 084 number that lost its 0 (PROVIDERS 5). A mobile of before 2018 gets its new prefix where it is
    complete, that is, with `0` or `84`. An extension is dropped. Words beside it, two numbers in
    one and signs that hide digits give None.
    """
    raw = value if value.__class__ is str else text(value)
    if not raw:
        return None, None
    # The usual case needs no regular expression; `str.isdigit` takes twice the time of this.
    length = len(raw)
    if length == 10:
        if raw[:4] in _WITH_TRUNK and raw.isascii() and raw.encode().isdigit():
            return "+84" + raw[1:], raw
    elif length == 11:
        if raw[:5] in _WITH_CODE and raw.isascii() and raw.encode().isdigit():
            return "+" + raw, raw
    elif length == 12 and raw[:6] in _WITH_PLUS and raw.isascii() and raw[1:].encode().isdigit():
        return raw, None
    return _read(raw) if len(raw) <= _LONGEST else (None, clean(raw))


# Asking `phonenumbers` takes some 100 µs, and lists are read again each night. What is remembered is people's data: it
# stays in this process's memory, and is bounded.
@lru_cache(_REMEMBERED)
def _read(raw: str) -> tuple[str | None, str | None]:
    plain = _ascii(raw).strip(_AROUND)
    if not _SEPARATORS.sub("", plain).strip("+0"):
        return None, None
    number = _e164(plain)
    return number, None if number == raw else clean(raw)


def _ascii(raw: str) -> str:
    """Return `raw` with ASCII's digits, dashes and blanks for all others', and without marks that nobody sees."""
    return raw if raw.isascii() else "".join(map(_sign, raw))


def _sign(sign: str) -> str:
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    if sign.isspace():
        return " "
    kind = unicodedata.category(sign)
    if kind == "Cf" or sign in _KEYCAP:
        return ""
    if kind == "Pd" or sign in _DASHES:
        return "-"
    if sign in _APOSTROPHES:
        return "'"
    # Full width: the same signs, wider.
    return chr(ord(sign) - 0xFEE0) if "！" <= sign <= "～" else sign


def _e164(plain: str) -> str | None:
    if plain[:4].lower() == "tel:":
        plain = plain[4:]
    if plain[-2:] == ".0" and plain[:-2].isdigit():
        plain = plain[:-2]  # a spreadsheet took it for an amount
    plain = _SEPARATORS.sub("", _EXTENSION.sub("", plain).rstrip(" ,;"))
    digits = plain.lstrip("+")
    if not (digits.isdigit() and digits.isascii()):
        return None
    international = digits != plain
    if not international and digits[:2] == "00":
        international, digits = True, digits[2:]
    return _vietnamese(digits, international=international) or _asked(digits, international=international)


def _vietnamese(digits: str, *, international: bool) -> str | None:
    """Return a mobile of Vietnam, of today or complete of before 2018; None for all else."""
    if digits[:2] == "84" and (international or len(digits) > 10):
        national, complete = digits[2:].removeprefix("0"), True
    elif international:
        return None
    else:
        national, complete = digits.removeprefix("0"), digits[0] == "0"
    if len(national) == 9 and national[:3] in _MOBILE:
        return f"+84{national}"
    if complete and len(national) == 10 and national[:3] in _RENUMBERED:
        return f"+84{_RENUMBERED[national[:3]]}{national[3:]}"
    return None


def _asked(digits: str, *, international: bool) -> str | None:
    """Return what `phonenumbers` takes for a valid number, in E.164."""
    if not international and len(digits) < _SHORTEST:
        return None
    import phonenumbers  # 40 ms, which most replicas never need

    try:
        found = phonenumbers.parse(f"+{digits}" if international else digits, None if international else "VN")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(found):
        return None
    # Short service numbers are valid too: what is left of a damaged number must not become one.
    kinds = phonenumbers.PhoneNumberType
    if not international and phonenumbers.number_type(found) not in (kinds.MOBILE, kinds.FIXED_LINE, kinds.VOIP):
        return None
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
