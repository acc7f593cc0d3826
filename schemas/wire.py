"""Encoding by content type, and events as CloudEvents."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, overload

import msgspec

from schemas.changes import ChangeEvent
from schemas.cloudevents import STRUCTURED, CloudEventsMode, to_headers, unwrap, wrap
from schemas.events import FollowerPage, JobEvent

T = TypeVar("T")

Encoding = Literal["json", "msgpack"]
JSON = "application/json"
MSGPACK = "application/msgpack"
CONTENT_TYPE = "Content-Type"
PAGE_TYPE = "vn.followers.page.v1"

_CONTENT_TYPES: dict[Encoding, str] = {"json": JSON, "msgpack": MSGPACK}
_ENCODINGS: dict[str, Encoding] = {JSON: "json", MSGPACK: "msgpack", "application/x-msgpack": "msgpack"}
_QUOTED = re.compile(r"'.*'", re.DOTALL)
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
    media = _media(content_type)
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
def decode(data: bytes | msgspec.Raw, type: type[T], content_type: str | None = None) -> T: ...
@overload
def decode(data: bytes | msgspec.Raw, type: Any, content_type: str | None = None) -> Any: ...
def decode(data: bytes | msgspec.Raw, type: Any, content_type: str | None = None) -> Any:
    """Return `data` as an instance of `type` (a struct or a union of structs) of this package.

    A CloudEvent in structured mode is unwrapped.
    Raises UnknownContentTypeError, msgspec.DecodeError (not JSON / MessagePack), or its subclass
    msgspec.ValidationError (a field is missing, unknown or wrong; the message has its path), and nothing else.
    """
    try:
        return _decode(data, type, content_type)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"Text that is no UTF-8 (byte {error.start} of it)") from None
    except RecursionError:
        raise msgspec.DecodeError("Nested too deeply") from None


def _decode(data: bytes | msgspec.Raw, type: Any, content_type: str | None) -> Any:
    if is_structured(content_type):
        inside, content_type = unwrap(data)
        return _decode(inside, type, content_type)
    if encoding_of(content_type) == "json":
        return msgspec.json.decode(data, type=type)
    return msgspec.msgpack.decode(data, type=type)


def why_unreadable(error: ValueError) -> str:
    """Return what `decode` found wrong, without anything that stood in the message: that may be people's data."""
    text = "".join(character if character.isprintable() else "?" for character in str(error))
    # Only what begins like this quotes nothing but our own patterns.
    return (text if text.startswith("Expected") else _QUOTED.sub("(value)", text))[:300]


def is_structured(content_type: str | None) -> bool:
    """Say whether a message of this type is a CloudEvent in structured mode."""
    return content_type is not None and _media(content_type) == STRUCTURED


def _media(content_type: str) -> str:
    return content_type.split(";", 1)[0].strip().lower()


def event_type(event: FollowerPage | JobEvent | ChangeEvent) -> str:
    """Return the CloudEvents type of `event`, for example `vn.followers.job.completed.v1`."""
    if isinstance(event, FollowerPage):
        return PAGE_TYPE
    if isinstance(event, ChangeEvent):
        return f"vn.followers.change.{event.__struct_config__.tag}.v1"
    return f"vn.followers.job.{event.__struct_config__.tag}.v1"


def event_headers(
    event: FollowerPage | JobEvent | ChangeEvent,
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
    attributes = _attributes(event, id, time, encoding, traceparent)
    return _headers(event, attributes, content_type_of(encoding)) | to_headers(attributes)


def event_message(
    event: FollowerPage | JobEvent | ChangeEvent,
    *,
    id: str,
    time: datetime,
    encoding: Encoding = "json",
    mode: CloudEventsMode = "binary",
    traceparent: str | None = None,
) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of `event` as a CloudEvent in `mode`; else as `event_headers`."""
    data = encode(event, encoding)
    if mode == "binary":
        return data, event_headers(event, id=id, time=time, encoding=encoding, traceparent=traceparent)
    attributes = _attributes(event, id, time, encoding, traceparent)
    return wrap(attributes, data, is_json=encoding == "json"), _headers(event, attributes, STRUCTURED)


def _attributes(
    event: FollowerPage | JobEvent | ChangeEvent, id: str, time: datetime, encoding: Encoding, traceparent: str | None
) -> dict[str, str]:
    attributes = {
        "specversion": "1.0",
        "id": f"{event.job_id}:{id}",
        "source": f"/followers/{event.provider}/{event.oa_id}",
        "type": event_type(event),
        "subject": event.job_id,
        "time": rfc3339(time),
        "datacontenttype": content_type_of(encoding),
    }
    return attributes | {"traceparent": traceparent} if traceparent else attributes


def _headers(
    event: FollowerPage | JobEvent | ChangeEvent, attributes: Mapping[str, str], content_type: str
) -> dict[str, str]:
    headers = {CONTENT_TYPE: content_type, "Nats-Msg-Id": f"{event.provider}.{event.oa_id}.{attributes['id']}"}
    if "traceparent" in attributes:
        headers["traceparent"] = attributes["traceparent"]
    return headers


def rfc3339(time: datetime) -> str:
    """Return `time` (aware) in UTC as RFC 3339 text ending in `Z`."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def next_second(time: datetime) -> datetime:
    """Return `time` at a whole second, never an earlier one: so a wait is never told too short."""
    return time if not time.microsecond else time.replace(microsecond=0) + timedelta(seconds=1)


def content_type(headers: Mapping[str, str] | None) -> str | None:
    """Return the `Content-Type` among a NATS message's headers, whatever its case, or None."""
    for name, value in (headers or {}).items():
        if name.lower() == "content-type":
            return value
    return None
