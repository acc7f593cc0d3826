"""What providers send becomes what our events say."""

import time
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from worker.providers import normalise

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(ANYTHING)
def test_nothing_ever_raises_and_everything_can_be_encoded(value: object) -> None:
    results = [
        normalise.text(value),
        normalise.identifier(value),
        normalise.instant(value),
        normalise.texts(value),
        normalise.addresses(value),
        normalise.truth(value),
        normalise.count(value),
    ]

    msgspec.json.encode(results)


@given(st.text(st.characters()))
@example("e\u0323\u0302")
@example("half \ud83d an emoji")
def test_text_is_nfc_and_stays_so(value: str) -> None:
    found = normalise.text(value) or ""

    assert unicodedata.is_normalized("NFC", found)
    assert (normalise.text(found) or "") == found


def test_decomposed_vietnamese_is_composed() -> None:
    assert normalise.text(unicodedata.normalize("NFD", "Nguyễn Thị Ngọc")) == "Nguyễn Thị Ngọc"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("7800378501923859642", "7800378501923859642"), (961919545811768483, "961919545811768483"),
        (" 12 ", "12"), ("9" * 30, "9" * 30), ("9" * 31, None), (10**30 - 1, "9" * 30), (10**30, None),
        ("0", None), (0, None), ("", None), ("000", None), ("012", None), (None, None), (True, None), (-5, None),
        (9.61919545811768483e17, None), (12.0, None), ([], None), (b"12", None), ("12a", None), ("١٢", None),
        pytest.param(10**4400, None, id="endless"), ("12\ud83d", None),
    ],
)  # fmt: skip
def test_ids_keep_every_digit_and_zero_is_none(given: object, found: str | None) -> None:
    assert normalise.identifier(given) == found


def test_ids_that_are_all_digits_are_taken_as_they_are() -> None:
    plain, zero, long = ["1", "9" * 30], ["0", "5"], ["1", "9" * 31]

    assert normalise.identifiers(plain) is plain
    assert normalise.identifiers(zero) == [None, "5"]
    assert normalise.identifiers(long) == ["1", None]
    assert normalise.identifiers([]) == []


class Text(str):
    """A text of another class, as a parser may give."""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", None), (Text(), None), (Text("e\u0301"), "é"), (12.0, "12"), (12.5, None), (0, "0"), (True, None),
        (10**30 - 1, "9" * 30), (10**30, None), (1 - 10**30, "-" + "9" * 30), (-(10**30), None),
        ("half \ud83d", "half \ufffd"), ("\ud83c\udf38", "🌸"), (b"a", None), (None, None),
    ],
)  # fmt: skip
def test_text_is_text_or_digits(given: object, found: str | None) -> None:
    assert normalise.text(given) == found


@given(st.lists(st.text("0123456789 a\u0663", max_size=4) | st.integers(-2, 20) | ANYTHING))
def test_many_ids_at_once_are_read_as_one_by_one(values: list[object]) -> None:
    assert normalise.identifiers(list(values)) == [normalise.identifier(value) for value in values]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("2026-01-31T07:00:00+07:00", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31t00:00:00z", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T00:00:00.123456789Z", datetime(2026, 1, 31, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-30T19:30:00-04:30", datetime(2026, 1, 31, tzinfo=UTC)),
        (datetime(2026, 1, 31, 7, tzinfo=timezone(timedelta(hours=7))), datetime(2026, 1, 31, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None), ("0001-01-01T00:00:00.000Z", None),
        ("0001-01-01T00:00:00+07:06", None),
        ("1970-01-01T00:00:00Z", None), ("9999-12-31T23:59:59-23:00", None),
        ("1970-01-01T00:00:00.000001Z", datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (datetime(1970, 1, 1, tzinfo=UTC), None),
        (" 2026-01-31T00:00:00Z\n", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T00:00:00", None), ("2026-02-30T00:00:00Z", None), ("", None), ("soon", None),
        (None, None),
        (0, None), (1769817600, None), ({}, None),
    ],
)  # fmt: skip
def test_times_are_utc_and_zero_times_are_none(given: object, found: datetime | None) -> None:
    assert normalise.instant(given) == found
    assert found is None or normalise.instant(given).tzinfo is UTC  # type: ignore[union-attr]


def test_lists_and_maps_drop_what_is_no_text() -> None:
    assert normalise.texts(["a", None, 7, "", {}, "e\u0301"]) == ["a", "7", "é"]
    assert normalise.addresses({"120": "u", "240": None, 320: "v"}) == {"120": "u", "320": "v"}
    assert normalise.texts(("a", "b")) == ["a", "b"]
    assert normalise.addresses({"": "u", 7: 8, "e\u0301": "e\u0301"}) == {"7": "8", "é": "é"}
    assert normalise.texts("abc") == [] == normalise.texts(None)
    assert normalise.addresses(["x"]) == {}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("208", 208),
        (208, 208),
        (208.0, 208),
        (0, 0),
        (-1, None),
        ("x", None),
        (None, None),
        (True, None),
        ("²", None),
        ("٣", None),
        (" 7 ", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
    ],
)
def test_counts_are_whole_and_not_negative(given: object, found: int | None) -> None:
    assert normalise.count(given) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (True, True),
        ("true", True),
        ("False", False),
        (" TRUE ", True),
        ("1", True),
        ("0", False),
        (1, True),
        (0, False),
        (2, None),
        (-1, None),
        (1.0, None),
        (None, None),
        ("", None),
    ],
)
def test_truth_is_told_in_several_ways(given: object, found: bool | None) -> None:
    assert normalise.truth(given) is found


# Letters, combining signs of several classes, jamo and Bengali vowels (which combine with what precedes and aren't
# combining signs), signs that decompose for good (U+0958, U+FB2C), into two combining ones (U+0344), or into those only
# and yet count as none (U+0F73), singletons (U+212B), and what stays apart.
SIGNS = (
    "aeơấ \n중각🌸\u0301\u0302\u0323\u0327\u031b\u1100\u1161\u11a8\u09c7\u09be\u09d7"
    "\u0958\ufb2c\u0344\u0f73\u0f75\u0f81\u212b"
)


def longest_run(value: str) -> int:
    """Of combining signs."""
    marked = "".join("m" if unicodedata.combining(sign) else " " for sign in value)
    return max(map(len, marked.split(" ")))


@given(st.lists(st.text(SIGNS, min_size=1, max_size=12), min_size=1), st.integers(1, 300))
@example(["Nguyễn Thị Mẫu ế "], 200)
@example(["\u1100\u1161\u11a8"], 700)
@example(["\u09c7\u09be"], 700)
def test_long_texts_are_composed_wherever_they_might_be_cut(pieces: list[str], times: int) -> None:
    value = unicodedata.normalize("NFD", ("".join(pieces) * times)[:4000])
    assume(longest_run(value) <= 58)

    assert normalise.nfc(value) == unicodedata.normalize("NFC", value)


@pytest.mark.parametrize("start", ["", "a", "ế", "\ufb2c", "đ" * 500])
@pytest.mark.parametrize("marks", [1, 28, 29, 30, 57, 58])
def test_up_to_58_combining_signs_in_a_row_are_composed_as_unicode_says(start: str, marks: int) -> None:
    for signs in ("\u0301", "\u0323\u0301"):
        value = start + (signs * marks)[:marks]

        assert normalise.nfc(value) == unicodedata.normalize("NFC", value)


def test_a_run_may_begin_the_text() -> None:
    assert normalise.nfc("\u0323" * 60) == "\u0323" * 60
    assert normalise.nfc("\u0323" * 61) == "\u0323" * 60 + "\u034f\u0323"


@pytest.mark.parametrize("marks", [59, 60, 61, 62, 120, 121, 5_000])
def test_a_run_of_more_than_60_is_parted_by_what_nobody_sees(marks: int) -> None:
    run = "q" + "\u0323\u0301" * (marks // 2) + "\u0323" * (marks % 2)

    found = normalise.nfc(run)

    assert unicodedata.is_normalized("NFC", found)
    assert found.count("\u034f") == (marks - 1) // 60
    assert sorted(found.replace("\u034f", "")) == sorted(run)
    assert longest_run(found) == min(marks, 60)


@given(st.lists(st.text(SIGNS, min_size=1, max_size=3), min_size=1, max_size=4), st.integers(1, 200))
@example(["\u0f73"], 200)
@example(["\u0344"], 31)
@example(["\ufb2c", "\u0344"], 30)
def test_any_text_is_nfc_and_stays_so(pieces: list[str], times: int) -> None:
    found = normalise.nfc("".join(piece * times for piece in pieces))

    assert unicodedata.is_normalized("NFC", found)
    assert normalise.nfc(found) == found


@pytest.mark.parametrize("signs", ["\u0301\u0327", "\u0f73", "\u0344\u0323", "\u1161\u0323", "\u0323\u0f75\u0301"])
def test_a_run_of_combining_signs_takes_no_quadratic_time(signs: str) -> None:
    # Whole, it would take 25 s.
    marks = "a" + signs * (200_000 // len(signs))
    began = time.process_time()

    composed = normalise.clean(marks)

    assert time.process_time() - began < 3
    assert unicodedata.is_normalized("NFC", composed[:5_000])
