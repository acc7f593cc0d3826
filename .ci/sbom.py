"""Write an SBOM of an environment, held against its lock: 1 where a component lacks, or is none of the lock's."""

import json
import subprocess
import sys
from pathlib import Path

from locks import locked
from packaging.utils import canonicalize_name

_OURS = "followers-worker"


def write(program: str, python: str, lock: Path, target: Path) -> int:
    """Run `program` (cyclonedx-py) on the environment of `python`; write what it says to `target`, if that is right."""
    command = [program, "environment", "--pyproject", "pyproject.toml", "--output-reproducible"]
    done = subprocess.run([*command, "--output-format", "JSON", python], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"sbom: {done.stderr}", file=sys.stderr)
        return 1
    document = json.loads(done.stdout)
    # Our own is what the SBOM is about, so it stands above the others.
    components = [*document["components"], *filter(None, [document["metadata"].get("component")])]
    found = {(canonicalize_name(one["name"]), one["version"]) for one in components}
    wanted = {(one.name, one.version) for one in locked(lock) if one.here}
    foreign = {(name, version) for name, version in found - wanted if name != _OURS}
    problems = [f"{name} {version} of {lock} is not in it" for name, version in sorted(wanted - found)]
    problems += [f"{name} {version} is in it, and not in {lock}" for name, version in sorted(foreign)]
    if not any(name == _OURS for name, _ in found):
        problems.append(f"{_OURS} is not in it")
    for problem in problems:
        print(f"sbom: {problem}", file=sys.stderr)
    if problems:
        return 1
    target.write_text(done.stdout, "utf-8")
    print(f"sbom: {len(components)} components, {_OURS} among them, in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(write(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
