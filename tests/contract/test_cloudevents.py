"""Structured mode, read with the official SDK; what is captured of a real worker is in tests/integration."""

from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, from_structured_event

from schemas import FollowerPage, JobEvent, decode
from schemas.cloudevents import STRUCTURED
from schemas.wire import Encoding, encode, event_headers, event_message
from tests.contract.test_schemas import AT, EVENTS, PAGE
from tests.fakes import FakeClient, FakeLog
from tests.replica import PAGES, Replica, command

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("event", [PAGE, *EVENTS])
def test_the_sdk_reads_the_same_of_both_modes(event: FollowerPage | JobEvent, encoding: Encoding) -> None:
    sent = [
        event_message(event, id="1.1", time=AT, encoding=encoding, mode=mode, traceparent=TRACE)
        for mode in ("binary", "structured")
    ]

    binary, structured = (from_http_event(HTTPMessage(headers, body)) for body, headers in sent)

    assert binary.get_attributes() == structured.get_attributes()
    assert binary.get_extension("traceparent") == TRACE
    assert binary.get_data() == structured.get_data()
    assert binary.get_datacontenttype() == f"application/{encoding}"


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("event", [PAGE, *EVENTS])
def test_a_consumer_decodes_an_envelope_as_it_does_the_event(
    event: FollowerPage | JobEvent, encoding: Encoding
) -> None:
    body, headers = event_message(event, id="1.1", time=AT, encoding=encoding, mode="structured")

    kind = FollowerPage if isinstance(event, FollowerPage) else JobEvent
    assert decode(body, kind, headers["Content-Type"]) == event
    assert decode(body, kind, "Application/CloudEvents+JSON; charset=utf-8") == event


def test_an_envelope_keeps_the_headers_that_nats_and_tracing_need() -> None:
    _, headers = event_message(PAGE, id="1.1", time=AT, mode="structured", traceparent=TRACE)

    assert headers == {
        "Content-Type": "application/cloudevents+json",
        "Nats-Msg-Id": event_headers(PAGE, id="1.1", time=AT)["Nats-Msg-Id"],
        "traceparent": TRACE,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"{", "truncated"),
        (b'{"specversion":"1.0","id":"a","source":"/a","type":"t"}', "`data` or `data_base64`"),
        (b'{"specversion":"1.0","id":"a","source":"/a","type":"t","data_base64":"?"}', "base64 text"),
        (b'{"data":{}}', "required field `specversion`"),
        (b'{"specversion":"1.0","id":"a","source":"/a","type":"t","data":{}}', "required field"),
    ],
)
def test_a_broken_envelope_is_an_error_that_says_where(text: bytes, complaint: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=complaint):
        decode(text, FollowerPage, STRUCTURED)


def test_an_envelope_of_others_may_have_more_in_it() -> None:
    given = {"specversion": "1.0", "id": "a", "source": "/a", "type": "t", "other": 1}
    text = msgspec.json.encode(given | {"data": msgspec.Raw(encode(PAGE))})

    assert decode(text, FollowerPage, STRUCTURED) == PAGE


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_structured_job_is_split_and_resumed_like_any_other(encoding: Encoding) -> None:
    ways: dict[str, Any] = {"cloudevents": "structured", "encoding": encoding}
    client = FakeClient(120)
    whole = Replica(client, log=FakeLog(max_payload=3_700), **ways)
    await whole.handle(command(page_size=60))
    cut = FakeLog(max_payload=3_700)
    cut.stored = [stored for stored in whole.log.stored if stored.subject == PAGES][:1]
    cut._sequences = iter(range(100, 1000))  # type: ignore[assignment]
    successor = Replica(client, log=cut, **ways)

    await successor.handle(command(page_size=60, deliveries=2))

    for replica in (whole, successor):
        entries = replica.log.on(PAGES)
        assert {entry.headers["Content-Type"] for entry in entries} == {STRUCTURED}
        assert {from_structured_event(HTTPMessage({}, entry.data)).get_subject() for entry in entries} == {"j1"}
        pages = [decode(entry.data, FollowerPage, STRUCTURED) for entry in entries]
        assert pages[0].parts > 1
        assert [user.user_id for page in pages for user in page.followers] == client.users


async def test_a_command_in_an_envelope_is_refused_with_what_to_send() -> None:
    replica = Replica()
    delivery = command(headers={"Content-Type": STRUCTURED})

    await replica.handle(delivery)

    (letter,) = replica.letters.letters
    assert "use application/json or application/msgpack" in letter.headers["Followers-Error-Message"]
