"""Request limits shared by all replicas: the bucket `FOLLOWERS_LIMITS` behind the port `SharedLimit`.

A key's value is one number, the account's theoretical arrival time in microseconds since 1970 as text, changed by
compare-and-set on the key's revision. All replicas reckon in the server's time: each measures how far its own clock
is from the time that the server stamps on the replica's own writes, and measures again every `MEASURE_EVERY`. So
wall clocks don't matter; what is left is half a round trip, the drift between two measurements, and, on a cluster,
the difference between the nodes' clocks until the next measurement after a new leader. An error of s seconds lets at
most `rate * s` more requests into one second.

Deleting a key resets its limit, such as after an absurd Retry-After.
"""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import LIMITS_BUCKET
from worker.core.ports.limiter import LimitUnavailableError, Taken
from worker.core.ratelimit.gcra import SECOND, Limit, pushed, reserve
from worker.jetstream.events.log import EXPECTED_SEQUENCE, NO_MESSAGE, WRONG_SEQUENCE_CODES

MEASURE_EVERY = 30.0
"""Seconds between two looks at the server's clock, while the limit is in use."""
GOOD_ENOUGH = 0.02
"""Seconds: after a measurement that took longer, the next one follows soon."""
TIMEOUT = 1.0
"""Seconds for one call, tries included: waiting jobs must soon get their fallback."""

_STREAM = f"KV_{LIMITS_BUCKET}"
_PAUSE = 0.002
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class ServerClock:
    """What time it is at the server, as this replica knows. One for all accounts."""

    def __init__(self) -> None:
        """Begin without knowing."""
        self._offset = 0.0
        self._due_at = float("-inf")

    @property
    def is_known(self) -> bool:
        """It was measured before."""
        return self._due_at > float("-inf")

    @property
    def is_due(self) -> bool:
        """It is time to measure."""
        return _now() >= self._due_at

    def measured(self, stamp: float, sent: float, received: float) -> None:
        """Take note: between `sent` and `received` of the loop's clock the server's said `stamp` (seconds)."""
        self._offset = stamp - (sent + received) / 2
        # The answer may have been under way for most of a long time, and then half of that is the error.
        self._due_at = received + (MEASURE_EVERY if received - sent < GOOD_ENOUGH else 1.0)

    def at_server(self, time: float) -> int:
        """Return the server's microseconds since 1970 at `time` of the loop's clock."""
        return round((time + self._offset) * SECOND)

    def here(self, micros: int) -> float:
        """Return the loop's time at which the server's clock shows `micros`."""
        return micros / SECOND - self._offset


class JetStreamLimit:
    """`SharedLimit` on one key."""

    def __init__(self, client: Client, clock: ServerClock, account: str, limit: Limit) -> None:
        """Take a connection, the clock that all accounts share, the account's name and its limit."""
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=TIMEOUT)
        self._clock = clock
        self._subject = f"$KV.{LIMITS_BUCKET}.{account}"
        self._account = account
        self._limit = limit
        self._known: tuple[int, int] | None = None
        """Arrival time and revision, when the last write was ours."""

    async def take(self, count: int) -> Taken:
        """Reserve by compare-and-set; nobody else's reservation is overwritten."""
        return await self._bounded(self._take(count))

    async def push(self, until: float) -> None:
        """Move the timestamp by compare-and-set; never back."""
        await self._bounded(self._push(until))

    async def _take(self, count: int) -> Taken:
        pause = _PAUSE
        while True:
            arrival, revision = await self._state()
            now = self._clock.at_server(_now())
            if arrival > now + round(self._limit.horizon * SECOND):
                arrival, revision = await self._read()
                if arrival > now + round(self._limit.horizon * SECOND):
                    return Taken(times=(), free_at=self._clock.here(arrival))
            times, new = reserve(arrival, now, self._limit, count)
            if await self._write(new, revision):
                return Taken(times=[self._clock.here(time) for time in times], free_at=self._clock.here(new))
            pause = await _step_aside(pause)

    async def _push(self, until: float) -> None:
        pause = _PAUSE
        while True:
            arrival, revision = await self._state()
            new = pushed(arrival, self._clock.at_server(until))
            if new == arrival or await self._write(new, revision):
                return
            pause = await _step_aside(pause)

    async def _state(self) -> tuple[int, int]:
        """Return the key's arrival time and revision; see to it first that the server's clock is known."""
        pause = _PAUSE
        while self._clock.is_due:
            if await self._measure(*await self._read()) or self._clock.is_known:
                break  # where others were quicker, the next call measures
            pause = await _step_aside(pause)
        return self._known or await self._read()

    async def _read(self) -> tuple[int, int]:
        try:
            # Asked of the leader: a replica may lag, and the write would only be refused.
            message = await self._js.get_msg(_STREAM, subject=self._subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return 0, 0
        return self._decode(message.data or b""), message.seq or 0

    async def _write(self, arrival: int, revision: int) -> bool:
        """Write on condition that `revision` is still the key's; return whether it was."""
        self._known = None
        headers = {EXPECTED_SEQUENCE: str(revision)}
        try:
            ack = await self._js.publish(self._subject, b"%d" % arrival, headers=headers)
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE_CODES:
                return False
            raise
        self._known = arrival, ack.seq
        return True

    async def _measure(self, arrival: int, revision: int) -> bool:
        """Write the key as it is, and see what time the server put on it. Return whether that went through."""
        sent = _now()
        if not await self._write(arrival, revision):
            return False
        received = _now()
        try:
            message = await self._js.get_msg(_STREAM, seq=self._known[1] if self._known else 0)
        except nats.js.errors.NotFoundError:
            self._known = None
            return False  # another replica was quick
        assert message.time is not None
        self._clock.measured(message.time.timestamp(), sent, received)
        return True

    def _decode(self, data: bytes) -> int:
        try:
            return int(data or b"0")
        except ValueError:
            _log.warning("limit.undecodable", account=self._account, advice="it is overwritten: nothing to do")
            return 0

    async def _bounded(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Return what `call` gives. Raises LimitUnavailableError for whatever the server has to do with."""
        if not self._client.is_connected:
            # A write would be kept and sent after the outage: a reservation for nobody.
            call.close()
            raise LimitUnavailableError("NATS is not connected")
        try:
            async with asyncio.timeout(TIMEOUT):
                return await call
        except (nats.errors.Error, OSError) as error:
            self._known = None  # a write may have landed all the same
            raise LimitUnavailableError(type(error).__name__) from error


async def _step_aside(pause: float) -> float:
    """Let whoever was quicker go on; return the next pause."""
    await asyncio.sleep(random.uniform(0, pause))
    return min(2 * pause, 0.05)


def _now() -> float:
    return asyncio.get_running_loop().time()
