"""Ask pip-audit about lock files: 1 for findings, 0 for none, and 0 with a word where nobody could be asked."""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OUT_OF_REACH = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|Max retries exceeded|Could not connect|name resolution"
    r"|Network is unreachable|timed? ?out|ProxyError|\b50[234]\b|from versions: none",
    re.IGNORECASE,
)


def audit(program: str, locks: list[str]) -> int:
    """Run `program` (pip-audit) on each lock file and tell what it found. Returns the exit code."""
    # One at a time: two locks may have a package in two versions, which it refuses to look at together.
    checked, skipped, found = set(), set(), {}
    for lock in locks:
        packages, complaint = _ask(program, lock)
        for package in packages:
            (skipped if "skip_reason" in package else checked).add(package["name"])
            found |= {(package["name"], package["version"], one["id"]): one for one in package.get("vulns", [])}
        if complaint and _OUT_OF_REACH.search(complaint):
            print(f"audit: the vulnerability database can't be reached, {lock} was not checked: run it again online")
            return 1 if _tell(found) else 0
        if complaint:
            print(complaint, file=sys.stderr)
            return 1
    if _tell(found):
        return 1
    if checked:
        print(f"audit: no known vulnerability in {len(checked)} packages of {', '.join(locks)}")
    if left := skipped - checked:
        print(
            f"audit: {len(left)} packages were not checked, the database doesn't know them: {', '.join(sorted(left))}"
        )
    return 0


def _ask(program: str, lock: str) -> tuple[list[dict[str, Any]], str]:
    """Return what was said of each package, and what was complained of where the lock couldn't be looked at."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [program, "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", "15"]
        command += ["--requirement", lock, "--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True)
        packages = json.loads(report.read_text("utf-8"))["dependencies"] if report.exists() else []
    has_found = any(package.get("vulns") for package in packages)
    return (
        packages,
        "" if done.returncode == 0 or has_found else done.stderr or f"{program} ends with {done.returncode}",
    )


def _tell(found: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> bool:
    for (name, version, _), one in found.items():
        fixed = ", ".join(one["fix_versions"]) or "no version yet"
        names = " ".join([one["id"], *one["aliases"]])
        print(f"{name} {version}: {names}, fixed in {fixed}: raise it, then `make lock`")
    return bool(found)


def prepare(command: str) -> int | None:
    """Run `command`, which installs the program; return the exit code where nothing can be asked then, else None."""
    done = subprocess.run(shlex.split(command), stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return None
    # Only for want of a network: a tool that isn't what its lock says must not pass for a day without one.
    if _OUT_OF_REACH.search(done.stderr):
        print("audit: pip-audit can't be installed, nothing was checked: run it again online")
        return 0
    print(done.stderr, file=sys.stderr)
    return 1


def main() -> int:
    """Do what the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", metavar="COMMAND", help="what installs the program")
    parser.add_argument("program")
    parser.add_argument("locks", nargs="+", metavar="LOCK")
    given = parser.parse_args()
    ended = prepare(given.first) if given.first else None
    return audit(given.program, given.locks) if ended is None else ended


if __name__ == "__main__":
    sys.exit(main())
