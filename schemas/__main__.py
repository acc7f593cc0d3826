"""`python -m schemas` renders `schemas/json/`; with `--check` it only says whether that is current."""

import json
import sys
from pathlib import Path

from schemas.render import MESSAGES, schema

FOLDER = Path(__file__).parent / "json"


def main(arguments: list[str]) -> int:
    """Write or check one file a message. Returns the exit code: 0 current or written, 1 stale, 2 usage."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m schemas [--check]", file=sys.stderr)
        return 2
    texts = {f"{name}.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n" for name in MESSAGES}
    if arguments:
        return _check(texts)
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.glob("*.json"):
        if stale.name not in texts:
            stale.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def _check(texts: dict[str, str]) -> int:
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    stale = sorted(name for name in texts.keys() | found.keys() if texts.get(name) != found.get(name))
    for name in stale:
        print(f"schemas/json/{name} is not current: run `make schemas` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
