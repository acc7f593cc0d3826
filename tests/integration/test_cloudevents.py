"""Events of a real worker, captured from the stream and read with the official SDK of CloudEvents."""

from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from schemas import FollowerPage, JobEvent, decode, encode
from schemas.events import TERMINAL
from tests.integration.control_stage import Stage, stage
from worker.embedded import EmbeddedServer
from worker.jetstream.events.reader import EventReader
from worker.providers.simulators import OA_ID

FOLLOWERS = 1000
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with stage(nats_client, nats_server.url, tmp_path, followers=FOLLOWERS) as made:
        yield made


async def captured(place: Stage, **worker: str) -> list[Msg]:
    """All messages of one job of a worker with these settings."""
    section = place.settings.worker.model_copy(update=worker)
    place.settings = place.settings.model_copy(update={"worker": section})
    async with place.worker(), EventReader(place.client, f"followers.*.etelecom.{OA_ID}.job-1") as reader:
        await place.publish("job-1", headers={"traceparent": TRACEPARENT})
        found: list[Msg] = []
        while not (found and isinstance(ours(found[-1]), TERMINAL)):
            message = await reader.next(20)
            assert message is not None
            found.append(message)
    return found


def ours(message: Msg) -> FollowerPage | JobEvent:
    """The event as a consumer of ours decodes it."""
    kind = FollowerPage if ".page." in message.subject else JobEvent
    event: FollowerPage | JobEvent = decode(message.data, kind, (message.headers or {})["Content-Type"])
    return event


def read(message: Msg) -> BaseCloudEvent:
    """What the SDK makes of a message; it raises where an attribute is missing or malformed."""
    return from_http_event(HTTPMessage(dict(message.headers or {}), message.data))


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_the_sdk_reads_a_hundred_events_of_a_job(place: Stage, mode: str, encoding: str) -> None:
    messages = await captured(place, cloudevents=mode, encoding=encoding)

    events = [read(message) for message in messages]

    assert len(events) > 100
    assert {event.get_source() for event in events} == {f"/followers/etelecom/{OA_ID}"}
    assert {event.get_subject() for event in events} == {"job-1"}
    assert {event.get_datacontenttype() for event in events} == {f"application/{encoding}"}
    assert {event.get_extension("traceparent") for event in events} == {TRACEPARENT}
    assert len({event.get_id() for event in events}) == len(events)
    times = [event.get_time() for event in events]
    assert all(time is not None and time.tzinfo is not None for time in times)
    assert [time.astimezone(UTC) for time in times if time] == sorted(time for time in times if time)
    types = [event.get_type() for event in events]
    assert (types[0], types[-1]) == ("vn.followers.job.started.v1", "vn.followers.job.completed.v1")
    assert set(types[1:-1]) == {"vn.followers.page.v1"}

    for message, event in zip(messages, events, strict=True):
        headers = message.headers or {}
        kind = FollowerPage if ".page." in message.subject else JobEvent
        data = event.get_data()
        inside = data if isinstance(data, bytes) else encode(data)
        assert decode(inside, kind, event.get_datacontenttype()) == ours(message)
        # The NATS binding has each attribute as a header of its own, or none of them and the type of the envelope.
        attributes = {name for name in headers if name.startswith("ce-")}
        if mode == "structured":
            assert (headers["Content-Type"], attributes) == ("application/cloudevents+json", set())
        else:
            assert attributes == {f"ce-{name}" for name in event.get_attributes()}


async def test_people_read_a_structured_job_with_the_command_line_as_any_other(place: Stage) -> None:
    await captured(place, cloudevents="structured")

    printed = await place.run("pages", "job-1")

    assert printed.exit_code == 0
    assert len(printed.stdout.splitlines()) == FOLLOWERS
