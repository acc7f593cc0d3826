"""The kinds of value that settings are made of, each with its range."""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
)

from worker.settings.secret import FileSecret, TextSecret, one_line

DAY = 86_400


def _existing_file(value: Any) -> Path:
    path = _path(value)
    if not path.is_file():
        raise ValueError(f"the file {path} does not exist; create it or correct the path")
    if not os.access(path, os.R_OK):
        raise ValueError(f"the file {path} can't be read by this user; change its permissions")
    return path


def _program(value: Any) -> Path:
    path = _path(value)
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ValueError(f"{path} is not a program that this user may run; give the path of a nats-server")
    return path


def _path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be a path in quotes")
    return Path(value)


def _text_secret(value: Any) -> TextSecret:
    if isinstance(value, TextSecret):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return TextSecret(one_line(value))


def _file_secret(value: Any) -> FileSecret:
    return value if isinstance(value, FileSecret) else FileSecret(_path(value))


def _quota(value: int) -> int:
    # Fewer would stop ordinary use, and half of it must be free when it is set on a stream that is there.
    if -1 < value < 10:
        raise ValueError("must be at least 10, or -1 for no limit")
    return value


def _server(value: str) -> str:
    url = value if "://" in value else f"nats://{value}"
    parts = _split(url)
    if parts.scheme not in {"nats", "tls", "ws", "wss"} or not parts.hostname:
        raise ValueError("each server must look like nats://host:4222 (or tls://, ws://, wss://)")
    return url


def _base_url(value: str) -> str:
    parts = _split(value)
    if not parts.hostname or parts.scheme not in {"https", "http"}:
        raise ValueError("must be a URL such as https://host/path")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("must start with https:// (plain http:// is for this machine's own addresses only)")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user or password; keys have their own settings")
    if "?" in value or "#" in value:
        raise ValueError("must not contain a query or fragment (? or #)")
    return value.rstrip("/")


def _collector(value: str) -> str:
    parts = _split(value)
    if not parts.hostname or parts.scheme not in {"https", "http"}:
        raise ValueError("must be a URL such as http://otel-collector:4318")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user or password: set OTEL_EXPORTER_OTLP_HEADERS")
    return value if parts.path.strip("/") else f"{value.rstrip('/')}/v1/traces"


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # Without a cause: its message may quote the password in the URL.
        raise ValueError("is not a URL: look at its host and port") from None
    if re.search(r"\s", url):
        raise ValueError("must not contain spaces")
    return parts


def _host_name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        return value
    try:
        return str(ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError("each must be a name or an address alone, without http:// or a port") from None


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=30 * DAY)]
Age = Annotated[int, Field(ge=1, le=3650 * DAY)]
Quota = Annotated[int, Field(ge=-1), AfterValidator(_quota)]
Bytes = Annotated[int, Field(ge=-1)]
InputFile = Annotated[Path, PlainValidator(_existing_file)]
InText = Annotated[TextSecret, PlainValidator(_text_secret), PlainSerializer(str)]
InFile = Annotated[FileSecret, PlainValidator(_file_secret), PlainSerializer(str)]
Server = Annotated[str, AfterValidator(_server)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
CollectorUrl = Annotated[str, AfterValidator(_collector)]
AccountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Program = Annotated[Path, PlainValidator(_program)]
Servers = Annotated[tuple[Server, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
HostNames = Annotated[tuple[Annotated[str, AfterValidator(_host_name)], ...], BeforeValidator(_as_tuple)]
Subject = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Level = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)]
