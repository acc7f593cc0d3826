"""Content types and CloudEvents headers (CONTRACT 3)."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Followed, FollowerPage, UnknownContentTypeError, decode, encode, encoding_of
from schemas.wire import (
    Encoding,
    content_type,
    content_type_of,
    event_headers,
    event_message,
    event_type,
    is_structured,
    rfc3339,
    why_unreadable,
)
from tests.contract.test_schemas import AT, EVENTS, PAGE

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (None, "json"),
        ("application/json", "json"),
        ("Application/JSON; charset=utf-8", "json"),
        (" application/msgpack ", "msgpack"),
        ("application/x-msgpack", "msgpack"),
    ],
)
def test_a_content_type_stands_for_an_encoding(text: str | None, encoding: Encoding) -> None:
    assert encoding_of(text) == encoding


@pytest.mark.parametrize("text", ["", "text/plain", "application/xml", "json", "application/json+x"])
def test_another_content_type_is_refused_with_what_can_be_used(text: str) -> None:
    with pytest.raises(UnknownContentTypeError, match="application/json or application/msgpack"):
        decode(b"{}", FollowerPage, text)


def test_a_content_type_of_any_length_gives_a_short_message() -> None:
    with pytest.raises(UnknownContentTypeError) as caught:
        encoding_of("x" * 10_000)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_the_content_type_is_found_whatever_its_case(name: str) -> None:
    assert content_type({"Other": "x", name: "application/msgpack"}) == "application/msgpack"


def test_without_headers_there_is_no_content_type() -> None:
    assert content_type(None) is None
    assert content_type({}) is None


def test_what_is_not_json_is_no_message() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b"\xff{", FollowerPage)
    with pytest.raises(msgspec.DecodeError):
        decode(encode(PAGE), FollowerPage, "application/msgpack")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("JSON is malformed: invalid character (byte 3)", "JSON is malformed: invalid character (byte 3)"),
        ("Invalid enum value 'Bí mật' - at `$.a`", "Invalid enum value (value) - at `$.a`"),
        ("key 'it's Bí\nmật' of 'b' is unknown", "key (value) is unknown"),
        ("line\tone\nline two\x00", "line?one?line two?"),
        ("Expected `str` matching regex '^[a-z]$' - at `$.b`", "Expected `str` matching regex '^[a-z]$' - at `$.b`"),
        ("It was Expected 'x'", "It was Expected (value)"),
        ("x" * 400, "x" * 300),
        ("Expected " + "x" * 291, "Expected " + "x" * 291),
        ("Expected " + "x" * 292, "Expected " + "x" * 291),
        ("a '" + "x" * 400 + "' b", "a (value) b"),
    ],
)
def test_what_is_unreadable_is_told_in_300_signs_of_one_line_without_what_stood_there(said: str, told: str) -> None:
    assert why_unreadable(ValueError(said)) == told


@pytest.mark.parametrize(
    ("type", "structured"),
    [
        (None, False),
        ("", False),
        ("application/json", False),
        ("application/cloudevents", False),
        ("application/cloudevents+json", True),
        (" Application/CloudEvents+JSON ; charset=utf-8; a=b", True),
        ("text/plain; application/cloudevents+json", False),
    ],
)
def test_an_envelope_is_told_by_its_type(type: str | None, structured: bool) -> None:
    assert is_structured(type) is structured


def test_each_encoding_has_its_type_and_json_is_the_usual_one() -> None:
    assert (content_type_of("json"), content_type_of("msgpack")) == ("application/json", "application/msgpack")
    assert encode(PAGE) == encode(PAGE, "json")
    assert msgspec.json.decode(encode(PAGE)) == msgspec.msgpack.decode(encode(PAGE, "msgpack"))


def test_text_that_is_no_utf8_is_named_by_the_byte_and_no_more() -> None:
    with pytest.raises(msgspec.DecodeError, match=r"^Text that is no UTF-8 \(byte 3 of it\)$") as caught:
        decode(b'{"job_id":"abc\xff"}', FollowerPage)

    assert caught.value.__suppress_context__, "the cause would quote what stood there"


def test_what_is_nested_too_deeply_is_no_message() -> None:
    with pytest.raises(msgspec.DecodeError, match=r"^Nested too deeply$"):
        decode(b'{"x":' + b"[" * 100_000, FollowerPage)


def test_an_events_headers_are_those_of_the_contract() -> None:
    assert event_headers(PAGE, id="1.1", time=AT) == {
        "Content-Type": "application/json",
        "Nats-Msg-Id": f"esms.{PAGE.oa_id}.job-1:1.1",
        "ce-specversion": "1.0",
        "ce-id": "job-1:1.1",
        "ce-source": f"/followers/esms/{PAGE.oa_id}",
        "ce-type": "vn.followers.page.v1",
        "ce-subject": "job-1",
        "ce-time": "2026-03-01T08:30:00.123456Z",
        "ce-datacontenttype": "application/json",
    }


def test_the_headers_say_the_encoding_and_the_trace() -> None:
    headers = event_headers(PAGE, id="1.1", time=AT, encoding="msgpack", traceparent=TRACE)

    assert (headers["Content-Type"], headers["traceparent"]) == ("application/msgpack", TRACE)
    assert (headers["ce-datacontenttype"], headers["ce-traceparent"]) == ("application/msgpack", TRACE)
    assert decode(encode(PAGE, "msgpack"), FollowerPage, headers["Content-Type"]) == PAGE


def test_every_event_has_a_cloudevents_type() -> None:
    assert event_type(PAGE) == "vn.followers.page.v1"
    assert [event_type(event) for event in EVENTS] == [
        "vn.followers.job.started.v1",
        "vn.followers.job.waiting.v1",
        "vn.followers.job.completed.v1",
        "vn.followers.job.failed.v1",
        "vn.followers.job.cancelled.v1",
    ]


@pytest.mark.parametrize("field", ["job_id", "provider", "oa_id"])
def test_events_of_different_jobs_never_share_an_id(field: str) -> None:
    # `Nats-Msg-Id` is looked up in the whole stream, and a `ce-id` within its source.
    other = msgspec.structs.replace(PAGE, **{field: "etelecom" if field == "provider" else "other"})

    ours, theirs = (event_headers(event, id="1.1", time=AT) for event in (PAGE, other))

    assert ours["Nats-Msg-Id"] != theirs["Nats-Msg-Id"]
    assert (ours["ce-source"], ours["ce-id"]) != (theirs["ce-source"], theirs["ce-id"])


def test_a_time_is_told_in_utc() -> None:
    hanoi = datetime(2026, 3, 1, 7, tzinfo=timezone(timedelta(hours=7)))

    assert rfc3339(hanoi) == "2026-03-01T00:00:00Z"


@given(st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_a_time_comes_back_from_its_text(time: datetime) -> None:
    text = rfc3339(time)

    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == time


def test_changes_have_types_of_their_own() -> None:
    event = Followed(job_id="job-1", provider="esms", account="shop", oa_id="1", user_id="7")

    assert event_type(event) == "vn.followers.change.followed.v1"
    assert event_headers(event, id="change.1", time=AT)["Nats-Msg-Id"] == "esms.1.job-1:change.1"


def test_a_message_is_the_event_itself_unless_an_envelope_is_asked_for() -> None:
    plain = encode(PAGE), event_headers(PAGE, id="1.1", time=AT)

    assert event_message(PAGE, id="1.1", time=AT) == event_message(PAGE, id="1.1", time=AT, mode="binary") == plain
    assert event_message(PAGE, id="1.1", time=AT, mode="structured")[0] != plain[0]
