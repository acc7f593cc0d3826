"""One page, two pages: in every text that people see."""

import re
from pathlib import Path

import pytest

from schemas.counted import counted

ROOT = Path(__file__).parents[2]
COUNTED = (
    "pages|followers|commands|requests|entries|letters|checks|events|slots|jobs|replicas|reads|warnings"
    "|duplicates|parts|rows|people"
)
BARE = re.compile(rf"\{{[^{{}}]*\}}(?: whole| dead)? (?:{COUNTED})\b")
"""A number that is put before a word in the plural, whatever it is."""
NEVER_ONE = {
    "worker/core/paging/cursor_reader.py": "{EMPTY_PAGES} pages",
    "worker/core/jobs/run.py": "{standing.barren} pages",
    "worker/jetstream/topology/doctor.py": "{count} replicas",
    "worker/core/status/wait_reasons.py": "{outlook.rate:g} requests",
    "worker/core/ratelimit/gcra.py": "{self.rate} requests",
    "worker/page/static/page.js": "{number(account.rate)} requests",
}
"""Those that begin at two, and rates."""


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 pages"), (1, "1 page"), (2, "2 pages"), (1200, "1,200 pages"), (-1, "-1 pages")]
)
def test_a_number_agrees_with_its_word(number: int, text: str) -> None:
    assert counted(number, "page") == text


@pytest.mark.parametrize(("number", "text"), [(1, "1 entry is"), (1000, "1,000 entries are")])
def test_words_that_end_otherwise_are_given(number: int, text: str) -> None:
    assert counted(number, "entry is", "entries are") == text


def test_no_text_puts_a_number_before_a_plural_unseen() -> None:
    found = []
    for path in sorted([*ROOT.glob("worker/**/*.py"), *ROOT.glob("schemas/*.py")]):
        name = path.relative_to(ROOT).as_posix()
        if "/simulators/" in name or "/settings/" in name:
            continue
        text = path.read_text("utf-8")
        for match in BARE.finditer(text):
            if not _is_no_number(match[0]) and NEVER_ONE.get(name, "-") not in match[0]:
                found.append(f"{name}: {match[0]}")

    assert found == []


def _is_no_number(text: str) -> bool:
    """Names of providers and of what wants commands, and progress of a bar, which isn't a sentence."""
    return any(word in text for word in ("provider", "so_far", "done ", "task.completed", "{of}"))
