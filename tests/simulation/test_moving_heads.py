"""Lists sorted by changes, newest first, whose people change between any two requests: what a job may claim of them."""

import random
from datetime import timedelta

import msgspec
import pytest

from schemas import JobCompleted
from schemas.commands import FetchFollowers
from tests.fakes import EPOCH, FakeClient
from tests.replica import Replica, command
from worker.core.ports.provider import Order, ProviderPage
from worker.providers.etelecom.rows import read_page

SEEDS = 1_500


class Sorted(FakeClient):
    """A keyset by (time of change, id), both falling, of times to the second or finer; now and then an empty slip."""

    def __init__(self, rng: random.Random, *, restless: float, slips: float = 0.0) -> None:
        super().__init__()
        self._rng, self._restless, self._slips = rng, restless, slips
        self._tick = rng.choice([0.001, 0.4, 1.0])
        self._now = -rng.choice([0.0, 5.0])
        numbers = rng.sample(range(1, 100), rng.choice([2, 5, 9]))
        age = rng.choice([0.0, 0.3, 3.0])
        self.at = {number: self._now - age * row for row, number in enumerate(numbers)}
        self.all = set(numbers)
        self.changes = 0

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        while self._rng.random() < self._restless:
            self._now += self._tick * self._rng.randint(0, 1)
            recent = sorted(self.at, key=self._place)[-3:]
            self.at[self._rng.choice(recent if self._rng.random() < 0.5 else list(self.at))] = self._now
            self.changes += 1
        behind = None if cursor is None else (float(cursor.split(",")[0]), int(cursor.split(",")[1]))
        there = sorted(self.at, key=self._place, reverse=True)
        rows = [number for number in there if behind is None or self._place(number) < behind][: command.page_size]
        following = "{},{}".format(*self._place(rows[-1])) if rows else ""
        if self._rng.random() < self._slips:
            self._slips, rows, following = 0.0, [], (cursor and f"{cursor},again") or "1e9,0"
        body = {"followers": [self._row(number) for number in rows], "paging": {"next": following}}
        return read_page(msgspec.json.encode(body), "eTelecom at 127.0.0.1")

    def order(self, command: FetchFollowers) -> Order:
        return "falls"

    def _place(self, number: int) -> tuple[float, int]:
        return round(self.at[number], 3), number

    def _row(self, number: int) -> dict[str, object]:
        at = EPOCH + timedelta(seconds=round(self.at[number], 3))
        return {"zl_user_id": str(number), "updated_at": at if self._tick < 1 else at.replace(microsecond=0)}


async def read(client: Sorted, size: int) -> tuple[JobCompleted, set[int]]:
    replica = Replica(client)
    await replica.handle(command(page_size=size))
    end = replica.events[-1]
    assert isinstance(end, JobCompleted), end
    return end, {int(id) for id in replica.ids}


@pytest.mark.parametrize("slips", [0.0, 0.3])
async def test_nobody_is_missing_from_a_list_that_is_said_to_be_whole(slips: float):
    proven = missed = 0

    for seed in range(SEEDS):
        rng = random.Random(seed)
        client = Sorted(rng, restless=rng.choice([0.05, 0.2, 0.5]), slips=slips)
        end, found = await read(client, rng.choice([1, 2, 3]))
        if end.missed_at_most == 0:
            assert found == client.all, f"seed {seed}"
        proven += end.missed_at_most == 0
        missed += found != client.all

    print(f"{SEEDS} jobs, {proven} proven, {missed} that lack somebody")
    assert proven > SEEDS / 20
    assert missed > SEEDS / 10


async def test_a_list_that_stands_still_and_shows_its_times_is_proven():
    for seed in range(300):
        rng = random.Random(seed)
        client = Sorted(rng, restless=0.0)
        end, found = await read(client, 2)

        first = sorted(client.at.values(), reverse=True)[:2]
        shows = int(first[0] // 1) != int(first[1] // 1) if client._tick == 1 else first[0] != first[1]
        assert (end.missed_at_most == 0) is shows, f"seed {seed}"
        assert found == client.all
