"""Constrained types shared by the messages: names that are safe in a subject, times, bounds."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

# `$` alone would let a trailing newline through in Python; the lookahead shuts it in every regex dialect.
TOKEN_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
_DIGITS = r"^[0-9]{1,19}$(?!\n)"
_RFC3339 = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$(?!\n)"
_LOCAL_DAY = r"^(\d{4}-\d{2}-\d{2}([Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2}))?|\d{2}/\d{2}/\d{4})$(?!\n)"

Provider = Literal["etelecom", "esms"]

Token = Annotated[str, Meta(pattern=TOKEN_PATTERN)]
"""A job id, OA id or account name: 1 to 64 letters, digits, `_` or `-`, so that it can be part of a subject."""

NumericId = Annotated[str, Meta(pattern=_DIGITS, examples=["7800378501923859642"])]
"""A Zalo id as text: up to 19 digits, beyond 2^53, so never a JSON number."""

Timestamp = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with an offset; events always use UTC (`Z`)."""

InstantText = Annotated[
    str,
    Meta(
        pattern=_RFC3339,
        description="RFC 3339 with an offset; passed to the provider unchanged.",
        examples=["2026-01-31T00:00:00+07:00"],
    ),
]
DayText = Annotated[
    str,
    Meta(
        pattern=_LOCAL_DAY,
        description="A day in Vietnam (+07:00): `2026-01-31`, `31/01/2026`, or the day of an RFC 3339 time.",
        examples=["2026-01-31"],
    ),
]

JobId = Annotated[Token, Meta(description="The job: the command's `id`.", examples=["nightly-2026-11-23"])]
OaId = Annotated[Token, Meta(description="The Zalo Official Account.", examples=["579745863508352884"])]
ProviderName = Annotated[Provider, Meta(description="The provider whose list it is.")]
FinishedAt = Annotated[Timestamp, Meta(description="When the job ended.")]

Text = Annotated[str, Meta(min_length=1, max_length=256)]
Labels = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=256)]],
    Meta(max_length=16, description="Echoed on every event of the job.", examples=[{"campaign": "tet-2027"}]),
]
Count = Annotated[int, Meta(ge=0)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
"""SHA-256 in lower-case hex; `schemas.digest` says of what."""
Ordinal = Annotated[int, Meta(ge=1)]

Gender = Literal["unknown", "male", "female", "other"]
FollowState = Literal["follow", "unfollow"]
WaitReason = Literal["rate_limited", "provider_unavailable", "circuit_open"]
StandReason = Literal[
    "rate_limited", "provider_unavailable", "circuit_open", "queued", "no_worker", "cancelled", "nats"
]
WaitOwner = Literal["limit", "breaker", "provider", "queue", "no_worker", "cancelled", "nats"]
Verdict = Literal["complete", "drifted", "truncated"]
TruncatedReason = Literal["max_pages", "max_followers", "provider_cap"]
ErrorCode = Literal[
    "invalid_command",
    "unknown_account",
    "unauthorized",
    "forbidden",
    "not_found",
    "rate_limited",
    "provider_unavailable",
    "bad_response",
    "deadline_exceeded",
    "unsupported",
    "cancelled",
    "internal",
]
JobState = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
