"""What people can follow of a command in a trace: its spans, what they say, and which failure ended them."""

import asyncio
import random
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import structlog
from structlog.testing import capture_logs

from tests.fakes import EPOCH, FakeClient, FakeDelivery
from tests.replica import Replica, command
from tests.simulation.loop import run
from worker.core.errors import ProviderUnavailableError, RateLimitedError, UnauthorizedError
from worker.core.ports.tracing import Attribute, Span, SpanKind

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Seen:
    """A span, and all that was said of it."""

    def __init__(self, name: str, kind: str, attributes: dict[str, Attribute | None], traceparent: str | None) -> None:
        self.name, self.kind, self.attributes, self.traceparent = name, kind, dict(attributes), traceparent
        self.children: list[Seen] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing ends."""

    def child(self, name: str, kind: SpanKind = "internal", **attributes: Attribute | None) -> "Seen":
        self.children.append(Seen(name, kind, attributes, self.traceparent))
        return self.children[-1]

    def note(self, **attributes: Attribute | None) -> None:
        self.attributes |= attributes

    def failed(self, code: str) -> None:
        self.failures.append(code)

    def all(self) -> list["Seen"]:
        return [self, *(below for child in self.children for below in child.all())]


class Tracer:
    """Keeps what begins."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []

    def begin(self, name: str, traceparent: str | None, **attributes: Attribute | None) -> AbstractContextManager[Span]:
        self.spans.append(Seen(name, "consumer", attributes, traceparent))
        return self.spans[-1]


def traced(delivery: FakeDelivery, *failures: Exception, users: int = 7, **world: Any) -> Seen:
    tracer = Tracer()

    async def main() -> None:
        replica = Replica(FakeClient(users), tracer=tracer, **world)
        replica.client.fail_next(*failures)
        await replica.handle(delivery)

    run(random.Random(1), main())
    (span,) = tracer.spans
    return span


def told(span: Seen) -> list[tuple[str, str, dict[str, Attribute | None], list[str]]]:
    return [(one.name, one.kind, one.attributes, one.failures) for one in span.all()]


def begun(**rest: Any) -> dict[str, Any]:
    return {"system": "nats", "subject": "followers.fetch.etelecom", "sequence": 1, "deliveries": 1, **rest}


OURS = {"job_id": "j1", "account": "shop", "oa_id": "1"}


def test_a_job_is_a_span_with_its_requests_and_pages() -> None:
    span = traced(command(headers={"traceparent": TRACE}))

    def asked(followers: int) -> tuple[str, str, dict[str, Any], list[str]]:
        attributes = {"job_id": "j1", "attempt": 1, "followers": followers, "requests": 1}
        return "request etelecom", "client", attributes, []

    def published(page: int, followers: int) -> tuple[str, str, dict[str, Any], list[str]]:
        return "publish page", "producer", {"job_id": "j1", "page": page, "followers": followers}, []

    seen = told(span)
    whole = ("process followers.fetch.etelecom", "consumer")
    assert seen[0] == (*whole, begun(**OURS, state="completed", pages=2, followers=7), [])
    assert seen[1] == ("fetch followers", "internal", {"job_id": "j1"}, [])
    assert [(name, kind) for name, kind, _, _ in seen[2:]].count(("publish page", "producer")) == 2
    for expected in (asked(5), asked(2), published(1, 5), published(2, 2)):
        assert expected in seen
    assert len(seen) == 6
    assert span.traceparent == TRACE


def test_a_job_that_fails_says_with_which_code() -> None:
    span = traced(command(), UnauthorizedError("no"))

    assert span.failures == ["unauthorized"]
    assert (span.attributes["state"], span.attributes["pages"], span.attributes["followers"]) == ("failed", 0, 0)


def test_a_command_that_is_refused_says_with_which_code() -> None:
    span = traced(command(colour="red"))

    assert span.failures == ["invalid_command"]
    assert told(span) == [
        ("process followers.fetch.etelecom", "consumer", begun(job_id="j1"), ["invalid_command"]),
    ]


def test_a_wait_between_two_tries_is_a_span_with_its_reason_and_length() -> None:
    down = ProviderUnavailableError("down", retry_after=3.0)
    span = traced(command(), down, RateLimitedError("slow", retry_after=40.0))

    waits = [one for one in span.all() if one.name == "wait to try again"]
    assert [(one.kind, one.attributes["reason"]) for one in waits] == [
        ("internal", "provider_unavailable"),
        ("internal", "rate_limited"),
    ]
    for one, seconds in zip(waits, (3.0, 40.0), strict=True):
        assert seconds <= float(one.attributes["delay"] or 0) <= 1.1 * seconds
    attempts = [one.attributes["attempt"] for one in span.all() if one.name == "request etelecom"]
    assert attempts == [1, 2, 3, 1], "the second page begins anew"


def test_a_request_that_outlives_the_deadline_fails_by_that() -> None:
    tracer = Tracer()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        replica = Replica(FakeClient(7), tracer=tracer, now=lambda: EPOCH + timedelta(seconds=loop.time()))
        replica.client.gate.clear()
        await replica.handle(command(not_after=(EPOCH + timedelta(seconds=5)).isoformat()))

    run(random.Random(1), main())
    (span,) = tracer.spans
    assert [one.failures for one in span.all() if one.name == "request etelecom"] == [["deadline_exceeded"]]
    assert span.failures == ["deadline_exceeded"]


def test_the_line_of_a_job_leads_to_its_trace() -> None:
    structlog.reset_defaults()
    with capture_logs() as lines:
        traced(command(headers={"traceparent": TRACE}))
        traced(command())

    found = [line.get("trace_id") for line in lines if line["event"] == "job.completed"]
    assert found == ["4bf92f3577b34da6a3ce929d0e0e4736", None]
