"""`make audit`: findings fail, a clean lock passes, and so does a day without network, saying so."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / ".ci" / "audit.py"
CLEAN = {"dependencies": [{"name": "a", "version": "1", "vulns": []}]}
FOUND = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]},
        {"name": "b", "version": "1", "skip_reason": "not on the index"},
    ]
}
OFFLINE = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org'): Max retries exceeded"


@pytest.mark.parametrize(
    ("report", "complaint", "ends", "code", "says"),
    [
        (CLEAN, "No known vulnerabilities found", 0, 0, "no known vulnerability in 1 packages of some.lock"),
        (FOUND, "Found 1 known vulnerability in 1 package", 1, 1, "a 1: PYSEC-1 CVE-1, fixed in 2"),
        (None, OFFLINE, 1, 0, "can't be reached, nothing was checked"),
        (None, "ERROR:pip_audit._cli:requirement a is not hashed", 1, 1, "is not hashed"),
    ],
    ids=["clean", "findings", "offline", "broken lock"],
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
