"""Due times against counting them one by one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.schedule_kit import VIETNAM, at, vietnam
from worker.core.schedules.decision import definition_of
from worker.core.schedules.timing import LONGEST_EVERY, Cron, Every, Timing, check_cron, seconds_of, zone_of

MINUTE = timedelta(minutes=1)
RANGES = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")

moments = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
spans = st.timedeltas(timedelta(seconds=1), timedelta(hours=30))


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    """A field of a cron expression, and what it means."""
    parts = draw(st.lists(st.one_of(single(low, high), spread(low, high)), min_size=1, max_size=3))
    everything = (
        st.just(("*", frozenset(range(low, high + 1)))),
        st.integers(2, 20).map(lambda n: every_nth(n, low, high)),
    )
    if draw(st.booleans()):
        return draw(st.one_of(*everything))
    return ",".join(text for text, _ in parts), frozenset().union(*(meaning for _, meaning in parts))


def every_nth(step: int, low: int, high: int) -> tuple[str, frozenset[int]]:
    return f"*/{step}", frozenset(range(low, high + 1, step))


def single(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    return st.integers(low, high).map(lambda number: (str(number), frozenset({number})))


def spread(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    ends = st.tuples(st.integers(low, high), st.integers(low, high), st.integers(1, 7)).filter(
        lambda ends: ends[0] != ends[1]
    )
    return ends.map(
        lambda drawn: (
            f"{min(drawn[:2])}-{max(drawn[:2])}/{drawn[2]}",
            frozenset(range(min(drawn[:2]), max(drawn[:2]) + 1, drawn[2])),
        )
    )


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, dict[str, tuple[str, frozenset[int]]]]:
    drawn = {name: draw(fields(*ends)) for name, ends in RANGES.items()}
    drawn["month"] = draw(st.sampled_from([drawn["month"], ("*", frozenset(range(1, 13)))]))
    return " ".join(text for text, _ in drawn.values()), drawn


def matches(local: datetime, drawn: dict[str, tuple[str, frozenset[int]]]) -> bool:
    """As crontab(5): the day of the month or of the week will do, unless one of them begins with a star."""
    (day, days), (weekday, weekdays) = drawn["day"], drawn["weekday"]
    by_day, by_weekday = local.day in days, local.isoweekday() % 7 in weekdays
    both = day.startswith("*") or weekday.startswith("*")
    return (
        local.minute in drawn["minute"][1]
        and local.hour in drawn["hour"][1]
        and local.month in drawn["month"][1]
        and ((by_day and by_weekday) if both else (by_day or by_weekday))
    )


def due_between(timing: Timing, after: datetime, until: datetime) -> Iterator[datetime]:
    due = timing.next_after(after)
    while due is not None and due <= until:
        yield due
        due = timing.next_after(due)


@given(expressions(), moments, spans)
def test_a_cron_expression_is_due_in_the_minutes_that_match_and_in_no_others(
    expression: tuple[str, dict[str, tuple[str, frozenset[int]]]], after: datetime, span: timedelta
) -> None:
    text, drawn = expression
    timing, until = Cron(text, VIETNAM), after + span
    first = after.replace(second=0, microsecond=0) + MINUTE
    minutes = [first + number * MINUTE for number in range(int((until - first) / MINUTE) + 1)] if first <= until else []

    expected = [minute for minute in minutes if matches(minute.astimezone(VIETNAM), drawn)]

    assert list(due_between(timing, after, until)) == expected
    assert timing.newest(after, until) == (expected[-1] if expected else None)


@given(st.integers(1, 200_000), moments, spans)
def test_an_interval_is_due_at_whole_multiples_since_midnight_of_2000(
    seconds: int, after: datetime, span: timedelta
) -> None:
    timing, start, until = (
        Every(seconds, VIETNAM),
        vietnam("2000-01-01"),
        after + min(span, timedelta(seconds=50 * seconds)),
    )
    number = int((after - start).total_seconds() // seconds) - 1
    candidates = [start + timedelta(seconds=seconds) * (number + step) for step in range(54)]

    expected = [due for due in candidates if after < due <= until]

    assert list(due_between(timing, after, until)) == expected
    assert timing.newest(after, until) == (expected[-1] if expected else None)


@given(st.integers(0, 59), st.integers(0, 23), st.sampled_from([BERLIN, NEW_YORK]), st.sampled_from([3, 10, 11]))
def test_where_clocks_change_a_time_of_the_day_is_due_once_a_day(
    minute: int, hour: int, zone: ZoneInfo, month: int
) -> None:
    timing = Cron(f"{minute} {hour} * * *", zone)
    start, end = (datetime(2026, number, 1, tzinfo=zone).astimezone(UTC) for number in (month, month + 1))

    due = list(due_between(timing, start - timedelta(seconds=1), end - timedelta(seconds=1)))

    days = (end - start + timedelta(hours=2)).days
    assert len({moment.astimezone(zone).date() for moment in due}) == len(due) == days


@given(
    st.sampled_from(["30 1 * * *", "15,45 1-2 * * *", "*/20 * * * *", "30 2 * * *", "0 */2 * * *"]),
    st.sampled_from(
        [(BERLIN, "2026-10-25"), (BERLIN, "2026-03-29"), (NEW_YORK, "2026-11-01"), (NEW_YORK, "2026-03-08")]
    ),
    st.integers(0, 30 * 3600),
    st.integers(1, 30 * 3600),
)
def test_where_clocks_change_it_does_not_matter_from_when_one_looks(
    text: str, night: tuple[ZoneInfo, str], offset: int, span: int
) -> None:
    zone, day = night
    timing, start = Cron(text, zone), at(day, zone) - timedelta(hours=6)
    after = start + timedelta(seconds=offset)
    until = after + timedelta(seconds=span)

    all_of_them = [due for due in due_between(timing, start, until) if due > after]

    assert list(due_between(timing, after, until)) == all_of_them
    assert timing.newest(after, until) == (all_of_them[-1] if all_of_them else None)


@pytest.mark.parametrize(
    ("text", "after", "due"),
    [
        ("0 3 * * *", "2026-11-28T02:59:59", "2026-11-28T03:00"),
        ("0 3 * * *", "2026-11-28T03:00", "2026-11-29T03:00"),
        ("30 2 L * *", "2027-02-01", "2027-02-28T02:30"),
        ("0 9 * * MON-FRI", "2026-11-28", "2026-11-30T09:00"),
        ("0 9 * * 7", "2026-11-28", "2026-11-29T09:00"),
        ("0 9 * * 5#3", "2026-11-01", "2026-11-20T09:00"),
        ("0 0 29 2 *", "2026-11-28", "2028-02-29T00:00"),
        ("0 12 1,15 JAN *", "2026-11-28", "2027-01-01T12:00"),
    ],
)
def test_what_people_write_means_what_they_mean(text: str, after: str, due: str) -> None:
    check_cron(text)

    assert Cron(text, VIETNAM).next_after(vietnam(after)) == vietnam(due)


def test_years_of_missed_minutes_are_not_counted_one_by_one() -> None:
    timing = Cron("* * * * *", VIETNAM)

    assert timing.newest(vietnam("2001-01-01"), vietnam("2026-11-28T03:00:59")) == vietnam("2026-11-28T03:00")
    assert Every(1, VIETNAM).newest(vietnam("2001-01-01"), vietnam("2026-11-28")) == vietnam("2026-11-28")


def test_a_rare_time_is_found_however_far_back_it_lies() -> None:
    timing = Cron("0 0 29 2 *", VIETNAM)

    assert timing.newest(vietnam("2020-01-01"), vietnam("2027-12-01")) == vietnam("2024-02-29")
    assert timing.newest(vietnam("2024-03-01"), vietnam("2027-12-01")) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 3 * *", "needs five fields"),
        ("0 0 3 * * *", "needs five fields"),
        ("@daily", "needs five fields"),
        ("60 3 * * *", "bad minute"),
        ("0 3 * * FUN", "bad day-of-week"),
        ("0 3 31 2 *", "bad day-of-month"),
        ("0-x 3 * * *", "bad minute"),
        ("*/0 3 * * *", "bad minute"),
        ("0 3 */20 * 1L", "is never due"),
    ],
)
def test_a_cron_expression_that_can_not_be_followed_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_cron(text)


@given(st.text("0123456789*/,-#LW MONJA", max_size=14))
def test_whatever_somebody_writes_is_taken_or_refused_with_a_reason(text: str) -> None:
    try:
        check_cron(text)
    except ValueError:
        return  # any other kind of error fails the test

    assert Cron(text, VIETNAM).next_after(vietnam("2026-11-28")) is not None


def test_intervals_are_written_with_a_unit_or_without() -> None:
    assert [seconds_of(text) for text in ("90", "30s", "90m", "6h", "1d")] == [90, 30, 5400, 21_600, 86_400]
    for wrong in ("", "h", "6 h", "1.5h", "-1", "6w", "٣h"):
        with pytest.raises(ValueError, match="must be seconds"):
            seconds_of(wrong)


def test_every_six_hours_is_at_round_hours_of_the_local_day() -> None:
    assert Every(21_600, VIETNAM).next_after(vietnam("2026-11-28T05:59")) == vietnam("2026-11-28T06:00")
    assert Every(LONGEST_EVERY, VIETNAM).newest(vietnam("2000-01-01"), vietnam("2000-12-31T23:59")) is None
    assert LONGEST_EVERY == 366 * 86_400


def test_intervals_are_counted_from_the_start_of_2000() -> None:
    week = Every(7 * 86_400, VIETNAM)

    assert week.next_after(vietnam("2000-01-01") - timedelta(seconds=1)) == vietnam("2000-01-01")
    assert week.next_after(vietnam("2000-01-01")) == vietnam("2000-01-08")


@pytest.mark.parametrize("name", ["", "Asia", "Asia/Saigon2", "/etc/passwd", "../UTC", "a\0b"])
def test_a_place_without_a_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no IANA time zone"):
        zone_of(name)


def test_known_time_zones_are_found() -> None:
    assert [str(zone_of(name)) for name in ("Asia/Ho_Chi_Minh", "UTC")] == ["Asia/Ho_Chi_Minh", "UTC"]


def test_a_definition_is_told_by_the_same_text_in_every_version() -> None:
    # It is stored: another text would begin every schedule anew after an upgrade.
    assert definition_of("a", 1) == "135f17a475a61afd"
    assert len({definition_of(), definition_of("a"), definition_of("a", "1"), definition_of("a1")}) == 4
