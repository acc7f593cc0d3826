"""What must be true of a job once all is quiet, from its events alone."""

from collections.abc import Sequence

from schemas import FollowerPage, JobCompleted, JobEvent, JobFailed, JobStarted, decode
from schemas.digest import START, next_digest
from schemas.events import TERMINAL
from schemas.subjects import job_subject, page_subject
from schemas.types import Provider
from schemas.verify import Checker
from tests.simulation.model import Stream


def problems(stream: Stream, provider: Provider, job_id: str, ids: list[str]) -> list[str]:
    """Return what is wrong with the job whose list is `ids`; empty when all is well."""
    story = read(stream, provider, job_id)
    pages = [event for event in story if isinstance(event, FollowerPage)]
    end = story[-1] if story else None
    found = [*_order_problems(story), *_page_problems(pages), *_digest_problems(pages)]
    if not isinstance(end, TERMINAL):
        found.append("no terminal event at the end")
    published = [follower.user_id for page in pages for follower in page.followers]
    if not isinstance(end, JobCompleted):
        return [*found, *([] if published == ids[: len(published)] else ["what was published is not in order"])]
    if published != ids:
        found.append(f"published {len(published)} followers ({len(set(published))} different) of {len(ids)}")
    if (end.followers, end.pages) != (len(ids), pages[-1].page if pages else 0):
        found.append(f"completed says {end.pages} pages and {end.followers} followers")
    if [page.last for page in pages] != [False] * (len(pages) - 1) + [True]:
        found.append("`last` is not on the last page alone")
    if end.digest != pages[-1].digest:
        found.append("completed has another digest than the last page")
    # What an auditor's checker says must agree: it sees no more than the events either.
    checker = Checker()
    finding = next((one for one in map(checker.take, story) if one), None) or checker.end()
    if finding is not None and not found:
        found.append(f"`followers verify` finds fault with a job in order: {finding.text}")
    return found


def read(stream: Stream, provider: Provider, job_id: str) -> list[FollowerPage | JobEvent]:
    """Return the job's pages and events in the order in which the stream has them."""
    pages, events = page_subject(provider, "oa", job_id), job_subject(provider, "oa", job_id)
    return [
        decode(entry.data, FollowerPage if subject == pages else JobEvent)
        for subject, entry in stream.entries
        if subject in (pages, events)
    ]


def _order_problems(story: Sequence[FollowerPage | JobEvent]) -> list[str]:
    found = []
    generation, attempt, end = 1, 0, None
    for event in story:
        if end is not None and isinstance(end, JobFailed) and isinstance(event, JobStarted):
            generation, end = generation + 1, None
        elif end is not None:
            found.append(f"{type(event).__name__} after the terminal event {type(end).__name__}")
        if isinstance(event, FollowerPage):
            continue
        if event.generation != generation:
            found.append(f"{type(event).__name__} is of generation {event.generation}, not {generation}")
        if isinstance(event, JobStarted):
            if event.attempt <= attempt:
                found.append(f"attempt {event.attempt} started after attempt {attempt}")
            attempt = event.attempt
        if isinstance(event, TERMINAL):
            end = event
    return found


def _page_problems(pages: Sequence[FollowerPage]) -> list[str]:
    found = []
    for before, after in zip([None, *pages], pages, strict=False):
        if before is not None and before.page == after.page:
            expected = (before.page, before.part + 1)
        elif before is not None and before.part != before.parts:
            found.append(f"page {before.page} lacks parts")
            continue
        else:
            expected = (before.page + 1 if before else 1, 1)
            if after.cursor != (before.next_cursor if before else None):
                found.append(f"page {after.page} was read at {after.cursor}, not where the one before pointed")
        if (after.page, after.part) != expected:
            found.append(f"page {after.page}.{after.part} stands where {expected} belongs")
    return found


def _digest_problems(pages: Sequence[FollowerPage]) -> list[str]:
    found, digest = [], START
    for page in pages:
        digest = next_digest(digest, page.followers)
        if (page.count, page.digest) != (len(page.followers), digest):
            found.append(
                f"page {page.page}.{page.part} has another count or digest than its users and the page before give"
            )
            digest = page.digest or START
    return found
