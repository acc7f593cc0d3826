"""Traces by OpenTelemetry, sent to a collector by OTLP over HTTP.

OpenTelemetry is imported only when an endpoint is set. Its standard variables (`OTEL_SERVICE_NAME`,
`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_*`, ...) are read by its own SDK.

Spans hold names, numbers and codes: no exception's text, no URL, no header, no body. Providers get no trace context.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from worker.core.errors import FetchFailure
from worker.core.ports.tracing import Attribute, Span, SpanKind

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer as OtelTracer

FLUSH_WITHIN = 3.0
"""Seconds that a replica that stops gives the last spans to get away."""
SERVICE = "followers-worker"

_STANDARD = {
    "http_status": "http.response.status_code",
    "error_code": "error.type",
    "subject": "messaging.destination.name",
    "system": "messaging.system",
}
_log = structlog.get_logger(__name__)


class TracesError(Exception):
    """Traces are asked for and can't be had; the message says what to do."""


class OtlpTracer:
    """The core's `Tracer`."""

    def __init__(self, endpoint: str, *, worker: str, version: str) -> None:
        """Send spans to `endpoint`, a URL with its path, on behalf of this replica. Nothing connects yet.

        Raises TracesError when OpenTelemetry isn't installed.
        """
        self._provider, self._give_up = _provider(endpoint, worker, version)
        self._tracer = self._provider.get_tracer(SERVICE, version)

    def begin(self, name: str, traceparent: str | None, **attributes: Attribute | None) -> AbstractContextManager[Span]:
        """Go on with the trace of `traceparent`, or begin one where that is none."""
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": traceparent} if traceparent else {}
        context = TraceContextTextMapPropagator().extract(carrier, Context())
        return _Span(self._tracer, context, name, "consumer", attributes)

    async def close(self) -> None:
        """Send what is left, within FLUSH_WITHIN; a collector that is away holds up nobody's stop."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        # Not the loop's own executor: the process would wait for it at its end.
        threading.Thread(target=flush, name="traces", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), FLUSH_WITHIN)
        except TimeoutError:
            self._give_up()
            _log.warning("traces.lost", advice="the collector does not answer: see worker.otlp_endpoint")


class _Span:
    """The core's `Span`, and the context that it lasts for."""

    __slots__ = ("_failed", "_span", "_tracer")

    def __init__(
        self,
        tracer: "OtelTracer",
        parent: "Context",
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Attribute | None],
    ) -> None:
        from opentelemetry.trace import SpanKind as OtelKind

        self._tracer = tracer
        self._span: OtelSpan = tracer.start_span(
            name,
            context=parent,
            kind=OtelKind[kind.upper()],
            attributes=_named(attributes),
            record_exception=False,
            set_status_on_exception=False,
        )
        self._failed = False

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(self, name: str, kind: SpanKind = "internal", **attributes: Attribute | None) -> "_Span":
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return _Span(self._tracer, set_span_in_context(self._span, Context()), name, kind, attributes)

    def note(self, **attributes: Attribute | None) -> None:
        self._span.set_attributes(_named(attributes))

    def failed(self, code: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._failed = True
        self._span.set_status(Status(StatusCode.ERROR, code))
        self.note(error_code=code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FetchFailure):
            self.note(http_status=error.http_status, provider_code=error.provider_code)
            self.failed(error.code)
        elif error is not None and not self._failed:
            # A cancellation, a drain or a fence is no failure; a bug is, and its text may hold anything.
            self.note(ended_by=type(error).__name__)
            if isinstance(error, Exception) and not type(error).__module__.startswith("worker.core"):
                self.failed("internal")
        self._span.end()


def _named(attributes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {_STANDARD.get(name, f"followers.{name}"): value for name, value in attributes.items() if value is not None}


def _provider(endpoint: str, worker: str, version: str) -> "tuple[TracerProvider, Callable[[], None]]":
    """Return what makes spans and sends them, and what ends an attempt to send them that takes too long."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    except ImportError as error:
        raise TracesError(
            f"worker.otlp_endpoint is set, and OpenTelemetry is not installed ({error.name} is missing): "
            "pip install 'followers-worker[otel]', or unset it and OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from error

    class Exporter(SpanExporter):
        """Says once that the collector is away, and once that it is back: the SDK would say it for every batch."""

        def __init__(self) -> None:
            self._inner = OTLPSpanExporter(endpoint=endpoint)
            self._away = self._over = False

        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            result = self._inner.export(spans)
            away = result is not SpanExportResult.SUCCESS
            if self._over:
                return result
            if away and not self._away:
                _log.warning("traces.not_exported", spans=len(spans), advice="see worker.otlp_endpoint")
            elif self._away and not away:
                _log.info("traces.exported_again")
            self._away = away
            return result

        def shutdown(self) -> None:
            if self._over:
                return
            self._over = True
            self._inner.shutdown()  # type: ignore[no-untyped-call]

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return self._inner.force_flush(timeout_millis)

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    ours: dict[str, Any] = {"service.name": SERVICE, "service.version": version, "service.instance.id": worker}
    resource = Resource(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = Exporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter.shutdown
