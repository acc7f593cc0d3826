"""The unmodified reading of a list by row numbers, against lists that change between any two requests."""

from collections import Counter

import pytest

from tests.simulation import some
from tests.simulation.living import stories
from worker.core.paging import overlap as joins
from worker.core.paging.offset_reader import Sweep
from worker.core.ports.provider import ProviderPage

CASES = some(5_000)


def test_what_the_verdict_promises_holds_whatever_moves_and_whoever_crashes():
    total: Counter[str] = Counter()

    for seed, story in stories(range(CASES)):
        assert story.problem is None, f"seed {seed}: {story.problem}"
        assert not story.unforeseen, f"seed {seed}: {story.unforeseen}"
        proof = {0: "proven", None: "unknown"}.get(story.missed_at_most, "bounded")
        total.update([story.verdict, f"{story.verdict} and {proof}"])
        total.update(walked=story.walks > 0, walks=story.walks, crashes=story.crashes, moved=story.changes > 0)
        total.update(changes=story.changes, requests=story.requests, missing=story.missing)

    print(", ".join(f"{name}: {count}" for name, count in sorted(total.items())))
    assert total["complete"] == total["complete and proven"] > CASES / 3
    assert total["drifted and proven"] > CASES / 20
    assert total["drifted and bounded"] > CASES / 20
    assert total["walked"] > CASES / 6
    assert total["crashes"] > CASES / 6
    assert total["missing"] > 0, "no list moved so much that somebody was missed: the cases are too tame"


class WithoutOverlap(Sweep):
    """Each request starts behind the last row of the one before, as it used to."""

    async def _read_on(self, wanted: int | None, ahead: int) -> None:
        self._known = []
        await super()._read_on(wanted, ahead)

    def _go_on_bare(self, page: ProviderPage, ids: list[str], offset: int) -> None:
        self._take(page, ids, offset, gap=0, twice=True)


def _caught(seeds: range, reader: type[Sweep] = Sweep) -> bool:
    return any(story.problem for _, story in stories(seeds, reader))


def test_reading_without_overlap_is_caught():
    assert _caught(range(50), WithoutOverlap)


def test_taking_a_single_known_row_for_an_anchor_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joins, "ENOUGH", 1)

    # Somebody must leave and come again just where a request starts, and nobody else may stand beside.
    assert _caught(range(1_450, 1_550))
