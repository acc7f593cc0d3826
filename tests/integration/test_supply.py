"""`make licences` and `make sbom`: what is locked is known by its licence, and the SBOM holds what the image holds."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = '[names]\n"MIT License" = "MIT"\n'


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def install(environment: Path, name: str, *lines: str) -> None:
    """Put a package's metadata where pip does."""
    folder = environment / "lib" / "python3.11" / "site-packages" / f"{name}-1.dist-info"
    folder.mkdir(parents=True)
    folder.joinpath("METADATA").write_text("\n".join((f"Name: {name}", "Version: 1", *lines)), "utf-8")


def test_what_is_installed_here_has_licences_that_are_allowed() -> None:
    # Those of the benchmark and of the tools are not installed for the tests: `make licences` looks at all of them.
    locks = [ROOT / f"requirements{kind}.lock" for kind in ("", "-build", "-dev", "-image")]
    rules = ROOT / ".ci" / "licences.toml"

    done = run("licences.py", "--installed", sys.prefix, "--locks", *locks, *ROOT.glob("tests/*/package-lock.json"))

    complaints = done.stderr.splitlines()
    assert f"msgspec {version('msgspec')}: BSD-3-Clause" in done.stdout.splitlines()
    # The list is for all locks; nothing else may be wrong.
    assert [line for line in complaints if not line.endswith("is on the list and not locked")] == []
    named = {line.split()[1] for line in complaints}
    assert all(f"\n{name} = " in rules.read_text("utf-8") for name in named)


@pytest.mark.parametrize(
    ("lines", "rules", "code", "says"),
    [
        (["License-Expression: MIT"], "", 0, "a 1: MIT"),
        (["License-Expression: GPL-3.0-only OR MIT"], "", 0, "a 1: GPL-3.0-only OR MIT"),
        (["License-Expression: GPL-3.0-only AND MIT"], "", 1, "is not allowed without a reason"),
        (["License: MIT License"], "", 0, "a 1: MIT"),
        (["Classifier: License :: OSI Approved :: MIT License"], "", 0, "a 1: MIT"),
        (["License: GPL"], "", 1, "is not allowed without a reason"),
        (["Classifier: License :: Other/Proprietary License"], "", 1, "its licence is unknown"),
        ([], "", 1, "its licence is unknown"),
        (["License-Expression: GPL-3.0-only"], 'a = { licence = "GPL-3.0-only", reason = "alone" }', 0, "GPL-3.0-only"),
        (["License-Expression: AGPL-3.0-only"], 'a = { licence = "GPL-3.0-only", reason = "alone" }', 1, "look at it"),
        ([], 'a = { licence = "ISC", reason = "read" }', 0, "a 1: ISC"),
        (["License: MIT"], 'b = { licence = "ISC", reason = "read" }', 1, "b is on the list and not locked"),
        (["License: MIT"], 'a = { licence = "MIT" }', 1, "gives no reason"),
    ],
)
def test_a_licence_that_nobody_allowed_fails(
    tmp_path: Path, lines: list[str], rules: str, code: int, says: str
) -> None:
    install(tmp_path, "a", *lines)
    (tmp_path / "some.lock").write_text("a==1 \\\n    --hash=sha256:00\n", "utf-8")
    (tmp_path / "rules.toml").write_text(f'allowed = ["MIT"]\n{NAMES}[packages]\n{rules}\n', "utf-8")

    done = run(
        *("licences.py", "--installed", tmp_path, "--locks", tmp_path / "some.lock"),
        *("--rules", tmp_path / "rules.toml"),
    )

    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr


def test_a_package_that_is_installed_in_another_version_is_unknown(tmp_path: Path) -> None:
    install(tmp_path, "a", "License: MIT")
    (tmp_path / "some.lock").write_text("a==2 \\\n    --hash=sha256:00\n", "utf-8")
    (tmp_path / "rules.toml").write_text(f'allowed = ["MIT"]\n{NAMES}[packages]\n', "utf-8")

    done = run(
        *("licences.py", "--installed", tmp_path, "--locks", tmp_path / "some.lock"),
        *("--rules", tmp_path / "rules.toml"),
    )

    assert done.returncode == 1
    assert "a 2: unknown" in done.stdout


@pytest.mark.parametrize(
    ("components", "subject", "code", "says"),
    [
        (["A.b"], "followers-worker", 0, "2 components, followers-worker among them"),
        ([], "followers-worker", 1, "a-b 1 of"),
        (["A.b", "c"], "followers-worker", 1, "c 1 is in it, and not in"),
        (["A.b"], None, 1, "followers-worker is not in it"),
    ],
)
def test_an_sbom_is_written_only_when_it_holds_what_the_lock_says(
    tmp_path: Path, components: list[str], subject: str | None, code: int, says: str
) -> None:
    lock, target, program = tmp_path / "some.lock", tmp_path / "sbom.json", tmp_path / "cyclonedx-py"
    lock.write_text(
        'a-b==1 \\\n    --hash=sha256:00\nw==1 ; sys_platform == "none" \\\n    --hash=sha256:00\n', "utf-8"
    )
    document = json.dumps(
        {
            "components": [{"name": name, "version": "1"} for name in components],
            "metadata": {"component": {"name": subject, "version": "1"}} if subject else {},
        }
    )
    program.write_text(f"#!{sys.executable}\nprint({document!r})\n", "utf-8")
    program.chmod(0o700)

    done = run("sbom.py", program, sys.executable, lock, target)

    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert target.exists() == (code == 0)
