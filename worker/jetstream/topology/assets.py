"""What the contract wants on the server (CONTRACT 1), as the server's own configuration objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.subjects import (
    COMMAND_SUBJECTS,
    COMMANDS_STREAM,
    DEAD_STREAM,
    DEAD_SUBJECTS,
    EVENT_SUBJECTS,
    EVENTS_STREAM,
    FEEDS_BUCKET,
    ID_SUBJECTS,
    JOBS_BUCKET,
    LIMITS_BUCKET,
    PROVIDERS,
    SCHEDULES_BUCKET,
    SNAPSHOTS_BUCKET,
    command_subject,
    consumer_name,
)
from schemas.types import Provider

Kind = Literal["stream", "bucket", "consumer"]
DAY = 86_400
NANOSECONDS = 1_000_000_000
READER_ACK_WAIT = 30.0
"""Seconds until another reader of a durable gets the page of one that died."""


@dataclass(frozen=True, kw_only=True)
class TopologyConfig:
    """What an operator may choose. Seconds and bytes; -1 bytes leaves the server's limit alone."""

    replicas: int = 1
    storage: Literal["file", "memory"] = "file"
    commands_max_age: float = 7 * DAY
    events_max_age: float = 7 * DAY
    dead_max_age: float = 30 * DAY
    jobs_ttl: float = 7 * DAY
    feeds_ttl: float = 90 * DAY
    """A feed of changes without a complete list for so long is forgotten: its next one is a baseline."""
    commands_max_bytes: int = -1
    events_max_bytes: int = -1
    dead_max_bytes: int = -1
    commands_max: int = -1
    """Commands of a provider in the queue, those in hand included; above that publishers are refused. -1: no limit."""
    duplicate_window: float = 120
    ack_wait: float = 30
    max_ack_pending: int = 10_000
    """Far above what all replicas hold at once: it must never be what limits them."""
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Durable consumers on the event stream, for `schemas.consume`: name to subjects."""

    def __post_init__(self) -> None:
        """Raise ValueError when events would age out before the commands that need them (DESIGN 3.5)."""
        if self.events_max_age < self.commands_max_age:
            raise ValueError(
                f"events_max_age ({self.events_max_age:g} s) is below commands_max_age"
                f" ({self.commands_max_age:g} s): a command that outlives its events would fetch everything again;"
                " raise streams.events_max_age"
            )


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One thing that `followers setup` makes and keeps as it should be."""

    kind: Kind
    name: str
    """As people call it; a bucket's stream has another name."""
    stream: str
    wanted: dict[str, Any]
    """The managed fields of the server's configuration. None: must not be set."""
    optional: bool = False
    """Without it one feature is off; all else works."""

    def __str__(self) -> str:
        """`stream FOLLOWERS_EVENTS`."""
        return f"{self.kind} {self.name}"


def expected(config: TopologyConfig) -> list[Asset]:
    """Return everything that `config` wants, in the order in which it can be made."""
    return [
        *_streams(config),
        *_buckets(config),
        *(_consumer(provider, config) for provider in PROVIDERS),
        *(_reader(name, subjects) for name, subjects in config.readers.items()),
    ]


def nanoseconds(seconds: float) -> int:
    """Return `seconds` in the unit of the server's API."""
    return round(seconds * NANOSECONDS)


def _streams(config: TopologyConfig) -> list[Asset]:
    window = nanoseconds(config.duplicate_window)
    return [
        # A full stream must refuse (discard new): dropping the oldest would lose commands, or a job's tail.
        # Events come first, so that they never age out before the commands, not even between two updates.
        _stream(
            EVENTS_STREAM,
            (*EVENT_SUBJECTS, ID_SUBJECTS),
            config,
            config.events_max_age,
            config.events_max_bytes,
            retention="limits",
            discard="new",
            duplicate_window=window,
            allow_direct=True,
            max_msgs_per_subject=-1,
        ),
        _stream(
            COMMANDS_STREAM,
            COMMAND_SUBJECTS,
            config,
            config.commands_max_age,
            config.commands_max_bytes,
            retention="workqueue",
            discard="new",
            duplicate_window=window,
            # For people who look for a command in a long queue.
            allow_direct=True,
            **_quota(config),
        ),
        _stream(
            DEAD_STREAM,
            DEAD_SUBJECTS,
            config,
            config.dead_max_age,
            config.dead_max_bytes,
            retention="limits",
            discard="old",
            duplicate_window=window,
            max_msgs_per_subject=-1,
        ),
    ]


def _quota(config: TopologyConfig) -> dict[str, Any]:
    if config.commands_max < 0:
        return {}
    # By subject, so that whoever floods one provider's queue shuts nobody out of another's. The second field makes the
    # server refuse the newest: without it, it would drop the oldest command, whatever `discard` says.
    return {"max_msgs_per_subject": config.commands_max, "discard_new_per_subject": True}


def _stream(
    name: str,
    subjects: tuple[str, ...],
    config: TopologyConfig,
    max_age: float,
    max_bytes: int,
    **rest: Any,
) -> Asset:
    wanted = {
        "name": name,
        "subjects": list(subjects),
        "storage": config.storage,
        "num_replicas": config.replicas,
        "max_age": nanoseconds(max_age),
        **rest,
    }
    if max_bytes >= 0:
        wanted["max_bytes"] = max_bytes
    return Asset(kind="stream", name=name, stream=name, wanted=wanted)


def _buckets(config: TopologyConfig) -> list[Asset]:
    return [
        _bucket(JOBS_BUCKET, config, config.jobs_ttl),
        _bucket(LIMITS_BUCKET, config, 0),
        _bucket(SCHEDULES_BUCKET, config, 0, optional=True),
        _bucket(FEEDS_BUCKET, config, config.feeds_ttl, optional=True),
        _object_store(SNAPSHOTS_BUCKET, config, config.feeds_ttl),
    ]


def _object_store(name: str, config: TopologyConfig, ttl: float) -> Asset:
    # The stream behind an object store, as every NATS client makes it.
    stream = f"OBJ_{name}"
    wanted = {
        "name": stream,
        "subjects": [f"$O.{name}.C.>", f"$O.{name}.M.>"],
        "retention": "limits",
        "storage": config.storage,
        "num_replicas": config.replicas,
        "max_age": nanoseconds(ttl),
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
    }
    return Asset(kind="bucket", name=name, stream=stream, wanted=wanted, optional=True)


def _bucket(name: str, config: TopologyConfig, ttl: float, *, optional: bool = False) -> Asset:
    # The stream behind a key-value bucket, as every NATS client makes it.
    stream = f"KV_{name}"
    wanted = {
        "name": stream,
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "storage": config.storage,
        "num_replicas": config.replicas,
        "max_age": nanoseconds(ttl),
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }
    return Asset(kind="bucket", name=name, stream=stream, wanted=wanted, optional=optional)


def _reader(name: str, subjects: tuple[str, ...]) -> Asset:
    wanted = {
        "name": name,
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": nanoseconds(READER_ACK_WAIT),
        # One at a time and for ever: else a crash lets later pages come before earlier ones, or loses one.
        "max_ack_pending": 1,
        "max_deliver": -1,
        "filter_subjects": list(subjects),
        "filter_subject": None,
        "backoff": None,
        "deliver_subject": None,
        "headers_only": None,
        "inactive_threshold": None,
    }
    return Asset(kind="consumer", name=name, stream=EVENTS_STREAM, wanted=wanted)


def _consumer(provider: Provider, config: TopologyConfig) -> Asset:
    name = consumer_name(provider)
    wanted = {
        "name": name,
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": nanoseconds(config.ack_wait),
        "max_deliver": -1,
        "max_ack_pending": config.max_ack_pending,
        # In the plural, though it is one: nats-server 2.10.25 drops one message in twenty of a consumer with a
        # filter_subject when another consumer reads the same stream. They stay in the work queue for ever.
        "filter_subjects": [command_subject(provider)],
        # Each of these would quietly change who gets a command, or when.
        "filter_subject": None,
        "backoff": None,
        "deliver_subject": None,
        "headers_only": None,
        "inactive_threshold": None,
    }
    return Asset(kind="consumer", name=name, stream=COMMANDS_STREAM, wanted=wanted)
