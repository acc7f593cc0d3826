"""Ask pip-audit about lock files: 1 for findings, 0 for none, and 0 with a word where nobody could be asked."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_OUT_OF_REACH = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|Max retries exceeded|Could not connect|name resolution"
    r"|Network is unreachable|timed? ?out|ProxyError|\b50[234]\b",
    re.IGNORECASE,
)


def audit(program: str, locks: list[str]) -> int:
    """Run `program` (pip-audit) on the lock files and tell what it found. Returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [program, "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", "15"]
        command += [word for lock in locks for word in ("--requirement", lock)]
        done = subprocess.run([*command, "--format", "json", "--output", str(report)], capture_output=True, text=True)
        packages = json.loads(report.read_text("utf-8"))["dependencies"] if report.exists() else []
    findings = [(package, found) for package in packages for found in package.get("vulns", [])]
    for package, found in findings:
        fixed = ", ".join(found["fix_versions"]) or "no version yet"
        names = " ".join([found["id"], *found["aliases"]])
        print(f"{package['name']} {package['version']}: {names}, fixed in {fixed}: raise it, then `make lock`")
    if findings:
        return 1
    if done.returncode == 0:
        print(f"audit: no known vulnerability in {len(packages)} packages of {', '.join(locks)}")
        return 0
    if _OUT_OF_REACH.search(done.stderr):
        print("audit: the vulnerability database can't be reached, nothing was checked: run it again online")
        return 0
    print(done.stderr, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1], sys.argv[2:]))
