"""A person's phone: E.164 or nothing. Plain Vietnamese mobiles are read here, all else by `phonenumbers`.

A stranger's number is worse than none: what isn't certainly one valid number becomes None, and is kept as it came.
"""

import re
import unicodedata
from functools import lru_cache

from worker.providers.normalise import clean, text
from worker.providers.phone_written import Written, written

_LONGEST = 256
_REMEMBERED = 4096
_SHORTEST = 9
"""Digits of a person's Vietnamese number without the trunk 0 or country code."""

_WHOLE = {"3": "0123456789", "5": "1689", "7": "06789", "8": "12345678", "9": "012345678"}
_PARTLY = {"52": "238", "55": "9", "89": "6789", "99": "013456789"}
_MOBILE = frozenset(
    [first + second + third for first in _WHOLE for second in _WHOLE[first] for third in "0123456789"]
    + [start + third for start in _PARTLY for third in _PARTLY[start]]
)
"""The first three of a mobile's nine digits, as `phonenumbers` knows them; what it learns later it is asked for."""
MOBILE_WITH_TRUNK, MOBILE_WITH_CODE, _WITH_PLUS = (
    frozenset(before + start for start in _MOBILE) for before in ("0", "84", "+84")
)

# The three digits after the 0 of an 11-digit mobile number, and the two that replaced them in 2018
# (PROVIDERS 5).
_RENUMBERED = {
    "120": "70", "121": "79", "122": "77", "126": "76", "128": "78",
    "123": "83", "124": "84", "125": "85", "127": "81", "129": "82",
    "162": "32", "163": "33", "164": "34", "165": "35", "166": "36", "167": "37", "168": "38", "169": "39",
    "186": "56", "188": "58", "199": "59",
}  # fmt: skip

_NOTHING = re.compile(r"[\s.\-()\[\]/+0]*", re.ASCII)
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
    one and signs that hide digits give None. So do blanks, brackets and dashes that say that it is read wrongly:
    `8 (495) 123-45-67` is no 84, `(08) 3825 1234` no mobile. Bare digits tell no such thing.
    """
    raw = value if value.__class__ is str else text(value)
    if not raw:
        return None, None
    # The usual case needs no regular expression; `str.isdigit` takes twice the time of this.
    length = len(raw)
    if length == 10:
        if raw[:4] in MOBILE_WITH_TRUNK and raw.isascii() and raw.encode().isdigit():
            return "+84" + raw[1:], raw
    elif length == 11:
        if raw[:5] in MOBILE_WITH_CODE and raw.isascii() and raw.encode().isdigit():
            return "+" + raw, raw
    elif length == 12 and raw[:6] in _WITH_PLUS and raw.isascii() and raw[1:].encode().isdigit():
        return raw, None
    return _read(raw) if len(raw) <= _LONGEST else (None, clean(raw))


# Asking `phonenumbers` takes some 100 µs, and lists are read again each night. What is remembered is people's data: it
# stays in this process's memory, and is bounded.
@lru_cache(_REMEMBERED)
def _read(raw: str) -> tuple[str | None, str | None]:
    plain = _ascii(raw).strip(_AROUND)
    if _NOTHING.fullmatch(plain):
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
    if plain[-2:] == ".0" and plain[:-2].lstrip("+").isdigit():
        plain = plain[:-2]  # a spreadsheet took it for an amount
    number = written(_EXTENSION.sub("", plain).rstrip(" ,;/"))
    if number is None:
        return None
    if number.international and not number.begins_with("84"):
        return _foreign(number)
    return _vietnamese(number)


def _vietnamese(number: Written) -> str | None:
    """Return a number of Vietnam, of today, or a mobile complete of before 2018; None for all else."""
    coded = number.begins_with("84") and (number.international or len(number.digits) > 10)
    start = 2 if coded else 0
    trunk = number.digits[start : start + 1] == "0"
    start += trunk
    national = number.digits[start:]
    if _is_set_apart(number, start, coded=coded) or number.ends_in_a_range():
        return None
    if len(national) == 9 and national[:3] in _MOBILE:
        return f"+84{national}"
    if len(national) == 10 and national[:3] in _RENUMBERED:
        return f"+84{_RENUMBERED[national[:3]]}{national[3:]}" if coded or trunk else None
    if len(national) < _SHORTEST and not number.international:
        return None
    return _asked("84" + national, personal=not number.international)


def _is_set_apart(number: Written, start: int, *, coded: bool) -> bool:
    """Return whether the signs in a number say that it isn't the mobile that its digits, from `start`, look like.

    An area code may be set apart as no mobile's first digits are: 08 was Ho Chi Minh City until 2017, 03 is Tokyo,
    `(076)` was An Giang. 09 never was one.
    """
    first = number.digits[start : start + 1]
    if start + 1 in number.joints and first in ("8" if coded else "35678"):
        return True
    if start == 0 and 2 in number.joints and number.digits[:2] == "84":
        return True  # the country's code and too few digits, rather than an 084 that lost its 0
    return first in "35678" and number.has_bracket_after(start)


def _foreign(number: Written) -> str | None:
    """Return another country's number: all its digits, but for a trunk 0 in brackets.

    `phonenumbers` takes more away, such as the second 1 of 0011, which is Australia's 00. Some countries keep their 0:
    what is a number both with it and without may be either.
    """
    code = _country_code(number.digits)
    if code is None or not number.begins_with(code):
        return None
    readings = {number.digits, number.without_trunk(len(code))}
    found = [valid for digits in readings if (valid := _asked(digits))]
    return found[0] if len(found) == 1 else None


def _country_code(digits: str) -> str | None:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE as CODES  # 40 ms, which most replicas never need

    return next((digits[:length] for length in (1, 2, 3) if int(digits[:length]) in CODES), None)


def _asked(digits: str, *, personal: bool = False) -> str | None:
    """Return E.164 if `phonenumbers` takes these digits, each of them, for a valid number; if told, a person's."""
    import phonenumbers  # as above

    try:
        found = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return None
    number = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
    if number != f"+{digits}" or not phonenumbers.is_valid_number(found):
        return None
    # Short service numbers are valid too: what is left of a damaged number must not become one.
    kinds = phonenumbers.PhoneNumberType
    if personal and phonenumbers.number_type(found) not in (kinds.MOBILE, kinds.FIXED_LINE, kinds.VOIP):
        return None
    return number
