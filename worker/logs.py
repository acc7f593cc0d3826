"""Log lines on stderr: one line an outcome, for machines as JSON or for people on a terminal.

Ours come from ``structlog.get_logger(__name__)`` as dotted event names with fields; those of libraries (nats,
aiohttp, FastStream) are led through the same processors. Secrets and people's data do not belong into fields
in the first place; a processor masks what looks like one all the same.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.visible import visible

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "console", "json"]

MASK = "********"

_SECRET_PARTS = (
    "apikey",
    "secret",
    "password",
    "passwd",
    "token",
    "authorization",
    "phone",
    "credential",
    "cookie",
)
# `args` and `kwargs` are what stamina logs of a retried call.
_PRIVATE_KEYS = frozenset({"address", "args", "displayname", "kwargs", "nkey", "notes", "seed", "sharedinfo"})
_IN_TEXT = (
    (re.compile(r"(://)[^/\s@]+@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.:+/=~-]{6,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)\b((?:api|secret)[_-]?key|password|token|authorization|phone)"
            r"(['\"]?\s*[:=]\s*['\"]?)[^\s'\",;&}]+"
        ),
        rf"\1\2{MASK}",
    ),
)
_OF_LINES = ("exception", "stack")
# These say a line or more for every request or message.
_CHATTY = ("aiohttp", "asyncio", "faststream", "httpcore", "httpx")


def configure(level: Level = "info", format: Format = "auto", stream: TextIO | None = None) -> None:
    """Set up all logging of this process; again replaces the set-up before.

    ``stream`` is stderr by default; ``auto`` means console lines if it is a terminal, else JSON. FastStream
    makes loggers with handlers of their own while it is imported: call this after that import.
    """
    stream = sys.stderr if stream is None else stream
    threshold = getattr(logging, level.upper())
    for_people = format == "console" or (format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        # Text without the values of local variables: those may be anything.
        structlog.processors.format_exc_info,
        _redact,
    ]
    rendering: list[Processor] = (
        [_steer_nothing, _console(stream)] if for_people else [structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    _lead_to(handler, threshold)


def _lead_to(handler: logging.Handler, threshold: int) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _CHATTY:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, threshold))


def _console(stream: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )


def _steer_nothing(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Show what would steer a terminal as an escape; a rendered exception keeps its lines."""
    return {visible(key): _shown(value, "\n" if key in _OF_LINES else "") for key, value in event.items()}


def _shown(value: Any, keep: str = "") -> Any:
    if isinstance(value, str):
        return visible(value, keep=keep)
    if isinstance(value, Mapping):
        return {_shown(inner): _shown(item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(item) for item in value]
    return value


def _redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: Any, value: Any) -> Any:
    if _is_private(str(key)):
        return MASK
    if isinstance(value, str):
        for pattern, replacement in _IN_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {inner: _masked(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked("", item) for item in value]
    return value


def _is_private(key: str) -> bool:
    plain = key.lower().replace("_", "").replace("-", "")
    if plain.endswith(("file", "path")):
        return False
    return plain in _PRIVATE_KEYS or any(part in plain for part in _SECRET_PARTS)
