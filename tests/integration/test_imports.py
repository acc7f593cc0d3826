"""The direction of imports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_run_one_way() -> None:
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_import_against_the_direction_is_caught(tmp_path: Path) -> None:
    for folder in ("worker", "schemas"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = {
        "worker/settings/planted.py": "import worker.embedded\n",
        "worker/jetstream/planted.py": "import worker.simulators\n",
        "worker/core/changes/planted.py": "import worker.core.schedules.timing\n",
        "worker/core/planted.py": "import httpx\nimport nats\nimport faststream\n",
    }
    for name, text in planted.items():
        (tmp_path / name).write_text(text)

    done = lint_imports(tmp_path)

    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert done.returncode == 1
    assert len(broken) == 7, done.stdout
