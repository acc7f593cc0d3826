"""Who may do what on the NATS server: least privilege for each kind of user, and a server configuration with it.

Every line is needed by something that a test names; everything else is refused by the server. That alone doesn't hold
where all users share one account, see `accounts.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.subjects import (
    CANCEL_SUBJECTS,
    COMMAND_SUBJECTS,
    COMMANDS_STREAM,
    CONTROL_QUEUE,
    DEAD_STREAM,
    DEAD_SUBJECTS,
    EVENTS_STREAM,
    FEEDS_BUCKET,
    ID_SUBJECTS,
    JOBS_BUCKET,
    LIMITS_BUCKET,
    PROVIDERS,
    RELEASE_SUBJECTS,
    SCHEDULES_BUCKET,
    SNAPSHOTS_BUCKET,
    STATUS_SUBJECTS,
    consumer_name,
    exhausted_subject,
)
from worker.jetstream.topology.accounts import REPLIES, Member, limited, local_subject, render_accounts

Role = Literal["worker", "publisher", "consumer", "viewer", "setup", "admin"]
Layout = Literal["accounts", "one"]
"""An account for each party, which holds; or one for all, as before that, for moving over and back."""
ACCOUNT = "FOLLOWERS"
"""The account with the streams, and the beginning of the others' names."""

JOBS_STREAM = f"KV_{JOBS_BUCKET}"
LIMITS_STREAM = f"KV_{LIMITS_BUCKET}"
FEEDS_STREAM = f"KV_{FEEDS_BUCKET}"
SNAPSHOTS_STREAM = f"OBJ_{SNAPSHOTS_BUCKET}"
USER_INFO = "$SYS.REQ.USER.INFO"
"""Who am I and what may I do: the server answers each user about itself."""
STREAMS = (
    COMMANDS_STREAM,
    EVENTS_STREAM,
    DEAD_STREAM,
    JOBS_STREAM,
    LIMITS_STREAM,
    FEEDS_STREAM,
    SNAPSHOTS_STREAM,
)
"""What a worker looks at, by the names of the streams behind it."""
SCHEDULES_STREAM = f"KV_{SCHEDULES_BUCKET}"
MADE = (*STREAMS, SCHEDULES_STREAM)
"""Everything that `followers setup` makes, by the names of the streams behind it."""

CHANGES = (
    # Reading a job's pages back fast, and its change events.
    f"$JS.API.DIRECT.GET.{EVENTS_STREAM}",
    "followers.change.>",
    # A feed's pointer: asked of the leader, changed by key, looked for among all of them.
    f"$JS.API.STREAM.MSG.GET.{FEEDS_STREAM}",
    f"$JS.API.DIRECT.GET.{FEEDS_STREAM}",
    f"$KV.{FEEDS_BUCKET}.>",
    # A snapshot: its description asked of the leader, its chunks of any replica; purged by subject, or each job would
    # leave a mark.
    f"$JS.API.STREAM.MSG.GET.{SNAPSHOTS_STREAM}",
    f"$JS.API.DIRECT.GET.{SNAPSHOTS_STREAM}",
    f"$O.{SNAPSHOTS_BUCKET}.>",
    f"$JS.API.STREAM.PURGE.{SNAPSHOTS_STREAM}",
)
"""What the change feed publishes to; a worker without all of it works without the feed."""
CHANGES_HEARD = (f"{RELEASE_SUBJECTS} {CONTROL_QUEUE}",)


PAGE_HEARS = f"$KV.{JOBS_BUCKET}.*"
"""The live page hears that a status has changed; it could read it anyway."""
PAGE = (f"$JS.API.DIRECT.GET.{JOBS_STREAM}", f"$JS.API.STREAM.MSG.GET.{DEAD_STREAM}")
"""The live page reads the bucket by revision, and the newest dead letters."""
STEERING = (
    # A cancellation is told to all workers; a retry is the command anew, and its letter deleted.
    CANCEL_SUBJECTS,
    *COMMAND_SUBJECTS,
    f"$JS.API.STREAM.MSG.DELETE.{DEAD_STREAM}",
)
"""What cancelling and retrying on the live page need beside that."""
SCHEDULING = (
    # The bucket's own time, its keys; the leader says which write was first.
    f"$JS.API.STREAM.INFO.{SCHEDULES_STREAM}",
    f"$JS.API.STREAM.MSG.GET.{SCHEDULES_STREAM}",
    f"$KV.{SCHEDULES_BUCKET}.*",
    *COMMAND_SUBJECTS,
)
"""What a worker with schedules needs beside all else: it publishes commands."""


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What a user may publish and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    """A subject, or a subject and the only queue group in which it may be subscribed to."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One user of the account: a role, and how it logs in (`user` and `password`, or `nkey`, ...)."""

    role: Role
    login: Mapping[str, str]
    """As nats-server writes it: `{"nkey": "U..."}`, `{"user": "...", "password": "..."}`."""
    durables: tuple[str, ...] = ()
    """Of a consumer: the pull consumers on the event stream that it reads. Of setup: those that it may make."""
    steers: bool = False
    """Of a worker: `worker.page_token` is set, so that people may cancel and retry on its live page."""
    schedules: bool = False
    """Of a worker: its settings have schedules."""
    inbox: str = ""
    """What this user's `inbox_prefix` is; empty: `inbox_prefix` of its role."""


def inbox_prefix(role: Role) -> str:
    """Return what `nats.inbox_prefix` must be for a user of `role`: nobody reads another one's replies."""
    return "_INBOX" if role == "admin" else f"_INBOX_{role}"


def permissions(user: User, askers: Sequence[User] = (), *, layout: Layout = "accounts") -> Permissions | None:
    """Return what `user` may do; None means everything in the account (`admin`, for people).

    `askers`: those whose requests a worker may answer. NATS has a general leave to answer (`allow_responses`), but
    then whoever asks could name any subject for the reply, and have the worker write there.
    """
    if user.role == "admin":
        return None
    publish, subscribe = _publish(user), (_inbox(user), *_HEARD.get(user.role, ()))
    if user.role == "worker":
        within = [asker for asker in askers if asker.role in _ASKING and (layout == "one" or _is_home(asker))]
        publish = (*publish, REPLIES, *sorted({_inbox(asker) for asker in within}))
    elif layout == "accounts" and not _is_home(user):
        publish = tuple(local_subject(line) for line in publish)
    return Permissions(publish=publish, subscribe=subscribe)


def accounts_block(users: Sequence[User], *, account: str = ACCOUNT, layout: Layout = "accounts") -> str:
    """Return an `accounts {}` block of nats-server's configuration with `users`.

    `account` has JetStream, the workers, setup and people; publishers, each team of readers and the viewers have one
    of their own, named after it. With the layout `one` all of them share `account`.

    A server with accounts and without `no_auth_user` refuses the anonymous.
    """
    return render_accounts(account, [_member(user, users, account, layout) for user in users])


_ASKING: tuple[Role, ...] = ("publisher", "consumer", "viewer", "admin")
_HEARD: dict[Role, tuple[str, ...]] = {
    "worker": (
        # Each worker looks whether it has the job; one of them answers, or the one that has it does.
        CANCEL_SUBJECTS,
        STATUS_SUBJECTS,
        *CHANGES_HEARD,
        PAGE_HEARS,
        *(f"{exhausted_subject(provider)} {CONTROL_QUEUE}" for provider in PROVIDERS),
    ),
    # That a status has changed.
    "viewer": (PAGE_HEARS,),
}


def _is_home(user: User) -> bool:
    """Whether the user is one of the account with the streams."""
    return user.role in ("worker", "setup", "admin")


def _party_name(user: User, account: str) -> str:
    # Who reads other durables is another team: within one account, one could use what the other may.
    if user.role == "consumer":
        return "_".join((account, "READERS", *(["+".join(sorted(user.durables))] if user.durables else ())))
    return f"{account}_{user.role.upper()}S"


def _member(user: User, users: Sequence[User], account: str, layout: Layout) -> Member:
    allowed = permissions(user, users, layout=layout)
    listed = dict(user.login) if allowed is None else limited(user.login, allowed.publish, allowed.subscribe)
    if layout == "one" or _is_home(user):
        return Member(account=account, user=listed)
    services = [line for line in _publish(user) if line != USER_INFO]  # each account has its own
    return Member(account=_party_name(user, account), user=listed, services=services, streams=_HEARD.get(user.role, ()))


def _publish(user: User) -> tuple[str, ...]:
    rules = {"worker": _worker, "publisher": _publisher, "consumer": _consumer, "viewer": _viewer, "setup": _setup}
    return rules[user.role](user)


def _inbox(user: User) -> str:
    return f"{user.inbox or inbox_prefix(user.role)}.>"


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
        # An id is one job's: whose, is written once, beside the events.
        ID_SUBJECTS,
        *DEAD_SUBJECTS,
        # Status: read and written by key; where two write, the leader says who was first.
        f"$JS.API.DIRECT.GET.{JOBS_STREAM}.>",
        f"$JS.API.STREAM.MSG.GET.{JOBS_STREAM}",
        f"$KV.{JOBS_BUCKET}.*",
        f"$KV.{JOBS_BUCKET}.cancel.*",
        # A command that the server no longer delivers ends by being deleted.
        f"$JS.API.STREAM.MSG.GET.{COMMANDS_STREAM}",
        f"$JS.API.STREAM.MSG.DELETE.{COMMANDS_STREAM}",
        # A queued command is looked for among thousands.
        f"$JS.API.DIRECT.GET.{COMMANDS_STREAM}",
        # The limit that replicas share: asked of the leader, changed by key.
        f"$JS.API.STREAM.MSG.GET.{LIMITS_STREAM}",
        f"$KV.{LIMITS_BUCKET}.*",
        *CHANGES,
        *PAGE,
        *(STEERING if user.steers else ()),
        *(SCHEDULING if user.schedules else ()),
        # `followers doctor` compares its rights with these.
        USER_INFO,
    )


def _publisher(user: User) -> tuple[str, ...]:
    return (*COMMAND_SUBJECTS, CANCEL_SUBJECTS, STATUS_SUBJECTS, RELEASE_SUBJECTS)


def _consumer(user: User) -> tuple[str, ...]:
    # Not CONSUMER.CREATE: a consumer that delivers to a subject writes there with the server's own rights, so
    # whoever may make one could fill the command stream.
    readers = [f"{EVENTS_STREAM}.{durable}" for durable in user.durables]
    return (
        *(f"$JS.API.CONSUMER.INFO.{reader}" for reader in readers),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{reader}" for reader in readers),
        *(f"$JS.ACK.{reader}.>" for reader in readers),
        # The status of a job, asked of a worker or read by key.
        STATUS_SUBJECTS,
        f"$JS.API.STREAM.INFO.{JOBS_STREAM}",
        f"$JS.API.DIRECT.GET.{JOBS_STREAM}.>",
    )


def _viewer(user: User) -> tuple[str, ...]:
    # Not CONSUMER.CREATE here either: all is read by gets.
    consumers = [f"{COMMANDS_STREAM}.{consumer_name(provider)}" for provider in PROVIDERS]
    return (
        # What waits in the queue, and for how long.
        f"$JS.API.STREAM.INFO.{COMMANDS_STREAM}",
        *(f"$JS.API.CONSUMER.INFO.{consumer}" for consumer in consumers),
        f"$JS.API.DIRECT.GET.{COMMANDS_STREAM}",
        # A job's pages and events; the leader says which is the last.
        f"$JS.API.STREAM.INFO.{EVENTS_STREAM}",
        f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}",
        f"$JS.API.DIRECT.GET.{EVENTS_STREAM}",
        # Status: asked of a worker, read by key, or all of the bucket.
        STATUS_SUBJECTS,
        f"$JS.API.STREAM.INFO.{JOBS_STREAM}",
        f"$JS.API.STREAM.MSG.GET.{JOBS_STREAM}",
        f"$JS.API.DIRECT.GET.{JOBS_STREAM}",
        f"$JS.API.DIRECT.GET.{JOBS_STREAM}.>",
        # What it may ask, so that a command leaves out what it can't do.
        USER_INFO,
    )


def _setup(user: User) -> tuple[str, ...]:
    consumers = [f"{COMMANDS_STREAM}.{consumer_name(provider)}" for provider in PROVIDERS]
    consumers += [f"{EVENTS_STREAM}.{durable}" for durable in user.durables]
    return (
        *(f"$JS.API.STREAM.{act}.{stream}" for stream in MADE for act in ("INFO", "CREATE", "UPDATE")),
        *(f"$JS.API.CONSUMER.{act}.{consumer}" for consumer in consumers for act in ("INFO", "CREATE")),
    )
