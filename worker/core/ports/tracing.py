"""What people can follow of a command: spans from its delivery to its pages, and nothing of it while nobody looks."""

from contextlib import AbstractContextManager
from typing import Literal, Protocol, Self

SpanKind = Literal["internal", "consumer", "client", "producer"]
Attribute = str | int | float | bool


class Span(Protocol):
    """A stretch of work. Never raises; gets no secret and nobody's data."""

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that messages sent within this span carry; None where there is none."""
        ...

    def child(
        self, name: str, kind: SpanKind = "internal", **attributes: Attribute | None
    ) -> AbstractContextManager["Span"]:
        """Begin a span within this one; it ends with the context, and an exception that leaves it is noted by class.

        `name` has few values. Attributes of None are left out.
        """
        ...

    def note(self, **attributes: Attribute | None) -> None:
        """Add attributes."""
        ...

    def failed(self, code: str) -> None:
        """Say that this came to no good end, for the contract's `code`."""
        ...


class Tracer(Protocol):
    """Where traces begin."""

    def begin(self, name: str, traceparent: str | None, **attributes: Attribute | None) -> AbstractContextManager[Span]:
        """Begin the span of a message that was received with `traceparent`; see `Span.child`."""
        ...


class Untraced:
    """A span that nobody looks at: it passes on the trace context that came with the command, unchanged."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None = None) -> None:
        """Take the command's trace context."""
        self.traceparent = traceparent

    def __enter__(self) -> Self:
        """Nothing begins."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing ends."""

    def child(self, name: str, kind: SpanKind = "internal", **attributes: Attribute | None) -> "Untraced":
        """Return this one."""
        return self

    def note(self, **attributes: Attribute | None) -> None:
        """Ignore it."""

    def failed(self, code: str) -> None:
        """Ignore it."""


class NoTracer:
    """Nobody looks."""

    def begin(self, name: str, traceparent: str | None, **attributes: Attribute | None) -> Untraced:
        """Return a span that passes `traceparent` on."""
        return Untraced(traceparent)
