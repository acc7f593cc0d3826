"""What became of each schedule: the bucket `FOLLOWERS_SCHEDULES` behind the port `ScheduleDesk`.

A key's value is one `ScheduleState` as JSON. Deleting a key makes its schedule a new one: it goes on with the next due
time.
"""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from schemas.subjects import COMMANDS_STREAM, SCHEDULES_BUCKET, command_subject
from schemas.types import Provider
from schemas.wire import decode
from worker.core.cures import QUOTA, cure
from worker.core.jobs.parse import MSG_ID_HEADER
from worker.core.schedules.decision import Run, ScheduleState
from worker.core.schedules.ports import NoScheduleBucketError, ScheduleUnavailableError, Stored
from worker.jetstream.client.headers import parse_headers
from worker.jetstream.events.log import EXPECTED_SEQUENCE, NO_MESSAGE, WRONG_SEQUENCE_CODES

_STREAM = f"KV_{SCHEDULES_BUCKET}"
_NO_STREAM = 10059
_log = structlog.get_logger(__name__)


class JetStreamScheduleDesk:
    """`ScheduleDesk` on a key-value bucket and the command stream."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._client, self._timeout = client, timeout
        self._js: JetStreamContext = client.jetstream(timeout=timeout)

    async def now(self) -> datetime:
        """Take the time that the server puts on its answer about the bucket: when it is here, it has passed."""
        try:
            reply = await self._client.request(f"$JS.API.STREAM.INFO.{_STREAM}", b"", timeout=self._timeout)
        except (nats.errors.Error, OSError) as error:
            raise _unavailable("look at the bucket", error) from error
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if refusal := answer.get("error"):
            if refusal.get("err_code") == _NO_STREAM:
                raise NoScheduleBucketError(f"bucket {SCHEDULES_BUCKET} is missing: run `followers setup`")
            raise ScheduleUnavailableError(f"NATS did not look at the bucket ({refusal.get('description')})")
        return datetime.fromisoformat(answer["ts"]).astimezone(UTC)

    async def read(self, name: str) -> Stored:
        """Ask the stream's leader: a replica may lag, and the write would only be refused."""
        message = await self._get(_STREAM, subject=_key(name))
        if message is None:
            return Stored(None, 0)
        return Stored(_decode(name, message.data or b""), message.seq or 0)

    async def write(self, name: str, state: ScheduleState, revision: int) -> int | None:
        """Write on condition that `revision` is still the key's last sequence."""
        self._check_connected()
        headers = {EXPECTED_SEQUENCE: str(revision)}
        try:
            ack = await self._js.publish(_key(name), msgspec.json.encode(state), headers=headers)
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE_CODES:
                return None
            raise _unavailable("write", error) from error
        except (nats.errors.Error, OSError) as error:
            raise _unavailable("write", error) from error
        return ack.seq

    async def publish(self, provider: Provider, command: bytes, job_id: str) -> int:
        """Publish with the id as `Nats-Msg-Id`; of a duplicate the server tells the first one's sequence."""
        self._check_connected()
        try:
            ack = await self._js.publish(
                command_subject(provider), command, stream=COMMANDS_STREAM, headers={MSG_ID_HEADER: job_id}
            )
        except (nats.errors.Error, OSError) as error:
            raise _unavailable("publish a command", error) from error
        return ack.seq

    async def is_queued(self, run: Run) -> bool:
        """Look for its message: a work queue keeps a command until it is acknowledged."""
        message = await self._get(COMMANDS_STREAM, seq=run.sequence)
        if message is None or not message.hdrs:
            return False
        # Where the stream was made anew its sequences were, too.
        return parse_headers(base64.b64decode(message.hdrs)).get(MSG_ID_HEADER) == run.job_id

    async def _get(self, stream: str, **query: Any) -> RawStreamMsg | None:
        try:
            return await self._js.get_msg(stream, **query)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise _unavailable(f"read {stream}", error) from error
        except (nats.errors.Error, OSError) as error:
            raise _unavailable(f"read {stream}", error) from error

    def _check_connected(self) -> None:
        # A write would be kept and sent after the outage, when its time is long over.
        if not self._client.is_connected:
            raise ScheduleUnavailableError("NATS is not connected")


def _key(name: str) -> str:
    return f"$KV.{SCHEDULES_BUCKET}.{name}"


def _decode(name: str, data: bytes) -> ScheduleState | None:
    if not data:
        return None  # the marker of a deleted key
    try:
        return decode(data, ScheduleState)
    except msgspec.DecodeError:
        _log.warning("schedule.undecodable", schedule=name, advice="it begins anew: nothing to do")
        return None


def _unavailable(act: str, error: Exception) -> ScheduleUnavailableError:
    if not isinstance(error, nats.js.errors.APIError):
        return ScheduleUnavailableError(f"NATS did not {act} ({type(error).__name__})")
    words = error.description or "no words"
    advice = f"; {cure(error.err_code, words, COMMANDS_STREAM)}" if words == QUOTA else ""
    return ScheduleUnavailableError(f"NATS did not {act} ({words}){advice}")
