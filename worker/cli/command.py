"""From the words of a command line to a `FetchFollowers`; what is wrong is named here, before anything is published."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from schemas.commands import EsmsFilter, EtelecomFilter, FetchFollowers, too_large
from schemas.types import Provider
from schemas.wire import encode
from worker.cli.console import USAGE, Stop

_FILTERS: Mapping[str, type[msgspec.Struct]] = {"etelecom": EtelecomFilter, "esms": EsmsFilter}


def build_command(provider: Provider, fields: Mapping[str, Any], filters: Sequence[str]) -> FetchFollowers:
    """Return the command of `provider` with `fields` (None: not given) and `filters` (each `key=value`).

    Raises Stop with the exit code 2 and a line that names the field.
    """
    given: dict[str, Any] = {name: value for name, value in fields.items() if value not in (None, {})}
    if filters:
        given["filter"] = _filter(provider, filters)
    try:
        # A command line has only text: lax conversion reads its numbers, booleans and times.
        command: FetchFollowers = msgspec.convert({"provider": provider, **given}, FetchFollowers, strict=False)
    except msgspec.ValidationError as error:
        raise Stop(explain(error, provider), code=USAGE) from error
    if reason := too_large(len(encode(command)), msgspec.to_builtins(command)):
        raise Stop(reason, code=USAGE)
    return command


def pairs(option: str, words: Sequence[str]) -> list[tuple[str, str]]:
    """Return `key=value` words as pairs. Raises Stop naming `option` and the word that is none."""
    for word in words:
        if not re.match(r"[^=]+=", word):
            raise Stop(f"{option} {word}: write it as key=value", code=USAGE)
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]


def explain(error: msgspec.ValidationError, provider: Provider) -> str:
    """Return what msgspec says as one line that begins with the field."""
    text, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.*)`", text)
    if unknown:
        known = _FILTERS[provider].__struct_fields__ if field == "filter" else ()
        name = f"{field}.{unknown[1]}" if field else unknown[1]
        hint = f": {provider} has {', '.join(sorted(known))}" if known else ""
        return f"{name}: {provider} doesn't know this{hint}"
    if "matching regex" in text:
        pattern = re.sub(r"^\^|\$\(\?!.*$", "", text.partition("'")[2].rstrip("'"))
        text = f"isn't of the expected form {pattern}"
    return f"{field}: {text[:1].lower()}{text[1:]}" if field else text


def _filter(provider: Provider, words: Sequence[str]) -> dict[str, Any]:
    lists = {field.name for field in msgspec.structs.fields(_FILTERS[provider]) if _is_list(field.type)}
    found: dict[str, Any] = {}
    for key, value in pairs("--filter", words):
        if key in lists:
            found.setdefault(key, []).append(value)
        elif key in found:
            raise Stop(f"filter.{key}: given twice, but it takes one value", code=USAGE)
        else:
            found[key] = value
    return found


def _is_list(annotation: Any) -> bool:
    return any(getattr(part, "__origin__", None) is list or _is_list(part) for part in get_args(annotation))
