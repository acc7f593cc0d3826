"""How every program of ours connects to NATS: one set of options, one way to say that it didn't work."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.errors import Error

from worker.jetstream.client.monitor import because
from worker.jetstream.client.secure import (
    CredentialsError,
    CredentialsFile,
    GuardedClient,
    LoginCutError,
    check_creds,
    check_seed,
)

_log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 2
"""Seconds for one attempt at one server."""
PING_INTERVAL = 5
"""Seconds; with two pings outstanding, a server that went silent is noticed within fifteen."""
PENDING_BYTES = 2 * 1024 * 1024
"""Bytes kept while the server is away: beyond that a publish fails at once, and its owner tries again."""


class ConnectError(Exception):
    """NATS can't be reached or doesn't let us in; the message says where and what to do, without a secret."""


@dataclass(frozen=True, kw_only=True)
class NatsOptions:
    """Where NATS is and how to get in. Files are paths; at most one kind of credentials is expected."""

    servers: tuple[str, ...]
    name: str = "followers"
    """What `nats server report connections` shows."""
    creds_file: str | None = None
    nkey_seed_file: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    inbox_prefix: str = "_INBOX"


def options(nats_options: NatsOptions) -> dict[str, Any]:
    """Return the arguments of `nats.connect` that hold no credentials; they never give up reconnecting."""
    return {
        "servers": list(nats_options.servers),
        "name": nats_options.name,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.5,
        "connect_timeout": CONNECT_TIMEOUT,
        "ping_interval": PING_INTERVAL,
        "max_outstanding_pings": 2,
        "pending_size": PENDING_BYTES,
        "inbox_prefix": nats_options.inbox_prefix,
        "error_cb": _on_error,
        "disconnected_cb": _on_disconnected,
        "reconnected_cb": _on_reconnected,
    }


def credentials(nats_options: NatsOptions) -> dict[str, Any]:
    """Return the keyword arguments of `nats.connect` that let us in.

    Raises ConnectError when a TLS, credentials or seed file can't be used.
    """
    check_files(nats_options)
    file = CredentialsFile(nats_options.creds_file) if nats_options.creds_file else None
    given = {
        "user_jwt_cb": file and file.jwt,
        "signature_cb": file and file.sign,
        "nkeys_seed": nats_options.nkey_seed_file,
        "user": nats_options.user,
        "password": nats_options.password,
        "token": nats_options.token,
        "tls": tls_context(nats_options),
    }
    return {name: value for name, value in given.items() if value is not None}


def check_files(nats_options: NatsOptions) -> None:
    """Raise ConnectError when the credentials or seed file can't be used."""
    try:
        if nats_options.creds_file:
            check_creds(nats_options.creds_file)
        if nats_options.nkey_seed_file:
            check_seed(nats_options.nkey_seed_file)
    except CredentialsError as error:
        raise ConnectError(str(error)) from error


def tls_context(nats_options: NatsOptions) -> ssl.SSLContext | None:
    """Return the TLS context that the options ask for, None when they name no TLS file.

    Raises ConnectError when one of the files can't be used.
    """
    if not (nats_options.tls_ca or nats_options.tls_cert):
        return None
    try:
        context = ssl.create_default_context(cafile=nats_options.tls_ca)
        if nats_options.tls_cert:
            context.load_cert_chain(nats_options.tls_cert, nats_options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConnectError(
            f"the TLS files of NATS can't be used ({error}): check nats.tls_ca, nats.tls_cert and nats.tls_key"
        ) from error
    return context


async def connect(
    nats_options: NatsOptions, *, wait: float = 5.0, on_error: Callable[[Exception], None] | None = None
) -> Client:
    """Return a connection that reconnects for ever once it stood. Raises ConnectError after `wait` seconds.

    `on_error` hears what nats-py tells nobody else, such as a right that this user lacks.
    A server that doesn't let us in is reported at once. Losing and regaining the connection is not
    logged: this is for commands that people run; `options` is for workers.
    """
    problem: list[Exception] = []
    refused = asyncio.Event()

    async def note(error: Exception) -> None:
        # The broken socket's own error comes right behind the reason, and explains nothing.
        if not problem or because(error) is not None or because(problem[0]) is None:
            problem[:] = [error]
        if because(error) is not None and not isinstance(error, LoginCutError):
            refused.set()
        if on_error is not None:
            on_error(error)

    async def ignore() -> None:
        """Reconnecting is nats-py's business; what it means is said by whoever waits for an answer."""

    arguments = options(nats_options) | credentials(nats_options)
    arguments |= {"error_cb": note, "disconnected_cb": ignore, "reconnected_cb": ignore}
    attempt = asyncio.ensure_future(_connect(arguments))
    refusal = asyncio.ensure_future(refused.wait())
    try:
        await asyncio.wait({attempt, refusal}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        if attempt.done():
            return attempt.result()
    except (Error, OSError, ValueError) as error:
        problem[:] = [error]
    finally:
        for task in (attempt, refusal):
            task.cancel()
        await asyncio.gather(attempt, refusal, return_exceptions=True)
    raise ConnectError(_explain(nats_options, problem[0] if problem else None, wait))


def public_url(server: str) -> str:
    """Return `server` without what stands before `@`: it may be a password."""
    parts = urlsplit(server if "//" in server else f"nats://{server}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def _connect(arguments: dict[str, Any]) -> Client:
    client = GuardedClient()
    try:
        await client.connect(**arguments)
    except asyncio.CancelledError:
        # A half-open attempt would keep its reader task and socket.
        await client.close()
        raise
    return client


def _explain(nats_options: NatsOptions, problem: Exception | None, wait: float) -> str:
    where = ", ".join(public_url(server) for server in nats_options.servers)
    reason = because(problem) if problem is not None else None
    if reason is not None:
        return f"{where}: {reason}"
    # Only the kind of an error is shown: its text may quote the server's URL with a password.
    kind = f" ({_kind(problem)})" if problem is not None else ""
    return (
        f"NATS at {where} can't be reached within {wait:g} s{kind}: "
        "start a nats-server there, or set nats.servers (FOLLOWERS_NATS__SERVERS)"
    )


def _kind(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return type(problem).__name__


async def _on_error(error: Exception) -> None:
    _log.warning("nats.error", error=type(error).__name__)


async def _on_disconnected() -> None:
    _log.warning("nats.disconnected")


async def _on_reconnected() -> None:
    _log.info("nats.reconnected")
