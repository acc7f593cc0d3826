"""The wire contract: everything that travels over NATS, as msgspec structs.

Importable by consumers on its own: needs msgspec and nothing else::

    from schemas import FollowerPage, decode
    page = decode(message.data, FollowerPage, message.headers.get("Content-Type"))
"""

from schemas.changes import (
    ChangeCounts,
    Changed,
    ChangeEvent,
    Compared,
    Feed,
    FeedBaseline,
    FieldChange,
    Followed,
    Held,
    Unfollowed,
)
from schemas.commands import (
    EsmsFilter,
    EtelecomFilter,
    FetchEsmsFollowers,
    FetchEtelecomFollowers,
    FetchFollowers,
    Provider,
)
from schemas.events import (
    FetchError,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    JobWaiting,
    Progress,
)
from schemas.follower import Follower, SharedInfo
from schemas.jobs import ControlError, JobStatus
from schemas.wait import Wait
from schemas.wire import JSON, MSGPACK, Encoding, UnknownContentTypeError, decode, encode, encoding_of

__all__ = [
    "JSON",
    "MSGPACK",
    "ChangeCounts",
    "ChangeEvent",
    "Changed",
    "Compared",
    "ControlError",
    "Encoding",
    "EsmsFilter",
    "EtelecomFilter",
    "Feed",
    "FeedBaseline",
    "FetchError",
    "FetchEsmsFollowers",
    "FetchEtelecomFollowers",
    "FetchFollowers",
    "FieldChange",
    "Followed",
    "Follower",
    "FollowerPage",
    "Held",
    "JobCancelled",
    "JobCompleted",
    "JobEvent",
    "JobFailed",
    "JobStarted",
    "JobStatus",
    "JobWaiting",
    "Progress",
    "Provider",
    "SharedInfo",
    "Unfollowed",
    "UnknownContentTypeError",
    "Wait",
    "decode",
    "encode",
    "encoding_of",
]
