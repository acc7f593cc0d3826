"""From settings to a connection, for the commands that talk to NATS.

`worker.app` translates the same settings for the worker; importing it, with FastStream, would take longer than most
of these commands do.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from worker.cli.console import USAGE, Stop
from worker.cli.refusals import Refusals, bearing_refusals

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.kv import KeyValue

    from worker.jetstream.client.connect import NatsOptions
    from worker.jetstream.topology.reconcile import TopologyConfig
    from worker.settings import Settings

_PATIENCE = 5.0
"""Seconds to wait for a NATS server before saying that there is none."""
_LOOK_WITHIN = 1.0


def load_settings(context: typer.Context, config: Path | None) -> "Settings":
    """Return the settings; `config` of the command wins over `followers --config`. Raises SettingsError."""
    from worker import settings

    return settings.load(config or context.obj)


def nats_options(settings: "Settings") -> "NatsOptions":
    """Return how to connect, as the NATS adapter wants it."""
    from worker.jetstream.client.connect import NatsOptions

    nats = settings.nats
    return NatsOptions(
        servers=nats.servers,
        creds_file=_text(nats.creds_file),
        nkey_seed_file=_text(nats.nkey_seed_file),
        user=nats.user,
        password=nats.password.reveal() if nats.password else None,
        token=nats.token.reveal() if nats.token else None,
        tls_ca=_text(nats.tls_ca),
        tls_cert=_text(nats.tls_cert),
        tls_key=_text(nats.tls_key),
        inbox_prefix=nats.inbox_prefix,
    )


def topology_config(settings: "Settings") -> "TopologyConfig":
    """Return what the streams, buckets and consumers should be."""
    from worker.jetstream.topology.reconcile import TopologyConfig

    return TopologyConfig(
        replicas=settings.nats.replicas, ack_wait=settings.worker.ack_wait, **settings.streams.model_dump()
    )


@asynccontextmanager
async def connected(settings: "Settings") -> "AsyncIterator[Client]":
    """Connect for the length of a command. Raises ConnectError, ServerTooOldError."""
    import structlog

    from worker import logs
    from worker.jetstream.client.connect import connect
    from worker.jetstream.topology.reconcile import check_server

    if not structlog.is_configured():
        # What a command prints on stdout may be read by a program: warnings must not get in between.
        logs.configure("warning")
    refusals = Refusals()
    client = await connect(nats_options(settings), wait=_PATIENCE, on_error=refusals.hear)
    try:
        check_server(str(client.connected_server_version))
        with refusals.ending():
            yield client
    finally:
        await client.close()


async def check_jetstream(client: "Client") -> None:
    """Raise nats-py's error for it when JetStream is off, where this user may ask."""
    from nats.errors import Error
    from nats.js.errors import APIError

    with bearing_refusals(), contextlib.suppress(Error, TimeoutError):
        try:
            await client.jetstream(timeout=_LOOK_WITHIN).account_info()
        except APIError as error:
            raise Stop("JetStream doesn't answer", code=USAGE) from error


async def jobs_bucket(client: "Client") -> "KeyValue":
    """Return the bucket of job status. Raises Stop when it isn't there."""
    from nats.js.errors import BucketNotFoundError, NotFoundError

    from schemas.subjects import JOBS_BUCKET

    try:
        return await client.jetstream().key_value(JOBS_BUCKET)
    except (BucketNotFoundError, NotFoundError) as error:
        raise Stop(f"bucket {JOBS_BUCKET} is missing: run `followers setup`", code=USAGE) from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
