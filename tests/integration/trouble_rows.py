"""The troubles of TROUBLE.md: each one planted for real."""

import contextlib
from datetime import UTC, datetime, timedelta

import nats.errors

from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, JOBS_BUCKET, consumer_name
from tests.integration.trouble import NO_PAGES, Scene, Trouble
from worker.providers.simulators import Fault

JOBS_STREAM = f"KV_{JOBS_BUCKET}"


async def full(scene: Scene, stream: str = EVENTS_STREAM) -> None:
    info = await scene.js.stream_info(stream)
    await scene.js.update_stream(info.config, max_bytes=info.state.bytes + 1)


async def no_storage(scene: Scene) -> None:
    await scene.js.add_stream(name="FILLER", subjects=["filler"])
    await scene.fill("FILLER", "filler")


async def broken(scene: Scene) -> None:
    """The next file of the stream can't be made; then the folder is back, and the stream goes on failing."""
    store = scene.server.folder / "store" / "jetstream" / "F" / "streams" / EVENTS_STREAM / "msgs"
    away = store.rename(store.with_name("away"))
    await scene.fill(EVENTS_STREAM, "followers.job.filler.filler.filler")
    for made in store.iterdir() if store.exists() else ():
        made.unlink()
    with contextlib.suppress(OSError):
        store.rmdir()
    away.rename(store)


async def paused(scene: Scene) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    await scene.js.pause_consumer(COMMANDS_STREAM, consumer_name("etelecom"), until)
    await scene.publish()


async def purged(scene: Scene) -> None:
    await scene.js.purge_stream(EVENTS_STREAM)


async def away(scene: Scene) -> None:
    await scene.server.kill()


async def no_bucket(scene: Scene) -> None:
    await scene.js.delete_stream(JOBS_STREAM)


async def full_bucket(scene: Scene) -> None:
    await full(scene, JOBS_STREAM)


async def nothing(scene: Scene) -> None:
    with contextlib.suppress(nats.errors.Error):
        await scene.client.flush()


async def unavailable(scene: Scene) -> None:
    scene.providers.etelecom.inject(Fault(kind="status", status=503, retry_after="600", times=0))


async def limited(scene: Scene) -> None:
    scene.providers.etelecom.inject(Fault(kind="status", status=429, retry_after="600", times=0))


TROUBLES = [
    Trouble(name="events stream full", how="its `max_bytes` is reached",
            plant=full, owner="nats", ready=False, says="log.unavailable"),
    Trouble(name="JetStream out of storage", how="the account's `max_file` is reached",
            plant=no_storage, owner="nats", ready=False, says="log.unavailable"),
    Trouble(name="a stream that fails every write", how="its next file can't be made, later it could",
            plant=broken, owner="nats", ready=False, says="log.unavailable"),
    Trouble(name="consumer paused", how="`nats consumer pause`, nats-server 2.11 and newer",
            plant=paused, owner="nats", ready=True, says="consumer.paused", begins=False),
    Trouble(name="events purged in mid-job", how="`nats stream purge`",
            plant=purged, owner="nats", ready=True, says="command.fenced"),
    Trouble(name="NATS away", how="nats-server killed",
            plant=away, owner="nats", ready=False, says="log.unavailable", reaches_nats=False),
    Trouble(name="bucket of job status gone", how="deleted",
            plant=no_bucket, owner=None, ready=False, says="status.unwritten"),
    Trouble(name="bucket of job status takes nothing", how="its `max_bytes` is reached",
            plant=full_bucket, owner=None, ready=False, says="status.unwritten"),
    Trouble(name="right to publish missing", how="`followers.page.>` denied to the worker's user",
            plant=nothing, owner="nats", ready=False, says="nats.permission_denied", rights=NO_PAGES),
    Trouble(name="provider away", how="answers 503, `Retry-After: 600`",
            plant=unavailable, owner="provider", ready=True, says="fetch.retrying"),
    Trouble(name="rate limited", how="answers 429, `Retry-After: 600`",
            plant=limited, owner="limit", ready=True, says="fetch.retrying"),
]  # fmt: skip
