"""What is wrong with the settings, where it was written, and what to do. Never shows a value."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from worker.core.schedules.decision import LONGEST_NAME
from worker.settings.schedules import ScheduleSettings
from worker.settings.tree import EsmsSettings, EtelecomSettings, Settings

Loc = tuple[str, ...]
PREFIX = "FOLLOWERS_"

NAMED = ("accounts", "schedules")
"""Sections that are tables of tables, each under a name that the operator gives."""
SECTIONS: dict[str, Any] = {name: info.annotation for name, info in Settings.model_fields.items() if name not in NAMED}
ACCOUNT_KINDS: dict[str, type[Any]] = {"etelecom": EtelecomSettings, "esms": EsmsSettings}
NAMED_FIELDS: dict[str, dict[str, Any]] = {
    "accounts": {name: info for kind in ACCOUNT_KINDS.values() for name, info in kind.model_fields.items()},
    "schedules": dict(ScheduleSettings.model_fields),
}
_SCHEDULE = "schedule"
_KINDS: dict[str, type[Any]] = {**ACCOUNT_KINDS, _SCHEDULE: ScheduleSettings}


class SettingsError(Exception):
    """The settings can't be used; ``problems`` has one line for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where each value was written."""

    file: str
    file_values: Mapping[str, Any]
    variables: dict[Loc, str] = field(default_factory=dict)
    """Filled while the environment is read: setting to variable."""

    def place(self, loc: Loc) -> str:
        """Return " in <file or variable>", or nothing for what was written nowhere."""
        for depth in range(len(loc), 0, -1):
            if loc[:depth] in self.variables:
                return f" in the environment variable {self.variables[loc[:depth]]}"
        if _holds(self.file_values, loc):
            return f" in {self.file}"
        below = sorted(name for key, name in self.variables.items() if key[: len(loc)] == loc)
        if below:
            return f" in the environment variable{'s' * (len(below) > 1)} {', '.join(below)}"
        return f" in {self.file}" if len(loc) > 2 and _holds(self.file_values, loc[:-1]) else ""


def _holds(values: Any, loc: Loc) -> bool:
    for key in loc:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def closest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" for a near miss, else nothing."""
    spelt = {candidate.replace("__", "_").casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.replace("__", "_").casefold(), spelt, n=1, cutoff=0.75)
    return f"; did you mean {spelt[near[0]]}?" if near else ""


def variable_names(name: str = "<NAME>") -> list[str]:
    """Return every environment variable that is a setting, with those of one account and one schedule."""
    plain = [f"{PREFIX}{section}__{key}" for section, model in SECTIONS.items() for key in model.model_fields]
    named = [f"{PREFIX}{section}__{name}__{key}" for section, keys in NAMED_FIELDS.items() for key in keys]
    return [variable.upper() for variable in (*plain, *named)]


def explain(error: ValidationError, origin: Origin) -> list[str]:
    """Return one line for each thing that validation found."""
    details = error.errors(include_url=False, include_input=False)
    misnamed = {detail["loc"][:2] for detail in details if detail["loc"][-1] == "[key]"}
    return [
        _line(detail, origin) for detail in details if detail["loc"][-1] == "[key]" or detail["loc"][:2] not in misnamed
    ]


def _line(detail: Any, origin: Origin) -> str:
    raw = tuple(str(part) for part in detail["loc"])
    kind = None
    if raw[0] == "accounts" and len(raw) > 2:
        if raw[2] == "[key]":
            return (
                f'accounts."{raw[1]}"{origin.place(raw[:2])}: an account\'s name must be'
                " 1 to 64 letters, digits, - or _; rename it"
            )
        kind = raw[2]
        loc = raw[:2] + raw[3:]
    elif raw[0] == "schedules" and len(raw) > 2:
        if raw[2] == "[key]":
            return (
                f'schedules."{raw[1]}"{origin.place(raw[:2])}: a schedule\'s name must be'
                f" 1 to {LONGEST_NAME} letters, digits, - or _; rename it"
            )
        kind, loc = _SCHEDULE, raw[:3]
    else:
        # Positions in a list and branches of a union are no part of a setting's name.
        loc = raw[:2]
    place = origin.place(loc)
    if detail["type"] == "extra_forbidden":
        return f"{'.'.join(loc)}{place}: there is no such setting{_suggestion(loc, kind, origin)}"
    return f"{'.'.join(loc)}{place}: {_reason(detail, quoted=loc not in origin.variables)}"


def _suggestion(loc: Loc, kind: str | None, origin: Origin) -> str:
    if loc in origin.variables or (len(loc) == 1 and " variable" in origin.place(loc)):
        variable = next(name for key, name in origin.variables.items() if key[: len(loc)] == loc)
        return closest(variable, variable_names(loc[1] if kind else "<NAME>")) or _known(loc, kind)
    if kind is None and len(loc) == 2:
        elsewhere = [f"{name}.{key}" for name, model in SECTIONS.items() for key in model.model_fields]
        return closest(".".join(loc), elsewhere) or _exactly(loc[1], elsewhere) or _known(loc, kind)
    return closest(loc[-1], _keys(loc, kind)) or _known(loc, kind)


def _exactly(key: str, dotted: list[str]) -> str:
    return next((f"; did you mean {name}?" for name in dotted if name.partition(".")[2] == key), "")


def _keys(loc: Loc, kind: str | None) -> list[str]:
    if kind is not None:
        return list(_KINDS[kind].model_fields)
    return list(SECTIONS[loc[0]].model_fields if loc[0] in SECTIONS else Settings.model_fields)


def _known(loc: Loc, kind: str | None) -> str:
    account = f"an {kind} account" if kind != _SCHEDULE else "a schedule"
    owner = account if kind else f"[{loc[0]}]" if loc[0] in SECTIONS else "the file"
    return f"; {owner} has {', '.join(_keys(loc, kind))}"


_REASONS = {
    "missing": "is missing; add it",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "dict_type": "must be a table",
    "tuple_type": 'must be a list such as ["one", "two"]',
    "too_short": "must not be empty",
    "model_type": "must be a table",
    "mapping_type": "must be a table",
    "string_pattern_mismatch": "has characters that are not allowed; it must match {pattern}",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "union_tag_not_found": 'has no provider; add provider = "etelecom" or "esms"',
    "union_tag_invalid": 'has an unknown provider; it must be "etelecom" or "esms"',
    "value_error": "{error}",
}


_IN_A_FILE = {"int_type": ", without quotes", "float_type": ", without quotes", "string_type": ", in quotes"}


def _reason(detail: Any, *, quoted: bool) -> str:
    if detail["type"] == "tuple_type" and not quoted:
        return "must be a list, with commas between its parts or as JSON"
    reason = _REASONS.get(detail["type"])
    text = reason.format(**detail.get("ctx", {})) if reason else str(detail["msg"])
    return text + (_IN_A_FILE.get(detail["type"], "") if quoted else "")
