"""A list whose people come, leave and come again while the core reads it by row numbers, and the reading's outcome."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from schemas import FollowerPage
from schemas.commands import FetchEsmsFollowers
from schemas.ids import Ids
from schemas.types import Verdict
from tests.ear import Ear
from worker.core.job import Address, Job
from worker.core.jobs.checkpoint import Standing, completed
from worker.core.paging.offset_reader import Sweep
from worker.core.paging.overlap import ENOUGH
from worker.core.ports.provider import Offsets, ProviderPage
from worker.providers.esms.client import listed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 6
JOB = Job(command=FetchEsmsFollowers(oa_id="oa"), address=Address(provider="esms", oa_id="oa", job_id="j"), sequence=1)


class LivingList:
    """User ids in the provider's order; who follows anew takes a new person's place."""

    def __init__(self, rng: random.Random, size: int, order: Literal["newest", "oldest", "anywhere"]) -> None:
        self._rng, self._order = rng, order
        self._next = size
        ages = range(size) if order == "oldest" else range(size)[::-1]
        self.days = {row: 1 + age * DAYS // size for row, age in enumerate(ages)}
        """When each one followed; who follows from now on does so on the last day."""
        if order == "anywhere":
            self.days = {row: rng.randint(1, DAYS) for row in self.days}
        self.rows = list(range(size))
        self.left: list[int] = []
        self.throughout = set(self.rows)
        self.changes = 0
        self.near = 0
        """Where the list was looked at last: half of those who leave stand just before that."""

    def change(self) -> None:
        """Let one thing happen, to one person or several."""
        self.changes += 1
        many = self._rng.choice([1, 1, 1, 2, 3, 6])
        act = self._rng.choice(["follow", "unfollow", "unfollow together", "follow again", "leave and follow again"])
        if act == "follow":
            for _ in range(many):
                self._enter(self._next)
                self._next += 1
        elif act == "follow again":
            for _ in range(min(many, len(self.left))):
                self._enter(self.left.pop(self._rng.randrange(len(self.left))))
        else:
            if act == "leave and follow again" and self._order == "anywhere":
                many = min(many, ENOUGH - 1)
            gone = self._leave(many, together=act != "unfollow")
            if act == "leave and follow again":
                # Many who move and keep their order can't be told from people who stayed: these don't.
                for row in gone if many < ENOUGH or self._order == "newest" else reversed(gone):
                    self.left.remove(row)
                    self._enter(row)

    def _leave(self, many: int, *, together: bool) -> list[int]:
        many = min(many, len(self.rows))
        start = self._rng.randrange(len(self.rows) - many + 1) if self.rows else 0
        if self._rng.random() < 0.5:
            start = min(start, max(0, self.near - self._rng.randrange(1, 4)))
        gone = self.rows[start : start + many] if together else self._rng.sample(self.rows, many)
        self.rows = [row for row in self.rows if row not in gone]
        self.left += gone
        self.throughout.difference_update(gone)
        return gone

    def _enter(self, row: int) -> None:
        place = {"newest": 0, "oldest": len(self.rows)}.get(self._order, self._rng.randint(0, len(self.rows)))
        self.rows.insert(place, row)
        self.days[row] = DAYS


@dataclass(kw_only=True)
class Story:
    """What came of one case."""

    published: list[str] = field(default_factory=list)
    pages: list[tuple[int, str | None, int | None]] = field(default_factory=list)
    """How many followers each has, where the next one begins, and the total."""
    throughout: set[str] = field(default_factory=set)
    verdict: Verdict = "complete"
    missed_at_most: int | None = 0
    changes: int = 0
    crashes: int = 0
    walks: int = 0
    """How often a stretch was walked again."""
    requests: int = 0
    unforeseen: list[str] = field(default_factory=list)
    """What failed beside the reading itself."""

    @property
    def missing(self) -> int:
        """How many people who were there throughout were not published."""
        return len(self.throughout - set(self.published))

    @property
    def problem(self) -> str | None:
        """What the outcome says and isn't so."""
        if len(set(self.published)) < len(self.published):
            return "somebody was published twice"
        if self.verdict == "complete" and self.missed_at_most != 0:
            return f"complete, but {self.missed_at_most} may be missing"
        if self.missed_at_most is not None and self.missing > self.missed_at_most:
            return f"{self.verdict}: {self.missing} are missing, not {self.missed_at_most} at most"
        return None


class Case:
    """One list, read to its end by workers that may crash after any page."""

    def __init__(self, seed: int, reader: type[Sweep] = Sweep) -> None:
        self.rng = rng = random.Random(seed)
        self.size = rng.choice([1, 2, 3, 3, 4, 5, 7, 10, 20])
        self.count = max(2, self.size)
        length = rng.choice([0, 1, 5, 13, 30, 60, rng.randint(0, 150)])
        self.people = LivingList(rng, length, rng.choice(["newest", "oldest", "anywhere"]))
        self.restless = rng.choice([0.0, 0.02, 0.1, 0.3])
        self.total = rng.choice(["right"] * 9 + ["none", "too high", "wandering"])
        self.ahead = rng.choice([0, 1, 3, 8])
        self.crashes = rng.choice([0.0, 0.0, 0.2])
        self.last = rng.choice([2, 3]) * self.count if self.count > 2 and rng.random() < 0.3 else 9950
        """With a low ceiling, the list may be read by days."""
        self.by_days = rng.random() < 0.8
        if self.last < 9950:
            self.total = "right"
        self.reader = reader
        self.story = Story()

    async def run(self) -> Story:
        """Read the list, and tell."""
        standing, tail = Standing(started_at=NOW), None
        story, sweep = self.story, None
        while not standing.last:
            if sweep is None:
                sweep = self._begin(standing)
            page = await sweep.read(self.size, None, self.ahead)
            tail = self._publish(standing, page)
            if self.rng.random() < self.crashes:
                story.crashes += 1
                await sweep.close()
                sweep, standing = None, Standing(started_at=NOW)
                standing.restore(tail)
        if sweep is not None:
            await sweep.close()
        end = completed(JOB, "a", standing, NOW)
        story.verdict, story.missed_at_most = end.verdict, end.missed_at_most
        story.throughout = {self._name(row) for row in self.people.throughout}
        story.changes = self.people.changes
        return story

    def _begin(self, standing: Standing) -> Sweep:
        days = (date(2026, 1, 1), date(2026, 1, DAYS)) if self.by_days else None
        plan = Offsets(count=self.count, last=self.last, days=days)
        seen = Ids(self.story.published)
        sweep = self.reader(self._fetch, plan, standing.position(), seen, published=set(), total=standing.total)
        again = sweep._found_again

        async def counted(*reading: Any) -> bool:
            self.story.walks += 1
            return await again(*reading)

        sweep._found_again = counted  # type: ignore[method-assign,assignment]
        return sweep

    def _publish(self, standing: Standing, page: ProviderPage) -> FollowerPage:
        if standing.page == 0:
            standing.total_first = page.total
        standing.arrive(page.position)  # type: ignore[attr-defined]
        standing.page += 1
        standing.followers += len(page.followers)
        standing.total = page.total
        standing.last = page.next_cursor is None
        standing.truncated = "provider_cap" if page.capped else None
        event = FollowerPage(
            job_id="j", provider="esms", account="a", oa_id="oa", page=standing.page, followers=list(page.followers),
            total=page.total, cursor=standing.cursor, next_cursor=page.next_cursor, last=standing.last,
            fetched_at=NOW, progress=standing.progress(),
        )  # fmt: skip
        standing.cursor = page.next_cursor
        self.story.pages.append((len(page.followers), page.next_cursor, page.total))
        self.story.published += [follower.user_id for follower in page.followers]
        return event

    async def _fetch(self, cursor: str | None) -> ProviderPage:
        for _ in range(self.rng.randrange(1, 6) if self.ahead else 0):
            await asyncio.sleep(0)
        self.story.requests += 1
        span, _, number = (cursor or "0").rpartition("@")
        offset = self.people.near = int(number)
        if self.rng.random() < self.restless and len(self.people.rows) < 200:
            for _ in range(self.rng.choice([1, 1, 2, 4])):
                self.people.change()
        page = self._answer(span, offset)
        for _ in range(self.rng.randrange(1, 6) if self.ahead else 0):
            await asyncio.sleep(0)
        return page

    def _answer(self, span: str, offset: int) -> ProviderPage:
        rows = self.people.rows
        if span:
            first, last = (date.fromisoformat(day).day for day in span.split("/"))
            rows = [row for row in rows if first <= self.people.days[row] <= last]
        found = [str(row) for row in rows[offset : offset + self.count]]
        return listed(found, len(rows) if span else self._said())

    def _name(self, row: int) -> str:
        return str(row)

    def _said(self) -> int | None:
        length = len(self.people.rows)
        wander = self.rng.randint(0, 3) if self.total == "wandering" else 0
        return {"none": None, "too high": length + 7}.get(self.total, length + wander)


def stories(seeds: range, reader: type[Sweep] = Sweep) -> Iterator[tuple[int, Story]]:
    """Yield what comes of each seed; a seed always tells the same story."""
    with asyncio.Runner() as runner:
        for seed in seeds:
            ear = Ear(runner.get_loop())
            story = runner.run(Case(seed, reader).run())
            story.unforeseen = ear.heard()
            yield seed, story
