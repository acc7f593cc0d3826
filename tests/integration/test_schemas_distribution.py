"""The folder schemas/ as another repository gets it: a distribution that needs msgspec and nothing else."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]

CONSUMER = """
import importlib, json, pkgutil, sys
sys.path[:0] = sys.argv[1:]
import schemas
names = [module.name for module in pkgutil.iter_modules(schemas.__path__) if module.name != "__main__"]
for name in names:
    importlib.import_module(f"schemas.{name}")
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps([schemas.__file__, sorted(names), sorted(foreign - {"__main__", "schemas"})]))
"""


def pip(*arguments: str | Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-qq",
        *arguments,
        "--no-deps",
        "--no-index",
    ]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # A copy, as pip makes one of the repository: nothing above the folder is there to help it.
    source = shutil.copytree(ROOT / "schemas", out / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-build-isolation", source, "--wheel-dir", out)
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_schema_of_the_folder(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}

    folder = ROOT / "schemas"
    files = [*folder.rglob("*.py"), *folder.glob("*.json"), *folder.glob("json/*.json"), *folder.rglob("py.typed")]
    assert held == {str(file.relative_to(ROOT)) for file in files}
    assert "schemas/__init__.py" in held


def test_a_consumer_needs_msgspec_alone(wheel: Path, tmp_path: Path) -> None:
    installed, only_msgspec = tmp_path / "installed", tmp_path / "msgspec-alone"
    pip("install", "--target", installed, wheel)
    found = importlib.util.find_spec("msgspec")
    assert found
    assert found.origin
    only_msgspec.mkdir()
    (only_msgspec / "msgspec").symlink_to(Path(found.origin).parent)

    # -I and -S: neither this project nor anything of this environment can be imported.
    command: list[str | Path] = [sys.executable, "-I", "-S", "-c", CONSUMER, installed, only_msgspec]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    assert done.stdout.rstrip().endswith('["msgspec"]]')
