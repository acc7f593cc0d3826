"""`schemas` on its own: what a consumer in another repository has."""

import shutil
import subprocess
import sys
from pathlib import Path

import schemas

FOLDER = Path(schemas.__file__).parent
ONLY_MSGSPEC = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in sys.stdlib_module_names | {"schemas", "msgspec"}:
            raise ModuleNotFoundError(f"{name} is not there for a consumer")

sys.meta_path.insert(0, Block())
from schemas import *
import schemas
import schemas.jobs, schemas.render, schemas.subjects, schemas.wire
page = schemas.decode(sys.stdin.buffer.read(), schemas.Follower)
print(page.user_id, *sorted({name.partition(".")[0] for name in sys.modules} & {"worker", "nats", "faststream"}))
"""


def run(*arguments: str, folder: Path = FOLDER.parent, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run Python in `folder`, which holds the package."""
    return subprocess.run([sys.executable, *arguments], cwd=folder, input=stdin, capture_output=True, timeout=30)


def test_a_consumer_needs_msgspec_and_nothing_else() -> None:
    done = run("-c", ONLY_MSGSPEC, stdin=b'{"user_id": "1"}')

    assert (done.stdout.split(), done.stderr) == ([b"1"], b"")


def test_everything_that_is_promised_can_be_imported() -> None:
    assert all(hasattr(schemas, name) for name in schemas.__all__)
    assert {"FetchFollowers", "FollowerPage", "JobEvent", "JobStatus", "Follower", "decode"} <= set(schemas.__all__)


def test_the_json_schemas_in_the_repository_are_current() -> None:
    done = run("-m", "schemas", "--check")

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_json_schema_that_is_not_current_is_named(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "schemas")
    (tmp_path / "schemas/json/Follower.json").write_text("{}")
    (tmp_path / "schemas/json/JobStatus.json").unlink()
    (tmp_path / "schemas/json/Gone.json").write_text("{}")

    done = run("-m", "schemas", "--check", folder=tmp_path)

    assert done.returncode == 1
    assert [line.split()[0] for line in done.stderr.decode().splitlines()] == [
        "schemas/json/Follower.json",
        "schemas/json/Gone.json",
        "schemas/json/JobStatus.json",
    ]


def test_rendering_makes_the_json_schemas_current(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "schemas")
    (tmp_path / "schemas/json/Follower.json").write_text("{}")
    (tmp_path / "schemas/json/Gone.json").write_text("{}")

    assert run("-m", "schemas", folder=tmp_path).returncode == 0

    assert run("-m", "schemas", "--check", folder=tmp_path).returncode == 0
    rendered = {path.name: path.read_bytes() for path in (tmp_path / "schemas/json").iterdir()}
    assert rendered == {path.name: path.read_bytes() for path in (FOLDER / "json").iterdir()}


def test_a_wrong_argument_is_a_usage_error() -> None:
    done = run("-m", "schemas", "--chek")

    assert done.returncode == 2
    assert b"--check" in done.stderr
