"""A clock that is behind the server's."""

from datetime import UTC, datetime, timedelta

from worker.jetstream.events.latest_time import LatestTime, wall_clock

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def micros(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


def test_it_is_the_machines_time_until_the_server_shows_a_later_one() -> None:
    latest = LatestTime(lambda: NOON)

    assert latest() == NOON
    latest.hear(micros(NOON - timedelta(hours=1)))
    assert latest() == NOON
    latest.hear(micros(NOON + timedelta(microseconds=1)))
    assert latest() == NOON + timedelta(microseconds=1)
    latest.hear(micros(NOON))
    assert latest() == NOON + timedelta(microseconds=1)


def test_by_default_it_is_this_machines() -> None:
    before = datetime.now(UTC)

    assert before <= LatestTime()() <= datetime.now(UTC)
    assert wall_clock().tzinfo is UTC
