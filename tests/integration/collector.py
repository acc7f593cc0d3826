"""An OpenTelemetry collector on loopback: takes OTLP over HTTP, and keeps what it was sent."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span as it was exported."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    seconds: float
    attributes: dict[str, Any]

    @property
    def traceparent(self) -> str:
        """What a message sent within it carries."""
        return f"00-{self.trace_id}-{self.span_id}-01"


@dataclass
class Collector:
    """What came in."""

    url: str
    status: int = 200
    """What it answers."""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order of their end."""
        return [span for body in self.bodies for span in _spans(body)]

    @property
    def services(self) -> set[str]:
        """The names under which they were sent."""
        found: set[str] = set()
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                found.add(_plain(resource.resource.attributes)["service.name"])
        return found

    def named(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def children(self, parent: Span) -> list[Span]:
        """The spans right below `parent`."""
        return [span for span in self.spans if span.parent_id == parent.span_id]


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Listen until the end of the context."""
    made = Collector(url="")

    async def take(request: web.Request) -> web.Response:
        made.bodies.append(await request.read())
        return web.Response(status=made.status)

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    yield made
    await runner.cleanup()


def _spans(body: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            name=span.name,
            kind=KINDS[span.kind],
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            failed=span.status.code == 2,
            seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            attributes=_plain(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
