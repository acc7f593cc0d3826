"""A person's phone becomes E.164, or nothing: never somebody else's."""

import re
import time

import msgspec
import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.providers.phone import _MOBILE, _RENUMBERED, _read, phone

E164 = re.compile(r"\+[1-9][0-9]{5,14}")
PHONES = st.from_regex(r"\A(\+|00|tel:|')?[0-9 .\-()\u2011\u200e]{0,16}(x[0-9]{1,3})?\Z")


@pytest.mark.parametrize(
    ("given", "e164"),
    [
        ("0912000111", "+84912000111"),
        ("84912000111", "+84912000111"),
        ("+84912000111", "+84912000111"),
        ("0084912000111", "+84912000111"),
        ("912000111", "+84912000111"),
        (" +84 912-000.111 ", "+84912000111"),
        ("(+84) 912 000 111", "+84912000111"),
        ("[0912] 000.111", "+84912000111"),
        ("0912000111 /", "+84912000111"),
        ("++84912000111", "+84912000111"),
        ("0912000111.", "+84912000111"),
        (84912000111, "+84912000111"),
        (912000111, "+84912000111"),
        (84912000111.0, "+84912000111"),
        ("84912000111.0", "+84912000111"),
        ("+84912000111.0", "+84912000111"),
        ("+4930123456.0", "+4930123456"),
        # A trunk 0 after the country's code.
        ("+84 (0) 912 000 111", "+84912000111"),
        ("840912000111", "+84912000111"),
        ("00840912000111", "+84912000111"),
        ("+61 (0)412 345 678", "+61412345678"),
        ("0061 (0)412 345 678", "+61412345678"),
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("+49 (0)30 123456", "+4930123456"),
        # Italy keeps its 0.
        ("+39 06 1234 5678", "+390612345678"),
        # 084 is a prefix of its own: nine digits lost a 0, eleven have the country's code.
        ("0840000111", "+84840000111"),
        ("840000111", "+84840000111"),
        ("84840000111", "+84840000111"),
        ("8484000011", None),
        ("+840000111", None),
        # Landlines.
        ("02838000111", "+842838000111"),
        ("842838000111", "+842838000111"),
        ("2838000111", "+842838000111"),
        ("+84 28 3800 0111", "+842838000111"),
        ("02808000111", None),
        # Other countries' numbers need their +, or 00.
        ("+12025550123", "+12025550123"),
        ("0012025550123", "+12025550123"),
        ("12025550123", None),
        ("61412345678", None),
        ("0412345678", None),
        ("+0912000111", None),
        ("+999", None),
        ("00x1", None),
        ("+x1", None),
        # Not whole, or not Vietnam's.
        ("12345", None),
        ("0612000111", None),
        ("0521000111", None),
        ("091200011", None),
        ("09120001111", None),
        ("+84012345", None),
        # Short service numbers are valid, but what is left of a damaged number looks like them.
        ("+84 1900 1234", "+8419001234"),
        ("0084 1900 1234", "+8419001234"),
        ("19001234", None),
        ("1800123456", None),
        ("8419001234", None),
        ("1991234", None),
        ("012034567", None),
        # Signs of all scripts.
        ("0912‑345‑678", "+84912345678"),
        ("0912–345–678", "+84912345678"),
        ("0912—345−678", "+84912345678"),
        ("0912ー345\uff70678", "+84912345678"),
        ("0912\u00a0345\u202f678\u2028", "+84912345678"),
        ("\u200e+84\u2009912\u200b345678\u202c", "+84912345678"),
        ("\ufeff0912345678", "+84912345678"),
        ("０９１２３４５６７８", "+84912345678"),
        ("＋８４（０）９１２．３４５．６７８", "+84912345678"),
        ("٠٩١٢٣٤٥٦٧٨", "+84912345678"),
        ("0\ufe0f\u20e3" + "912345678", "+84912345678"),
        ("091234567²", None),
        # What programs put before it.
        ("'0912345678", "+84912345678"),
        ("’0912345678", "+84912345678"),
        ("`84912345678", "+84912345678"),
        ('"0912345678"', "+84912345678"),
        ("tel:0912345678", "+84912345678"),
        ("TEL:+84-912-345-678", "+84912345678"),
        ("tel: 0912 345 678", "+84912345678"),
        ("tel:912345678", "+84912345678"),
        ("'tel:+84912345678", "+84912345678"),
        # An extension is dropped.
        ("tel:+842838000111;ext=12", "+842838000111"),
        ("028 3800 0111 ext. 123", "+842838000111"),
        ("028 3800 0111, Ext: 123456", "+842838000111"),
        ("028 3800 0111 x12", "+842838000111"),
        ("02838000111#12#", "+842838000111"),
        ("028 3800 0111 x1234567", None),
        ("tel:0912345678;phone-context=+84", None),
        # Words, two numbers, digits that somebody hid.
        ("gọi sau", None),
        ("mẹ 0912345678", None),
        ("0912345678 (Lan)", None),
        ("0912 345 abc", None),
        ("0912000111 / 0912000112", None),
        ("0912000111;0912000112", None),
        ("0912000111, 0912000112", None),
        ("0912000111\n0912000112", None),
        ("0912000111 0912000112", None),
        ("+84912000111 +84912000112", None),
        ("0912***111", None),
        ("0912*000*111", None),
        ("9.12E+08", None),
        # A sign too many, too few, or in their midst.
        ("0912 00011", None),
        ("84912 00011", None),
        ("+84912 00011", None),
        ("849120001111", None),
        ("+849120001111", None),
        ("X0912345678", None),
        ("0912345678X", None),
        ("028\u00a03800\u00a00111 X12", "+842838000111"),
        ("0912000111x.0", "+84912000111"),
        # A number of the net's, without its 0.
        ("672000111", "+84672000111"),
        # Australia's 0011 is no 00 before a number of +1, whose 1 `phonenumbers` would take away.
        ("0011 65 8234 5678", None),
        ("0011 47 92 34 56 78", None),
        ("0011 66 2 722 5844", None),
        ("00116582345678", None),
        ("0011 12025550123", None),
        ("0011 1 202 555 0123", None),
        # Documented: 00 comes first, then the country's code.
        ("001 658 234 5678", "+16582345678"),
        ("001 65 8234 5678", "+16582345678"),
        # No digit after + or 00 is dropped, but for a trunk 0 that has its own brackets after the country's code.
        ("+1 1 202 555 0123", None),
        ("+7 8 495 123 45 67", None),
        ("+7 (8) 495 123 45 67", None),
        ("+7 (495) 123-45-67", "+74951234567"),
        ("+54 11 15 1234 5678", None),
        ("+61 0412 345 678", None),
        ("+61 (0412) 345 678", None),
        ("0061 0 412 345 678", None),
        ("+61 4 (0)12 345 678", None),
        ("+61 (0 412 345 678", None),
        ("+61 0) 412 345 678", None),
        ("+61 )0( 412 345 678", None),
        ("(+61)0(412)345678", None),
        ("+61 (0] 412 345 678", None),
        ("+61 [0] 412 345 678", "+61412345678"),
        ("+(61)( 0 )412 345 678", "+61412345678"),
        ("+61 (4)12 345 678", "+61412345678"),
        ("+380 (0)50 123 4567", "+380501234567"),
        # Italy and others keep their 0: who has it in brackets means a number with it, if only that is one.
        ("+39 (0)6 1234 5678", "+390612345678"),
        ("+39 (0)312 345 6075", None),
        ("+39 0312 345 6075", "+3903123456075"),
        ("+39 312 345 6075", "+393123456075"),
        ("+242 (0)6 123 4567", "+242061234567"),
        # Nothing divides a country's code, or the 00 before it.
        ("8 (495) 123-45-67", None),
        ("8(495)1234567", None),
        ("8-495-123-45-67", None),
        ("8 4912345678", None),
        ("+8 4912345678", None),
        ("008 4912345678", None),
        ("0 084912345678", None),
        ("00 84 912345678", "+84912345678"),
        ("(00) (84) 912 345 678", "+84912345678"),
        ("+(84) 912 345 678", "+84912345678"),
        ("84 912 345 678", "+84912345678"),
        ("84-0-912345678", "+84912345678"),
        ("0 912345678", "+84912345678"),
        ("+6 1412345678", None),
        ("+38 0501234567", None),
        ("+3 80501234567", None),
        ("+380 501234567", "+380501234567"),
        ("+3805 01234567", "+380501234567"),
        ("009 84 912 345 678", None),
        # An area code that is set apart: Ho Chi Minh City's 08 of before 2017.
        ("(08) 3825 1234", None),
        ("(08) 3.825.1234", None),
        ("08-3825-1234", None),
        ("08 38251234", None),
        ("0-8-38251234", None),
        ("08 38 25 12 34", None),
        ("8 3825 1234", None),
        ("+84 8 3825 1234", None),
        ("+84 (8) 3825 1234", None),
        ("+84 (0)8 3825 1234", None),
        ("84 (08) 3825 1234", None),
        ("(84-8) 3825 1234", None),
        ("(848) 3825 1234", None),
        ("+848 3825 1234", None),
        ("0084.8.3825.1234", None),
        ("0838251234", "+84838251234"),
        ("083 825 1234", "+84838251234"),
        ("0838 251 234", "+84838251234"),
        ("(0838 251 234)", "+84838251234"),
        ("(+84)838 251 234", "+84838251234"),
        ("(84) (0) 838 251 234", "+84838251234"),
        ("+84 83 825 1234", "+84838251234"),
        # Ha Noi's 04, and those that were provinces', in brackets: An Giang, Nam Dinh, Dong Thap, Quang Binh.
        ("(04) 3825 1234", None),
        ("(076) 3825123", None),
        ("(84-76) 382 5123", None),
        ("+84 [76] 382 5123", None),
        ("(0350) 825123", None),
        ("(067) 2000111", None),
        ("(052) 3825123", None),
        ("076 (3825123)", None),
        ("076 382 5123", "+84763825123"),
        ("+84 76 382 5123", "+84763825123"),
        ("(+84) (0) 763 825 123", "+84763825123"),
        # Or other countries': Tokyo, Melbourne, Brisbane.
        ("03-1234-5678", None),
        ("05 6123 4567", None),
        ("(03) 9123 4567", None),
        ("07 6123 4567", None),
        ("06 7200 0111", None),
        ("+84 3 1234 5678", "+84312345678"),
        # 09 never was a landline's, and today's area codes have three digits.
        ("09 1234 5678", "+84912345678"),
        ("(091) 234 5678", "+84912345678"),
        ("(0912) 345 678", "+84912345678"),
        ("(028) 3825 1234", "+842838251234"),
        ("(84-28) 3825 1234", "+842838251234"),
        ("+84 (028) 3825 1234", "+842838251234"),
        ("(0123) 456 7890", "+84834567890"),
        # The country's code and too few digits, or an 084 without its 0?
        ("84 000 0111", None),
        ("(84) 0000111", None),
        ("840 000 111", "+84840000111"),
        ("84 8 400 0011", None),
        # A slash before digits stands between two numbers.
        ("028 3825 123/4", None),
        ("0912345678/9", None),
        ("0912/345/678", None),
        ("/0912345678", None),
        # A dash before the last digit is a range's, but in Germany an extension's.
        ("028 3825 123-4", None),
        ("+84 28 3825 123 - 4", None),
        ("0912 345 67-8", None),
        ("028 3825 12-34", "+842838251234"),
        ("028 3825 123 4", "+842838251234"),
        ("+49 30 12345-0", "+4930123450"),
        # A minus is no plus.
        ("-84912345678", None),
        (-84912345678, None),
        ("−84912345678", None),
        ("- 0912345678", None),
        ("tel:-84912345678", None),
        ("(-84) 912345678", None),
        ("+-84912345678", None),
        ("0912345678-", "+84912345678"),
    ],
)  # fmt: skip
def test_a_phone_becomes_e164_or_nothing(given: object, e164: str | None) -> None:
    number, raw = phone(given)

    assert number == e164
    assert raw is None if number == given else raw


@pytest.mark.parametrize(("old", "new"), _RENUMBERED.items())
def test_complete_numbers_of_before_2018_get_their_new_prefix(old: str, new: str) -> None:
    for before in ("0", "84", "+84", "0084", "840", "+84 (0)", "tel:+84-"):
        assert phone(f"{before}{old}0001234")[0] == f"+84{new}0001234"


@pytest.mark.parametrize("old", _RENUMBERED)
def test_ten_bare_digits_are_nobodys_old_number(old: str) -> None:
    assert phone(old + "0001234") == (None, old + "0001234")
    assert phone("+" + old + "0001234")[0] != f"+84{_RENUMBERED.get(old)}0001234"


def test_there_were_21_old_prefixes() -> None:
    renumbered = {
        **{"120": "70", "121": "79", "122": "77", "126": "76", "128": "78"},
        **{"123": "83", "124": "84", "125": "85", "127": "81", "129": "82"},
        **{f"16{last}": f"3{last}" for last in range(2, 10)},
        **{"186": "56", "188": "58", "199": "59"},
    }

    assert renumbered == _RENUMBERED
    for old, new in renumbered.items():
        assert phone(f"0{old}0001234") == (f"+84{new}0001234", f"0{old}0001234")


@pytest.mark.parametrize("old", ["0130", "0161", "0187", "0198"])
def test_eleven_digits_that_never_were_a_mobile_stay_as_they_came(old: str) -> None:
    assert phone(old + "0001234") == (None, old + "0001234")


def test_the_phone_as_received_is_kept_only_where_it_differs() -> None:
    assert phone("+84912000111") == ("+84912000111", None)
    assert phone("+842838000111") == ("+842838000111", None)
    assert phone("0912000111") == ("+84912000111", "0912000111")
    assert phone(912000111) == ("+84912000111", "912000111")
    assert phone("12345") == (None, "12345")
    assert phone("X") == (None, "X")
    assert phone("e\u0301 0912345678") == (None, "é 0912345678")
    assert phone("'0912345678") == ("+84912345678", "'0912345678")


@pytest.mark.parametrize(
    "nothing", [None, "", "  ", "0", 0, "000", "0-0", True, [], {}, 1.5, "+", "--", "'", "\u200b", "(+)", "\u00a0–"]
)
def test_no_phone_is_nothing_at_all(nothing: object) -> None:
    assert phone(nothing) == (None, None)


@given(st.text(st.characters()) | st.integers() | st.floats() | st.none() | PHONES)
@example("\ud83d0912345678")
def test_a_phone_never_raises_and_has_the_shape_of_e164(value: object) -> None:
    number, raw = phone(value)

    assert number is None or E164.fullmatch(number)
    assert number != raw or number is None
    msgspec.json.encode([number, raw])


@given(PHONES)
def test_a_phone_normalised_twice_stays_the_same(value: str) -> None:
    number, _ = phone(value)

    if number is not None:
        assert phone(number) == (number, None)


def test_beyond_256_signs_there_is_no_phone_and_it_is_kept_as_it_came() -> None:
    spaced = "0912345678".rjust(256)

    assert phone(spaced) == ("+84912345678", spaced)
    assert phone(" " + spaced) == (None, " " + spaced)


@pytest.mark.parametrize("sign", [" ", "x", "(", "+", "0", "x ", "ext", "\u2011", "9 "])
def test_hostile_signs_take_no_time(sign: str) -> None:
    hostile = [(sign * 256)[: 255 - len(tail)] + tail for tail in (f"!{n}" for n in range(200))]
    began = time.process_time()

    for value in hostile:
        phone(value)

    assert time.process_time() - began < 1


def test_what_is_remembered_is_bounded() -> None:
    assert _read.cache_info().maxsize == 4096


def test_the_fast_paths_prefixes_are_those_of_mobiles() -> None:
    assert len(_MOBILE) == 377
    assert {"300", "399", "522", "559", "590", "700", "769", "840", "899", "991"} <= _MOBILE
    assert not {"140", "500", "521", "558", "600", "750", "800", "890", "992", "280"} & _MOBILE


@pytest.mark.parametrize("usual", ["0912000111", "84912000111", "+84912000111"])
def test_the_usual_forms_need_no_second_look(usual: str) -> None:
    before = _read.cache_info()

    assert phone(usual)[0] == "+84912000111"
    assert _read.cache_info() == before
    assert phone(f" {usual}")[0] == "+84912000111"
    assert _read.cache_info() != before


def test_a_mobile_in_any_form_is_read_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(digits: str, *, personal: bool = False) -> None:
        raise AssertionError(digits)

    monkeypatch.setattr("worker.providers.phone._asked", asked)
    _read.cache_clear()

    for before in ("0", "", "84", "+84", "0084", "+84 (0)"):
        assert phone(f" {before}912-000-112")[0] == "+84912000112"


def test_the_mobiles_read_here_are_all_that_phonenumbers_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.providers.phone._asked", lambda digits, *, personal=False: None)
    _read.cache_clear()
    read = {start for start in (f"{number:03}" for number in range(200, 1000)) if phone(f"0{start} 000111")[0]}
    known = {
        start
        for start in (f"{number:03}" for number in range(200, 1000))
        if phonenumbers.is_valid_number(number := phonenumbers.parse(f"+84{start}000111"))
        and phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
    }

    _read.cache_clear()
    assert read == known == _MOBILE
