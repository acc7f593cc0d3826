"""What providers send becomes what our events say."""

import time
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given
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
        ("7800378501923859642", "7800378501923859642"),
        (961919545811768483, "961919545811768483"),
        (" 12 ", "12"),
        ("0", None), (0, None), ("", None), ("000", None), (None, None), (True, None),
        (9.61919545811768483e17, None), ([], None), pytest.param(10**4400, None, id="endless"),
    ],
)  # fmt: skip
def test_ids_keep_every_digit_and_zero_is_none(given: object, found: str | None) -> None:
    assert normalise.identifier(given) == found


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
        (1, True),
        (0, False),
        (2, None),
        (None, None),
        ("", None),
    ],
)
def test_truth_is_told_in_several_ways(given: object, found: bool | None) -> None:
    assert normalise.truth(given) is found


def test_a_long_text_is_composed_too():
    long = "Nguyễn Thị Mẫu ế " * 500

    assert normalise.clean(unicodedata.normalize("NFD", long)) == long


def test_a_run_of_combining_signs_takes_no_quadratic_time():
    # Whole, it would take 25 s.
    marks = "a" + "\u0301\u0327" * 100_000
    began = time.perf_counter()

    composed = normalise.clean(marks)

    assert time.perf_counter() - began < 3
    assert composed.count("\u0327") == 100_000
