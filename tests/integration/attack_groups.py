"""Groups of attacks by role: replies put elsewhere, headers, direct publishes, consumers, subscriptions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from schemas.subjects import (
    COMMAND_SUBJECTS,
    COMMANDS_STREAM,
    CONTROL_QUEUE,
    EVENTS_STREAM,
    consumer_name,
    page_subject,
)
from tests.integration.attack_calls import Call, calls, forms
from tests.integration.attack_layout import API, ATTACKERS, MAPPED, Attacker, Users
from tests.integration.attack_targets import JOB, families, granted
from worker.jetstream.topology.permissions import JOBS_STREAM
from worker.providers.simulators import OA_ID

Kind = Literal["reply", "header", "direct", "consumer", "subscription"]
KINDS: tuple[Kind, ...] = ("reply", "header", "direct", "consumer", "subscription")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One message of an attacker."""

    subject: str
    data: bytes = b""
    reply: str = ""
    """Empty: an inbox of its own."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Attacks that are made together, and judged together."""

    role: Attacker
    kind: Kind
    name: str
    user: str = ""
    """Who attacks; empty: the role's own user."""
    shots: tuple[Shot, ...] = ()
    targets: frozenset[str] = frozenset()
    """Where nobody may hear anything."""
    after: float = 0.0
    pages: bool = False
    """The attacker's durable must hold pages."""
    worker: bool = False
    """A worker must run."""
    adds: bool = False
    """It may leave more commands in the queue."""
    listens: str = ""
    """A subject to subscribe to, and perhaps a queue group."""
    last: bool = False
    """It may stop a stream for good: others must still be able to publish commands."""

    def __str__(self) -> str:
        """As the table has it."""
        return f"{self.role}: {self.kind}: {self.name}"


def groups(users: Users, acks: Mapping[str, str]) -> list[Group]:
    """Return all of them; those that need a worker come last."""
    made = [group for role in ATTACKERS for group in _of(users, role, acks)]
    return sorted(made, key=lambda group: (group.last, group.worker))


def bunched(made: Sequence[Group]) -> list[Group]:
    """Put groups of the same kind together, to be judged at once: quicker, and it doesn't say which of them did it."""
    bunches: dict[tuple[str | bool, ...], list[Group]] = {}
    for group in made:
        alone = str(group) if group.listens or group.pages or group.after else ""
        bunch = bunches.setdefault((group.role, group.kind, group.user, group.worker, group.adds, alone), [])
        bunch.append(group)
    return [_bunch(bunch) for bunch in bunches.values()]


def _bunch(bunch: Sequence[Group]) -> Group:
    if len(bunch) == 1:
        return bunch[0]
    return replace(
        bunch[0],
        name=f"{len(bunch)} groups from {bunch[0].name} to {bunch[-1].name}",
        shots=tuple(shot for group in bunch for shot in group.shots),
        targets=frozenset[str]().union(*(group.targets for group in bunch)),
    )


def _of(users: Users, role: Attacker, acks: Mapping[str, str]) -> Iterator[Group]:
    found = {family.name: family.subjects for family in families(users, role, acks)}
    targets = tuple(subject for subjects in found.values() for subject in subjects)
    asked = calls(users.logins[role])
    for call in asked:
        shots = tuple(
            Shot(subject=form, data=call.data, reply=target, headers=call.headers)
            for target in targets
            for form in forms(call)
        )
        yield _group(role, "reply", call.name, [call], shots, targets)
    for worker in (False, True):
        answered = [call for call in asked if (call.needs == "worker") == worker]
        for name, headers in HEADERS.items():
            shots = tuple(
                Shot(subject=form, data=call.data, headers={**call.headers, **headers})
                for call in answered
                for form in forms(call)
            )
            yield _group(role, "header", f"{name}{' (to a worker)' if worker else ''}", answered, shots, TRACED)
    commands = tuple(
        Shot(subject=call.subject, data=call.data, headers={**call.headers, LAST_MSG_ID: "nobody"})
        for call in asked
        if call.adds
    )
    if commands:
        yield Group(role=role, kind="header", name=LAST_MSG_ID, shots=commands, adds=True, last=True)
    for family, subjects in found.items():
        shots = tuple(
            Shot(subject=form, data=data) for one in subjects for form in _called(one) for data in (b"", b"{}")
        )
        yield _group(role, "direct", family, [], shots, subjects)
        if users.layout == "accounts":
            # Of an account that nothing crosses but what it imports, whatever its users may do.
            spy = f"spy-{users.logins[role].account}"
            yield replace(_group(role, "direct", f"{family}, without limits", [], shots, subjects), user=spy)
    yield _group(role, "direct", "its own account's JetStream", [], tuple(_own()), ())
    for target in (*COMMAND_SUBJECTS, page_subject("esms", OA_ID, JOB), f"{API}STREAM.DELETE.{EVENTS_STREAM}"):
        if not granted(users.logins[role], target):
            yield _group(role, "consumer", f"delivers to {target}", [], tuple(_delivering(target)), [target])
    for line in HEARD:
        if line not in users.logins[role].subscribe:
            yield Group(role=role, kind="subscription", name=line, listens=line, worker=True)


def _group(role: Attacker, kind: Kind, name: str, asked: list[Call], shots: tuple[Shot, ...], targets: object) -> Group:
    return Group(
        role=role,
        kind=kind,
        name=name,
        shots=shots,
        targets=frozenset(targets),  # type: ignore[call-overload]
        after=max((call.after for call in asked), default=0.0),
        pages=any(call.needs == "pages" for call in asked),
        worker=any(call.needs == "worker" for call in asked),
        adds=any(call.adds for call in asked),
    )


_PAGE = page_subject("esms", OA_ID, JOB)
_DELETE = f"{API}STREAM.DELETE.{EVENTS_STREAM}"
TRACED = (_PAGE, _DELETE)
"""Where headers ask the server to write."""
LAST_MSG_ID = "Nats-Expected-Last-Msg-Id"
STAYS_OPEN = f"publisher: header: {LAST_MSG_ID}"
"""A fault of nats-server (seen on 2.15.1, not on 2.10.25): where a stream has three replicas, a message whose header
doesn't fit stops the stream on all of them, also after a restart. No layout of accounts is in its way."""
NEEDS_PERMISSIONS = "direct: system, without limits"
"""On 2.10.25 `$JS.API.ACCOUNT.PURGE.<account>` empties any account for a user of any other who may publish there: only
the permissions of its user are in the way, which the users of our roles have."""
HEADERS: dict[str, dict[str, str]] = {
    "Nats-Rollup: all": {"Nats-Rollup": "all"},
    "Nats-Rollup: sub": {"Nats-Rollup": "sub"},
    "Nats-Expected-Last-Sequence": {"Nats-Expected-Last-Sequence": "0"},
    "Nats-Expected-Last-Subject-Sequence": {"Nats-Expected-Last-Subject-Sequence": "0"},
    "Nats-Expected-Last-Subject-Sequence-Subject": {
        "Nats-Expected-Last-Subject-Sequence": "1",
        "Nats-Expected-Last-Subject-Sequence-Subject": _PAGE,
    },
    "Nats-Expected-Stream": {"Nats-Expected-Stream": EVENTS_STREAM},
    "Nats-Msg-Id": {"Nats-Msg-Id": "queued-esms-1"},
    "Nats-TTL": {"Nats-TTL": "1s"},
    "Nats-Marker-Reason": {"Nats-Marker-Reason": "Purge"},
    "KV-Operation: DEL": {"KV-Operation": "DEL"},
    "KV-Operation: PURGE": {"KV-Operation": "PURGE", "Nats-Rollup": "sub"},
    "Nats-Schedule": {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": _PAGE},
    "Nats-Schedule-TTL": {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": _PAGE, "Nats-Schedule-TTL": "5m"},
    "Nats-Scheduler": {"Nats-Scheduler": _PAGE, "Nats-Schedule-Next": "purge"},
    "Nats-Response-Type": {"Nats-Response-Type": "Streamed"},
    "Nats-Batch-Id": {"Nats-Batch-Id": "evil", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
    "Nats-Incr": {"Nats-Incr": "+1"},
    "Nats-Pin-Id": {"Nats-Pin-Id": "evil"},
    "Nats-Required-Api-Level": {"Nats-Required-Api-Level": "1"},
    "Nats-Trace-Dest: a page": {"Nats-Trace-Dest": _PAGE},
    "Nats-Trace-Dest: a deletion": {"Nats-Trace-Dest": _DELETE, "Nats-Trace-Only": "true"},
    "traceparent": {"traceparent": "00-11111111111111111111111111111111-2222222222222222-01", "Nats-Trace-Dest": _PAGE},
    "Nats-Request-Info": {"Nats-Request-Info": '{"acc":"FOLLOWERS","svc":"FOLLOWERS","user":"admin"}'},
    "Nats-Subject": {"Nats-Subject": _PAGE, "Nats-Stream": EVENTS_STREAM, "Nats-Sequence": "1"},
    "Status": {"Status": "503", "Description": "x"},
    "reply_to": {"reply_to": _PAGE, "Reply-To": _PAGE},
}
"""By name; their values ask for harm."""
HEARD = (
    ">",
    "*",
    "*.*.*",
    "followers.>",
    "followers.page.>",
    "followers.job.>",
    "followers.fetch.*",
    "followers.cancel.*",
    "followers.status.*",
    f"followers.status.* {CONTROL_QUEUE}",
    f"followers.cancel.* {CONTROL_QUEUE}",
    f"followers.release.* {CONTROL_QUEUE}",
    "$KV.>",
    "$KV.FOLLOWERS_JOBS.>",
    "$KV.FOLLOWERS_LIMITS.*",
    "$O.>",
    "$JS.>",
    "$JS.ACK.>",
    "$JS.API.>",
    "$JS.EVENT.>",
    f"{MAPPED}>",
    "$SYS.>",
    "_R_.>",
    "_INBOX.>",
    "_INBOX_admin.>",
    "_INBOX_worker.>",
    "_INBOX_setup.>",
    "_INBOX_victim-publisher.>",
    "_INBOX_victim-consumer.>",
)
"""What an attacker subscribes to."""


def _called(subject: str) -> list[str]:
    return [subject, MAPPED + subject.removeprefix(API)] if subject.startswith(API) else [subject]


def _own() -> Iterator[Shot]:
    """Ask the JetStream of the account one is in."""
    for act in (
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        f"CONSUMER.NAMES.{EVENTS_STREAM}",
        f"CONSUMER.LIST.{JOBS_STREAM}",
    ):
        yield Shot(subject=f"{API}{act}")
    for stream, subject in (("EVIL", "evil.>"), ("EVIL", "followers.page.>"), (EVENTS_STREAM, "followers.page.>")):
        body = json.dumps({"name": stream, "subjects": [subject], "storage": "memory"}).encode()
        yield Shot(subject=f"{API}STREAM.CREATE.{stream}", data=body)
        yield Shot(subject=f"{MAPPED}STREAM.CREATE.{stream}", data=body)
    source = {"name": "EVIL", "mirror": {"name": EVENTS_STREAM, "external": {"api": MAPPED.rstrip("."), "deliver": ""}}}
    yield Shot(subject=f"{API}STREAM.CREATE.EVIL", data=json.dumps(source).encode())


def _delivering(target: str) -> Iterator[Shot]:
    """Make consumers that deliver to `target`."""
    for stream in (EVENTS_STREAM, JOBS_STREAM, COMMANDS_STREAM):
        config = {"deliver_subject": target, "ack_policy": "none", "deliver_policy": "all"}
        plain = json.dumps({"stream_name": stream, "config": config}).encode()
        named = json.dumps(
            {"stream_name": stream, "config": config | {"durable_name": "evil", "name": "evil"}}
        ).encode()
        for api in (API, MAPPED):
            yield Shot(subject=f"{api}CONSUMER.CREATE.{stream}", data=plain)
            yield Shot(subject=f"{api}CONSUMER.CREATE.{stream}.evil", data=named)
            yield Shot(subject=f"{api}CONSUMER.DURABLE.CREATE.{stream}.evil", data=named)
            yield Shot(subject=f"{api}CONSUMER.CREATE.{stream}.{consumer_name('esms')}", data=named)
