"""`python -m schemas` renders `schemas/json/` and `schemas/asyncapi.json`.

With `--check` it only says whether those are current, and what has been broken since the last release; with
`--release 1.2.3` it keeps today's schemas and messages as that release.
"""

import json
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Write, check or release. Returns the exit code: 0 done or current, 1 stale or broken, 2 usage."""
    try:
        # What a message no longer has may still be named by an example, or by other code of this package.
        import schemas.release  # noqa: F401
    except Exception as error:
        print(_unfit(error), file=sys.stderr)
        return 1
    match arguments:
        case []:
            _write()
            return 0
        case ["--check"]:
            return 1 if _stale() + _broken() else 0
        case ["--release", version]:
            if _broken():
                return 1
            from schemas.release import freeze

            try:
                freeze(version)
            except ValueError as error:
                print(error, file=sys.stderr)
                return 2
            return 0
    print("usage: python -m schemas [--check | --release VERSION]", file=sys.stderr)
    return 2


def _unfit(error: Exception) -> str:
    """Say which line of this package doesn't fit its messages any more."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == ROOT]
    where = f"schemas/{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "schemas"
    return (
        f"{where}: {error}: it doesn't fit the messages as they are now; messages only ever grow: put back what was"
        " removed or renamed, or, where it was never released, change this line too"
    )


def _texts() -> dict[str, str]:
    from schemas.asyncapi import document
    from schemas.render import MESSAGES, schema

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
    from schemas.release import broken

    lines = list(broken())
    for line in lines:
        print(line, file=sys.stderr)
    if lines:
        print("messages only ever grow: undo this, or publish a new version of the message beside it", file=sys.stderr)
    return len(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
