"""How a feed's pointer moves, field by field."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.changes import ChangeCounts, Feed, FeedClaim, FeedJob, HeldJob, SetAside
from schemas.commands import EsmsFilter, EtelecomFilter, FetchEsmsFollowers, FetchEtelecomFollowers, FetchFollowers
from schemas.events import JobCompleted
from tests.fakes import EPOCH
from worker.core.changes.pointer import (
    EndedJob,
    begun_anew,
    blank,
    common_fields,
    feed_key,
    forgotten,
    held_back,
    is_comparable,
    is_held,
    is_wanted,
    kept,
    moved,
    reset,
    set_aside,
    why_unproven,
)

COUNTS = ChangeCounts(followed=1, unfollowed=2, changed=3)


def job(job_id: str, followers: int = 40) -> FeedJob:
    return FeedJob(job_id=job_id, started_at=EPOCH, followers=followers, labels={"of": job_id})


def claim(job_id: str, act: Any = "changes") -> FeedClaim:
    return FeedClaim(job=job(job_id), act=act, counts=COUNTS, after=7)


BLANK = Feed(provider="etelecom", account="shop", oa_id="1", filter={"tags": ["a"]})
ASIDE = SetAside(job_id="o", reason="older", message="m")
FULL = replace(
    BLANK,
    current=job("c"),
    next=claim("n"),
    held=HeldJob(job=job("h"), counts=COUNTS),
    gone=["g"],
    set_aside=ASIDE,
)


def ended(command: FetchFollowers, **fields: Any) -> EndedJob:
    counted: dict[str, Any] = dict.fromkeys(("pages", "followers", "distinct", "duplicates_dropped", "requests"), 1)
    said: dict[str, Any] = {"verdict": "complete", "missed_at_most": 0} | fields
    event = JobCompleted(
        job_id="j", provider=command.provider, account="other", oa_id="1", total_first=None, total_last=None,
        started_at=EPOCH, finished_at=EPOCH, **counted, **said,
    )  # fmt: skip
    return EndedJob(command=command, account="shop", ended=event, sequence=3)


@pytest.mark.parametrize(
    ("filter", "key"),
    [
        ({}, "etelecom.shop.1.all"),
        ({"tags": ["a"]}, "etelecom.shop.1.e287f621910b1259"),
        ({"gender": "female", "tags": ["a"]}, "etelecom.shop.1.f145d8c16da3315d"),
        ({"tags": ["a"], "gender": "female"}, "etelecom.shop.1.f145d8c16da3315d"),
    ],
)
def test_a_feeds_key_is_the_same_in_every_version(filter: dict[str, Any], key: str) -> None:
    assert feed_key(replace(FULL, filter=filter)) == key


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (FetchEtelecomFollowers(oa_id="1"), True),
        (FetchEsmsFollowers(oa_id="1", filter=EsmsFilter(tag="VIP")), True),
        (FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(gender="male", zl_user_ids=["1"])), True),
        (FetchEtelecomFollowers(oa_id="1", max_pages=1), False),
        (FetchEtelecomFollowers(oa_id="1", max_followers=1), False),
        (FetchEtelecomFollowers(oa_id="1", max_pages=1, max_followers=1), False),
        (FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(name="Mận")), False),
        (FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(phone="0900000000")), False),
        (FetchEtelecomFollowers(oa_id="1", filter=EtelecomFilter(gender="male", name="Mận")), False),
    ],
)
def test_whole_lists_are_followed_and_nobody_in_particular(command: FetchFollowers, wanted: bool) -> None:
    assert is_wanted(ended(command)) is wanted
    assert is_comparable(ended(command), drifted=False) is wanted


MOVED = "it moved while it was read: fetch it again, or set changes.drifted = true to take such lists"
UNKNOWN = "people may be missing from it (nobody knows how many; verdict {}): fetch it again"


@pytest.mark.parametrize(
    ("verdict", "missed", "drifted", "why"),
    [
        ("complete", 0, False, None),
        ("complete", 0, True, None),
        ("drifted", 0, True, None),
        ("drifted", 0, False, MOVED),
        ("truncated", 0, False, "it is truncated: fetch it again"),
        ("truncated", 0, True, "it is truncated: fetch it again"),
        ("complete", None, True, UNKNOWN.format("complete")),
        ("drifted", None, True, UNKNOWN.format("drifted")),
        ("drifted", 1, True, "people may be missing from it (at most 1; verdict drifted): fetch it again"),
    ],
)
def test_a_list_is_proven_or_it_is_said_why_not(
    verdict: Any, missed: int | None, drifted: bool, why: str | None
) -> None:
    job = ended(FetchEtelecomFollowers(oa_id="1"), verdict=verdict, missed_at_most=missed)

    assert why_unproven(job, drifted=drifted) == why
    assert is_comparable(job, drifted=drifted) is (why is None)


def test_a_feed_begins_with_the_commands_filter_whose_lists_have_no_order() -> None:
    filter = EtelecomFilter(tags=["b", "a", "b"], gender="female", has_conversation=False)

    found = blank(ended(FetchEtelecomFollowers(oa_id="1", filter=filter)))

    wanted: dict[str, Any] = {"gender": "female", "has_conversation": False, "tags": ["a", "b"]}
    assert found == Feed(provider="etelecom", account="shop", oa_id="1", filter=wanted)
    assert list(found.filter) == sorted(found.filter)
    assert blank(ended(FetchEsmsFollowers(oa_id="1"))) == Feed(provider="esms", account="shop", oa_id="1")


def test_a_feed_needs_the_lists_that_it_may_compare_or_release() -> None:
    assert kept(FULL) == {"c", "h"}
    assert kept(replace(FULL, held=None)) == {"c"}
    assert kept(replace(FULL, current=None)) == {"h"}
    assert kept(BLANK) == set()


def test_a_feed_that_took_a_list_has_that_one_alone() -> None:
    assert moved(FULL, claim("n")) == replace(BLANK, current=job("n"), gone=["c", "h"])
    assert moved(replace(BLANK, next=claim("n")), claim("n")) == replace(BLANK, current=job("n"))


def test_a_list_that_is_held_takes_the_place_of_one_that_was() -> None:
    held = HeldJob(job=job("n"), counts=COUNTS)

    assert held_back(FULL, claim("n")) == replace(BLANK, current=job("c"), held=held, gone=["h"])
    assert held_back(replace(FULL, held=None), claim("n")) == replace(BLANK, current=job("c"), held=held)


def test_a_feed_that_lost_a_snapshot_begins_anew() -> None:
    assert forgotten(FULL) == replace(BLANK, gone=["c", "h", "n"], set_aside=ASIDE)
    assert begun_anew(FULL, claim("n")) == replace(FULL, next=claim("n", "baseline"))


def test_a_feed_that_is_reset_forgets_its_lists_and_names_what_may_go() -> None:
    assert reset(replace(FULL, next=None)) == replace(BLANK, gone=["c", "g", "h"])


def test_a_list_that_is_set_aside_is_named_with_the_reason() -> None:
    assert set_aside(FULL, "x", "unproven", "why") == replace(
        FULL, set_aside=SetAside(job_id="x", reason="unproven", message="why")
    )


@pytest.mark.parametrize(
    ("feed", "act", "previous"),
    [(FULL, "changes", "c"), (FULL, "held", "c"), (FULL, "baseline", None), (BLANK, "changes", None)],
)
def test_all_events_of_a_set_say_whose_it_is_and_with_what_it_was_compared(
    feed: Feed, act: str, previous: str | None
) -> None:
    assert common_fields(feed, claim("n", act), 5) == {
        "job_id": "n",
        "provider": "etelecom",
        "account": "shop",
        "oa_id": "1",
        "labels": {"of": "n"},
        "previous_job_id": previous,
        "filter": {"tags": ["a"]},
        "of": 5,
    }


@pytest.mark.parametrize(
    ("before", "gone", "threshold", "held"),
    [
        (40, 12, 0.3, False),
        (40, 13, 0.3, True),
        (10, 9, 0.3, False),
        (10, 10, 0.3, True),
        (10, 10, 1.0, False),
        (None, 10, 0.3, False),
        (0, 10, 0.3, True),
        (1_000_000, 300_001, 0.3, True),
    ],
)
def test_more_than_a_share_and_ten_or_more_must_be_gone(
    before: int | None, gone: int, threshold: float, held: bool
) -> None:
    feed = replace(BLANK, current=job("c", before) if before is not None else None)

    assert is_held(feed, ChangeCounts(unfollowed=gone, followed=10**6), threshold) is held
