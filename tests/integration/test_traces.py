"""Traces of a real worker, received by a real collector over HTTP."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from schemas import FollowerPage, JobCancelled, decode
from schemas.subjects import cancel_subject
from tests.integration.collector import Collector, Span, collector
from tests.integration.control_stage import Stage, stage
from tests.integration.stage import until
from worker.app import StartError, Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.events.reader import EventReader
from worker.providers.simulators import OA_ID, SHOP_KEY, Fault

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with stage(nats_client, nats_server.url, tmp_path, followers=30) as made:
        yield made


@contextlib.asynccontextmanager
async def traced(place: Stage) -> AsyncIterator[Collector]:
    """A worker that sends its traces; all of them are there after the context."""
    async with collector() as made:
        section = place.settings.worker.model_copy(update={"otlp_endpoint": f"{made.url}/v1/traces"})
        place.settings = place.settings.model_copy(update={"worker": section})
        async with place.worker():
            yield made


async def events(place: Stage, job_id: str) -> list[Msg]:
    """All messages about a job, in order."""
    found: list[Msg] = []
    async with EventReader(place.client, f"followers.*.etelecom.{OA_ID}.{job_id}") as reader:
        while (message := await reader.next(1.0)) is not None:
            found.append(message)
            if message.metadata.num_pending == 0:
                break
    return found


def traceparents(messages: list[Msg], kind: str) -> list[str]:
    return [(message.headers or {})["traceparent"] for message in messages if f".{kind}." in message.subject]


def heard() -> list[Any]:
    """Everything that is logged from now on."""
    lines: list[Any] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        lines.append(event)
        raise structlog.DropEvent

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), processors=[keep])
    return lines


def only(spans: list[Span]) -> Span:
    (span,) = spans
    return span


async def test_a_trace_leads_from_the_command_over_each_request_to_each_page(place: Stage) -> None:
    place.simulator.inject(Fault(kind="status", skip=1))
    async with traced(place) as seen:
        await place.publish("traced", headers={"traceparent": TRACEPARENT})
        await place.story("traced")
        messages = await events(place, "traced")

    command = only(seen.named("process followers.fetch.etelecom"))
    assert (command.trace_id, command.parent_id, command.kind, command.failed) == (TRACE, PARENT, "consumer", False)
    assert command.attributes["messaging.destination.name"] == "followers.fetch.etelecom"
    assert (command.attributes["followers.job_id"], command.attributes["followers.state"]) == ("traced", "completed")
    fetch = only(seen.children(command))
    assert fetch.name == "fetch followers"

    requests, pages = seen.named("request etelecom"), seen.named("publish page")
    assert {span.parent_id for span in requests + pages} == {fetch.span_id}
    assert {span.trace_id for span in seen.spans} == {TRACE}
    # Three pages and the empty one behind them, which ends an eTelecom list and is asked for twice; one request failed
    # and was repeated.
    assert [span.attributes["followers.followers"] for span in pages] == [10, 10, 10, 0]
    assert [span.failed for span in requests] == [False, True, False, False, False, False]
    failed = requests[1].attributes
    assert (failed["error.type"], failed["http.response.status_code"]) == ("provider_unavailable", 503)
    again = only(seen.named("wait to try again"))
    assert again.seconds > 0
    assert again.attributes["followers.reason"] == "provider_unavailable"
    assert {span.kind for span in requests} == {"client"}
    assert {span.kind for span in pages} == {"producer"}

    # Whoever reads a page goes on below the span that published it.
    assert traceparents(messages, "page") == [span.traceparent for span in pages]
    assert set(traceparents(messages, "job")) == {fetch.traceparent}
    assert seen.services == {"followers-worker"}


async def test_a_command_without_a_trace_begins_one(place: Stage) -> None:
    async with traced(place) as seen:
        await place.publish("new")
        await place.story("new")
        messages = await events(place, "new")

    command = only(seen.named("process followers.fetch.etelecom"))
    assert command.parent_id == ""
    assert {text.split("-")[1] for text in traceparents(messages, "page")} == {command.trace_id}


async def test_a_trace_that_its_publisher_does_not_record_is_not_recorded_but_passed_on(place: Stage) -> None:
    async with traced(place) as seen:
        await place.publish("unrecorded", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        await place.story("unrecorded")
        messages = await events(place, "unrecorded")

    assert seen.spans == []
    assert all(re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", text) for text in traceparents(messages, "page"))


async def test_what_fails_and_what_is_stopped_looks_different(place: Stage) -> None:
    place.simulator.inject(Fault(kind="error", code="permission_denied", status=403))
    async with traced(place) as seen:
        await place.publish("refused")
        await place.story("refused")
        await place.publish("wrong", colour="red")
        await place.story("wrong")
        place.simulator.inject(Fault(kind="hang", seconds=60))
        asked = len(place.simulator.requests)
        await place.publish("stopped")
        await until(lambda: len(place.simulator.requests) > asked, 20)
        await place.ask(cancel_subject("stopped"))
        await place.until("stopped", JobCancelled)

    commands = {span.attributes["followers.job_id"]: span for span in seen.named("process followers.fetch.etelecom")}
    failed = {job: (span.failed, span.attributes.get("error.type")) for job, span in commands.items()}
    assert failed == {
        "refused": (True, "forbidden"),
        "wrong": (True, "invalid_command"),
        "stopped": (False, None),
    }
    assert commands["stopped"].attributes["followers.state"] == "cancelled"


async def test_no_secret_and_nobodys_data_is_in_a_trace(place: Stage) -> None:
    canaries = {"name": "Canary Thị Bí Mật", "phone": "0987654321", "tag": "canary-tag"}
    place.simulator.inject(Fault(kind="status", skip=1, body="html"))
    async with traced(place) as seen:
        await place.publish("filtered", headers={"X-Token": "canary-header"}, filter={"phone": canaries["phone"]})
        await place.publish("named", filter={"name": canaries["name"]}, labels={"note": canaries["tag"]})
        await place.publish("wrong", filter={"name": ["canary-wrong"], "phonee": canaries["phone"]})
        await place.publish("whole")
        for job in ("filtered", "named", "wrong", "whole"):
            await place.story(job)
        messages = await events(place, "whole")

    pages = [decode(message.data, FollowerPage) for message in messages if ".page." in message.subject]
    people = [follower for page in pages for follower in page.followers]
    private = {SHOP_KEY, "canary-header", "canary-wrong", *canaries.values()}
    private |= {text for one in people for text in (one.user_id, one.phone, one.display_name, one.avatar) if text}
    assert len(people) == 30
    assert len(private) > 60
    everything = b"".join(seen.bodies)
    assert len(seen.spans) > 12
    assert [text for text in private if text.encode() in everything] == []


async def test_a_collector_that_is_away_holds_up_neither_jobs_nor_the_end(
    place: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    lines = heard()
    async with traced(place) as seen:
        seen.status = 503
        await place.publish("unseen")
        assert len(await place.story("unseen")) == 6
        began = time.monotonic()

    assert time.monotonic() - began < 10
    assert [line["event"] for line in lines if line["event"].startswith("traces.")] == ["traces.lost"]
    assert not any(record.name.startswith("opentelemetry") for record in caplog.records)


async def test_without_the_package_a_worker_that_should_trace_says_what_to_install(
    place: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    section = place.settings.worker.model_copy(update={"otlp_endpoint": "http://127.0.0.1:1/v1/traces"})

    with pytest.raises(StartError, match=re.escape("pip install 'followers-worker[otel]'")):
        Worker(place.settings.model_copy(update={"worker": section}))


async def test_a_line_of_the_log_leads_to_the_trace(place: Stage) -> None:
    lines = heard()
    async with place.worker():
        await place.publish("logged", headers={"traceparent": TRACEPARENT})
        await place.story("logged")

    ended = [line for line in lines if line["event"] == "job.completed"]
    assert [line["trace_id"] for line in ended] == [TRACE]
