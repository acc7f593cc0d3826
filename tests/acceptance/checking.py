"""What every job's events must satisfy, whatever happened meanwhile. CONTRACT 3, line by line."""

import json
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.acceptance.reading import Event, Run

SCHEMAS = Path(__file__).parents[2] / "schemas" / "json"
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def check_run(
    run: Run,
    *,
    ids: Sequence[str] | None = None,
    encoding: str = "json",
    labels: dict[str, str] | None = None,
    account: str | None = None,
) -> dict[str, Any]:
    """Assert all that CONTRACT 3 promises of a job that has ended; return the body of its terminal event.

    `ids` are the user ids that the job must have published, in the provider's order.
    """
    for event in run.events:
        check_event(event, run.job_id, encoding)
        assert event.body["labels"] == (labels or {}), "labels are echoed on every event"
        assert account is None or event.body["account"] == account
    _check_ids(run)
    _check_pages(run.pages)
    _check_one_end(run)
    if ids is not None:
        assert run.user_ids == list(ids), _difference(run.user_ids, list(ids))
    if run.end["type"] == "completed":
        _check_completed(run)
    return run.end


def check_event(event: Event, job_id: str, encoding: str = "json") -> None:
    """Assert what holds for each event by itself: subject, headers, schema."""
    body, headers = event.body, event.headers
    kind = "page" if event.is_page else "job"
    check_schema("FollowerPage" if event.is_page else "JobEvent", body)
    assert event.subject == f"followers.{kind}.{body['provider']}.{body['oa_id']}.{job_id}"
    assert body["job_id"] == job_id
    assert headers["Content-Type"] == f"application/{encoding}"
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == ("vn.followers.page.v1" if event.is_page else f"vn.followers.job.{body['type']}.v1")
    for name in ("ce-id", "ce-source", "ce-subject", "Nats-Msg-Id"):
        assert headers.get(name), f"{event.subject} has no header {name}"
    assert _UTC.fullmatch(headers["ce-time"]), headers["ce-time"]
    for name in ("fetched_at", "started_at", "finished_at", "until"):
        assert name not in body or _UTC.fullmatch(body[name]), f"{name} is not in UTC: {body[name]}"


def check_schema(name: str, document: Any) -> None:
    """Assert that `document` satisfies the committed JSON Schema of this name."""
    errors = sorted(_validator(name).iter_errors(document), key=lambda error: list(error.path))
    assert not errors, f"{name}: {errors[0].json_path} {errors[0].message}"


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _check_ids(run: Run) -> None:
    ids = [event.headers["Nats-Msg-Id"] for event in run.events]
    assert len(ids) == len(set(ids)), f"a Nats-Msg-Id came twice: {ids}"
    sources = [(event.headers["ce-source"], event.headers["ce-id"]) for event in run.events]
    assert len(sources) == len(set(sources)), "ce-source with ce-id must be unique (CloudEvents 1.0)"


def _check_pages(pages: Sequence[Event]) -> None:
    bodies = [event.body for event in pages]
    if not bodies:
        return
    parts_of: dict[int, list[dict[str, Any]]] = {}
    for body in bodies:
        parts_of.setdefault(body["page"], []).append(body)
    places = [(body["page"], body["part"]) for body in bodies]
    assert places == sorted(set(places)), f"pages out of order or twice: {places}"
    assert list(parts_of) == list(range(1, len(parts_of) + 1)), f"a gap in the pages: {list(parts_of)}"
    complete = [p for p in parts_of if p < max(parts_of)] + ([max(parts_of)] if bodies[-1]["last"] else [])
    for page in complete:
        parts = parts_of[page]
        assert [part["part"] for part in parts] == list(range(1, parts[-1]["parts"] + 1)), f"page {page} lacks a part"
        assert len({(part["cursor"], part["next_cursor"]) for part in parts}) == 1, f"page {page} has mixed cursors"
    assert bodies[0]["cursor"] is None, "the first page is read at the start of the list"
    for earlier, later in pairwise(parts_of.values()):
        assert later[0]["cursor"] == earlier[-1]["next_cursor"], f"the cursors break at page {later[0]['page']}"
        assert earlier[-1]["next_cursor"] is not None, "a page follows one without next_cursor"
    assert [body["last"] for body in bodies[:-1]] == [False] * (len(bodies) - 1), "`last` before the last part"
    _check_progress(parts_of)
    ids = [follower["user_id"] for body in bodies for follower in body["followers"]]
    assert len(ids) == len(set(ids)), "a follower was published twice"


def _check_progress(parts_of: dict[int, list[dict[str, Any]]]) -> None:
    so_far = 0
    ends = [parts[-1] for parts in parts_of.values()]
    for page, end in zip(parts_of.values(), ends, strict=True):
        so_far += sum(len(part["followers"]) for part in page)
        if end["part"] == end["parts"]:
            assert end["progress"]["followers"] == so_far, f"progress of page {end['page']} miscounts"
    for earlier, later in pairwise([end["progress"] for end in ends]):
        assert later["started_at"] == earlier["started_at"], "a job starts once"
        assert later["total_first"] == earlier["total_first"]
        assert later["requests"] >= earlier["requests"]
        assert later["duplicates_dropped"] >= earlier["duplicates_dropped"]


def _check_one_end(run: Run) -> None:
    ends = [event for event in run.events if event.is_terminal]
    assert len(ends) == 1, f"{len(ends)} terminal events: {[event.body for event in ends]}"
    after = [event for event in run.pages if event.sequence > ends[0].sequence]
    assert not after, "a page stands behind the terminal event"


def _check_completed(run: Run) -> None:
    end, pages = run.end, run.pages
    assert pages, "a completed job has at least one page, also of nobody"
    assert pages[-1].body["last"] is True
    assert end["pages"] == pages[-1].body["page"]
    assert end["followers"] == len(run.user_ids)
    assert end["distinct"] == len(set(run.user_ids))
    assert end["duplicates_dropped"] == pages[-1].body["progress"]["duplicates_dropped"]
    assert end["total_first"] == pages[0].body["total"]
    assert end["total_last"] == pages[-1].body["total"]
    assert end["requests"] >= 1
    assert end["finished_at"] >= end["started_at"]
    assert (end["verdict"] == "truncated") == (end.get("reason") is not None), "`truncated` says what cut it"
    assert pages[-1].body["next_cursor"] is None, "next_cursor is null on the last page"


def _difference(got: list[str], wanted: list[str]) -> str:
    missing, extra = set(wanted) - set(got), set(got) - set(wanted)
    return f"{len(got)} ids instead of {len(wanted)}: {len(missing)} missing, {len(extra)} unexpected" + (
        "" if missing or extra else ", in another order"
    )
