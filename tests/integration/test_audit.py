"""`make audit`: findings fail, a clean lock passes, and so does a day without network, saying so."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".ci" / "audit.py"
CLEAN = {"dependencies": [{"name": "a", "version": "1", "vulns": []}]}
FOUND = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]},
        {"name": "b", "version": "1", "skip_reason": "not on the index"},
    ]
}
SKIPPED = {"dependencies": [*CLEAN["dependencies"], {"name": "b", "version": "1", "skip_reason": "not on the index"}]}
OFFLINE = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org'): Max retries exceeded"


@pytest.mark.parametrize(
    ("report", "complaint", "ends", "code", "says"),
    [
        (CLEAN, "No known vulnerabilities found", 0, 0, "no known vulnerability in 1 packages of some.lock"),
        (FOUND, "Found 1 known vulnerability in 1 package", 1, 1, "a 1: PYSEC-1 CVE-1, fixed in 2"),
        (SKIPPED, "", 0, 0, "1 packages were not checked, the database doesn't know them: b"),
        (None, OFFLINE, 1, 0, "can't be reached, some.lock was not checked"),
        (None, "ERROR:pip_audit._cli:requirement a is not hashed", 1, 1, "is not hashed"),
    ],
    ids=["clean", "findings", "not all known", "offline", "broken lock"],
)
def test_the_audit_ends_as_its_findings_say(
    tmp_path: Path, report: object, complaint: str, ends: int, code: int, says: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        f"if {report!r}: pathlib.Path(sys.argv[-1]).write_text(json.dumps({report!r}))\n"
        f"print({complaint!r}, file=sys.stderr)\nsys.exit({ends})\n",
        "utf-8",
    )
    program.chmod(0o700)

    done = subprocess.run([sys.executable, PROGRAM, program, "some.lock"], capture_output=True, text=True)

    assert done.returncode == code
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("complaint", "code", "says"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement uv (from versions: none)",
            0,
            "nothing was checked",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", 1, "DO NOT MATCH THE HASHES"),
    ],
    ids=["offline", "another file than the lock's"],
)
def test_a_tool_that_is_not_there_passes_only_for_want_of_a_network(
    tmp_path: Path, complaint: str, code: int, says: str
) -> None:
    install = tmp_path / "install"
    install.write_text(f"#!{sys.executable}\nimport sys\nsys.exit({complaint!r})\n", "utf-8")
    install.chmod(0o700)

    done = subprocess.run(
        [sys.executable, PROGRAM, "--first", install, tmp_path / "never", "some.lock"], capture_output=True, text=True
    )

    assert done.returncode == code
    assert says in done.stdout + done.stderr


def test_every_lock_has_hashes_and_is_audited_and_listed() -> None:
    locks = {lock.name for lock in ROOT.glob("*.lock")}

    told = subprocess.run(
        ["make", "-n", "audit", "licences"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert {"requirements-bench.lock", "requirements-tools.lock"} < locks
    for program in ("audit.py", "licences.py"):
        (line,) = (line for line in told if program in line)
        assert locks <= set(line.split())
    for lock in locks:
        text = (ROOT / lock).read_text("utf-8")
        packages = [line for line in text.splitlines() if not line.startswith((" ", "#"))]
        assert all(line.endswith("\\") for line in packages), lock  # its hashes follow
        assert "://" not in text
        assert "--index" not in text


def test_no_tool_is_installed_by_name() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if " install " in line]

    assert installs
    for line in installs:
        assert (
            "--require-hashes -r " in line
            or "--no-deps" in line
            or line.startswith(("#", "\t@echo", "\telse", "\t    echo"))
        ), line
