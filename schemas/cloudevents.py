"""CloudEvents 1.0 over NATS: attributes as headers (binary mode), or in a JSON envelope with the event (structured).

What the protocol binding for NATS and the JSON event format say, as far as our events need it.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Literal

import msgspec

CloudEventsMode = Literal["binary", "structured"]
STRUCTURED = "application/cloudevents+json"
"""The `Content-Type` of a message that is an envelope."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message in structured mode. `data` is the event as JSON, or `data_base64` the event in another encoding."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    """The extension for distributed tracing."""
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


def to_headers(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return `attributes` as headers of binary mode; their values have nothing that must be percent-encoded."""
    return {f"ce-{name}": value for name, value in attributes.items()}


def wrap(attributes: Mapping[str, str], data: bytes, *, is_json: bool) -> bytes:
    """Return the envelope with `attributes` around `data`."""
    if is_json:
        return _encoder.encode({**attributes, "data": msgspec.Raw(data)})
    return _encoder.encode({**attributes, "data_base64": base64.b64encode(data).decode()})


def unwrap(envelope: bytes) -> tuple[bytes | msgspec.Raw, str | None]:
    """Return what is in `envelope`, and its content type; None means JSON. Raises msgspec.DecodeError."""
    event = _decoder.decode(envelope)
    if event.data_base64 is None:
        if not bytes(event.data):
            raise msgspec.ValidationError("Object missing required field `data` or `data_base64`")
        return event.data, event.datacontenttype
    try:
        return base64.b64decode(event.data_base64, validate=True), event.datacontenttype
    except binascii.Error as error:
        raise msgspec.ValidationError("Expected base64 text - at `$.data_base64`") from error
