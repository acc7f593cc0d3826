"""Encoding by content type, and CloudEvents headers in binary mode."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, overload

import msgspec

from schemas.events import FollowerPage, JobEvent

T = TypeVar("T")

Encoding = Literal["json", "msgpack"]
JSON = "application/json"
MSGPACK = "application/msgpack"
CONTENT_TYPE = "Content-Type"
PAGE_TYPE = "vn.followers.page.v1"

_CONTENT_TYPES: dict[Encoding, str] = {"json": JSON, "msgpack": MSGPACK}
_ENCODINGS: dict[str, Encoding] = {JSON: "json", MSGPACK: "msgpack", "application/x-msgpack": "msgpack"}
_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


class UnknownContentTypeError(ValueError):
    """The header `Content-Type` names neither JSON nor MessagePack."""


def encoding_of(content_type: str | None) -> Encoding:
    """Return the encoding that `content_type` (parameters allowed, None means JSON) stands for.

    Raises UnknownContentTypeError when it stands for neither.
    """
    if content_type is None:
        return "json"
    media = content_type.split(";", 1)[0].strip().lower()
    if media not in _ENCODINGS:
        raise UnknownContentTypeError(f"Content-Type {media[:64]!r} is not supported: use {JSON} or {MSGPACK}")
    return _ENCODINGS[media]


def content_type_of(encoding: Encoding) -> str:
    """Return the media type of `encoding`."""
    return _CONTENT_TYPES[encoding]


def encode(message: Any, encoding: Encoding = "json") -> bytes:
    """Return `message`, one of this package's structs, as bytes. Times are RFC 3339 text in both encodings."""
    if encoding == "json":
        return _json.encode(message)
    # MessagePack's own timestamp type would be a second spelling of time; the contract has one.
    return _msgpack.encode(msgspec.to_builtins(message))


@overload
def decode(data: bytes, type: type[T], content_type: str | None = None) -> T: ...
@overload
def decode(data: bytes, type: Any, content_type: str | None = None) -> Any: ...
def decode(data: bytes, type: Any, content_type: str | None = None) -> Any:
    """Return `data` as an instance of `type` (a struct or a union of structs) of this package.

    Raises UnknownContentTypeError, msgspec.DecodeError (not JSON / MessagePack), or its subclass
    msgspec.ValidationError (a field is missing, unknown or wrong; the message has its path).
    """
    if encoding_of(content_type) == "json":
        return msgspec.json.decode(data, type=type)
    return msgspec.msgpack.decode(data, type=type)


def event_type(event: FollowerPage | JobEvent) -> str:
    """Return the CloudEvents type of `event`, for example `vn.followers.job.completed.v1`."""
    if isinstance(event, FollowerPage):
        return PAGE_TYPE
    return f"vn.followers.job.{event.__struct_config__.tag}.v1"


def event_headers(
    event: FollowerPage | JobEvent,
    *,
    id: str,
    time: datetime,
    encoding: Encoding = "json",
    traceparent: str | None = None,
) -> dict[str, str]:
    """Return the headers of `event`: CloudEvents 1.0 binary mode, `Nats-Msg-Id` and `Content-Type`.

    `id` is unique to the event within its job: `ce-id` is `<job_id>:<id>`, unique within `ce-source`. `Nats-Msg-Id`
    is unique in the whole stream, so it has the provider and the OA before that.
    """
    key = f"{event.job_id}:{id}"
    headers = {
        CONTENT_TYPE: content_type_of(encoding),
        "Nats-Msg-Id": f"{event.provider}.{event.oa_id}.{key}",
        "ce-specversion": "1.0",
        "ce-id": key,
        "ce-source": f"/followers/{event.provider}/{event.oa_id}",
        "ce-type": event_type(event),
        "ce-subject": event.job_id,
        "ce-time": rfc3339(time),
    }
    if traceparent:
        headers["traceparent"] = traceparent
    return headers


def rfc3339(time: datetime) -> str:
    """Return `time` (aware) in UTC as RFC 3339 text ending in `Z`."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def content_type(headers: Mapping[str, str] | None) -> str | None:
    """Return the `Content-Type` among a NATS message's headers, whatever its case, or None."""
    for name, value in (headers or {}).items():
        if name.lower() == "content-type":
            return value
    return None
