"""Where a job's command is in the work queue, for people who ask why nothing happens. Reading only."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from schemas.subjects import COMMANDS_STREAM, PROVIDERS, command_subject, consumer_name
from schemas.types import Provider
from worker.core.commands import Address, RejectedError, read_job
from worker.core.ports import QueuedCommand, QueueUnavailableError
from worker.jetstream.exhausted import ExhaustedDelivery
from worker.jetstream.paused import paused_until

SEARCHED = 500
"""Commands of a provider that are looked at from the oldest on, and as many of the newest."""
SEARCH_FOR = 2.0
"""Seconds that one search may take."""
PATIENCE = 3 * SEARCH_FOR
"""Seconds that one may wait for the searches of others."""
KNOWN_FOR = 2.0
"""Seconds that what was found is told again: a page that is open asks twice a second."""
REMEMBERED = 100


class JetStreamCommandQueue:
    """`CommandQueue` on the stream of commands."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._js = client.jetstream(timeout=timeout)
        self._lock = asyncio.Lock()
        self._known: dict[str, tuple[float, QueuedCommand | str | None]] = {}

    async def find(self, job_id: str) -> QueuedCommand | None:
        """Look through the queues one message after the other; one search at a time, so that asking costs little."""
        try:
            async with asyncio.timeout(PATIENCE), self._lock:
                at, known = self._known.get(job_id, (0.0, None))
                if time.monotonic() - at > KNOWN_FOR:
                    known = await self._search_in_time(job_id)
                    self._remember(job_id, known)
        except TimeoutError as error:
            raise QueueUnavailableError("other jobs are being looked for just now") from error
        if isinstance(known, str):
            raise QueueUnavailableError(known)
        return known

    async def _search_in_time(self, job_id: str) -> QueuedCommand | str | None:
        """Return what was found, or in words why that can't be known."""
        try:
            async with asyncio.timeout(SEARCH_FOR):
                return await self._search(job_id)
        except TimeoutError:
            return "the queue can't be searched in time"
        except (nats.errors.Error, OSError) as error:
            return f"NATS didn't answer ({type(error).__name__})"

    async def _search(self, job_id: str) -> QueuedCommand | str | None:
        too_long = False
        for provider in PROVIDERS:
            # What the consumer says of its backlog may be older than the newest command: look in any case.
            info = await self._js.consumer_info(COMMANDS_STREAM, consumer_name(provider))
            found, whole = await self._search_one(provider, info, job_id)
            if found is not None:
                return found
            too_long = too_long or not whole
        return "the queue is too long to be searched" if too_long else None

    async def _search_one(
        self, provider: Provider, info: ConsumerInfo, job_id: str
    ) -> tuple[QueuedCommand | None, bool]:
        """Return the command, and whether every one was looked at."""
        delivered = info.delivered.stream_seq if info.delivered else 0
        ahead = looked = last = 0
        async for command in self._commands(provider, 1):
            if looked == SEARCHED:
                break
            looked, last = looked + 1, command.sequence
            address = _address(command)
            if address is not None and address.job_id == job_id:
                return _queued(command, address, info, None if command.sequence <= delivered else ahead), True
            ahead += command.sequence > delivered
        else:
            return None, True
        # From the newest backwards the place is known by the number of those that come behind.
        start = max(last + 1, await self._newest(provider) - SEARCHED + 1)
        found, behind = None, 0
        async for command in self._commands(provider, start):
            behind += found is not None
            address = _address(command) if found is None else None
            if address is not None and address.job_id == job_id:
                found = command, address
        if found is None:
            return None, start == last + 1
        place = None if found[0].sequence <= delivered else max(0, (info.num_pending or 1) - 1 - behind)
        return _queued(*found, info, place), True

    async def _commands(self, provider: Provider, sequence: int) -> AsyncIterator[ExhaustedDelivery]:
        """Yield the commands in the stream from `sequence` on."""
        while True:
            try:
                message = await self._js.get_msg(
                    COMMANDS_STREAM, seq=sequence, subject=command_subject(provider), next=True
                )
            except nats.js.errors.NotFoundError:
                return
            command = ExhaustedDelivery(self._js, message)
            yield command
            sequence = command.sequence + 1

    async def _newest(self, provider: Provider) -> int:
        try:
            return (await self._js.get_msg(COMMANDS_STREAM, subject=command_subject(provider))).seq or 0
        except nats.js.errors.NotFoundError:
            return 0

    def _remember(self, job_id: str, found: QueuedCommand | str | None) -> None:
        self._known.pop(job_id, None)
        self._known[job_id] = time.monotonic(), found
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]


def _address(command: ExhaustedDelivery) -> Address | None:
    try:
        return read_job(command).address
    except RejectedError as rejected:
        return rejected.address


def _queued(command: ExhaustedDelivery, address: Address, info: ConsumerInfo, ahead: int | None) -> QueuedCommand:
    return QueuedCommand(
        job_id=address.job_id,
        provider=address.provider,
        account=address.account,
        oa_id=address.oa_id,
        labels=address.labels,
        sequence=command.sequence,
        stored_at=datetime.fromtimestamp(command.timestamp_us / 1_000_000, UTC),
        ahead=ahead,
        in_hand=info.num_ack_pending or 0,
        asking=info.num_waiting or 0,
        paused_until=paused_until(info),
    )
