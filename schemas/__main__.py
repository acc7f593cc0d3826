"""`python -m schemas` renders `schemas/json/` and `schemas/asyncapi.json`.

With `--check` it only says whether those are current, and what has been broken since the last release; with
`--release 1.2.3` it keeps today's schemas and messages as that release.
"""

import json
import sys
from pathlib import Path

from schemas.asyncapi import document
from schemas.release import FOLDER as RELEASED
from schemas.release import broken, freeze
from schemas.render import MESSAGES, schema

ROOT = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Write, check or release. Returns the exit code: 0 done or current, 1 stale or broken, 2 usage."""
    match arguments:
        case []:
            _write()
            return 0
        case ["--check"]:
            return 1 if _stale() + _broken() else 0
        case ["--release", version]:
            if _broken():
                return 1
            try:
                freeze(version)
            except ValueError as error:
                print(error, file=sys.stderr)
                return 2
            return 0
    print("usage: python -m schemas [--check | --release VERSION]", file=sys.stderr)
    return 2


def _texts() -> dict[str, str]:
    documents = {f"json/{name}.json": schema(name) for name in MESSAGES} | {"asyncapi.json": document()}
    return {path: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for path, each in documents.items()}


def _found() -> list[Path]:
    return [*(ROOT / "json").glob("*.json"), *ROOT.glob("asyncapi.json")]


def _write() -> None:
    texts = _texts()
    (ROOT / "json").mkdir(exist_ok=True)
    for path in _found():
        if path.relative_to(ROOT).as_posix() not in texts:
            path.unlink()
    for name, text in texts.items():
        (ROOT / name).write_text(text, encoding="utf-8")


def _stale() -> int:
    texts = _texts()
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in _found()}
    stale = sorted(name for name in texts.keys() | found.keys() if texts.get(name) != found.get(name))
    for name in stale:
        print(f"schemas/{name} is not current: run `make schemas` and commit the result", file=sys.stderr)
    return len(stale)


def _broken() -> int:
    lines = list(broken(RELEASED))
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        print("messages only ever grow: undo this, or publish a new version of the message beside it", file=sys.stderr)
    return len(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
