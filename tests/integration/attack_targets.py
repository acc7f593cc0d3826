"""Subjects on which a message does harm, by family: what an attacker has JetStream, or a worker, write to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.subjects import (
    COMMANDS_STREAM,
    EVENTS_STREAM,
    FEEDS_BUCKET,
    JOBS_BUCKET,
    LIMITS_BUCKET,
    PROVIDERS,
    SCHEDULES_BUCKET,
    SNAPSHOTS_BUCKET,
    cancel_mark_key,
    cancel_subject,
    change_subject,
    command_subject,
    consumer_name,
    dead_subject,
    exhausted_subject,
    id_subject,
    job_subject,
    page_subject,
    release_subject,
)
from tests.integration.attack_layout import API, BI, BULK, CRM, MAPPED, Login, Users
from worker.jetstream.topology.permissions import ACCOUNT, MADE
from worker.providers.simulators import OA_ID

JOB = "victims-job-etelecom"
"""A job that has completed."""


@dataclass(frozen=True)
class Family:
    """Subjects that do the same kind of harm."""

    name: str
    subjects: tuple[str, ...]


def families(users: Users, role: str, acks: Mapping[str, str]) -> list[Family]:
    """Return those on which `role` may not publish. `acks`: where what a consumer holds is acknowledged."""
    made = (
        Family("streams", tuple(_streams())),
        Family("consumers", tuple(_consumers())),
        Family("events", tuple(_events())),
        Family("buckets", tuple(_buckets())),
        Family("orders", tuple(_orders())),
        Family("acks", tuple(_acks(acks))),
        Family("inboxes", tuple(_inboxes(users, role))),
        Family("system", tuple(_system())),
    )
    login = users.logins[role]
    open_ = [Family(each.name, tuple(one for one in each.subjects if not granted(login, one))) for each in made]
    return [family for family in open_ if family.subjects]


def granted(login: Login, subject: str) -> bool:
    """Say whether the user may publish there anyway."""
    local = MAPPED + subject.removeprefix(API) if subject.startswith(API) else subject
    return any(matches(line, one) for line in login.publish for one in (subject, local))


def matches(pattern: str, subject: str) -> bool:
    """Say whether a subject is one of those that the pattern stands for."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def _streams() -> Iterator[str]:
    for stream in MADE:
        for act in ("MSG.DELETE", "UPDATE", "PURGE", "DELETE"):
            yield f"$JS.API.STREAM.{act}.{stream}"
    for act in ("SNAPSHOT", "RESTORE", "LEADER.STEPDOWN", "PEER.REMOVE"):
        yield f"$JS.API.STREAM.{act}.{EVENTS_STREAM}"
    yield "$JS.API.STREAM.CREATE.EVIL"


def _consumers() -> Iterator[str]:
    for stream, durable in (*((COMMANDS_STREAM, consumer_name(one)) for one in PROVIDERS), (EVENTS_STREAM, BI)):
        for act in ("PAUSE", "RESET", "UNPIN", "LEADER.STEPDOWN", "DELETE"):
            yield f"$JS.API.CONSUMER.{act}.{stream}.{durable}"
    yield f"$JS.API.CONSUMER.DELETE.{EVENTS_STREAM}.{CRM}"
    yield f"$JS.API.CONSUMER.DURABLE.CREATE.{EVENTS_STREAM}.evil"
    yield f"$JS.API.CONSUMER.CREATE.{EVENTS_STREAM}.evil.followers.page.>"
    yield f"$JS.API.CONSUMER.CREATE.{EVENTS_STREAM}"
    yield f"$JS.API.CONSUMER.MSG.NEXT.{COMMANDS_STREAM}.{consumer_name('esms')}"


def _events() -> Iterator[str]:
    for provider in PROVIDERS:
        yield page_subject(provider, OA_ID, JOB)
        yield job_subject(provider, OA_ID, JOB)
        yield change_subject(provider, OA_ID)
        yield dead_subject(provider)
    yield id_subject("evil")
    yield id_subject(JOB)


def _buckets() -> Iterator[str]:
    yield f"$KV.{JOBS_BUCKET}.{JOB}"
    yield f"$KV.{JOBS_BUCKET}.{cancel_mark_key('queued-esms-0')}"
    yield f"$KV.{LIMITS_BUCKET}.shop"
    yield f"$KV.{FEEDS_BUCKET}.etelecom.shop.{OA_ID}.all"
    yield f"$KV.{SCHEDULES_BUCKET}.nightly"
    yield f"$O.{SNAPSHOTS_BUCKET}.C.evil"
    yield f"$O.{SNAPSHOTS_BUCKET}.M.evil"


def _orders() -> Iterator[str]:
    for provider in PROVIDERS:
        yield command_subject(provider)
    yield cancel_subject("queued-esms-0")
    yield release_subject(JOB)


def _acks(acks: Mapping[str, str]) -> Iterator[str]:
    yield from (ack for durable, ack in acks.items() if durable != BULK)


def _inboxes(users: Users, role: str) -> Iterator[str]:
    """Of users in other accounts; within one account they can be written to (README, what stays open)."""
    own = users.logins[role]
    for name, login in users.logins.items():
        if not name.startswith("spy-") and (login.account != own.account or users.layout == "one") and name != role:
            yield f"{login.inbox}.victim"
    yield "_R_.victim.victim"


def _system() -> Iterator[str]:
    yield "$SYS.REQ.SERVER.PING"
    yield f"$SYS.REQ.ACCOUNT.{ACCOUNT}.CONNZ"
    yield f"$SYS.ACCOUNT.{ACCOUNT}.CONNECT"
    yield f"$JS.API.ACCOUNT.PURGE.{ACCOUNT}"
    yield "$JS.API.META.LEADER.STEPDOWN"
    yield "$JS.API.SERVER.REMOVE"
    for provider in PROVIDERS:
        yield exhausted_subject(provider)
