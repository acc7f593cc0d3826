"""What is said of a list must be so, whatever the provider says of it: seeded lies, zero to three at a time."""

import os
from collections import Counter

import pytest

from schemas.ids import Ids
from tests.simulation import living, some
from tests.simulation.living import Story
from tests.simulation.lying import LyingCase, told_stories
from worker.core.paging import overlap as joins
from worker.core.paging.offset_reader import Sweep
from worker.core.paging.position import Position

CASES = int(os.environ.get("LYING_SEEDS", "0")) or some(3000)
MUTANT_CASES = 500


def test_nothing_is_claimed_that_the_answers_do_not_show():
    total: Counter[str] = Counter()

    for seed, case, story in told_stories(range(CASES)):
        problem = problem_of(case, story)
        assert problem is None, f"seed {seed}, {case.lies.told}: {problem}"
        total.update(counted(case, story))

    print(", ".join(f"{name}: {count}" for name, count in sorted(total.items())))
    assert total["honest, still: proven"] == total["honest, still"] > CASES / 20
    assert total["honest, moving: proven"] > total["honest, moving"] / 5
    assert total["lying: proven"] > CASES / 10, "most lies harm nobody: a proof must stay possible beside them"
    assert total["lying: unknown"] > CASES / 10
    assert total["lying, somebody missing"] > CASES / 20, "the lies are too tame"


def problem_of(case: LyingCase, story: Story) -> str | None:
    """What is claimed and isn't so, though the answers show it."""
    return None if case.failed is not None or case.could_be_honest else story.problem


def counted(case: LyingCase, story: Story) -> list[str]:
    """Under which headings a case counts."""
    if case.failed is not None:
        return ["failed"]
    if story.problem:
        return ["as an honest list would answer"]
    if case.last < 9950 and story.verdict == "truncated":
        return ["truncated"]
    proof = {0: "proven", None: "unknown"}.get(story.missed_at_most, "bounded")
    if case.lies.told:
        missing = ["lying, somebody missing"] if story.missing else []
        return ["lying", f"lying: {proof}", *missing]
    kind = "honest, moving" if story.changes else "honest, still"
    return [kind, f"{kind}: {proof}"]


class TrustsAnEmptyAnswer(Sweep):
    """Takes the first answer without rows for the list's end, as everybody's first version does."""

    async def _judge(self, before: Position, offset: int, known: int, readings: int) -> None:
        await super()._judge(before, offset, known, readings)
        if self._here.at >= 0 and not self._over and self._empty(offset):
            self._over = True
            self._witness.doubt = False

    def _empty(self, offset: int) -> bool:
        return self._quiet > 0 and offset >= self._here.at


class TrustsTheTotal(Sweep):
    """Takes the list for whole once there are as many rows as the total says."""

    async def _judge(self, before: Position, offset: int, known: int, readings: int) -> None:
        await super()._judge(before, offset, known, readings)
        if self._here.total is not None and self._here.at + 1 >= self._here.total:
            self._over = True
            self._witness.doubt = False


class SkipsTheOverlap(Sweep):
    """Each request starts behind the last row of the one before."""

    async def _read_on(self, wanted: int | None, ahead: int) -> None:
        self._known = []
        await super()._read_on(wanted, ahead)

    def _go_on_bare(self, page, ids, offset) -> None:
        self._take(page, ids, offset, gap=0, twice=True)


class Forgetful(Ids):
    """Remembers nobody."""

    def add(self, ids) -> None:
        """Forget them."""

    def add_new(self, ids) -> bool:
        """Say that all are new."""
        return True


@pytest.mark.parametrize("reader", [TrustsAnEmptyAnswer, TrustsTheTotal, SkipsTheOverlap])
def test_a_reader_that_trusts_too_much_is_caught(reader: type[Sweep]):
    assert _is_caught(reader)


def test_a_reader_that_remembers_no_ids_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(living, "Ids", Forgetful)

    assert _is_caught(Sweep)


def test_ignoring_the_order_of_the_known_rows_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joins.Common, "joins", property(lambda self: self.rows >= joins.ENOUGH))
    monkeypatch.setattr(joins.Common, "disordered", False)

    assert _is_caught(Sweep, range(100, 160), {"order": "another each time"})


def _is_caught(reader: type[Sweep], seeds: range = range(MUTANT_CASES), told: dict[str, str] | None = None) -> bool:
    return any(problem_of(case, story) for _, case, story in told_stories(seeds, reader, told))


@pytest.mark.parametrize("seed", range(40))
def test_a_case_is_told_the_same_way_each_time(seed: int):
    again = [(case.given, story) for _, case, story in told_stories(range(seed, seed + 1))]

    assert again == [(case.given, story) for _, case, story in told_stories(range(seed, seed + 1))]
