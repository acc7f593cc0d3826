"""Whole jobs against lying providers: what `completed` claims, and whom the change feed says to have left."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from schemas.changes import ChangeEvent, Unfollowed
from schemas.commands import FetchFollowers
from schemas.events import JobCompleted
from schemas.subjects import job_subject, page_subject
from tests.changes_kit import CHANGES, FakeFeeds, FakeSnapshots, change_of, fake_feeds
from tests.fakes import FakeClient
from tests.replica import Replica, command
from tests.simulation.living import LivingList, Story
from tests.simulation.loop import run
from tests.simulation.lying import LyingCase
from worker.core.errors import BadResponseError
from worker.core.ports.provider import Offsets, Order, ProviderPage
from worker.providers.etelecom.rows import read_page

SEEDS = 300
JOBS = 4


class OffsetLies(FakeClient):
    """`ProviderClient` over the list of a lying case, by row numbers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._case = LyingCase(seed)
        self.people = self._case.people
        self._seed = seed

    def begin(self, number: int) -> None:
        """Tell other lies about the same people."""
        self._case = LyingCase(self._seed * JOBS + number)
        self._case.people = self.people
        self._case.last, self._case.by_days, self._case.ahead = 9950, False, 1

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        return await self._case._fetch(cursor)

    def order(self, command: FetchFollowers) -> Order:
        return "unknown"

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        return Offsets(count=max(2, command.page_size), last=9950)

    @property
    def page_size(self) -> int:
        return self._case.count

    @property
    def could_be_honest(self) -> bool:
        return self._case.could_be_honest


class CursorLies(FakeClient):
    """`ProviderClient` over a living list that names its next page, newest first, and lies about it."""

    KINDS = ("empty pages", "pages overlap", "people twice", "other sizes", "the end is a page of nobody")

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)
        self.people = LivingList(self._rng, self._rng.choice([0, 1, 7, 30, 60]), "newest")
        self.people.rows.reverse()  # by key: the highest number came last and stands first
        self.page_size = self._rng.choice([1, 3, 7, 20])
        self._lies: set[str] = set()
        self.could_be_honest = False

    def begin(self, number: int) -> None:
        """Tell other lies about the same people."""
        self._lies = set(self._rng.sample(self.KINDS, self._rng.choice([0, 1, 1, 2, 3])))
        self._restless = self._rng.choice([0.0, 0.1, 0.4])

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        await asyncio.sleep(0)
        rng, size = self._rng, self.page_size
        if rng.random() < self._restless:
            self._change()
        # People enter at the list's head under ever higher numbers: the cursor is the number of the last one.
        last, _, empty = (cursor or "").partition("~")
        rows = [row for row in self.people.rows if not last or row < int(last)]
        if "empty pages" in self._lies and last and not empty and rng.random() < 0.3:
            return self._page([], f"{last}~{rng.randrange(10**6)}")
        if "pages overlap" in self._lies and last:
            rows = [row for row in self.people.rows if row < int(last) + rng.choice([0, 1, 3])]
        page = rows[: rng.randint(1, size) if "other sizes" in self._lies else size]
        following = str(page[-1]) if page else ""
        if len(page) == len(rows) and "the end is a page of nobody" not in self._lies:
            following = ""
        if "people twice" in self._lies:
            page = [twice for row in page for twice in ([row, row] if row % 5 == 0 else [row])]
        return self._page(page, following)

    def _change(self) -> None:
        # By key, nobody comes back at an old place: only new people enter.
        people = self.people
        people.changes += 1
        if self._rng.random() < 0.5:
            people._enter(people._next)
            people._next += 1
        else:
            people._leave(self._rng.choice([1, 2]), together=False)

    def _page(self, rows: list[int], following: str) -> ProviderPage:
        body = {"followers": [{"zl_user_id": str(row + 1)} for row in rows], "paging": {"next": following}}
        return read_page(msgspec.json.encode(body), "eTelecom at 127.0.0.1", steady=True)


class Fed(Replica):
    """A replica whose change feed takes every list that is proven, also such as moved."""

    def __init__(self, client: FakeClient) -> None:
        super().__init__(client)
        feeds = fake_feeds(self.world, FakeFeeds(), FakeSnapshots(), drifted=True, threshold=1.0)
        self.handler.changes = feeds

    def ended(self, job_id: str) -> Any:
        entries = self.log.on(job_subject("etelecom", "1", job_id))
        return msgspec.json.decode(entries[-1].data) if entries else None

    def published(self, job_id: str) -> list[str]:
        pages = [msgspec.json.decode(entry.data) for entry in self.log.on(page_subject("etelecom", "1", job_id))]
        return [row["user_id"] for page in pages for row in page["followers"]]

    @property
    def changes(self) -> list[ChangeEvent]:
        return [change_of(entry) for entry in self.log.on(CHANGES)]


@pytest.mark.parametrize("lies", [OffsetLies, CursorLies])
def test_no_job_claims_too_much_and_nobody_who_stayed_is_said_to_have_left(lies: Any):
    told = proven = news = undecidable = 0

    for seed in range(SEEDS):
        client = lies(seed)
        problems, ended, changes, honest = run(random.Random(seed), _jobs(client))
        undecidable += honest
        if honest:
            continue
        assert problems == [], f"seed {seed}"
        stayed = {str(row + 1) for row in client.people.throughout}
        left = {event.user_id for event in changes if isinstance(event, Unfollowed)}
        assert not left & stayed, f"seed {seed}: {left & stayed} are said to have left, and stayed"
        told, news = told + len(ended), news + len(changes)
        proven += sum(one.missed_at_most == 0 for one in ended)

    print(f"{told} jobs, {proven} proven, {news} change events, {undecidable} like an honest list")
    assert proven > told / 5
    assert news > SEEDS


async def _jobs(client: Any) -> tuple[list[str], list[JobCompleted], list[ChangeEvent], bool]:
    replica, ended, problems, honest = Fed(client), [], [], False
    for number in range(JOBS):
        client.begin(number)
        there, job_id = set(client.people.rows), f"j{number}"
        replica.clock.advance(3600)
        await replica.handle(command(id=job_id, page_size=client.page_size, sequence=number + 1))
        end = replica.ended(job_id)
        if end["type"] == "completed":
            completed = msgspec.convert(end, JobCompleted)
            ended.append(completed)
            throughout = {str(row + 1) for row in there & client.people.throughout}
            story = Story(
                published=replica.published(job_id),
                throughout=throughout,
                verdict=completed.verdict,
                missed_at_most=completed.missed_at_most,
            )
            if story.problem and client.could_be_honest:
                honest = True
            elif story.problem:
                problems.append(f"{job_id}: {story.problem}")
        else:
            assert end["error"]["code"] == BadResponseError.code, end
    return problems, ended, replica.changes, honest
