"""What a change of the JSON Schemas breaks: messages of the last release must stay readable, and readers of it work on.

Both sides are documents as `schemas.render.schema` makes them. A break is one line with the path of the field.
"""

from collections.abc import Iterator
from typing import Any

TIGHTER_WHEN_HIGHER = ("minimum", "minLength", "minItems", "minProperties")
TIGHTER_WHEN_LOWER = ("maximum", "maxLength", "maxItems", "maxProperties")
EXACT = ("pattern", "format")
READ_BY_US = frozenset({"FetchFollowers"})
"""Messages that others write: there a looser type or a field that may be left out breaks nobody."""

Schema = dict[str, Any]


def breaks(name: str, old: Schema, new: Schema) -> list[str]:
    """Return what `new` breaks for those who write or read the message `name` as `old` describes it."""
    return list(_Comparison(old, new, written_by_us=name not in READ_BY_US).compare(old, new, name))


class _Comparison:
    def __init__(self, old: Schema, new: Schema, *, written_by_us: bool) -> None:
        self._old_parts, self._new_parts = old.get("$defs", {}), new.get("$defs", {})
        self._written_by_us = written_by_us

    def compare(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = _branches(old, self._old_parts), _branches(new, self._new_parts)
        for kind, branch in before.items():
            if kind not in after:
                yield f"{path}: {kind} is gone: its type changed" if len(before) == 1 else f"{path}: {kind} is gone"
            else:
                yield from self._branch(branch, after[kind], path if len(before) == 1 else f"{path}<{kind}>")
        # A new kind of message in a union, told apart by its tag, is a message that old readers skip or refuse; a
        # plain field of another type is one that they take for something else.
        for kind in after.keys() - before.keys():
            if self._written_by_us:
                yield f"{path}: may now be {kind}, which readers of the release don't expect"

    def _branch(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        yield from self._values(_values(old), _values(new), path)
        for word in TIGHTER_WHEN_HIGHER:
            if word in new and (word not in old or new[word] > old[word]):
                yield f"{path}: {word} is now {new[word]}, was {old.get(word, 'free')}"
        for word in TIGHTER_WHEN_LOWER:
            if word in new and (word not in old or new[word] < old[word]):
                yield f"{path}: {word} is now {new[word]}, was {old.get(word, 'free')}"
        for word in EXACT:
            if word in new and new[word] != old.get(word):
                yield f"{path}: {word} is now {new[word]!r}, was {old.get(word, 'free')!r}"
        if "default" in old and "default" in new and old["default"] != new["default"]:
            yield f"{path}: what a left out field means is now {new['default']!r}, was {old['default']!r}"
        if "items" in old:
            yield from self.compare(old["items"], new.get("items", {}), f"{path}[]")
        if isinstance(old.get("additionalProperties"), dict):
            yield from self.compare(old["additionalProperties"], new.get("additionalProperties") or {}, f"{path}.*")
        if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
            yield f"{path}: unknown fields are now refused"
        if "properties" in old:
            yield from self._properties(old, new, path)

    def _properties(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = old["properties"], new.get("properties", {})
        for field, schema in before.items():
            if field not in after:
                yield f"{path}.{field}: is removed"
            else:
                yield from self.compare(schema, after[field], f"{path}.{field}")
        required, now_required = set(old.get("required", ())), set(new.get("required", ()))
        for field in sorted(now_required - required):
            yield f"{path}.{field}: is now required, so older messages can't be read"
        if self._written_by_us:
            for field in sorted((required - now_required) & after.keys()):
                yield f"{path}.{field}: may now be missing, which readers of the release don't expect"

    @staticmethod
    def _values(old: set[Any] | None, new: set[Any] | None, path: str) -> Iterator[str]:
        if new is None:
            return  # any value now; the type is compared by its kind
        if old is None:
            yield f"{path}: only {', '.join(sorted(map(str, new)))} are allowed now"
        elif old - new:
            yield f"{path}: no longer {', '.join(sorted(map(str, old - new)))}"


def _branches(schema: Schema, parts: Schema) -> dict[str, Schema]:
    """Return what a schema may be, by kind: `string`, `null`, an object's tag, ..."""
    found: dict[str, Schema] = {}
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "$ref")}
    if "$ref" in schema:
        target = parts[schema["$ref"].rpartition("/")[2]]
        return _branches({**target, **({"default": rest["default"]} if "default" in rest else {})}, parts)
    for branch in schema.get("anyOf", ()):
        found |= _branches(branch, parts)
    if "anyOf" in schema:
        return found
    return {_kind(schema): schema}


def _kind(schema: Schema) -> str:
    """Return the type in words; an object of a tagged union is known by its tag, whatever its struct is called."""
    for tag in ("type", "provider"):
        value = schema.get("properties", {}).get(tag, {}).get("enum", ())
        if len(value) == 1 and tag in schema.get("required", ()):
            return f"{tag} {value[0]!r}"
    if "type" in schema:
        return str(schema["type"])
    values = _values(schema)
    return "anything" if values is None else {"str": "string", "int": "integer"}[type(next(iter(values))).__name__]


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None
