"""The checker itself: a clean log passes, and each way of breaking it shows."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.chaos.acts import Asked, Told
from tests.chaos.check import Findings, check
from tests.chaos.check_acts import STOPS_WITHIN, check_answers, check_statuses
from tests.chaos.check_changes import check_changes, is_change
from tests.chaos.load import Command
from tests.chaos.records import Record
from worker.core.status.wait_reasons import unread

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


def found(
    log: Log, *, asked: Command | None = None, letters: int = 0, acts: Asked | None = None, at: float = 0.0
) -> Findings:
    records = recorded(log, at=at)
    dead = [record(1, "followers.dead.etelecom", {}, {"Followers-Job-Id": "j"})] * letters
    return check([asked or command()], {("etelecom", "9"): IDS}, records, dead, acts)


def recorded(log: Log, *, at: float = 0.0) -> list[Record]:
    """Return the messages of `log`, one a second from `at` on."""
    return [
        record(sequence, f"followers.{kind}.etelecom.9.j", body, at=at + sequence)
        for sequence, (kind, body) in enumerate(log, start=1)
    ]


def record(
    sequence: int, subject: str, body: Body, headers: dict[str, str] | None = None, *, at: float = 0.0
) -> Record:
    return Record(sequence=sequence, at=at, subject=subject, headers=headers or {}, body=msgspec.json.encode(body))


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


# Cancels and retries


def cut_short() -> Log:
    """The same list, cancelled at its second page, of which a part is there."""
    part = page(2, ("3",), "a", None, 3, part=1, parts=2, last=False)
    return chained([*clean()[:2], ("page", part), ("job", {"type": "cancelled", "attempt": 1})])


def retried() -> Log:
    """The same list, which failed behind its first page, and whose dead letter was retried."""
    log = clean()
    error = {"code": "bad_response", "message": "no"}
    log[2:2] = [
        ("job", {"type": "failed", "attempt": 1, "error": error}),
        ("job", {"type": "started", "attempt": 2, "generation": 2, "resumed_at_page": 2}),
    ]
    log[-1][1].update(generation=2)
    return log


CANCELLED = Asked(cancelled={"j": 3.0})
RETRIED = Asked(retried=Counter({"j": 1}))


def test_a_cancelled_job_has_the_first_pages_of_its_list() -> None:
    findings = found(cut_short(), acts=CANCELLED)

    assert findings.violations == []
    assert (findings.cancelled, findings.pages_expected, findings.pages_published) == (1, 1, 1)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda log: log.insert(3, log[3]), "terminal"),
        (lambda log: log.append(log[2]), "terminal"),
        (lambda log: log.append(("job", {"type": "started", "attempt": 2, "resumed_at_page": 2})), "terminal"),
        (lambda log: log.pop(1), "chain"),
        (lambda log: log[2][1].update(part=2), "parts"),
        (lambda log: log[2][1].update(cursor="other reading"), "chain"),
        (lambda log: log[2][1].update(last=True), "last"),
        (lambda log: log[2][1].update(followers=[{"user_id": "5"}]), "followers"),
        (lambda log: log[2][1].update(page=3), "pages"),
    ],
)
def test_each_broken_promise_of_a_cancelled_job_is_found(damage: Callable[[Log], object], kind: str) -> None:
    log = cut_short()

    damage(log)

    assert kind in {violation.kind for violation in found(log, acts=CANCELLED).violations}


@pytest.mark.parametrize("acts", [Asked(), Asked(cancelled={"j": 4.2}), Asked(cancelled={"k": 3.0})])
def test_a_job_that_nobody_has_cancelled_by_then_must_not_end_as_cancelled(acts: Asked) -> None:
    assert [violation.kind for violation in found(cut_short(), acts=acts).violations] == ["cancel"]


def test_a_retried_job_ends_once_a_generation_and_completes() -> None:
    findings = found(retried(), asked=command(fails=True), acts=RETRIED)

    assert findings.violations == []
    assert findings.reopened == 1
    assert [(end.type, end.pages, end.followers) for end in findings.ends["j"]] == [
        ("failed", 1, 2),
        ("completed", 4, 5),
    ]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda log: log[3][1].update(generation=1), "terminal"),
        (lambda log: log[7][1].update(generation=1), "terminal"),
        (lambda log: log.pop(3), "terminal"),
        (lambda log: log.insert(3, log[4]), "terminal"),
        (lambda log: log[2][1].update(type="cancelled"), "terminal"),
        (lambda log: log.insert(5, log[4]), "duplicated"),
        (lambda log: log[7][1].update(type="failed"), "retry"),
        (lambda log: log.append(log[7]), "terminal"),
    ],
)
def test_each_broken_promise_of_a_retried_job_is_found(damage: Callable[[Log], object], kind: str) -> None:
    log = retried()

    damage(log)

    kinds = {violation.kind for violation in found(log, asked=command(fails=True), acts=RETRIED).violations}
    assert kind in kinds


def test_another_generation_without_a_retry_and_a_failure_of_a_sound_job_are_violations() -> None:
    assert [violation.kind for violation in found(retried(), asked=command(fails=True)).violations] == ["retry"]
    assert [violation.kind for violation in found(retried(), acts=RETRIED).violations] == ["terminal"]


# Statuses and answers


def status_of(log: Log, **changes: Any) -> Body:
    end = found(log, asked=command(fails=True), acts=RETRIED).ends["j"][-1]
    told = {
        "state": end.type,
        "page": end.pages,
        "followers": end.followers,
        "generation": end.generation,
        "event_sequence": end.record.sequence,
        "verdict": end.data.get("verdict"),
        "error": end.data.get("error"),
    }
    return {name: value for name, value in (told | changes).items() if value is not None}


@pytest.mark.parametrize("log", [clean(), cut_short(), retried(), retried()[:3]])
def test_a_status_that_is_its_jobs_last_end_is_no_violation(log: Log) -> None:
    ends = found(log, asked=command(fails=True)).ends

    assert list(check_statuses(ends, {"j": status_of(log)})) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "running"},
        {"state": "failed"},
        {"page": 3},
        {"followers": 4},
        {"generation": 1},
        {"event_sequence": 3},
        {"verdict": "drifted"},
        {"error": {"code": "internal"}},
    ],
)
def test_a_status_that_differs_from_the_last_end_is_found(changes: Body) -> None:
    log = retried()
    ends = found(log, asked=command(fails=True)).ends

    (violation,) = check_statuses(ends, {"j": status_of(log, **changes)})

    assert (violation.kind, violation.job_id) == ("status", "j")
    assert next(iter(changes)) in violation.text


def test_an_error_that_is_not_the_ends_a_missing_status_and_a_strangers_are_found() -> None:
    log = retried()[:3]
    ends = found(log, asked=command(fails=True)).ends
    wrong = status_of(log, error={"code": "unauthorized"})

    assert [one.kind for one in check_statuses(ends, {"j": wrong})] == ["status"]
    assert [one.kind for one in check_statuses(ends, {})] == ["status"]
    assert [one.job_id for one in check_statuses(ends, {"j": status_of(log), "k": wrong})] == ["k"]


def answer(sent: float, state: str | None, *, act: Any = "status", received: float | None = None, **more: Any) -> Told:
    """An answer about a job that started, failed, started again and completed: at 1, 3, 4 and 8 s."""
    said = {"state": state, **more} if state else {"error": {"code": "not_found"}, **more}
    return Told(act=act, job_id="j", sent=sent, received=sent + 0.1 if received is None else received, answer=said)


def wrong_answers(told: Told) -> list[str]:
    ends = found(retried(), asked=command(fails=True), acts=RETRIED).ends
    return [one.kind for one in check_answers(Asked(told=[told]), ends, recorded(retried()))]


BAD = {"code": "bad_response"}


@pytest.mark.parametrize(
    "told",
    [
        answer(0.5, None),
        answer(0.5, "queued"),
        answer(2.0, "running"),
        answer(2.5, "failed", error=BAD, received=3.1),
        answer(3.01, "running"),
        answer(3.5, "failed", error=BAD),
        answer(3.5, "running", generation=2),
        answer(3.5, "running", received=4.1),
        answer(5.0, "waiting", generation=2),
        answer(7.0, "completed", generation=2, received=8.0),
        answer(9.0, "completed", generation=2),
        answer(9.0, None, error={"code": "internal"}),
        answer(9.0, None, error={"code": "rate_limited"}),
        answer(9.0, "running", wait=msgspec.to_builtins(unread(datetime.now(UTC)))),
    ],
)
def test_an_answer_that_the_log_bears_out_is_no_violation(told: Told) -> None:
    assert wrong_answers(told) == []


@pytest.mark.parametrize(
    "told",
    [
        answer(0.5, "completed", generation=2),
        answer(2.0, "failed", error=BAD),
        answer(3.5, "running"),
        answer(3.5, "queued"),
        answer(3.5, None),
        answer(3.5, "failed", error={"code": "internal"}),
        answer(3.5, "cancelled"),
        answer(5.0, "completed", generation=2),
        answer(9.0, "failed", error=BAD),
        answer(9.0, "running", generation=2),
        answer(9.0, "running", generation=2, wait={"owner": "nats", "text": "NATS takes nothing"}),
        answer(9.0, "completed"),
        answer(9.0, "running", generation=2, act="cancel"),
        answer(9.0, None),
    ],
)
def test_an_answer_that_contradicts_the_log_is_found(told: Told) -> None:
    assert wrong_answers(told) == ["answer"]


def test_a_state_of_nobodys_job_and_cancels_without_effect_are_found() -> None:
    queued = [Told(act="cancel", job_id="j", sent=0.8, received=at, answer={"state": "queued"}) for at in (0.9, 1.0)]
    assert [[one.kind for one in check_answers(Asked(told=[one]), found(clean()).ends, recorded(clean()))]
            for one in queued] == [["cancel"], []]  # fmt: skip
    nobody = Told(act="status", job_id="nobody", sent=1.0, received=1.1, answer={"state": "queued"})
    cancel = answer(2.0, "running", act="cancel", received=2.0)
    ends = found(clean()).ends

    assert wrong_answers(nobody) == ["answer"]
    for late, kinds in ((STOPS_WITHIN, []), (STOPS_WITHIN + 0.1, ["cancel"])):
        last = record(9, "followers.page.etelecom.9.j", {}, at=cancel.received + late)
        assert [one.kind for one in check_answers(Asked(told=[cancel]), ends, [last])] == kinds


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


PEOPLE = {"j": frozenset("abcdefghijklm"), "k": frozenset("ab"), "l": frozenset("abz")}


def held_and_released() -> Story:
    """Nearly everybody goes, which is held and then released, and somebody comes."""
    (_, job), baseline, (_, second), _ = fed()
    gone = sorted(PEOPLE["j"] - PEOPLE["k"])
    feed = {name: job[name] for name in ("provider", "account", "oa_id")}
    of_k = {**feed, "job_id": "k", "previous_job_id": "j", "of": len(gone) + 1}
    of_l = {**feed, "job_id": "l", "previous_job_id": "k", "of": 2}
    sets = [
        {**of_k, "type": "held", "number": 1, "of": 1, "counts": {"unfollowed": len(gone)}},
        *({**of_k, "type": "unfollowed", "number": number, "user_id": id} for number, id in enumerate(gone, 1)),
        {**of_k, "type": "compared", "number": len(gone) + 1},
        {**of_l, "type": "followed", "number": 1, "user_id": "z"},
        {**of_l, "type": "compared", "number": 2},
    ]
    jobs = [("job.etelecom.9.j", job), baseline, ("job.etelecom.9.k", second)]
    third = ("job.etelecom.9.l", {**second, "job_id": "l"})
    return [*jobs, *(("change.etelecom.9", body) for body in sets), third]


def wrong_releases(story: Story, released: set[str], maybe: set[str]) -> list[tuple[str, str]]:
    records = [record(sequence, f"followers.{end}", body) for sequence, (end, body) in enumerate(story, start=1)]
    events = [one for one in records if not is_change(one)]
    changes = [one for one in records if is_change(one)]
    return list(check_changes(changes, events, PEOPLE, released=released, maybe=maybe))


def test_a_held_list_that_is_released_keeps_every_promise() -> None:
    assert wrong_releases(held_and_released(), {"k"}, {"k"}) == []
    assert wrong_releases(held_and_released()[:4], set(), set()) == [], "it is held still"


@pytest.mark.parametrize(
    "damage",
    [
        lambda story: story.pop(3),
        lambda story: story.pop(6),
        lambda story: story.insert(6, story[6]),
        lambda story: story.insert(4, story[3]),
        lambda story: story[3][1].update(counts={"unfollowed": 2}),
        lambda story: story[5][1].update(user_id="a"),
        lambda story: story[16][1].update(user_id="y"),
        lambda story: story.extend(story[4:16]),
        lambda story: story.insert(15, story.pop(3)),
        lambda story: story[-2][1].update(previous_job_id="j"),
    ],
)
def test_each_broken_promise_of_a_release_is_found(damage: Callable[[Story], object]) -> None:
    story = held_and_released()

    damage(story)

    assert wrong_releases(story, {"k"}, {"k"}) != []


def test_a_release_that_nobody_asked_for_and_one_that_published_nothing_are_found() -> None:
    assert wrong_releases(held_and_released(), set(), set()) != []
    assert wrong_releases(held_and_released()[:4], {"k"}, {"k"}) != []


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
