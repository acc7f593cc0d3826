"""How long an answer asks to wait: seconds, a date, or a time since 1970."""

from datetime import UTC, datetime

import pytest

from worker.providers.http.client import retry_after

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EPOCH = NOW.timestamp()
LONGEST = 366 * 86_400.0
DATE = "Sun, 01 Mar 2026 00:00:30 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("30", 30.0), (" 30 ", 30.0), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("0", 0.0), ("-5", 0.0)),
        *((f"{LONGEST:.0f}", LONGEST), (f"{LONGEST + 1:.0f}", LONGEST), ("9" * 40, LONGEST)),
        (f"{EPOCH + 60:.0f}", 60.0),
        (f"{EPOCH - 60:.0f}", 0.0),
        (f"{EPOCH * 1000 + 1500:.0f}", 1.5),
        (f"{EPOCH + LONGEST:.0f}", LONGEST),
        (f"{EPOCH - LONGEST:.0f}", 0.0),
        (f"{EPOCH + LONGEST + 1:.0f}", LONGEST),
        (f"{EPOCH - LONGEST - 1:.0f}", LONGEST),
        ("Sun, 01 Mar 2026 00:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 00:01:00 -0000", 60.0),
        ("Sun, 01 Mar 2026 07:01:00 +0700", 60.0),
        ("Sat, 28 Feb 2026 00:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2099 00:00:00 GMT", LONGEST),
        *(("soon", None), ("", None), ("1e3", None), ("\u0663", None), ("5 s", None), ("+5", None)),
    ],
)
def test_what_is_asked_for_is_bounded_by_a_year(value: str, seconds: float | None) -> None:
    assert retry_after(value, "", lambda: NOW) == seconds


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("Sun, 01 Mar 2026 00:01:00 GMT", DATE, 30.0),
        ("Sun, 01 Mar 2026 00:01:00 GMT", "yesterday", 60.0),
        (f"{EPOCH + 60:.0f}", DATE, 30.0),
        ("30", DATE, 30.0),
    ],
)
def test_a_date_counts_from_the_answers_own(value: str, date: str, seconds: float) -> None:
    assert retry_after(value, date, lambda: NOW) == seconds
