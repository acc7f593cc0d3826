import shutil
from pathlib import Path

import pytest

from tests.mutants.__main__ import main
from tests.mutants.groups import group_of, killers, sources
from tests.mutants.known import change, equivalent
from tests.mutants.operators import mutants

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
TINY = '''"""A module."""

LIMIT = 3


def allowed(count: int) -> bool:
    """Say whether there is room."""
    return 0 < count <= LIMIT


def spare(count: int) -> int:
    return LIMIT - count


def unused(count: int) -> bool:
    return count > 7


def wait(count: int) -> int:
    while count < LIMIT:
        count = LIMIT
    return count
'''
TESTS = """
from schemas.tiny import allowed, spare, wait

def test_allowed():
    assert [allowed(count) for count in range(-1, 6)] == [False, False, True, True, True, False, False]

def test_spare():
    assert spare(0)

def test_wait():
    assert wait(1) == 3
"""


def becomes(source: str) -> list[str]:
    """What each mutant makes of the one changed line."""
    text = source.encode()
    return [change(mutant, text)[2] for mutant in mutants("schemas/a.py", text)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b < 1", {"a = b <= 1", "a = b < 2"}),
        ("a = (b) == (c)", {"a = (b) != (c)"}),
        ("a = b in c", {"a = b not in c"}),
        ("a = b and not c", {"a = b or not c", "a = b and c"}),
        ("a = b or c or d", {"a = b and c or d", "a = b or c and d"}),
        ("a = b if c else d", {"a = b if not (c) else d"}),
        ("a = [b for b in c if b]", {"a = [b for b in c if not (b)]"}),
        ("a = min(b, -c)", {"a = max(b, -c)", "a = min(b, c)"}),
        ("a = True", {"a = False"}),
        ("a = 'é' + b''", {"a = 'é' - b''", "a = 'XXé' + b''", "a = 'é' + b'XX'"}),
        ("a.b = c", {"pass"}),
        ("a += b", {"pass", "a -= b"}),
        ("a(b)", {"pass"}),
        ("raise A", {"pass"}),
        ("if a:\n  b = c", {"if not (a):"}),
        ("if not a:\n  b = c", {"if a:"}),
        ("if a > b:\n  b = c", {"if a >= b:"}),
        ("for a in b:\n  continue", {"break"}),
        ("for a in b:\n  break", {"continue"}),
        ("def f(a=1):\n  return a", {"def f(a=2):", "return None"}),
        ("a: int = 1", {"a: int = 2"}),
        ("class A(B, tag='x'):\n  a: int = 1", {"class A(B, tag='XXx'):", "a: int = 2"}),
        ("try:\n  a = b\nexcept (C, D):\n  a = 1", {"a = 2"}),
    ],
)
def test_expressions_and_statements_are_changed_one_at_a_time(source: str, expected: set[str]) -> None:
    assert set(becomes(source)) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "_log.info('command.done', count=1)",
        "a = f'{b + 1} left'",
        "a = B('what happened, and what to do')",
        "a: dict[str, Literal['x']]",
        "def f(a: 'int' = b) -> Literal[1]: ...",
        "Asked = Job | None",
        "a = b(c, strict=False)",
        "assert a > 1",
        "a = begin(b(c), 'limit.push')",
        "def __repr__(self):\n  return 'x' + self.a",
        "if TYPE_CHECKING:\n  a = 1",
        "T = TypeVar('T')",
        "__all__ = ['a']",
        "from a import b",
        "isinstance(a, Job | int) or d",
    ],
)
def test_what_only_a_reader_notices_is_left_alone(source: str) -> None:
    expected = ["isinstance(a, Job | int) and d"] if source.startswith("isinstance") else []
    assert becomes(source) == expected


def test_each_file_of_ours_that_decides_something_is_in_a_group() -> None:
    assert group_of("worker/core/changes/pointer.py") == group_of("worker/core/changes/feed.py") == "changes"
    assert group_of("worker/core/jobs/handler.py") == group_of("worker/core/ratelimit/gcra.py") == "core"
    assert group_of("worker/providers/esms/rows.py") == "providers"
    assert group_of("worker/jetstream/kv/board.py") == "jetstream"
    assert group_of("schemas/verify.py") == "schemas"
    assert group_of("schemas/examples.py") is group_of("worker/cli/fetch.py") is None
    assert {group_of(file) for file in sources(ROOT)} == {"core", "changes", "providers", "jetstream", "schemas"}
    assert "tests/unit/test_limit.py" in killers(ROOT)


def test_kills_and_survivors_of_a_planted_module_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("schemas", "tests/unit"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copytree(HERE, tmp_path / "tests" / "mutants", ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "schemas" / "__init__.py").touch()
    (tmp_path / "schemas" / "tiny.py").write_text(TINY)
    (tmp_path / "tests" / "unit" / "test_tiny.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")

    code = main(["--jobs", "1", "--count", "100", "--patience", "4", "--at-least", "99"], tmp_path)

    out = capsys.readouterr().out
    changed = [line for line in out.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert changed == [
        "+    return LIMIT + count",
        "+    return None",
        "+    return count >= 7",
        "+    return count > 8",
    ], out
    assert "schemas          12        7        1        4    66.7%" in out, "what waits for ever is noticed too"
    assert "1 runs of the same tests without a mutant: 0 failed" in out
    assert code == 1
    assert (tmp_path / "schemas" / "tiny.py").read_text() == TINY


def test_each_mutant_that_is_known_to_change_nothing_can_still_be_made() -> None:
    made = {
        change(mutant, source)
        for file in {file for file, _, _ in equivalent()}
        for source in [(ROOT / file).read_bytes()]
        for mutant in mutants(file, source)
    }

    assert [entry for entry in equivalent() if entry not in made] == []
    assert all(reason.endswith(".") for reason in equivalent().values())
