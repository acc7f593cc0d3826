"""Released schemas: what consumers out there were built with, and messages of that time. Never changed again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from schemas.compat import breaks
from schemas.examples import EXAMPLES
from schemas.render import MESSAGES, schema
from schemas.wire import JSON, MSGPACK, decode, encode

FOLDER = Path(__file__).parent / "released"
_CONTENT_TYPES = {".json": JSON, ".msgpack": MSGPACK}


def releases(folder: Path = FOLDER) -> list[Path]:
    """Return the folder of each release, oldest first."""
    return sorted((path for path in folder.glob("*") if path.is_dir()), key=lambda path: _version(path.name))


def freeze(version: str, folder: Path = FOLDER) -> Path:
    """Keep today's schemas, and an example of every message in both encodings, as `version`; return its folder.

    Raises ValueError when `version` is not like 1.2.3 or not above the last one: a release never changes.
    """
    if _version(version) <= max((_version(path.name) for path in releases(folder)), default=(-1,)):
        raise ValueError(f"{version} is not above the last release: a release never changes, choose a higher one")
    target = folder / version
    golden = target / "golden"
    golden.mkdir(parents=True)
    for name in MESSAGES:
        (target / f"{name}.json").write_text(_text(schema(name)), encoding="utf-8")
        for number, example in enumerate(EXAMPLES[name], 1):
            (golden / f"{name}.{number}.json").write_bytes(encode(example) + b"\n")
            (golden / f"{name}.{number}.msgpack").write_bytes(encode(example, "msgpack"))
    return target


def broken(folder: Path = FOLDER) -> Iterator[str]:
    """Yield a line for everything by which today's structs break the last release, or messages of any release."""
    found = releases(folder)
    for path in sorted(found[-1].glob("*.json")) if found else ():
        old = json.loads(path.read_text(encoding="utf-8"))
        if path.stem not in MESSAGES:
            yield f"since {found[-1].name}: {path.stem}: the message is gone"
        else:
            yield from (f"since {found[-1].name}: {line}" for line in breaks(path.stem, old, schema(path.stem)))
    for release in found:
        for path in sorted((release / "golden").iterdir()):
            reason = _misread(path)
            if reason is not None:
                yield f"golden {release.name}/{path.name}: {reason}"


def _misread(path: Path) -> str | None:
    """Say why a golden message isn't read as it was written; None when it is."""
    name = path.name.partition(".")[0]
    data = path.read_bytes()
    try:
        message = decode(data, MESSAGES[name], _CONTENT_TYPES[path.suffix])
    except (msgspec.MsgspecError, KeyError) as error:
        return f"can't be decoded any more: {error}"
    now = msgspec.json.decode(encode(message))
    then = msgspec.json.decode(data) if path.suffix == ".json" else msgspec.msgpack.decode(data)
    lost = sorted(_lost(then, now, name))
    return f"reads differently: {', '.join(lost)}" if lost else None


def _lost(then: Any, now: Any, path: str) -> Iterator[str]:
    """Yield the paths whose value isn't there any more. A default may be left out; new fields may come."""
    if isinstance(then, dict) and isinstance(now, dict):
        for field, value in then.items():
            if field in now:
                yield from _lost(value, now[field], f"{path}.{field}")
            elif value not in (None, [], {}):
                yield f"{path}.{field}"
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (before, after) in enumerate(zip(then, now, strict=True)):
            yield from _lost(before, after, f"{path}[{number}]")
    elif then != now:
        yield path


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split(".")
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"{text!r} is no version: it looks like 1.2.3")
    return tuple(map(int, numbers))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
