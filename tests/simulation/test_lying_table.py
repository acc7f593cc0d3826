"""What each of some hundred lying, moving lists costs and is told of: `WRITE_LYING_TABLE=1 pytest` renews it.

`lying.txt` has a line a seed. A change in how lists are read shows there as a difference, to be looked at line by line:
who asks more often makes lists dearer, and who claims something else tells people something else.
"""

import os
import zlib
from pathlib import Path

from tests.simulation.living import Story
from tests.simulation.lying import LyingCase, told_stories

CASES = 400
TABLE = Path(__file__).with_name("lying.txt")


def test_what_lists_cost_and_are_told_is_as_the_table_says():
    found = [_line(seed, case, story) for seed, case, story in told_stories(range(CASES))]

    if os.environ.get("WRITE_LYING_TABLE"):
        TABLE.write_text("\n".join([*found, ""]))

    assert found == TABLE.read_text().splitlines()


def _line(seed: int, case: LyingCase, story: Story) -> str:
    told = ", ".join(f"{kind}: {lie}" for kind, lie in sorted(case.lies.told.items())) or "no lie"
    asked = f"{len(case.given)} answers {_sum((one.span, one.offset) for one in case.given)}"
    people = f"{len(story.published)} people on {len(story.pages)} pages {_sum([story.published, story.pages])}"
    said = f"failed as {case.failed.code}" if case.failed else f"{story.verdict}, missed {story.missed_at_most}"
    return f"{seed:3} {told} | {asked} | {people} | {said}"


def _sum(parts: object) -> str:
    """Return a few signs that other parts, or the same in another order, don't have."""
    return f"{zlib.crc32(repr(list(parts)).encode()):08x}"  # type: ignore[call-overload]
