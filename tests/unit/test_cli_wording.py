"""Times in a terminal: one form a line."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from schemas.events import JobWaiting
from schemas.jobs import JobStatus
from schemas.wait import Wait
from worker.cli.follow import show
from worker.cli.jobs import _lines, _note
from worker.cli.watch import drawing, line
from worker.cli.wording import clock, has_time, moment, with_times

AT = datetime(2026, 11, 23, 12, 0, 45, tzinfo=UTC)
TEXT = "request 1 for its next page failed (provider_unavailable): it is tried again at 2026-11-23T12:00:45Z"
LIMIT = "3 requests are in line before its own"


def wait(text: str = TEXT) -> Wait:
    return Wait(owner="provider", reason="provider_unavailable", since=AT, until=AT, text=text)


def status(job_id: str = "j", **fields: Any) -> JobStatus:
    known: dict[str, Any] = {"state": "waiting", "updated_at": AT, "until": AT, "wait": wait()}
    return JobStatus(job_id=job_id, provider="esms", account="a", oa_id="1", **(known | fields))


def test_a_time_is_told_with_its_day_or_without() -> None:
    east = AT.astimezone(timezone(timedelta(hours=7)))

    assert (moment(east), moment(None)) == ("2026-11-23 12:00:45Z", "")
    assert clock(east) == "12:00:45 UTC"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TEXT, TEXT.replace("2026-11-23T12:00:45Z", "12:00:45 UTC")),
        ("at 2026-11-23T12:00:45Z and at 2026-11-23T12:00:46Z;", "at 12:00:45 UTC and at 12:00:46 UTC;"),
        ("job nightly-2026-11-23 at page 3", "job nightly-2026-11-23 at page 3"),
        (LIMIT, LIMIT),
    ],
)
def test_the_times_in_a_sentence_become_of_that_form(text: str, told: str) -> None:
    assert with_times(text, clock) == told
    assert has_time(text) == (text != told)


def test_status_and_jobs_tell_all_times_in_one_form() -> None:
    lines = dict(_lines(status()))

    assert lines["waits"].endswith("it is tried again at 2026-11-23 12:00:45Z")
    assert lines["until"] == "2026-11-23 12:00:45Z"
    assert _note(status()).endswith("at 2026-11-23 12:00:45Z")


def test_watch_and_fetch_tell_the_time_once() -> None:
    class Heard:
        lines: list[str] = []  # noqa: RUF012

        def page(self, page: object) -> None: ...

        def say(self, line: str) -> None:
            self.lines.append(line)

    heard = Heard()
    for text in (TEXT, LIMIT):
        event = JobWaiting(
            job_id="j", provider="esms", account="a", oa_id="1", labels={}, attempt=1, reason="rate_limited", until=AT,
            wait=wait(text),
        )  # fmt: skip
        show(event, heard)

    assert heard.lines == [f"waiting: {with_times(TEXT, clock)}", f"waiting until 12:00:45 UTC: {LIMIT}"]
    assert line(status()).endswith("it is tried again at 12:00:45 UTC")


def test_watched_rows_stay_where_they_are_while_jobs_move() -> None:
    looks = []
    for turn in (1, -1):
        jobs = {
            name: status(name, state="running", wait=None, started_at=AT + timedelta(seconds=started),
                         updated_at=AT + timedelta(seconds=turn * number))
            for number, (name, started) in enumerate([("old", 0), ("new", 9), ("twin", 9)])
        }  # fmt: skip
        jobs["over"] = status("over", state="completed", wait=None, started_at=AT, finished_at=AT)
        looks.append(list(drawing(jobs, AT, 9).columns[0].cells))

    assert [str(cell) for cell in looks[0]] == ["new", "twin", "old", "over"]
    assert looks[0] == looks[1]
