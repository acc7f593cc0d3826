"""The lists that feeds compare: the object store `FOLLOWERS_SNAPSHOTS` behind the port `Snapshots`.

Objects look as every NATS client writes them, so `nats object ls` shows them. But they are read by messages, where
clients make a consumer: whoever may do that can have the server write anywhere. Each attempt at storing one has a
subject of its own for its chunks, so that two can't spoil each other's; the first whose description arrives counts.
"""

import asyncio
import base64
import contextlib
import hashlib
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.subjects import SNAPSHOTS_BUCKET
from schemas.wire import decode, rfc3339
from worker.core.changes.ports import FeedsMissingError, FeedsUnavailableError
from worker.core.ports.event_log import LogUnavailableError, PayloadTooLargeError, WrongSequenceError
from worker.jetstream.changes.feeds import NO_STREAM
from worker.jetstream.events.bulk_reader import BulkReader
from worker.jetstream.events.log import NO_MESSAGE, JetStreamLog

STREAM = f"OBJ_{SNAPSHOTS_BUCKET}"
CHUNK = 128 * 1024
_HEADER_ROOM = 1024
_END = 2**63
_ROLLUP = {"Nats-Rollup": "sub"}
"""On a message: everything before it on its subject goes."""


class _Description(msgspec.Struct):
    """As much of an object's description as is needed to read it."""

    nuid: str = ""
    digest: str = ""
    deleted: bool = False


class JetStreamSnapshots:
    """`Snapshots` on a JetStream object store."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call counts as unavailable."""
        self._js = client.jetstream(timeout=timeout)
        self._log = JetStreamLog(client, timeout=timeout, stream=STREAM)
        self._bulk = BulkReader(client, timeout=timeout, stream=STREAM)

    async def put(self, key: str, job_id: str, data: bytes) -> None:
        """Publish the chunks, then the description; nothing when the same is there."""
        name = _name(key, job_id)
        known, sequence = await self._describe(name)
        digest = await _digest(data)
        if known is not None and known.get("digest") == digest:
            return
        nuid = uuid.uuid4().hex
        size = min(CHUNK, self._log.max_payload - _HEADER_ROOM)
        chunks = range(0, len(data), size)
        try:
            for start in chunks:
                await self._publish(_chunks(nuid), data[start : start + size])
        except BaseException:
            # Nothing names them, so nobody would ever delete them.
            with contextlib.suppress(FeedsUnavailableError, FeedsMissingError):
                await asyncio.shield(self._purge(_chunks(nuid)))
            raise
        description = {
            "name": name,
            "bucket": SNAPSHOTS_BUCKET,
            "nuid": nuid,
            "size": len(data),
            "chunks": len(chunks),
            "digest": digest,
            "mtime": rfc3339(datetime.now(UTC)),
        }
        try:
            await self._log.publish(_meta(name), msgspec.json.encode(description), _ROLLUP, sequence)
        except WrongSequenceError as error:
            # Somebody else's came first, or our own, whose answer was lost: the next look tells.
            known, _ = await self._describe(name)
            if known is None or known["nuid"] != nuid:
                await self._purge(_chunks(nuid))
            if known is None or known["digest"] != digest:
                raise FeedsUnavailableError("another snapshot of the same job is being stored") from error
        except (LogUnavailableError, PayloadTooLargeError) as error:
            raise FeedsUnavailableError(str(error)) from error

    async def get(self, key: str, job_id: str) -> bytes | None:
        """Read the chunks from any replica, and from the leader where that isn't the whole."""
        description, _ = await self._describe(_name(key, job_id))
        if description is None:
            return None
        subject = _chunks(description["nuid"])
        try:
            data = await self._read(subject)
            if await _digest(data) != description["digest"]:
                data = await self._read(subject, sure=True)
        except LogUnavailableError as error:
            raise FeedsUnavailableError(str(error)) from error
        # Not whole: somebody deletes it at this moment, or it was damaged. What that means the core knows.
        return data if await _digest(data) == description["digest"] else None

    async def delete(self, key: str, job_id: str) -> None:
        """Purge the chunks, then the description. In this order: else a crash leaves chunks that nobody finds."""
        name = _name(key, job_id)
        description, _ = await self._describe(name)
        if description is not None:
            await self._purge(_chunks(description["nuid"]))
            await self._purge(_meta(name))

    async def _read(self, subject: str, *, sure: bool = False) -> bytes:
        return b"".join([one.data async for batch in self._bulk.read(subject, _END, sure=sure) for one in batch])

    async def _describe(self, name: str) -> tuple[dict[str, Any] | None, int]:
        """Return the object's description (None: there is no such object) and the sequence of its newest one."""
        try:
            message = await self._js.get_msg(STREAM, subject=_meta(name))
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None, 0
            if error.err_code == NO_STREAM:
                raise FeedsMissingError(SNAPSHOTS_BUCKET) from error
            raise FeedsUnavailableError(type(error).__name__) from error
        except (nats.errors.Error, OSError) as error:
            raise FeedsUnavailableError(type(error).__name__) from error
        return _description(message.data), message.seq or 0

    async def _publish(self, subject: str, data: bytes) -> None:
        try:
            await self._js.publish(subject, data)
        except (nats.errors.Error, OSError) as error:
            raise FeedsUnavailableError(type(error).__name__) from error

    async def _purge(self, subject: str) -> None:
        try:
            await self._js.purge_stream(STREAM, subject=subject)
        except (nats.errors.Error, OSError) as error:
            raise FeedsUnavailableError(type(error).__name__) from error


def _description(data: bytes | None) -> dict[str, Any] | None:
    """Return what describes an object, None when it is deleted, or can't be read and so is stored anew."""
    try:
        described = decode(data or b"{}", _Description)
    except ValueError:
        return None
    return None if described.deleted or not described.nuid else {"nuid": described.nuid, "digest": described.digest}


def _name(key: str, job_id: str) -> str:
    return f"{key}.{job_id}"


def _meta(name: str) -> str:
    return f"$O.{SNAPSHOTS_BUCKET}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _chunks(nuid: str) -> str:
    return f"$O.{SNAPSHOTS_BUCKET}.C.{nuid}"


async def _digest(data: bytes) -> str:
    # In a thread: of a million followers it would hold up everybody for longer than a page takes.
    sha256 = await asyncio.to_thread(hashlib.sha256, data)
    return f"SHA-256={base64.urlsafe_b64encode(sha256.digest()).decode()}"
