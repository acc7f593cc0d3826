import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STILL = """
import asyncio
import pytest

@pytest.fixture
async def never():
    await asyncio.Event().wait()

@pytest.mark.timeout(0.2)
async def test_waits():
    await asyncio.Event().wait()

@pytest.mark.timeout(0.2)
async def test_spins():
    while True:
        await asyncio.sleep(0)

@pytest.mark.timeout(0.2)
def test_is_busy():
    while True:
        pass

@pytest.mark.timeout(0.2)
async def test_has_a_fixture_that_waits(never):
    pass

async def test_comes_after_all_that():
    await asyncio.sleep(0)
"""
LOOP = """
import uvloop
from tests.patience import pytest_timeout_set_timer

def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
"""


def test_what_stands_still_fails_by_itself_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LOOP)
    (tmp_path / "test_still.py").write_text(STILL)
    command = [*(sys.executable, "-m", "pytest", "-rA", "--tb=short"), "-c", str(ROOT / "pyproject.toml")]

    ended = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path / "test_still.py")],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    summary = [line.split(" ")[:2] for line in ended.stdout.splitlines() if "test_still.py::" in line]
    outcomes = {name.rpartition("::")[2]: outcome for outcome, name in summary}
    assert outcomes == {
        "test_waits": "FAILED",
        "test_spins": "FAILED",
        "test_is_busy": "FAILED",
        "test_has_a_fixture_that_waits": "ERROR",
        "test_comes_after_all_that": "PASSED",
    }, ended.stdout
    assert "Timeout (>0.2s) from pytest-timeout." in ended.stdout
    assert "test_waits at " in ended.stdout, "where the task waits is told"
