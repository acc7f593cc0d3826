"""Generated phones against the library `phonenumbers`: where we differ from it, a table says why."""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers
import pytest
from phonenumbers import PhoneNumberType as Kind

from worker.providers.phone import phone

SEED = 11
INPUTS = 36_000
OLD = {
    "120": "70", "121": "79", "122": "77", "126": "76", "128": "78",
    "123": "83", "124": "84", "125": "85", "127": "81", "129": "82",
    "162": "32", "163": "33", "164": "34", "165": "35", "166": "36", "167": "37", "168": "38", "169": "39",
    "186": "56", "188": "58", "199": "59",
}  # fmt: skip
TRUNKS = {"AU": "0", "GB": "0", "DE": "0", "FR": "0", "TH": "0", "KR": "0", "JP": "0", "ID": "0", "RU": "8", "IT": "0"}
ZERO = re.compile(r"\(\W*0\W*\)")
BARE = re.compile(r"(?:;?ext|x|#)[\s.:=]*\d{1,6}#?$", re.IGNORECASE)


def library(value: str) -> str | None:
    """What `phonenumbers` says, asked directly."""
    found = _parsed(value)
    return phonenumbers.format_number(found, 0) if found and phonenumbers.is_valid_number(found) else None


def _parsed(value: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(value, "VN")
    except phonenumbers.NumberParseException:
        return None


def plain(value: str) -> str:
    """`value` as it looks: without marks that nobody sees, blanks and dashes as ASCII has them."""
    kinds = {"Cf": "", "Zs": " ", "Cc": " ", "Pd": "-"}
    return "".join(kinds.get(unicodedata.category(sign), sign) for sign in value)


def digits_and_plus(value: str) -> str:
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in value if sign.isdecimal() or sign == "+")


def renumbered(value: str) -> str | None:
    """The number that an old complete one became, as the library writes it."""
    bare = BARE.sub("", value)
    complete = re.fullmatch(r"(?:0{0,2}840?|0)(1\d\d)(\d{7})", digits_and_plus(bare).replace("+", ""))
    return library(f"0{OLD[complete[1]]}{complete[2]}") if complete and complete[1] in OLD else None


def service(value: str) -> bool:
    """Whether the library takes it for a number of Vietnam that belongs to no person, without a country's code."""
    found = _parsed(value)
    if found is None or not phonenumbers.is_valid_number(found) or re.match(r"\D*(?:\+|00)", digits_and_plus(value)):
        return False
    return phonenumbers.number_type(found) not in (Kind.MOBILE, Kind.FIXED_LINE, Kind.VOIP)


def looks(value: str) -> str:
    """`value` as one reads it: ASCII's signs, and nothing around the number or after it."""
    seen = "".join(str(unicodedata.decimal(sign, sign)) for sign in plain(value).replace("\u2212", "-"))
    return re.sub(r"(?i)^tel:", "", BARE.sub("", seen.strip(" '’\"")))


def abroad(value: str) -> str | None:
    """The digits after + or 00, a (0) left out; None for a number of Vietnam."""
    found = re.fullmatch(r"\D*(?:\+\D*|0\D*0\D*)([1-9].*)", ZERO.sub("", looks(value)))
    digits = re.sub(r"\D", "", found[1]) if found else ""
    return None if not digits or digits.startswith("84") else f"+{digits}"


def loses_digits(value: str) -> bool:
    """Whether the library takes digits away that aren't a (0), or two zeros from a number of Vietnam."""
    number, theirs = abroad(value), library(value)
    if re.match(r"\D*(?:\+\D*|00\D*)?84\D*0\D*0", looks(value)):
        return True
    return bool(number and theirs) and theirs not in {number, abroad(ZERO.sub("0", looks(value)))}


def keeps_bracketed_zero(value: str) -> bool:
    """Whether a (0) can be part of the number, and can be left out."""
    number = abroad(value)
    return ZERO.search(looks(value)) is not None and number is not None and library(number) == number


def divides_code(value: str) -> bool:
    """Whether a sign stands within the country's code, or within the 00 before it."""
    seen, found = looks(value), _parsed(value)
    code = re.match(r"(\D*\+\D*|\D*0\D*0\D*)?(.*)", seen)
    if code is None or found is None:
        return False
    whole = re.match(rf"\D*(?:00)?\D*{found.country_code}", seen)
    return whole is None and re.match(rf"\D*(?:00)?{found.country_code}", re.sub(r"\D", "", seen)) is not None


def area_code(value: str) -> bool:
    """Whether what the library takes for a mobile has an area code that is set apart."""
    seen, theirs = looks(value), library(value)
    coded = re.match(r"\D*(?:\+\D*|00\D*)?84", seen) and len(re.sub(r"\D", "", seen)) > 10
    rest = re.sub(r"^\D*(?:(?:\+\D*|00\D*)?84)?\W*0?\W*" if coded else r"^\D*0?\W*", "", seen)
    if theirs is None or not theirs.startswith(f"+84{rest[:1]}"):
        return False
    alone = re.match(r"8\D+\d" if coded else r"[35678]\D+\d", rest)
    return bool(alone or re.match(r"[35678][^()\[\]]*[()\[\]].*\d", rest) or (not coded and re.match(r"84\D", rest)))


def amount(digits: str) -> str | None:
    """The number that a spreadsheet's amount was."""
    return None if service(digits) or loses_digits(digits) else renumbered(digits) or library(digits)


@dataclass(frozen=True)
class Difference:
    """A class of inputs in which we say something else than the library."""

    reason: str
    applies: Callable[[str], bool]
    ours: Callable[[str], str | None]
    """What we have to say then."""


def nothing(value: str) -> None:
    return None


TABLE = {
    "amount": Difference(
        "a spreadsheet's .0 is no digit of the number",
        lambda value: re.fullmatch(r"\+*\d+\.0", looks(value)) is not None, lambda value: amount(looks(value)[:-2]),
    ),
    "old": Difference(
        "the library knows no numbers of before 2018; each complete one became one of today's", lambda value:
        renumbered(value) is not None and library(value) is None, renumbered,
    ),
    "unseen": Difference(
        "the library refuses marks and blanks that it doesn't list, though nobody sees a difference",
        lambda value: plain(value) != value and library(value) is None,
        lambda value: phone(plain(value))[0],
    ),
    "words": Difference(
        "words beside a number may say that it is another's, and the library dials letters",
        lambda value: re.search(r"(?i)[^\W\d_]", re.sub(r"(?i)tel:|ext|x", "", value)) is not None, nothing,
    ),
    "two": Difference(
        "the library takes what follows a comma or semicolon for an extension; it may be a second number",
        lambda value: re.search(r"[,;]\s*\+?\d", value) is not None, nothing,
    ),
    "hidden": Difference("a star stands for a digit that isn't told", lambda value: "*" in value, nothing),
    "pluses": Difference(
        "two pluses apart say no more than two together, which the library takes for one",
        lambda value: re.search(r"\+[^\w+]+\+", value) is not None and library(value) is None,
        lambda value: library(re.sub(r"\+\W*\+", "+", plain(value))),
    ),
    "two by a slash": Difference(
        "028 3825 123/4 are two numbers, which the library reads as one", lambda value:
        re.search(r"/\W*\d", looks(value)) is not None, nothing,
    ),
    "range": Difference(
        "028 3825 123-4 are those from 3 to 4, which the library reads as one; other countries write extensions so",
        lambda value: re.search(r"\d\W*-\W*\d\W*$", looks(value)) is not None and abroad(value) is None, nothing,
    ),
    "minus": Difference(
        "a dash before a number is a minus, or the end of a word that isn't there; the library drops it",
        lambda value: re.match(r"[^\d-]*-", looks(value)) is not None, nothing,
    ),
    "digits lost": Difference(
        "the library takes the 1 of 0011 65 (Australia's 00, then Singapore) for a trunk prefix of +1, and makes it a "
        "number of Jamaica; only a 0 that has its own brackets is surely none of the number's digits",
        loses_digits, nothing,
    ),
    "a 0 or none": Difference(
        "Italy keeps its 0: with and without what is in the brackets it may be a number, a landline and a mobile; the "
        "library knows only the first", keeps_bracketed_zero,
        lambda value: None if library(value) else abroad(value),
    ),
    "code divided": Difference(
        "8 (495) is Moscow within Russia: what a sign divides is no country's code, which the library doesn't look at",
        divides_code, nothing,
    ),
    "area code": Difference(
        "what is set apart as no mobile's first digits are is an area code: 08 was Ho Chi Minh City until 2017, 03 is "
        "Tokyo, (076) was An Giang. Its new number isn't told, as 08 38 25 12 34 may still be a mobile. The library "
        "doesn't look at signs. Bare digits, and 076 382 5123 as mobiles are written, stay mobiles",
        area_code, nothing,
    ),
    "service": Difference(
        "a short service number without a country's code is the rest of a damaged number",
        service, nothing,
    ),
}  # fmt: skip


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _national(rng: random.Random) -> str:
    match rng.randrange(10):
        case 0 | 1 | 2 | 3:
            return rng.choice("35789") + _digits(rng, 8)
        case 4 | 5:
            return rng.choice(list(OLD)) + _digits(rng, 7)
        case 6:
            return "2" + _digits(rng, 9)
        case 7:
            return rng.choice(["1800", "1900", "199", "799", "69", "120", "84", "84"]) + _digits(rng, rng.randint(3, 7))
        case _:
            return _digits(rng, rng.randint(3, 13))


def _foreign(rng: random.Random) -> str:
    region = rng.choice(list(TRUNKS))
    example = phonenumbers.example_number_for_type(region, rng.choice([Kind.MOBILE, Kind.FIXED_LINE]))
    assert example is not None
    number = phonenumbers.national_significant_number(example)
    number = number[:-4] + _digits(rng, rng.choice([4, 4, 4, 3, 5]))
    trunk = rng.choice(["", "", "({})", "{}", " {} "]).format(TRUNKS[region])
    return f"{rng.choice([*['+'] * 6, '00', '00', '', '0011 ', '-', '001'])}{example.country_code} {trunk}{number}"


def _area(rng: random.Random) -> str:
    """A landline as it was written before 2017, or as another country writes it."""
    code, count = rng.choice([("8", 8), ("4", 8), ("76", 7), ("31", 7), ("350", 6), ("3", 8), ("495", 7), ("4912", 6)])
    before = rng.choice(["(0{}) ", "0{}-", "+84 {} ", "(84-{}) ", "+84 (0){} ", "(84{}) ", "8 ({}) ", "({}) ", "0{}."])
    return before.format(code) + "38"[: count - 6] + _digits(rng, min(count, 6)) + rng.choice(["", "", "", "/5", "-5"])


def _grouped(rng: random.Random, number: str) -> str:
    joints = rng.choice([" ", "-", ".", "/", "\u00a0", "\u2011", "–", "\u2212", "\u2009", "\u200b", "\u200e", "  ", ""])
    cuts = set(rng.sample(range(1, len(number)), min(len(number) - 1, rng.randint(0, 3))))
    return "".join((joints if at in cuts else "") + sign for at, sign in enumerate(number))


def _scripts(rng: random.Random, number: str) -> str:
    zero = rng.choice([0x30] * 8 + [0xFF10, 0x660, 0x6F0, 0x966])
    return "".join(chr(zero + int(sign)) if sign.isascii() and sign.isdecimal() else sign for sign in number)


def _dressed(rng: random.Random, number: str) -> str:
    match rng.randrange(24):
        case 0:
            return f"{number}{rng.choice([', ', ';', '; ', ' / ', ' - ', chr(10)])}{number[:-1]}{_digits(rng, 1)}"
        case 1:
            return rng.choice(["mẹ {}", "{} (Lan)", "ĐT {}", "{} abc", "zalo {} gọi"]).format(number)
        case 2:
            return f"{number}{rng.choice([' x', ' ext. ', ';ext=', '#'])}{_digits(rng, rng.randint(1, 4))}"
        case 3:
            return rng.choice(["tel:{}", "TEL:{}", "tel:+84{}"]).format(number)
        case 4 | 5:
            return rng.choice(["'{}", "’{}", " {} ", "\u200e{}\u200e", "({})", '"{}"']).format(number)
        case 6:
            return f"{number}.0"
        case 7:
            return number[:5] + "*" * rng.randint(1, 3) + number[5:]
        case _:
            return number


def generated(rng: random.Random) -> Iterator[str]:
    """Phones as people and programs write them, and what merely looks like them."""
    for _ in range(INPUTS):
        if (kind := rng.randrange(16)) < 4:
            number = _foreign(rng)
        elif kind == 4:
            number = _area(rng)
        else:
            before = ["", "", "0", "0", "0", "84", "84", "+84", "+84", "0084", "+84 (0)", "(+84)", "84 0", "+", "++84"]
            number = rng.choice(before) + _national(rng)
        yield _dressed(rng, _scripts(rng, _grouped(rng, number)))


def test_we_differ_from_the_library_only_where_the_table_says_why() -> None:
    inputs = list(generated(random.Random(SEED)))
    found: Counter[str] = Counter()
    wrong: list[tuple[str, str | None, str | None]] = []

    for value in inputs:
        ours, theirs = phone(value)[0], library(value)
        if ours == theirs:
            found["same number" if ours else "both none"] += 1
            continue
        because = next((name for name, one in TABLE.items() if one.applies(value)), None)
        if because is None or ours != TABLE[because].ours(value):
            wrong.append((value, ours, theirs))
        else:
            found[because] += 1

    assert wrong == []
    assert len(set(inputs)) > 20_000
    assert min(found[name] for name in [*TABLE, "same number", "both none"]) >= 10, found
    assert found["same number"] > 7_000, found


@pytest.mark.parametrize("before", ["0", "84", "+84", "", "0084", "+84 (0)"])
def test_each_prefix_of_vietnam_is_judged_as_the_library_does(before: str) -> None:
    for prefix in range(1000):
        for rest in ("000111", "345678"):
            number = f"{before}{prefix:03}{rest}"

            expected = None if service(number) else library(number)

            assert phone(number)[0] == expected, number
