"""Each way in which a list can be other than it was published is found, and the first page in question is named."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from schemas import (
    FetchError,
    Follower,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    Progress,
)
from schemas.digest import START, next_digest
from schemas.verify import Checker, Finding

NOW = datetime(2026, 11, 23, tzinfo=UTC)
COMMON: dict[str, Any] = {"job_id": "j", "provider": "esms", "account": "a", "oa_id": "1"}
Story = list[Any]


def chained(pages: list[FollowerPage]) -> list[FollowerPage]:
    """`pages` with the counts, totals and digests that a worker gives them."""
    digest, so_far, done = START, 0, []
    for page in pages:
        digest, so_far = next_digest(digest, page.followers), so_far + len(page.followers)
        progress = replace(page.progress, followers=so_far)
        done.append(replace(page, count=len(page.followers), digest=digest, progress=progress))
    return done


def page(number: int, ids: str, *, part: int = 1, parts: int = 1, last: bool = False) -> FollowerPage:
    end = last and part == parts
    return FollowerPage(
        **COMMON,
        page=number,
        part=part,
        parts=parts,
        followers=[Follower(user_id=id) for id in ids],
        total=None,
        cursor=None if number == 1 else f"c{number}",
        next_cursor=None if last else f"c{number + 1}",
        last=end,
        fetched_at=NOW,
        progress=Progress(followers=0, duplicates_dropped=0, total_first=None, requests=1, started_at=NOW),
    )


def completed(pages: list[FollowerPage], **changes: Any) -> JobCompleted:
    followers = sum(len(page.followers) for page in pages)
    fields: dict[str, Any] = {
        "pages": pages[-1].page, "followers": followers, "distinct": followers, "duplicates_dropped": 0,
        "total_first": None, "total_last": None, "requests": 4, "started_at": NOW, "finished_at": NOW,
        "verdict": "complete", "digest": pages[-1].digest,
    }  # fmt: skip
    return JobCompleted(**COMMON, **(fields | changes))


def started(**changes: Any) -> JobStarted:
    fields: dict[str, Any] = {"resumed_at_page": 1, "started_at": NOW} | changes
    return JobStarted(**COMMON, **fields)


def failed() -> JobFailed:
    error = FetchError(code="internal", message="a bug", retryable=False)
    return JobFailed(**COMMON, error=error, finished_at=NOW)


def whole() -> Story:
    """Four pages, the third in two parts."""
    pages = chained([page(1, "ab"), page(2, "cd"), page(3, "e", parts=2), page(3, "f", part=2, parts=2)])
    pages = chained([*pages, page(4, "g", last=True)])
    return [started(), *pages, completed(pages)]


def check(story: Story) -> tuple[Finding | None, Checker]:
    checker = Checker()
    for event in story:
        if finding := checker.take(event):
            return finding, checker
    return checker.end(), checker


def test_a_list_as_it_was_published_is_verified() -> None:
    assert (Checker().begun, Checker().expected, Checker().digest) == (False, (1, 1), START)
    finding, checker = check(whole())

    assert finding is None
    assert (checker.begun, checker.expected, checker.completed) == (True, (5, 1), whole()[-1])
    assert (checker.pages, checker.followers, checker.distinct) == (4, 7, 7)
    assert checker.digest == whole()[-1].digest


def altered(index: int, **changes: Any) -> Callable[[Story], Any]:
    def alter(story: Story) -> None:
        story[index] = replace(story[index], **changes)

    return alter


def chained_anew(index: int, ids: str) -> Callable[[Story], Any]:
    """Somebody who alters a page and makes its digest fit, too."""

    def alter(story: Story) -> None:
        followers = [Follower(user_id=id) for id in ids]
        digest = next_digest(story[index - 1].digest, followers)
        story[index] = replace(story[index], followers=followers, digest=digest)

    return alter


def swap(story: Story) -> None:
    story[2], story[3] = story[3], story[2]


def progress(index: int, followers: int) -> Callable[[Story], Any]:
    return lambda story: altered(index, progress=replace(story[index].progress, followers=followers))(story)


def ids(text: str) -> list[Follower]:
    return [Follower(user_id=id) for id in text]


def somebody_twice(story: Story) -> None:
    pages = chained([page(1, "ab"), page(2, "cb", last=True)])
    story[:] = [started(), *pages, completed(pages)]


OTHER_IDS = "has other user ids than its digest was made of, or a page before it has"


@pytest.mark.parametrize(
    ("damage", "kind", "where", "says"),
    [
        (lambda story: story.pop(1), "missing", (1, 1), "page 1 is missing: page 2 comes instead"),
        (lambda story: story.pop(2), "missing", (2, 1), "page 2 is missing: page 3 comes instead"),
        (lambda story: story.pop(3), "missing", (3, 1), "page 3 is missing: page 3 part 2 comes instead"),
        (lambda story: story.pop(4), "missing", (3, 2), "page 3 part 2 is missing: page 4 comes instead"),
        (
            lambda story: story.pop(5),
            "missing",
            (4, 1),
            "page 4 is missing: the job completed, but the last page is not there",
        ),
        (swap, "missing", (2, 1), "page 2 is missing: page 3 comes instead"),
        (lambda story: story.insert(3, story[2]), "order", (2, 1), "page 2 stands where page 3 belongs"),
        (altered(2, followers=ids("xd")), "digest", (2, 1), f"page 2 {OTHER_IDS}"),
        (altered(2, followers=ids("dc")), "digest", (2, 1), f"page 2 {OTHER_IDS}"),
        (altered(4, followers=ids("x")), "digest", (3, 2), f"page 3 part 2 {OTHER_IDS}"),
        (altered(2, followers=ids("c")), "count", (2, 1), "page 2 says 2 followers, but has 1"),
        (altered(2, followers=ids("c"), count=1), "digest", (2, 1), f"page 2 {OTHER_IDS}"),
        (altered(2, count=3), "count", (2, 1), "page 2 says 3 followers, but has 2"),
        (chained_anew(2, "xd"), "digest", (3, 1), f"page 3 {OTHER_IDS}"),
        (chained_anew(5, "x"), "completed", (None, None), "the event `completed` says digest …"),
        (altered(2, digest=None), "digest", (3, 1), "page 3 has a digest, though the one before it has none"),
        (altered(2, cursor="c9"), "cursor", (2, 1), "page 2 was not read where the one before it points"),
        (altered(4, cursor="c9"), "cursor", (3, 2), "page 3 part 2 was not read where the one before it points"),
        (altered(2, last=True), "last", (2, 1), "page 2 says last: true, and its next_cursor says otherwise"),
        (
            altered(2, last=True, next_cursor=None),
            "last",
            (3, 1),
            "page 3 comes after page 2, which says that it is the last",
        ),
        (altered(5, last=False), "last", (4, 1), "page 4 says last: false, and its next_cursor says otherwise"),
        (altered(2, part=1, parts=1, page=9), "missing", (2, 1), "page 2 is missing: page 9 comes instead"),
        (progress(2, 3), "progress", (2, 1), "page 2 says 3 followers so far, but 4 are there"),
        (somebody_twice, "distinct", (2, 1), "page 2 has somebody who came before: its follower 2"),
        (altered(6, pages=3), "completed", (None, None), "the event `completed` says pages 3, not 4"),
        (altered(6, followers=8), "completed", (None, None), "the event `completed` says followers 8, not 7"),
        (altered(6, distinct=6), "completed", (None, None), "the event `completed` says distinct 6, not 7"),
        (
            altered(6, digest="0" * 64),
            "completed",
            (None, None),
            "the event `completed` says digest 0000000000000000000000000000000000000000000000000000000000000000, not …",
        ),
        (
            altered(6, digest=None),
            "no_digest",
            (4, None),
            "the event `completed` has no digest: an older version wrote it; all else fits",
        ),
        (
            lambda story: story.append(story[6]),
            "order",
            (None, None),
            "a job event comes after the end of generation 1",
        ),
        (altered(2, parts=0), "order", (2, 1), "page 2 has a part beyond its parts"),
        (
            lambda story: story.append(story.pop(5)),
            "missing",
            (4, 1),
            "page 4 is missing: the job completed, but the last page is not there",
        ),
        (lambda story: story.insert(7, story[5]), "order", (4, 1), "page 4 comes after the job's terminal event"),
        (
            lambda story: story.pop(),
            "unfinished",
            (None, None),
            "the job has no terminal event: it has 4 whole pages so far",
        ),
        (
            altered(6, generation=2),
            "order",
            (None, None),
            "a job event is of generation 2, where generation 1 is expected",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    damage: Callable[[Story], Any], kind: str, where: tuple[int | None, int | None], says: str
) -> None:
    story = whole()

    damage(story)
    finding, _ = check(story)

    assert finding is not None
    assert finding.text.startswith(says.removesuffix("…")) if says.endswith("…") else finding.text == says
    assert (finding.kind, (finding.page, finding.part)) == (kind, where)


def test_nobodys_id_is_in_what_is_said() -> None:
    pages = chained([page(1, "")])
    secret = [Follower(user_id="7800378501923859642")] * 2
    finding, _ = check(chained([replace(pages[0], followers=secret)]))

    assert finding is not None
    assert "7800378501923859642" not in str(finding)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (failed(), "the job failed after 1 whole page: the list isn't whole"),
        (JobCancelled(**COMMON, finished_at=NOW), "the job was cancelled after 1 whole page: the list isn't whole"),
    ],
)
def test_a_job_that_did_not_complete_is_not_whole(end: JobEvent, says: str) -> None:
    finding, _ = check([started(), *chained([page(1, "a")]), end])

    assert finding is not None
    assert finding.kind == "unfinished"
    assert (finding.text, finding.page) == (says, None)


def test_a_retry_after_a_failure_goes_on_and_ends_anew() -> None:
    pages = chained([page(1, "a"), page(2, "b", last=True)])
    reopened = started(generation=2, attempt=2)

    finding, _ = check([started(), pages[0], failed(), reopened, pages[1], completed(pages, generation=2)])

    assert finding is None


def test_events_of_an_earlier_generation_may_have_left_the_stream() -> None:
    pages = chained([page(1, "a", last=True)])

    finding, _ = check([started(generation=2, attempt=2), *pages, completed(pages, generation=2)])

    assert finding is None


def test_a_seal_without_followers_is_a_link_like_any_other() -> None:
    seal = replace(page(2, "", part=1, parts=2), next_cursor=None)
    pages = chained([page(1, "a"), seal, page(2, "b", part=2, parts=2, last=True)])

    finding, _ = check([started(), *pages, completed(pages)])

    assert finding is None


@pytest.mark.parametrize(
    ("end", "again"),
    [
        ("completed", ("started", "completed")),
        ("completed", ("started",)),
        ("completed", ("completed",)),
        ("cancelled", ("started", "completed")),
        ("failed", ("completed",)),
        ("failed", ("failed",)),
    ],
)
def test_only_a_failed_job_is_reopened_and_only_by_a_start(end: str, again: tuple[str, ...]) -> None:
    pages = chained([page(1, "ab"), page(2, "cd", last=True)])

    def told(kind: str, generation: int) -> JobEvent:
        if kind == "started":
            return started(generation=generation, attempt=2)
        if kind == "completed":
            return completed(pages, generation=generation)
        if kind == "cancelled":
            return JobCancelled(**COMMON, generation=generation, finished_at=NOW)
        return replace(failed(), generation=generation)

    story = [started(), *pages, told(end, 1), *(told(kind, 2) for kind in again)]

    finding, _ = check(story)

    assert finding is not None
    assert (finding.kind, finding.text) == ("order", "a job event comes after the end of generation 1")


@pytest.mark.parametrize(("second", "place"), [("cc", 2), ("cdc", 3), ("ca", 2), ("ab", 1), ("cdda", 3)])
def test_the_first_who_comes_twice_is_named_by_the_place_in_the_page(second: str, place: int) -> None:
    finding, checker = check([started(), *chained([page(1, "ab"), page(2, second)])])

    assert finding == Finding("distinct", f"page 2 has somebody who came before: its follower {place}", 2, 1)
    assert checker.distinct == len(set("ab" + second)), "they are counted all the same"
    assert (checker.pages, checker.followers) == (2, 2 + len(second))


def without_digests(pages: list[FollowerPage], *numbers: int) -> list[FollowerPage]:
    return [replace(each, digest=None, count=None) if each.page in numbers else each for each in pages]


@pytest.mark.parametrize(
    ("older", "says", "first"),
    [
        ((1, 2, 3), "page 1 has no digest", 1),
        ((3,), "page 3 has no digest", 3),
        ((2, 3), "page 2 has no digest", 2),
        ((), "the event `completed` has no digest", 3),
    ],
)
def test_the_first_page_of_an_older_version_is_named(older: tuple[int, ...], says: str, first: int) -> None:
    whole = chained([page(1, "a"), page(2, "b"), page(3, "c", last=True)])
    pages = without_digests(whole, *older)

    finding, checker = check([started(), *pages, completed(pages, digest=None)])

    assert finding == Finding("no_digest", f"{says}: an older version wrote it; all else fits", first)
    assert checker.without_digest == first


def test_a_page_with_a_digest_behind_one_without_is_where_the_chain_breaks() -> None:
    pages = without_digests(chained([page(1, "a"), page(2, "b"), page(3, "c", last=True)]), 1)

    finding, _ = check([started(), *pages])

    assert finding == Finding("digest", "page 2 has a digest, though the one before it has none", 2, 1)


def test_all_that_the_end_says_wrong_is_named_at_once() -> None:
    pages = chained([page(1, "ab", last=True)])
    end = replace(completed(pages), pages=2, followers=3, distinct=4, digest=None)

    finding, checker = check([started(), *pages, end])

    assert finding == Finding(
        "completed", "the event `completed` says pages 2, not 1; followers 3, not 2; distinct 4, not 2", None
    )
    assert checker.completed is not None


def test_a_retry_must_be_of_the_next_generation() -> None:
    for generation in (1, 3):
        finding, _ = check([started(), *chained([page(1, "a")]), failed(), started(generation=generation)])

        text = f"a job event is of generation {generation}, where generation 2 is expected"
        assert finding == Finding("order", text, None)


def test_a_job_that_failed_again_after_its_retry_is_not_whole() -> None:
    again = replace(failed(), generation=2)

    finding, _ = check([started(), *chained([page(1, "a"), page(2, "b")]), failed(), started(generation=2), again])

    assert finding == Finding("unfinished", "the job failed after 2 whole pages: the list isn't whole", None)


def test_a_page_that_is_not_whole_is_not_counted() -> None:
    finding, checker = check([started(), *chained([page(1, "a"), page(2, "b", parts=3)])])

    assert finding == Finding("unfinished", "the job has no terminal event: it has 1 whole page so far", None)
    assert (checker.pages, checker.expected, checker.begun) == (1, (2, 2), True)
