"""Commands that are published by themselves: `[schedules.NAME]`, checked whole before a worker starts."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, StringConstraints

from schemas.commands import EsmsFilter, EtelecomFilter, FetchFollowers, too_large
from worker.core.schedules.decision import LONGEST_NAME, Schedule, definition_of
from worker.core.schedules.timing import LONGEST_EVERY, Cron, Every, check_cron, seconds_of, zone_of
from worker.settings.values import AccountName, Text

if TYPE_CHECKING:
    from worker.settings.errors import Origin
    from worker.settings.tree import Settings

_COMMAND = ("provider", "account", "oa_id", "filter", "sort", "page_size", "max_pages", "max_followers", "labels")
_FILTERS: dict[str, type[msgspec.Struct]] = {"etelecom": EtelecomFilter, "esms": EsmsFilter}


def _cron(value: str) -> str:
    check_cron(value)
    return value


def _every(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('must be seconds, or text such as "6h"')
    seconds = seconds_of(value) if isinstance(value, str) else value
    if seconds != int(seconds) or not 1 <= seconds <= LONGEST_EVERY:
        raise ValueError("must be whole seconds, at least 1 and at most 366 days")
    return int(seconds)


def _zone(value: str) -> str:
    zone_of(value)
    return value


class ScheduleSettings(BaseModel):
    """When to publish which command: `cron` or `every`, and the fields of a command."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    cron: Annotated[Text, AfterValidator(_cron)] | None = None
    """Five fields, in local time of `timezone`."""
    every: Annotated[int, PlainValidator(_every)] | None = None
    """Seconds, counted from midnight in `timezone`."""
    timezone: Annotated[Text, AfterValidator(_zone)] = "Asia/Ho_Chi_Minh"
    provider: Literal["etelecom", "esms"]
    account: AccountName | None = None
    oa_id: Text
    filter: dict[str, Any] | None = None
    sort: Text | None = None
    page_size: int | None = None
    max_pages: int | None = None
    max_followers: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    enabled: bool = True

    def command(self) -> FetchFollowers:
        """Return the command, as on the wire. Raises msgspec.ValidationError."""
        fields = {name: getattr(self, name) for name in _COMMAND}
        given = {name: value for name, value in fields.items() if value is not None}
        command: FetchFollowers = msgspec.convert(given, FetchFollowers)
        return command


ScheduleName = Annotated[str, StringConstraints(pattern=rf"^[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}$")]


def schedules_of(schedules: Mapping[str, ScheduleSettings]) -> tuple[Schedule, ...]:
    """Return them as the core sees them. They must have passed `schedule_problems`."""
    return tuple(_schedule(name, schedule) for name, schedule in schedules.items())


def _schedule(name: str, settings: ScheduleSettings) -> Schedule:
    zone, command = zone_of(settings.timezone), settings.command()
    timing: Cron | Every | None = None
    if settings.enabled:
        timing = Every(settings.every, zone) if settings.every else Cron(settings.cron or "", zone)
    when = (settings.cron, settings.every, settings.timezone, settings.enabled)
    return Schedule(name=name, timing=timing, command=command, definition=definition_of(when, command))


def schedule_problems(settings: "Settings", origin: "Origin") -> Iterator[str]:
    """Yield a line for everything that is wrong with schedules beyond their single values."""
    for name, schedule in settings.schedules.items():
        for key, text in _problems(schedule, settings):
            loc = ("schedules", name, *key)
            yield f"{'.'.join(loc)}{origin.place(loc[:3])}: {text}"


def _problems(schedule: ScheduleSettings, settings: "Settings") -> Iterator[tuple[tuple[str, ...], str]]:
    if (schedule.cron is None) == (schedule.every is None):
        state = "neither is set" if schedule.cron is None else "both are set"
        yield (), f"needs either cron or every; {state}"
    try:
        command = schedule.command()
        if reason := too_large(len(msgspec.json.encode(command)), msgspec.to_builtins(command)):
            yield (), reason
    except msgspec.ValidationError as error:
        yield _explain(error, schedule.provider)
    known = sorted(name for name, account in settings.accounts.items() if account.provider == schedule.provider)
    if not known:
        yield ("provider",), f"{schedule.provider} has no account; add [accounts.NAME] with this provider"
    elif schedule.account is None and len(known) > 1:
        yield ("account",), f"is missing, and {schedule.provider} has several; add one of {', '.join(known)}"
    elif schedule.account is not None and schedule.account not in known:
        yield ("account",), f"is no account for {schedule.provider}; write one of {', '.join(known)}"


def _explain(error: msgspec.ValidationError, provider: str) -> tuple[tuple[str, ...], str]:
    """Return the key and what is wrong with it, without the value: it may be a person's name or phone."""
    text, _, path = str(error).partition(" - at `$")
    key = tuple(filter(None, path.rstrip("`").split(".")))
    unknown = re.search(r"unknown field `(.*)`", text)
    if unknown and key[:1] == ("filter",):
        known = ", ".join(_FILTERS[provider].__struct_fields__)
        return (*key, unknown[1]), f"there is no such field; the filter of {provider} has {known}"
    if unknown:
        return (unknown[1],), f"is not for {provider}: leave it out"
    if "matching regex" in text:
        return key, "has characters that are not allowed, or another form than expected"
    if text.startswith("Invalid"):
        return key, "is none of the values that are allowed"
    return key, f"{text[:1].lower()}{text[1:]}"
