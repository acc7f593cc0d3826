"""Where settings come from: a TOML file and environment variables ``FOLLOWERS_<SECTION>__<KEY>``."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from worker.settings.errors import (
    NAMED,
    NAMED_FIELDS,
    PREFIX,
    SECTIONS,
    Origin,
    SettingsError,
    closest,
    variable_names,
)

DEFAULT_FILE = Path("followers.toml")

# Kubernetes sets these for every service whose name starts with "followers"; they are nobody's settings.
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_BOOLEANS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def file_values(named: Path | None) -> dict[str, Any]:
    """Return the tables of the file; nothing when none is named and the default one is not there.

    Raises SettingsError when a named file is missing, or when it is not TOML with tables of settings.
    """
    path = named or DEFAULT_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if named is None:
            return {}
        raise SettingsError(
            f"{path}: this settings file does not exist; correct --config or FOLLOWERS_CONFIG"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path}: this settings file can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: this settings file is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: this settings file is not TOML: {error}") from None
    problems = _not_tables(values, str(path))
    if problems:
        raise SettingsError(*problems)
    return values


def _not_tables(values: Mapping[str, Any], file: str) -> list[str]:
    # Checked here because a variable of the same section would replace the wrong value without a word.
    tables = {name: values[name] for name in (*SECTIONS, *NAMED) if name in values}
    for section in NAMED:
        if isinstance(tables.get(section), dict):
            tables |= {f"{section}.{name}": table for name, table in values[section].items()}
    return [
        f"{name} in {file}: must be a table; write [{name}] and its settings below it"
        for name, table in tables.items()
        if not isinstance(table, dict)
    ]


def environment_values(
    environ: Mapping[str, str], from_file: Mapping[str, Any], origin: Origin
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings among the variables as nested tables, and the problems of those that are none.

    Notes in ``origin`` which variable each value came from.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable in sorted(environ):
        name = variable.upper()
        text = environ[variable]
        if not name.startswith(PREFIX) or name == "FOLLOWERS_CONFIG" or _is_service_link(name, text):
            continue
        path = _path(name.removeprefix(PREFIX).lower(), from_file)
        if path is None:
            problems.append(_unknown(variable))
            continue
        table = values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = _parse(text, path)
        origin.variables[path] = variable
    return values, problems


def telemetry_values(environ: Mapping[str, str], origin: Origin) -> dict[str, Any]:
    """Return where OpenTelemetry's own variables send traces; nothing where they send none, or not by HTTP.

    Any setting of ours comes before that.
    """
    traces, base = (environ.get(f"OTEL_EXPORTER_OTLP_{name}", "") for name in ("TRACES_ENDPOINT", "ENDPOINT"))
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or protocol == "grpc" or not (traces or base):
        return {}
    path = ("worker", "otlp_endpoint")
    origin.variables.setdefault(path, f"OTEL_EXPORTER_OTLP_{'TRACES_' if traces else ''}ENDPOINT")
    return {"worker": {"otlp_endpoint": traces or f"{base.rstrip('/')}/v1/traces"}}


def _is_service_link(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.search(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.match(text)))


def _path(name: str, from_file: Mapping[str, Any]) -> tuple[str, ...] | None:
    section, _, key = name.partition("__")
    if not section or not key:
        return None
    if section not in NAMED:
        return section, key
    # The name may hold a double underscore itself; a field never does.
    named, _, last = key.rpartition("__")
    return (section, _known_name(named, from_file.get(section, {})), last) if named and last else None


def _known_name(name: str, tables: Mapping[str, Any]) -> str:
    """Return the file's spelling of an account or a schedule: variables know no case, and shells no ``-``."""
    for spell in (str.casefold, lambda text: text.casefold().replace("-", "_")):
        found = [known for known in tables if spell(known) == spell(name)]
        if found:
            return str(found[0])
    return name


def _unknown(variable: str) -> str:
    suggestion = closest(variable.upper(), [*variable_names(), "FOLLOWERS_CONFIG"])
    shape = "; write FOLLOWERS_<SECTION>__<KEY> or FOLLOWERS_ACCOUNTS__<NAME>__<KEY>"
    return f"environment variable {variable}: there is no such setting{suggestion or shape}"


def _parse(text: str, path: tuple[str, ...]) -> Any:
    """Return what the setting's type makes of the text, or the text itself, for validation to refuse."""
    fields = NAMED_FIELDS.get(path[0]) or getattr(SECTIONS.get(path[0]), "model_fields", {})
    kind = _without_none(fields[path[-1]].annotation) if path[-1] in fields else str
    try:
        if kind is bool:
            return _BOOLEANS.get(text.strip().lower(), text)
        if kind in (int, float):
            return kind(text)
        if get_origin(kind) is dict:
            return json.loads(text)
        if get_origin(kind) is tuple:
            return json.loads(text) if text.lstrip().startswith("[") else _split(text)
    except ValueError:
        return text
    return text


def _without_none(annotation: Any) -> Any:
    """Return `int` of `int | None`."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    return parts[0] if len(parts) == 1 and NoneType in get_args(annotation) else annotation


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
