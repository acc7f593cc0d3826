"""Providers that lie about a list, by a seed: what the reading of it claims must hold all the same.

Each lie is one that a real provider could tell by a fault of its own: a total that is wrong, pages of other sizes, row
numbers that are taken otherwise, empty answers in the middle, people twice, a list cut short, days taken otherwise,
ids in other shapes. People come and go meanwhile.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

from tests.simulation.living import DAYS, Case, LivingList, Story
from worker.core.errors import FetchFailure
from worker.core.paging.offset_reader import Sweep
from worker.core.ports.provider import ProviderPage
from worker.providers.esms.client import listed
from worker.providers.esms.rows import read_answer
from worker.providers.http.client import Answer

LIES: dict[str, tuple[str, ...]] = {
    "total": (
        "too high",
        "too low",
        "absent",
        "answer only",
        "so far",
        "changing",
        "first one kept",
        "zero",
        "up to the ceiling",
        "what is left",
    ),
    "size": ("fewer", "changing", "first one short"),
    "offset": ("page number", "from one", "down to the page", "down to ten", "ignored"),
    "empty": ("now and then", "once", "in the middle"),
    "twice": ("rows", "people"),
    "order": ("another each time", "turned each time"),
    "cut": ("by few", "by many"),
    "days": ("last excluded", "first excluded", "both excluded", "ignored", "a day late"),
    "id": ("number", "blanks", "mixed"),
}


@dataclass
class Lies:
    """What a provider does to its answers: kinds of `LIES` with the lie told of that kind."""

    told: dict[str, str]
    rng: random.Random
    count: int
    ceiling: int
    """So many rows of a list can be had."""
    requests: int = 0
    first_total: int | None = None
    amount: int = field(init=False)
    cap: int = field(init=False)

    def __post_init__(self) -> None:
        self.amount = self.rng.choice([1, 2, 5, 50])
        self.cap = self.rng.randint(1, max(1, self.count - 1))

    def rows(self, rows: list[int]) -> list[int]:
        """The list as the provider has it."""
        if "twice" in self.told:
            rows = [row for place, row in enumerate(rows) for row in ([row] if place % 7 else [row, rows[place // 2]])]
        if self.told.get("order") == "another each time":
            rows = self.rng.sample(rows, len(rows))
        if self.told.get("order") == "turned each time" and self.requests % 2:
            rows = rows[::-1]
        return rows

    def start(self, offset: int) -> int:
        """The row that the provider begins at."""
        match self.told.get("offset"):
            case "page number":
                return offset * self.count
            case "from one":
                return max(0, offset - 1)
            case "down to the page":
                return offset // self.count * self.count
            case "down to ten":
                return offset // 10 * 10
            case "ignored":
                return 0
        return offset

    def size(self) -> int:
        """How many rows the provider gives at once."""
        match self.told.get("size"):
            case "fewer":
                return self.cap
            case "changing":
                return self.rng.randint(1, self.count)
            case "first one short":
                return self.count if self.requests > 1 else self.cap
        return self.count

    def holds(self, offset: int) -> bool:
        """Say whether the answer is empty for no reason."""
        match self.told.get("empty"):
            case "now and then":
                return self.rng.random() < 0.15
            case "once":
                return self.requests == 1 + self.amount % 5
            case "in the middle":
                return self.amount <= offset < self.amount + self.count
        return False

    def left(self, rows: list[int]) -> list[int]:
        """What is left of the list where it is cut."""
        match self.told.get("cut"):
            case "by few":
                return rows[: max(0, len(rows) - self.amount - 1)]
            case "by many":
                return rows[: len(rows) // 2]
        return rows

    def total(self, true: int, offset: int, given: int) -> int | None:
        """What the provider says the list's length is."""
        if self.first_total is None:
            self.first_total = true
        told = {
            "too high": true + self.amount,
            "too low": max(0, true - self.amount),
            "absent": None,
            "answer only": given,
            "so far": offset + given,
            "first one kept": self.first_total,
            "zero": 0,
            "up to the ceiling": min(true, self.ceiling),
            "what is left": max(0, true - offset),
        }
        if self.told.get("total") == "changing":
            return max(0, true + self.rng.randint(-3, 3))
        return told.get(self.told.get("total", ""), true)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The days that are given for days asked for."""
        match self.told.get("days"):
            case "last excluded":
                return first, last - 1
            case "first excluded":
                return first + 1, last
            case "both excluded":
                return first + 1, last - 1
            case "ignored":
                return 1, DAYS
            case "a day late":
                return first + 1, last + 1
        return first, last

    def id(self, row: int) -> Any:
        """A user id as it is written."""
        match self.told.get("id"):
            case "number":
                return row + 1
            case "blanks":
                return f" {row + 1} "
            case "mixed":
                return self.rng.choice([row + 1, str(row + 1)])
        return str(row + 1)


@dataclass(frozen=True)
class Given:
    """One answer, as it was given."""

    span: str
    offset: int
    ids: tuple[str, ...]
    total: int | None


class LyingCase(Case):
    """One list of a provider that tells up to three lies."""

    def __init__(self, seed: int, reader: type[Sweep] = Sweep, told: dict[str, str] | None = None) -> None:
        super().__init__(seed, reader)
        rng = self.rng
        self.restless = rng.choice([0.0, 0.0, 0.0, 0.05, 0.3])
        self.total = "right"
        length = rng.choice([1, 2, 3, self.count, 2 * self.count - 1, 13, 60, rng.randint(0, 150)])
        self.people = LivingList(rng, length, rng.choice(["newest", "oldest", "anywhere"]))
        if told is None:
            kinds = rng.sample(sorted(LIES), rng.choice([0, 0, 1, 1, 1, 2, 2, 3]))
            told = {kind: rng.choice(LIES[kind]) for kind in kinds}
        self.lies = Lies(told, rng, self.count, self.last + self.count)
        self.given: list[Given] = []
        self.failed: FetchFailure | None = None

    async def run(self) -> Story:
        try:
            return await super().run()
        except FetchFailure as error:
            self.failed = error  # a job that fails claims nothing
            return self.story

    def _answer(self, span: str, offset: int) -> ProviderPage:
        lies, rows = self.lies, self.people.rows
        lies.requests += 1
        if span:
            first, last = lies.span(*(date.fromisoformat(day).day for day in span.split("/")))
            rows = [row for row in rows if first <= self.people.days[row] <= last]
        whole = lies.rows(rows)
        true = len(rows) if lies.told.get("twice") == "people" else len(whole)
        start = lies.start(offset)
        found = [] if lies.holds(offset) else lies.left(whole)[start : start + lies.size()]
        total = lies.total(true, offset, len(found))
        body = {"CodeResult": "100", "Followers": [{"User_Id": lies.id(row)} for row in found], "Total": total}
        ids, said = read_answer(
            Answer(200, msgspec.json.encode(body)), "GetFollowers", "mine", "eSMS at 127.0.0.1", ("k", "s")
        )
        self.given.append(Given(span, offset, tuple(ids), said))
        return listed(ids, said)

    def _name(self, row: int) -> str:
        return str(row + 1)

    @property
    def _fits_a_list_that_moves(self) -> bool:
        """Whether each answer by itself is that of a list that ends where it was cut."""
        most = max((len(one.ids) for one in self.given), default=0)
        return all(
            one.total is not None and len(one.ids) in (0, max(0, min(most, one.total - one.offset)))
            for one in self.given
        )

    @property
    def could_be_honest(self) -> bool:
        """Say whether an honest list that stands still could have given these very answers: then nobody can tell.

        It may give fewer rows than asked for, always as many, and nothing at all by a slip. Of a list that is cut and
        moves, each answer may be right by itself.
        """
        if "cut" in self.lies.told and self.people.changes and self._fits_a_list_that_moves:
            return True
        most = max((len(one.ids) for one in self.given), default=0)
        places: dict[tuple[str, int], str] = {}
        totals: dict[str, int | None] = {}
        for one in self.given:
            if one.total is None or totals.setdefault(one.span, one.total) != one.total:
                return False
            if one.ids and len(one.ids) != max(0, min(most, one.total - one.offset)):
                return False
            for number, id in enumerate(one.ids, one.offset):
                if places.setdefault((one.span, number), id) != id:
                    return False
        for span in {span for span, _ in places}:
            ids = [id for (of, _), id in places.items() if of == span]
            if len(set(ids)) != len(ids):
                return False
        return not any(totals)


def told_stories(
    seeds: range, reader: type[Sweep] = Sweep, told: dict[str, str] | None = None
) -> Iterator[tuple[int, LyingCase, Story]]:
    """Yield each seed's case and what came of it."""
    with asyncio.Runner() as runner:
        for seed in seeds:
            case = LyingCase(seed, reader, told)
            story = runner.run(case.run())
            yield seed, case, story
