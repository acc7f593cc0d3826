"""Comparing what is on the server with what should be there, field by field; changes nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker.jetstream.topology.assets import NANOSECONDS, Asset

_FIXED = {"retention", "storage", "ack_policy", "deliver_policy", "deliver_subject"}
"""The server can't change these, or only by losing messages."""
_GROW_ONLY = {"max_age": 0, "max_bytes": -1, "num_replicas": None}
"""Fields that are only ever raised, and the value that means no limit."""
_AT_LEAST = {"duplicate_window": None, "max_msgs_per_subject": -1}
"""As above, but more than wanted is as good."""
_QUOTA = ("max_msgs_per_subject", "discard_new_per_subject")
"""Of a stream that refuses what is too much on one subject; neither is of use without the other."""
_DURATIONS = {"max_age", "duplicate_window", "ack_wait", "inactive_threshold"}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One field that isn't as it should be."""

    field: str
    detail: str
    """What it is and should be, for people."""
    value: Any = None
    """What to set it to; None removes it. Without meaning when refused."""
    refused: bool = False
    """Changing it could lose messages: that is left to a person."""
    at_most: int | None = None
    """Changing it loses none while each subject has no more messages than that."""


def drifts(asset: Asset, found: Mapping[str, Any]) -> list[Drift]:
    """Return where `found`, the server's configuration of `asset`, isn't what `asset` wants."""
    has_quota = "discard_new_per_subject" in asset.wanted
    return [
        drift
        for field, wanted in asset.wanted.items()
        for drift in (
            _compare_quota(found.get(field), wanted)
            if has_quota and field == "max_msgs_per_subject"
            else _compare(field, found.get(field), wanted)
        )
    ]


def without_room(found: list[Drift], most: int | None) -> list[Drift]:
    """Return `found`, with what would drop messages refused: the fullest subject has `most` of them, None: not known.

    The server drops the oldest messages above a new limit. Only half of it may be used, so that what is published
    between the look and the change drops none.
    """
    limit = next((drift.at_most for drift in found if drift.at_most is not None), None)
    if limit is None or (most is not None and most <= limit // 2):
        return found
    [quota] = [drift for drift in found if drift.at_most is not None]
    held = "how many messages a subject holds isn't known" if most is None else f"a subject holds {most:,} messages"
    detail = f"{quota.detail}: {held}, and above {limit // 2:,} that could drop the oldest: let them become fewer"
    others = [drift for drift in found if drift.field not in _QUOTA]
    return [*others, Drift(field=quota.field, detail=detail, refused=True)]


def outlived(commands: Mapping[str, Any], events: Mapping[str, Any]) -> Drift | None:
    """Return a refused Drift when `events`, as they will be, age out before `commands` (DESIGN 3.5)."""
    command_age, event_age = commands.get("max_age") or 0, events.get("max_age") or 0
    if event_age == 0 or 0 < command_age <= event_age:
        return None
    return Drift(
        field="max_age",
        detail=(
            f"events live {_text('max_age', event_age)}, commands {_text('max_age', command_age)}:"
            " a command that outlives its events would fetch everything again;"
            " raise streams.events_max_age to at least that"
        ),
        refused=True,
    )


def covers(pattern: str, subject: str) -> bool:
    """Say whether every message on `subject` (which may have wildcards) also matches `pattern`."""
    wanted = subject.split(".")
    tokens = pattern.split(".")
    for position, token in enumerate(tokens):
        if token == ">":
            return len(wanted) > position
        if position >= len(wanted) or wanted[position] == ">" or token not in ("*", wanted[position]):
            return False
    return len(tokens) == len(wanted)


def _compare(field: str, found: Any, wanted: Any) -> Iterator[Drift]:
    if field == "subjects":
        yield from _compare_subjects(found or [], wanted)
    elif (found or None) == (wanted or None):  # the server leaves out what is zero, false or empty
        return
    elif field in _FIXED:
        yield _refuse(field, found, wanted, "can't be changed without making it anew, which is left to you")
    elif field in _GROW_ONLY or field in _AT_LEAST:
        unlimited = (_GROW_ONLY | _AT_LEAST)[field]
        if _size(wanted, unlimited) > _size(found, unlimited):
            yield _change(field, found, wanted)
        elif field in _GROW_ONLY:
            yield _refuse(field, found, wanted, "shrinking it could lose messages, which is left to you")
    else:
        yield _change(field, found, wanted)


def _compare_quota(found: int | None, wanted: int) -> Iterator[Drift]:
    if found != wanted:
        drift = _change("max_msgs_per_subject", found, wanted)
        yield replace(drift, at_most=wanted) if _size(found or -1, -1) > wanted else drift


def _compare_subjects(found: list[str], wanted: list[str]) -> Iterator[Drift]:
    lacking = [subject for subject in wanted if not any(covers(pattern, subject) for pattern in found)]
    if lacking:
        # A subject of ours that is wider than one it has would overlap with it: it takes its place.
        kept = [subject for subject in found if not any(covers(wide, subject) for wide in lacking)]
        yield Drift(field="subjects", detail=f"subjects lack {', '.join(lacking)}", value=kept + lacking)
    extra = [subject for subject in found if not any(covers(pattern, subject) for pattern in wanted)]
    extra = [subject for subject in extra if not any(covers(subject, ours) for ours in wanted)]
    if extra:
        yield Drift(
            field="subjects",
            detail=(f"subjects also has {', '.join(extra)}: removing it could lose messages, which is left to you"),
            refused=True,
        )


def _change(field: str, found: Any, wanted: Any) -> Drift:
    return Drift(field=field, detail=f"{field} {_text(field, found)} → {_text(field, wanted)}", value=wanted)


def _refuse(field: str, found: Any, wanted: Any, why: str) -> Drift:
    detail = f"{field} is {_text(field, found)}, wanted {_text(field, wanted)}: {why}"
    return Drift(field=field, detail=detail, refused=True)


def _size(value: Any, unlimited: int | None) -> float:
    number = value or 0
    return float("inf") if number == unlimited else float(number)


def _text(field: str, value: Any) -> str:
    if field in _DURATIONS:
        return _duration((value or 0) / NANOSECONDS) if value or field != "max_age" else "forever"
    if value is None or value == []:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
