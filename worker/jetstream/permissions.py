"""Who may do what on the NATS server: least privilege for each kind of user, and a server configuration with it.

Every line is needed by something that a test names; everything else is refused by the server.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.subjects import (
    CANCEL_SUBJECTS,
    COMMAND_SUBJECTS,
    COMMANDS_STREAM,
    DEAD_STREAM,
    DEAD_SUBJECTS,
    EVENTS_STREAM,
    JOBS_BUCKET,
    LIMITS_BUCKET,
    PROVIDERS,
    STATUS_SUBJECTS,
    consumer_name,
    exhausted_subject,
)

Role = Literal["worker", "publisher", "consumer", "setup", "admin"]

JOBS_STREAM = f"KV_{JOBS_BUCKET}"
LIMITS_STREAM = f"KV_{LIMITS_BUCKET}"
STREAMS = (COMMANDS_STREAM, EVENTS_STREAM, DEAD_STREAM, JOBS_STREAM, LIMITS_STREAM)
"""Everything that `followers setup` makes, by the names of the streams behind it."""


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What a user may publish and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False
    """May also publish a reply to each request that it gets, wherever that wants it, for a short while."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One user of the account: a role, and how it logs in (`user` and `password`, or `nkey`, ...)."""

    role: Role
    login: Mapping[str, str]
    """As nats-server writes it: `{"nkey": "U..."}`, `{"user": "...", "password": "..."}`."""
    durables: tuple[str, ...] = ()
    """Of a consumer: the pull consumers on the event stream that it reads, made for it by an admin."""
    inbox: str = ""
    """What this user's `inbox_prefix` is; empty: `inbox_prefix` of its role."""


def inbox_prefix(role: Role) -> str:
    """Return what `nats.inbox_prefix` must be for a user of `role`: nobody reads another one's replies."""
    return f"_INBOX_{role}"


def permissions(user: User) -> Permissions | None:
    """Return what `user` may do; None means everything in the account (`admin`, for people)."""
    if user.role == "admin":
        return None
    rules = {"worker": _worker, "publisher": _publisher, "consumer": _consumer, "setup": _setup}
    return Permissions(
        publish=rules[user.role](user),
        subscribe=(f"{user.inbox or inbox_prefix(user.role)}.>", *(_requests() if user.role == "worker" else ())),
        answers=user.role == "worker",
    )


def accounts_block(users: Sequence[User], *, account: str = "FOLLOWERS") -> str:
    """Return an `accounts {}` block of nats-server's configuration with one account of `users`.

    A server with accounts and without `no_auth_user` refuses the anonymous.
    """
    listed = [_user(user) for user in users]
    return f"accounts: {json.dumps({account: {'jetstream': 'enabled', 'users': listed}}, indent=2)}\n"


def _user(user: User) -> dict[str, Any]:
    allowed = permissions(user)
    if allowed is None:
        return dict(user.login)
    return {
        **user.login,
        "permissions": {
            "publish": {"allow": list(allowed.publish)},
            "subscribe": {"allow": list(allowed.subscribe)},
            # Two: a worker hears a cancellation twice, in the queue group and beside it, and the server counts that.
            **({"allow_responses": {"max": 2, "expires": "30s"}} if allowed.answers else {}),
        },
    }


def _worker(user: User) -> tuple[str, ...]:
    consumers = [f"{COMMANDS_STREAM}.{consumer_name(provider)}" for provider in PROVIDERS]
    return (
        # The look at what is there, at the start and every two seconds.
        *(f"$JS.API.STREAM.INFO.{stream}" for stream in STREAMS),
        *(f"$JS.API.CONSUMER.INFO.{consumer}" for consumer in consumers),
        # Taking commands; ack, nak and heartbeats.
        *(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}" for consumer in consumers),
        *(f"$JS.ACK.{consumer}.>" for consumer in consumers),
        # The log: its tail, a page, a job event.
        f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}",
        "followers.page.>",
        "followers.job.>",
        *DEAD_SUBJECTS,
        # Status: read and written by key.
        f"$JS.API.DIRECT.GET.{JOBS_STREAM}.>",
        f"$KV.{JOBS_BUCKET}.*",
        # What is to be cancelled, for jobs that are queued or change hands.
        f"$KV.{JOBS_BUCKET}.cancel.*",
        # A command that the server gave up on: read, and deleted once its dead letter is stored.
        f"$JS.API.STREAM.MSG.GET.{COMMANDS_STREAM}",
        f"$JS.API.STREAM.MSG.DELETE.{COMMANDS_STREAM}",
        # The limit that replicas share: asked of the leader, changed by key.
        f"$JS.API.STREAM.MSG.GET.{LIMITS_STREAM}",
        f"$KV.{LIMITS_BUCKET}.*",
    )


def _requests() -> tuple[str, ...]:
    # What people ask of workers, and what the server says when it gives up on a command.
    return (CANCEL_SUBJECTS, STATUS_SUBJECTS, *map(exhausted_subject, PROVIDERS))


def _publisher(user: User) -> tuple[str, ...]:
    # Who starts a job may ask about it and end it.
    return (*COMMAND_SUBJECTS, CANCEL_SUBJECTS, STATUS_SUBJECTS)


def _consumer(user: User) -> tuple[str, ...]:
    # Not CONSUMER.CREATE: a consumer that delivers to a subject writes there with the server's own rights, so
    # whoever may make one could fill the command stream.
    readers = [f"{EVENTS_STREAM}.{durable}" for durable in user.durables]
    return (
        *(f"$JS.API.CONSUMER.INFO.{reader}" for reader in readers),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{reader}" for reader in readers),
        *(f"$JS.ACK.{reader}.>" for reader in readers),
        # The status of a job, by key.
        f"$JS.API.STREAM.INFO.{JOBS_STREAM}",
        f"$JS.API.DIRECT.GET.{JOBS_STREAM}.>",
    )


def _setup(user: User) -> tuple[str, ...]:
    consumers = [f"{COMMANDS_STREAM}.{consumer_name(provider)}" for provider in PROVIDERS]
    return (
        *(f"$JS.API.STREAM.{act}.{stream}" for stream in STREAMS for act in ("INFO", "CREATE", "UPDATE")),
        *(f"$JS.API.CONSUMER.{act}.{consumer}" for consumer in consumers for act in ("INFO", "CREATE")),
    )
