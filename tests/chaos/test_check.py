"""The checker itself: a clean log passes, and each way of breaking it shows."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.chaos.check import Findings, check
from tests.chaos.check_changes import check_changes, is_change
from tests.chaos.load import Command
from tests.chaos.records import Record

IDS = ("1", "2", "3", "4", "5")
Body = dict[str, Any]
Log = list[tuple[str, Body]]


def command(**changes: Any) -> Command:
    fields = {"job_id": "j", "provider": "etelecom", "oa_id": "9", "page_size": 2, "message_id": "m", "body": b""}
    return Command(**{**fields, "content_type": "application/json", "named": True, **changes})


def page(number: int, ids: tuple[str, ...], cursor: str | None, after: str | None, so_far: int, **changes: Any) -> Body:
    body = {
        "page": number,
        "followers": [{"user_id": user_id} for user_id in ids],
        "cursor": cursor,
        "next_cursor": after,
        "last": after is None,
        "progress": {"followers": so_far},
    }
    return {**body, **changes}


def clean() -> Log:
    """Five followers at two a page: eTelecom's list ends with an empty page."""
    counts = {"pages": 4, "followers": 5, "distinct": 5, "duplicates_dropped": 0, "requests": 4}
    return chained(
        [
            ("job", {"type": "started", "attempt": 1, "resumed_at_page": 1}),
            ("page", page(1, ("1", "2"), None, "a", 2)),
            ("page", page(2, ("3", "4"), "a", "b", 4)),
            ("page", page(3, ("5",), "b", "c", 5)),
            ("page", page(4, (), "c", None, 5)),
            ("job", {"type": "completed", "verdict": "complete", **counts}),
        ]
    )


def chained(log: Log) -> Log:
    """Give the pages of `log` their counts and digests, and the last one to its end."""
    digest = bytes(32)
    for kind, body in log:
        if kind == "page":
            ids = [follower["user_id"] for follower in body["followers"]]
            digest = hashlib.sha256(digest + "".join(f"{id}\n" for id in ids).encode()).digest()
            body.update(count=len(ids), digest=digest.hex())
    log[-1][1].update(digest=digest.hex())
    return log


def found(log: Log, *, asked: Command | None = None, letters: int = 0) -> Findings:
    records = [
        record(sequence, f"followers.{kind}.etelecom.9.j", body) for sequence, (kind, body) in enumerate(log, start=1)
    ]
    dead = [record(1, "followers.dead.etelecom", {}, {"Followers-Job-Id": "j"})] * letters
    return check([asked or command()], {("etelecom", "9"): IDS}, records, dead)


def record(sequence: int, subject: str, body: Body, headers: dict[str, str] | None = None) -> Record:
    return Record(sequence=sequence, at=0.0, subject=subject, headers=headers or {}, body=msgspec.json.encode(body))


def test_a_log_that_keeps_every_promise_has_no_violation() -> None:
    findings = found(clean())

    assert findings.violations == []
    assert (findings.pages_expected, findings.pages_published, findings.lost) == (4, 4, 0)


def test_a_page_in_parts_whose_later_part_was_read_again_is_no_violation() -> None:
    log = clean()
    first = page(1, ("1",), None, "old", 1, part=1, parts=2)
    second = page(1, ("2",), None, "a", 2, part=2, parts=2)
    log[1:2] = [("page", first), ("page", second)]

    findings = found(chained(log))

    assert findings.violations == []
    assert findings.split_pages == 1


def swap(log: Log) -> None:
    log[2], log[3] = log[3], log[2]


def another_reading(log: Log) -> None:
    log[2] = ("page", page(2, ("3", "4"), "other reading", "b", 4))


def without_the_last_part(log: Log) -> None:
    log[1] = ("page", page(1, ("1", "2"), None, "a", 2, part=1, parts=2))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda log: log.pop(2), "lost"),
        (lambda log: log.pop(), "lost command"),
        (lambda log: log.insert(3, log[2]), "duplicated"),
        (swap, "out of order"),
        (another_reading, "chain"),
        (without_the_last_part, "parts"),
        (lambda log: log[1][1].update(last=True), "last"),
        (lambda log: log[4][1].update(last=False), "last"),
        (lambda log: log[4][1].update(next_cursor="d"), "chain"),
        (lambda log: log.insert(5, ("page", page(5, (), None, None, 5))), "pages"),
        (lambda log: log[1][1]["followers"].reverse(), "followers"),
        (lambda log: log[3][1].update(followers=[]), "followers"),
        (lambda log: log[3][1].update(followers=[{"user_id": "6"}]), "digest"),
        (lambda log: log[2][1].update(digest=log[1][1]["digest"]), "digest"),
        (lambda log: log[2][1].pop("digest"), "digest"),
        (lambda log: log[2][1].update(count=3), "digest"),
        (lambda log: log[5][1].update(digest=log[3][1]["digest"]), "counts"),
        (lambda log: log[2][1]["progress"].update(followers=3), "progress"),
        (lambda log: log.append(log[5]), "terminal"),
        (lambda log: log.append(log[0]), "terminal"),
        (lambda log: log.append(log.pop(4)), "terminal"),
        (lambda log: log[5][1].update(type="failed"), "terminal"),
        (lambda log: log[5][1].update(pages=3), "counts"),
        (lambda log: log[5][1].update(verdict="drifted"), "counts"),
        (lambda log: log[5][1].update(requests=2), "counts"),
        (lambda log: log[0][1].update(attempt=2), "attempts"),
    ],
)
def test_each_broken_promise_is_found(damage: Callable[[Log], object], kind: str) -> None:
    log = clean()

    damage(log)

    assert kind in {violation.kind for violation in found(log).violations}


def test_a_dead_letter_of_a_valid_command_is_a_violation() -> None:
    assert [violation.kind for violation in found(clean(), letters=1).violations] == ["dead letter"]


def test_an_invalid_command_must_fail_with_a_dead_letter_and_without_pages() -> None:
    poison = command(poison=True)
    failed: Log = [("job", {"type": "failed"})]

    assert found(failed, asked=poison, letters=2).violations == []
    assert [violation.kind for violation in found(failed, asked=poison).violations] == ["dead letter"]
    assert {violation.kind for violation in found(clean(), asked=poison, letters=1).violations} == {"poison"}


def test_events_of_a_job_that_nobody_asked_for_are_a_violation() -> None:
    findings = found(clean(), asked=command(job_id="other"))

    assert {violation.kind for violation in findings.violations} == {"stray", "lost", "lost command", "followers"}


# Changes

Story = list[tuple[str, Body]]


def fed() -> Story:
    """Two complete lists of one feed, and what was told of them."""
    feed = {"provider": "etelecom", "account": "shop", "oa_id": "9"}
    ended = {**feed, "type": "completed", "verdict": "complete"}
    place = {**feed, "number": 1, "of": 1}
    return [
        ("job.etelecom.9.j", {**ended, "job_id": "j", "started_at": "2026-11-23T01:00:00Z"}),
        ("change.etelecom.9", {**place, "job_id": "j", "type": "baseline"}),
        ("job.etelecom.9.k", {**ended, "job_id": "k", "started_at": "2026-11-23T01:00:00.5Z"}),
        ("change.etelecom.9", {**place, "job_id": "k", "type": "compared", "previous_job_id": "j"}),
    ]


def wrong_changes(story: Story) -> list[tuple[str, str]]:
    records = [record(sequence, f"followers.{end}", body) for sequence, (end, body) in enumerate(story, start=1)]
    events = [one for one in records if not is_change(one)]
    return list(check_changes([one for one in records if is_change(one)], events))


def test_a_baseline_and_what_is_compared_with_it_keep_every_promise() -> None:
    assert wrong_changes(fed()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda story: story.pop(3),
        lambda story: story.append(story[3]),
        lambda story: story[3][1].update(type="baseline"),
        lambda story: story[3][1].update(previous_job_id="i"),
        lambda story: story[3][1].update(of=2),
        lambda story: story.insert(1, story.pop(3)),
    ],
)
def test_each_broken_promise_of_the_changes_is_found(damage: Callable[[Story], object]) -> None:
    story = fed()

    damage(story)

    assert wrong_changes(story) != []


@pytest.mark.parametrize(("times", "kinds"), [(1, []), (2, ["id"])])
def test_whose_an_id_is_is_no_event_and_is_written_once(times: int, kinds: list[str]) -> None:
    records = [record(sequence, "followers.id.job-1", {}) for sequence in range(1, times + 1)]

    findings = check([], {}, records, [])

    assert [violation.kind for violation in findings.violations] == kinds
