"""Where a job's command is in the work queue, for people who ask why nothing happens. Reading only."""

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from schemas.subjects import COMMANDS_STREAM, PROVIDERS, command_subject, consumer_name
from schemas.types import Provider
from worker.core.job import Address
from worker.core.jobs.parse import RejectedError, read_job
from worker.core.ports.event_log import Entry
from worker.core.ports.job_store import QueuedCommand, QueueUnavailableError
from worker.jetstream.client.direct_get import stored_at
from worker.jetstream.commands.paused import paused_until
from worker.jetstream.events.scan import Scan
from worker.jetstream.topology.doctor import lacking

SEARCHED = 10_000
"""Commands of a provider that are looked at from the oldest on, and as many of the newest."""
SEARCH_FOR = 2.0
"""Seconds that one search may take."""
PATIENCE = 3 * SEARCH_FOR
"""Seconds that one may wait for the searches of others."""
KNOWN_FOR = 2.0
"""Seconds that what was found is told again: a page that is open asks twice a second."""
REMEMBERED = 100
_DERIVED = re.compile(r"t[0-9]+-[0-9]+|m[0-9a-f]{40}")
"""An id that its command doesn't spell out: see `core.commands`."""


class JetStreamCommandQueue:
    """`CommandQueue` on the stream of commands."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._client, self._timeout = client, timeout
        self._js = client.jetstream(timeout=timeout)
        self._may: bool | None = None
        """This user may use direct gets; None: not asked yet."""
        self._lock = asyncio.Lock()
        self._known: dict[str, tuple[float, QueuedCommand | str | None]] = {}

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        """Look through the queues; one search at a time, so that asking costs little."""
        asked = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE), self._lock:
                at, known = self._known.get(job_id, (0.0, None))
                if time.monotonic() - at > KNOWN_FOR or (anew and at < asked):
                    began = time.monotonic()
                    known = await self._search_in_time(job_id)
                    self._remember(job_id, began, known)
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

    async def waiting(self, limit: int, provider: Provider | None = None) -> tuple[list[QueuedCommand], int]:
        """Return the oldest `limit` commands that no worker has taken, in order, and how many more there are.

        Raises QueueUnavailableError.
        """
        try:
            async with asyncio.timeout(SEARCH_FOR):
                return await self._waiting(limit, [provider] if provider else PROVIDERS)
        except TimeoutError as error:
            raise QueueUnavailableError("the queue can't be read in time") from error
        except (nats.errors.Error, OSError) as error:
            raise QueueUnavailableError(f"NATS didn't answer ({type(error).__name__})") from error

    async def _waiting(self, limit: int, providers: Sequence[Provider]) -> tuple[list[QueuedCommand], int]:
        stream = await self._look()
        found: list[QueuedCommand] = []
        more = 0
        for provider in providers:
            info = await self._js.consumer_info(COMMANDS_STREAM, consumer_name(provider))
            first, seen = max(stream.first, _delivered(info) + 1), 0
            async with contextlib.aclosing(stream.scan.read(command_subject(provider), first, stream.last)) as batches:
                async for entries in batches:
                    for entry in entries[: limit - seen]:
                        address = _address(command := _Command(entry))
                        if address is not None:
                            found.append(_queued(command, address, info, seen))
                        seen += 1
                    if seen >= limit:
                        break
            more += max(0, (info.num_pending or 0) - seen)
        found.sort(key=lambda command: command.sequence)
        return found[:limit], more + max(0, len(found) - limit)

    async def _search(self, job_id: str) -> QueuedCommand | str | None:
        stream = await self._look()
        too_long = False
        for provider in PROVIDERS:
            # What the consumer says of its backlog may be older than the newest command: look in any case.
            info = await self._js.consumer_info(COMMANDS_STREAM, consumer_name(provider))
            found, whole = await self._search_one(stream, provider, info, job_id)
            if found is not None:
                return found
            too_long = too_long or not whole
        return "the queue is too long to be searched" if too_long else None

    async def _look(self) -> "_Stream":
        """Ask what the stream is like, and what this user may do."""
        info = await self._js.stream_info(COMMANDS_STREAM)
        if self._may is None:
            # Trying it would do no harm here, but a refusal counts as trouble of the whole worker.
            self._may = not await lacking(self._client, (f"$JS.API.DIRECT.GET.{COMMANDS_STREAM}",))
        direct = self._may and bool(info.config.allow_direct)
        scan = Scan(self._client, COMMANDS_STREAM, timeout=self._timeout, direct=direct)
        return _Stream(info.state.first_seq, info.state.last_seq, scan)

    async def _search_one(
        self, stream: "_Stream", provider: Provider, info: ConsumerInfo, job_id: str
    ) -> tuple[QueuedCommand | None, bool]:
        """Return the command, and whether every one was looked at."""
        delivered, subject, wanted = _delivered(info), command_subject(provider), _Wanted(job_id)
        count = (info.num_pending or 0) + (info.num_ack_pending or 0)
        whole = count <= 2 * SEARCHED or stream.last - stream.first < 2 * SEARCHED
        last = stream.last if whole else stream.first + SEARCHED - 1
        ahead = 0
        async with contextlib.aclosing(stream.scan.read(subject, stream.first, last)) as batches:
            async for entries in batches:
                for entry in entries:
                    if (found := wanted.match(entry)) is not None:
                        return _queued(*found, info, None if entry.sequence <= delivered else ahead), True
                    ahead += entry.sequence > delivered
        if whole:
            return None, True
        # From the newest backwards the place is known by the number of those that come behind.
        last_found, behind = None, 0
        async for entries in stream.scan.read(subject, stream.last - SEARCHED + 1, stream.last):
            for entry in entries:
                behind += last_found is not None
                last_found = last_found or wanted.match(entry)
        if last_found is None:
            return None, False
        place = None if last_found[0].sequence <= delivered else max(0, (info.num_pending or 1) - 1 - behind)
        return _queued(*last_found, info, place), True

    def _remember(self, job_id: str, began: float, found: QueuedCommand | str | None) -> None:
        self._known.pop(job_id, None)
        self._known[job_id] = began, found
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]


@dataclass(frozen=True, slots=True)
class _Stream:
    """The stream of commands as it was a moment ago."""

    first: int
    last: int
    scan: Scan


class _Command:
    """A command as it stands in the stream."""

    def __init__(self, entry: Entry) -> None:
        self.subject, self.data, self.headers, self.sequence = entry.subject, entry.data, entry.headers, entry.sequence
        self.stored_at = stored_at(entry) or datetime.fromtimestamp(0, UTC)

    @property
    def timestamp_us(self) -> int:
        return round(self.stored_at.timestamp() * 1_000_000)


class _Wanted:
    """The job that is looked for."""

    def __init__(self, job_id: str) -> None:
        self._id, self._bytes = job_id, job_id.encode()
        self._derived = _DERIVED.fullmatch(job_id) is not None

    def match(self, entry: Entry) -> tuple[_Command, Address] | None:
        # Decoding thousands of commands takes longer than fetching them: most don't even hold the text.
        if not (
            self._derived
            or self._bytes in entry.data
            or b"\\u" in entry.data
            or any(self._id in value for value in entry.headers.values())
        ):
            return None
        address = _address(command := _Command(entry))
        return (command, address) if address is not None and address.job_id == self._id else None


def _delivered(info: ConsumerInfo) -> int:
    return info.delivered.stream_seq if info.delivered else 0


def _address(command: _Command) -> Address | None:
    try:
        return read_job(command).address
    except RejectedError as rejected:
        return rejected.address


def _queued(command: _Command, address: Address, info: ConsumerInfo, ahead: int | None) -> QueuedCommand:
    return QueuedCommand(
        job_id=address.job_id,
        provider=address.provider,
        account=address.account,
        oa_id=address.oa_id,
        labels=address.labels,
        sequence=command.sequence,
        stored_at=command.stored_at,
        ahead=ahead,
        in_hand=info.num_ack_pending or 0,
        asking=info.num_waiting or 0,
        paused_until=paused_until(info),
    )
