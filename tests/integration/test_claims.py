"""What a job claims of its list, where the provider's answers don't fit each other: through NATS and HTTP."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas import FollowerPage, JobCompleted, JobEvent, JobFailed, decode
from schemas.changes import ChangeEvent, Unfollowed
from schemas.subjects import EVENTS_STREAM, change_subject, job_subject, page_subject
from schemas.wire import encode
from tests.integration import stage
from tests.integration.hostile import Answering, hostile
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

Answer = Callable[[dict[str, Any], int], dict[str, Any]]
OA = "1"


def esms(people: int, *, total: Callable[[int, int, int], int], **lie: Any) -> Answer:
    """eSMS with `people` followers; `total` of how many there are, the offset, and the rows of the answer."""
    row, holes = lie.get("row", lambda offset: offset), set(lie.get("holes", ()))

    def answer(body: dict[str, Any], number: int) -> dict[str, Any]:
        offset, count = body["Offset"], body["Count"]
        there = people_of(body, people, lie.get("days", 0))
        rows = [] if number in holes else there[row(offset) : row(offset) + count]
        ids = [str(1_000_000 + one) for one in rows]
        said = total(len(there), offset, len(ids))
        if "FromDate" in body:
            return {"CodeResult": "100", "Data": {"Users": ids, "Total": said}}
        return {"CodeResult": "100", "Followers": [{"User_Id": one} for one in ids], "Total": said}

    return answer


def people_of(body: dict[str, Any], people: int, days: int) -> list[int]:
    """Who followed on the days asked for: the same number each day from 1 January 2024, the last one left out."""
    if not days or "FromDate" not in body:
        return list(range(people))
    first, last = (datetime.strptime(body[name], "%d/%m/%Y") for name in ("FromDate", "ToDate"))
    begin = datetime(2024, 1, 1)
    return [one for one in range(people) if (first - begin).days <= one * days // people < (last - begin).days]


def pages(*found: tuple[str, list[int], str], paging: dict[str, Any] | None = None) -> Answer:
    """eTelecom that answers each cursor with people and the next one, or with `paging` as it is."""
    by_cursor = {cursor: (rows, following) for cursor, rows, following in found}

    def answer(body: dict[str, Any], number: int) -> dict[str, Any]:
        rows, following = by_cursor[body["paging"].get("after", "")]
        return {
            "followers": [{"zl_user_id": str(one)} for one in rows],
            "paging": {"next": following} if paging is None else paging,
        }

    return answer


def endless(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {"followers": [], "paging": {"next": f"c{number}"}}


class Moving:
    """eTelecom sorted by changes, newest first: people 1 to 9, of whom some change before some requests.

    `dated`: the rows say when. `lost`: the first answer has nobody, and names the whole list.
    """

    def __init__(self, changes: dict[int, list[int]], *, dated: bool = True, lost: bool = False) -> None:
        self.at = {one: 100 - one for one in range(1, 10)}
        self.changes, self.dated, self.lost = changes, dated, lost

    def __call__(self, body: dict[str, Any], number: int) -> dict[str, Any]:
        for one in self.changes.get(number, ()):
            self.at[one] = max(self.at.values()) + 1
        if self.lost and number == 1:
            return {"followers": [], "paging": {"next": "100"}}
        after = int(body["paging"].get("after", 1_000))
        there = sorted((one for one in self.at if self.at[one] < after), key=lambda one: -self.at[one])
        rows = [self.row(one) for one in there[: body["paging"]["limit"]]]
        following = "" if self.lost or not rows else str(self.at[int(rows[-1]["zl_user_id"])])
        return {"followers": rows, "paging": {"next": following}}

    def row(self, one: int) -> dict[str, Any]:
        at = self.at[one]
        dates = {"updated_at": f"2026-01-01T00:{at // 60:02d}:{at % 60:02d}Z"} if self.dated else {}
        return {"zl_user_id": str(one), **dates}


def half(said: dict[str, Any], *, from_job: int = 1, times: int = 10**9) -> Answer:
    """eTelecom with people 1 to 6, which `said` in place of the second three in so many answers, from a job on."""
    whole = pages(("", [1, 2, 3], "a"), ("a", [4, 5, 6], "b"), ("b", [], ""))
    jobs = lies = 0

    def answer(body: dict[str, Any], number: int) -> dict[str, Any]:
        nonlocal jobs, lies
        cursor = body["paging"].get("after")
        jobs += cursor is None
        if cursor == "a" and jobs >= from_job and lies < times:
            lies += 1
            return said
        return whole(body, number)

    return answer


NOBODY: dict[str, Any] = {"followers": [], "paging": {"next": "", "prev": ""}}
ERRORS: dict[str, dict[str, Any]] = {
    "number": {"code": 503, "msg": "upstream timeout"},
    "new-word": {"code": "too_busy", "msg": "upstream timeout"},
    "upper-case": {"code": "UNAVAILABLE", "msg": "upstream timeout"},
    "text": {"error": "upstream timeout"},
    "list": {"errors": [{"message": "upstream timeout"}]},
    "no-success": {"success": False, "msg": "upstream timeout"},
}
ENDS: dict[str, dict[str, Any]] = {
    "none": {},
    "prev": {"prev": "x"},
    "capital": {"Next": "a"},
    "other-name": {"next": "", "next_cursor": "a"},
    "has-more": {"next": "", "has_more": True},
}


def right(there: int, offset: int, rows: int) -> int:
    return there


def plus(more: int) -> Callable[[int, int, int], int]:
    return lambda there, offset, rows: there + more


PROVIDERS: dict[str, Answer] = {
    "esms-right": esms(250, total=right),
    "esms-nobody": esms(0, total=right),
    "esms-one": esms(1, total=right),
    "esms-full": esms(50, total=right),
    "esms-promises": esms(250, total=plus(50)),
    "esms-slip": esms(250, total=right, holes=[3]),
    "esms-counts-rows": esms(130, total=lambda there, offset, rows: rows),
    "esms-too-low": esms(130, total=plus(-30)),
    "esms-no-offset": esms(1, total=plus(2), row=lambda offset: 0),
    "esms-from-one": esms(130, total=right, row=lambda offset: max(0, offset - 1)),
    "esms-page-number": esms(130, total=right, row=lambda offset: offset * 50),
    "esms-beyond-dates": esms(130, total=lambda there, offset, rows: 10**17),
    "esms-ten-thousand": esms(10_050, total=lambda there, offset, rows: min(10_000, there)),
    "esms-days": esms(11_000, total=right, days=110),
    "empty-page": pages(("", [1, 2, 3], "c2"), ("c2", [], "c3"), ("c3", [4, 5, 6], "")),
    "endless": endless,
    "moving-still": Moving({}),
    "moving-back": Moving({3: [8, 1]}),
    "moving-news": Moving({15: [8, 1]}),
    "moving-undated": Moving({}, dated=False),
    "moving-lost": Moving({2: [8]}, lost=True),
    "moving-late": Moving({}, lost=True),
    "moving-one-answer": Moving({}),
    "slip": half(NOBODY, from_job=2, times=1),
    "end": half({"followers": [], "paging": {"next": ""}}),
    "error-once": half(NOBODY | ERRORS["number"], times=1),
    "error-news": half(NOBODY | ERRORS["number"], from_job=2),
    **{f"error-{name}": half(NOBODY | said) for name, said in ERRORS.items()},
    **{f"end-{name}": pages(("", [1, 2, 3], ""), paging=said) for name, said in ENDS.items()},
    "overlapping": pages(("", [1, 2, 3], "a"), ("a", [3, 4, 5], "b"), ("b", [5, 6, 7], "")),
}


def saying(answer: Answer) -> Answering:
    requests = 0

    async def act(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        said = answer(json.loads(await request.read()), requests)
        return web.Response(body=json.dumps(said).encode(), content_type="application/json")

    return act


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with stage.server() as server, hostile({name: saying(one) for name, one in PROVIDERS.items()}) as provider:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig(ack_wait=2))
        sections = stage.sections_for(
            server.url,
            {name: account(name, provider.url) for name in PROVIDERS},
            worker={"retry_for": 0.3},
            changes={"drifted": True, "threshold": 1.0},
        )
        async with stage.replica(sections, tmp_path_factory.mktemp("claims")):
            yield client
        await client.close()


def provider_of(name: str) -> Any:
    return "esms" if name.startswith("esms") else "etelecom"


def account(name: str, url: str) -> dict[str, Any]:
    if provider_of(name) == "esms":
        endpoint = "auto" if name == "esms-days" else "GetFollowers"
        keys = {"api_key": "A", "secret_key": "S", "endpoint": endpoint}
        return {"provider": "esms", "base_url": f"{url}/{name}", "rate_limit": 0.0, **keys}
    return {"provider": "etelecom", "base_url": f"{url}/{name}/v1/shop", "api_key": "1:x", "rate_limit": 0.0}


async def ended(client: Client, name: str, job_id: str | None = None, **fields: Any) -> JobEvent:
    provider, job_id = provider_of(name), job_id or name
    command = encode({"provider": provider, "oa_id": OA, "id": job_id, "account": name, **fields})
    ack = await client.jetstream().publish(f"followers.fetch.{provider}", command)
    await stage.command_settled(client, ack.seq)
    last = await client.jetstream().get_last_msg(EVENTS_STREAM, job_subject(provider, OA, job_id))
    event: JobEvent = decode(last.data or b"", JobEvent)
    return event


async def completed(client: Client, name: str, **fields: Any) -> tuple[JobCompleted, list[str]]:
    """Order the list of that account; return the job's end, and whom it published."""
    end = await ended(client, name, **fields)
    assert isinstance(end, JobCompleted), end
    found = [decode(message.data, FollowerPage) for message in await messages(client, page_subject("esms", OA, name))]
    if not found:
        found = [
            decode(message.data, FollowerPage) for message in await messages(client, page_subject("etelecom", OA, name))
        ]
    ids = [one.user_id for page in found for one in page.followers]
    assert len(set(ids)) == len(ids) == end.followers
    assert [page.last for page in found] == [False] * (len(found) - 1) + [True]
    return end, ids


async def messages(client: Client, subject: str) -> list[Msg]:
    info = await client.jetstream().stream_info(EVENTS_STREAM, subjects_filter=subject)
    left = sum((info.state.subjects or {}).values())
    subscription = await client.jetstream().subscribe(subject, ordered_consumer=True)
    found = [await subscription.next_msg(timeout=10) for _ in range(left)]
    await subscription.unsubscribe()
    return found


@pytest.mark.parametrize(
    ("name", "people"), [("esms-right", 250), ("esms-nobody", 0), ("esms-one", 1), ("esms-full", 50)]
)
async def test_an_honest_list_that_stands_still_is_complete(client: Client, name: str, people: int) -> None:
    end, ids = await completed(client, name)

    assert (end.verdict, end.missed_at_most, len(ids)) == ("complete", 0, people)


async def test_a_total_above_what_the_provider_gives_is_no_proof(client: Client) -> None:
    end, ids = await completed(client, "esms-promises")

    assert (end.verdict, end.missed_at_most, len(ids)) == ("drifted", None, 250)


async def test_an_empty_answer_in_the_middle_is_asked_for_again(client: Client) -> None:
    end, ids = await completed(client, "esms-slip")

    assert (end.missed_at_most, len(ids)) == (0, 250)


@pytest.mark.parametrize("name", ["esms-counts-rows", "esms-too-low", "esms-from-one"])
async def test_a_total_that_is_no_witness_ends_no_list_and_proves_none(client: Client, name: str) -> None:
    end, ids = await completed(client, name)

    assert (end.verdict, end.missed_at_most, len(ids)) == ("drifted", None, 130)


async def test_a_total_beyond_all_dates_ends_like_any_other_that_is_wrong(client: Client) -> None:
    end, ids = await completed(client, "esms-beyond-dates")

    assert (end.verdict, end.missed_at_most, len(ids)) == ("drifted", None, 130)


async def test_a_list_that_ends_where_no_more_can_be_had_is_not_proven(client: Client) -> None:
    end, ids = await completed(client, "esms-ten-thousand")

    assert (end.verdict, end.reason, end.missed_at_most, len(ids)) == ("truncated", "provider_cap", None, 10_000)


async def test_row_numbers_that_the_provider_takes_otherwise_give_an_honest_end_within_few_requests(
    client: Client,
) -> None:
    ignored, _ = await completed(client, "esms-no-offset")
    page_number, ids = await completed(client, "esms-page-number")

    assert (ignored.followers, ignored.missed_at_most) == (1, None)
    assert ignored.requests < 20
    assert page_number.missed_at_most is None or page_number.missed_at_most >= 130 - len(ids)
    assert page_number.requests < 40


async def test_days_whose_last_one_does_not_count_are_read_with_an_overlap(client: Client) -> None:
    end, ids = await completed(client, "esms-days")

    assert (end.verdict, end.missed_at_most, len(ids)) == ("complete", 0, 11_000)


async def test_a_page_of_nobody_that_names_a_next_one_is_no_end(client: Client) -> None:
    end, ids = await completed(client, "empty-page")

    assert (end.verdict, end.missed_at_most, ids) == ("complete", 0, ["1", "2", "3", "4", "5", "6"])
    assert await unfollowed(client, "empty-page") == []


async def test_pages_of_nobody_without_an_end_fail_within_a_bound(client: Client) -> None:
    end = await ended(client, "endless")

    assert isinstance(end, JobFailed)
    assert (end.error.code, "16 pages in a row" in end.error.message) == ("bad_response", True)


async def test_people_on_two_pages_are_published_once_and_the_list_has_moved(client: Client) -> None:
    end, ids = await completed(client, "overlapping")

    assert ids == ["1", "2", "3", "4", "5", "6", "7"]
    assert (end.verdict, end.missed_at_most, end.duplicates_dropped) == ("drifted", None, 2)


CHANGED = {"sort": "-updated_at", "page_size": 1}


async def test_a_head_that_is_as_it_was_shows_that_nobody_moved(client: Client) -> None:
    end, ids = await completed(client, "moving-still", **CHANGED)
    at_once, _ = await completed(client, "moving-one-answer", sort="-updated_at", max_pages=1)

    assert (end.verdict, end.missed_at_most, end.requests) == ("complete", 0, 9 + 2 + 1)
    assert ids == [str(one) for one in range(1, 10)]
    assert (at_once.verdict, at_once.reason, at_once.requests) == ("truncated", "max_pages", 1)


async def test_the_same_people_at_the_head_are_no_proof_where_one_of_them_has_changed(client: Client) -> None:
    end, ids = await completed(client, "moving-back", **CHANGED)

    assert (end.verdict, end.missed_at_most) == ("drifted", None)
    assert "8" not in ids


async def test_nobody_who_was_passed_over_is_said_to_have_left(client: Client) -> None:
    first = await ended(client, "moving-news", "moving-news-1", **CHANGED)
    second = await ended(client, "moving-news", "moving-news-2", **CHANGED)

    assert isinstance(first, JobCompleted)
    assert isinstance(second, JobCompleted)
    assert (first.missed_at_most, first.followers, second.missed_at_most, second.followers) == (0, 9, None, 8)
    assert await unfollowed(client, "moving-news") == []


@pytest.mark.parametrize("sort", ["-updated_at", "-last_message_at"])
async def test_rows_that_do_not_show_when_they_changed_prove_nothing(client: Client, sort: str) -> None:
    name = "moving-undated"
    end = await ended(client, name, f"{name}{sort}", sort=sort, page_size=1)

    assert isinstance(end, JobCompleted)
    assert (end.verdict, end.missed_at_most, end.followers) == ("drifted", None, 9)


async def test_a_list_behind_an_answer_of_nobody_is_not_one_answer(client: Client) -> None:
    moved, ids = await completed(client, "moving-lost", sort="-updated_at")
    still, _ = await completed(client, "moving-late", sort="-updated_at")

    assert (moved.verdict, moved.missed_at_most, "8" in ids) == ("drifted", None, False)
    assert (still.verdict, still.missed_at_most, still.requests) == ("complete", 0, 3)


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_beside_an_empty_list_is_the_provider_being_away(client: Client, name: str) -> None:
    end = await ended(client, f"error-{name}")

    assert isinstance(end, JobFailed)
    assert (end.error.code, end.error.retryable, end.error.http_status) == ("provider_unavailable", True, 200)
    assert "upstream timeout" in end.error.message
    assert end.error.attempts > 1


async def test_an_error_beside_an_empty_list_is_tried_again(client: Client) -> None:
    end, ids = await completed(client, "error-once")

    assert (end.verdict, end.missed_at_most, ids) == ("complete", 0, ["1", "2", "3", "4", "5", "6"])


async def test_nobody_is_said_to_have_left_where_the_rest_of_the_list_is_an_error(client: Client) -> None:
    await ended(client, "error-news", "error-news-1")
    end = await ended(client, "error-news", "error-news-2")

    assert isinstance(end, JobFailed)
    assert await unfollowed(client, "error-news") == []


@pytest.mark.parametrize("name", ENDS)
async def test_an_end_that_nothing_names_is_none(client: Client, name: str) -> None:
    end = await ended(client, f"end-{name}")

    assert isinstance(end, JobFailed)
    assert (end.error.code, end.error.attempts, "eTelecom" in end.error.message) == ("bad_response", 1, True)


async def test_one_empty_answer_in_the_middle_is_no_end_and_no_news(client: Client) -> None:
    first = await ended(client, "slip", "slip-1")
    second = await ended(client, "slip", "slip-2")

    assert isinstance(first, JobCompleted)
    assert isinstance(second, JobCompleted)
    assert [(one.missed_at_most, one.followers, one.requests) for one in (first, second)] == [(0, 6, 4), (0, 6, 5)]
    assert await unfollowed(client, "slip") == []


async def test_a_list_whose_pages_end_with_nobody_twice_has_ended(client: Client) -> None:
    end, ids = await completed(client, "end")
    cut = await ended(client, "end", "end-cut", max_pages=1)

    assert (end.verdict, end.missed_at_most, ids, end.requests) == ("complete", 0, ["1", "2", "3"], 3)
    assert isinstance(cut, JobCompleted)
    assert (cut.verdict, cut.pages, cut.requests) == ("truncated", 1, 1)


@pytest.mark.parametrize("name", ["esms-promises", "esms-counts-rows", "esms-from-one"])
async def test_no_news_rests_on_a_list_that_is_not_proven(client: Client, name: str) -> None:
    for attempt in range(2):
        await ended(client, name, f"{name}-news-{attempt}")

    assert await unfollowed(client, name) == []


async def unfollowed(client: Client, name: str) -> list[str]:
    """Whom the change feed says to have left that account's Official Account."""
    found = await messages(client, change_subject(provider_of(name), OA))
    events: list[ChangeEvent] = [decode(message.data, ChangeEvent) for message in found]
    return [event.user_id for event in events if isinstance(event, Unfollowed) and event.account == name]


BEHIND = """
import sys
from datetime import timedelta
import worker.app
from worker.jetstream.events.latest_time import LatestTime, wall_clock
worker.app.LatestTime = lambda: LatestTime(lambda: wall_clock() - timedelta(days=3))
from worker.cli import main
sys.exit(main())
"""


async def test_a_worker_whose_clock_is_behind_asks_for_todays_followers_too(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], number: int) -> dict[str, Any]:
        asked.append(body)
        return esms(3, total=right)(body, number)

    async with stage.server() as server, hostile({"late": saying(answer)}) as provider:
        client = await connect(NatsOptions(servers=(server.url,)))
        await reconcile(client, TopologyConfig(ack_wait=2))
        keys = {"api_key": "A", "secret_key": "S", "endpoint": "QueryListUID"}
        late = {"provider": "esms", "base_url": f"{provider.url}/late", "rate_limit": 0.0, **keys}
        sections = stage.sections_for(server.url, {"esms-late": late})
        async with stage.replica(sections, tmp_path, program=[sys.executable, "-c", BEHIND, "worker"]):
            await ended(client, "esms-late")
        await client.close()

    tomorrow = datetime.now(timezone(timedelta(hours=7))) + timedelta(days=1)
    assert asked[0]["ToDate"] == f"{tomorrow:%d/%m/%Y}"
