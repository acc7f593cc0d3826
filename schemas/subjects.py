"""Names of streams, buckets, consumers and subjects, and the functions that build and parse them."""

import re
import zlib
from typing import NamedTuple

from schemas.types import TOKEN_PATTERN, Provider

COMMANDS_STREAM = "FOLLOWERS_COMMANDS"
EVENTS_STREAM = "FOLLOWERS_EVENTS"
DEAD_STREAM = "FOLLOWERS_DEAD"
JOBS_BUCKET = "FOLLOWERS_JOBS"
LIMITS_BUCKET = "FOLLOWERS_LIMITS"
SCHEDULES_BUCKET = "FOLLOWERS_SCHEDULES"
FEEDS_BUCKET = "FOLLOWERS_FEEDS"
SNAPSHOTS_BUCKET = "FOLLOWERS_SNAPSHOTS"

PROVIDERS: tuple[Provider, ...] = ("etelecom", "esms")

COMMAND_SUBJECTS = tuple(f"followers.fetch.{provider}" for provider in PROVIDERS)
EVENT_SUBJECTS = ("followers.page.>", "followers.job.>", "followers.change.>")
DEAD_SUBJECTS = tuple(f"followers.dead.{provider}" for provider in PROVIDERS)
CANCEL_SUBJECTS = "followers.cancel.*"
STATUS_SUBJECTS = "followers.status.*"
RELEASE_SUBJECTS = "followers.release.*"
ID_SUBJECTS = "followers.id.*"
"""The workers' own, on the event stream: which job an id stands for. Nothing for readers, and apart from events."""
EARLY_KEYS = 64
"""Over which the marks of unknown ids are spread."""
CONTROL_QUEUE = "followers-control"
"""The queue group of the workers: one of them answers each request."""

_TOKEN = re.compile(TOKEN_PATTERN)


class JobSubject(NamedTuple):
    """What a page's or job event's subject says."""

    kind: str
    """`page` or `job`."""
    provider: Provider
    oa_id: str
    job_id: str


def is_token(text: str) -> bool:
    """Say whether `text` may be a job id, OA id or account name: `[A-Za-z0-9_-]{1,64}`."""
    return _TOKEN.search(text) is not None


def command_subject(provider: Provider) -> str:
    """Return the subject on which commands for `provider` are published."""
    return f"followers.fetch.{provider}"


def dead_subject(provider: Provider) -> str:
    """Return the subject of `provider`'s dead letters."""
    return f"followers.dead.{provider}"


def page_subject(provider: Provider, oa_id: str, job_id: str) -> str:
    """Return the subject of a job's pages. Raises ValueError when an id can't be part of a subject."""
    return f"followers.page.{provider}.{_checked(oa_id)}.{_checked(job_id)}"


def job_subject(provider: Provider, oa_id: str, job_id: str) -> str:
    """Return the subject of a job's events. Raises ValueError when an id can't be part of a subject."""
    return f"followers.job.{provider}.{_checked(oa_id)}.{_checked(job_id)}"


def consumer_name(provider: Provider) -> str:
    """Return the name of the durable pull consumer that workers share for `provider`."""
    return f"worker-{provider}"


def cancel_subject(job_id: str) -> str:
    """Return the subject of the request that cancels a job. Raises ValueError when the id can't be part of one."""
    return f"followers.cancel.{_checked(job_id)}"


def status_subject(job_id: str) -> str:
    """Return the subject of the request for a job's status. Raises ValueError when the id can't be part of one."""
    return f"followers.status.{_checked(job_id)}"


def release_subject(job_id: str) -> str:
    """Return the subject of the request that releases a held job. Raises ValueError as `cancel_subject` does."""
    return f"followers.release.{_checked(job_id)}"


def change_subject(provider: Provider, oa_id: str) -> str:
    """Return the subject of an OA's changes. Raises ValueError when the id can't be part of a subject."""
    return f"followers.change.{provider}.{_checked(oa_id)}"


def id_subject(job_id: str) -> str:
    """Return the subject that says which job an id stands for. Raises ValueError when it can't be part of one."""
    return f"followers.id.{_checked(job_id)}"


def cancel_mark_key(job_id: str) -> str:
    """Return the key, in the bucket of job status, that says that a job is to be cancelled.

    The dot keeps it apart from job ids. Raises ValueError when the id can't be part of a key.
    """
    return f"cancel.{_checked(job_id)}"


def early_marks_key(job_id: str) -> str:
    """Return the key that says the same of ids of which nobody had heard: many share one, and there are few.

    The `=` keeps it apart from the marks of known jobs. Raises ValueError as `cancel_mark_key` does.
    """
    return f"cancel.={zlib.crc32(_checked(job_id).encode()) % EARLY_KEYS}"


def exhausted_subject(provider: Provider) -> str:
    """Return the subject on which the server says that it gave up on delivering one of `provider`'s commands."""
    return f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{COMMANDS_STREAM}.{consumer_name(provider)}"


def parse_job_subject(subject: str) -> JobSubject:
    """Take a page's or job event's subject apart. Raises ValueError when it is something else."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[0] != "followers" or tokens[1] not in ("page", "job") or tokens[2] not in PROVIDERS:
        raise ValueError(f"{subject!r} is not the subject of a page or a job event")
    return JobSubject(tokens[1], tokens[2], _checked(tokens[3]), _checked(tokens[4]))


def provider_of(subject: str) -> Provider:
    """Return the provider that a command's subject names. Raises ValueError when it names none."""
    provider = subject.rsplit(".", 1)[-1]
    if provider not in PROVIDERS:
        raise ValueError(f"{subject!r} names no provider: expected one of {', '.join(PROVIDERS)}")
    return provider


def _checked(token: str) -> str:
    if not is_token(token):
        raise ValueError(f"{token!r} can't be part of a subject: use 1 to 64 letters, digits, '_' or '-'")
    return token
