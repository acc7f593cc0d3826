"""What the live page sees and does, made of the adapters and the core of this replica."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import nats.errors
from nats.aio.client import Client

from schemas.events import JobEvent
from schemas.jobs import ControlError, JobStatus
from schemas.subjects import cancel_subject, is_token, job_subject
from schemas.types import Provider
from schemas.wire import content_type, decode
from worker.core.dead_letters import Letter
from worker.core.jobs.handler import OpenAccount
from worker.core.ports.event_log import LogUnavailableError
from worker.core.ports.job_store import BoardUnavailableError, QueueUnavailableError
from worker.core.services import World
from worker.core.status.control import Control
from worker.core.status.view import explained
from worker.jetstream.dead_letters.backlog import Backlog, BacklogError
from worker.jetstream.dead_letters.store import LetterBox, LettersError
from worker.jetstream.kv.watch import JobsWatch
from worker.jetstream.topology.doctor import lacking
from worker.jetstream.topology.permissions import PAGE, PAGE_HEARS, STEERING
from worker.page.ports import AccountView, LetterView, SourceUnavailableError, TimelineEntry

EVENTS_AT_ONCE = 500
"""Job events that one look at a job reads at most; the next look goes on behind them."""


class _Envelope(msgspec.Struct):
    """Of a CloudEvent in structured mode: what is a header in binary mode."""

    time: str = ""


class LiveSources:
    """`worker.page.Sources` on this replica's connection."""

    def __init__(
        self,
        client: Client,
        world: World,
        accounts: Callable[[], Mapping[str, OpenAccount]],
        rates: Mapping[str, float],
        *,
        timeout: float,
    ) -> None:
        """`accounts`: those that are open. `rates`: requests a second by account. `timeout`: seconds for one call."""
        self._client, self._world, self._timeout = client, world, timeout
        self._accounts, self._rates = accounts, rates
        self._backlog = Backlog(client, timeout=timeout)

    def watch(self) -> AbstractAsyncContextManager[JobsWatch]:
        """Watch by the worker's own rights."""
        return _watch(self._client, self._timeout)

    def accounts(self) -> Sequence[AccountView]:
        """Ask each account's gate."""
        found = []
        for name, account in self._accounts().items():
            state = account.gate.state() if account.gate is not None else None
            found.append(
                AccountView(
                    name=name,
                    provider=account.provider,
                    rate=self._rates.get(name, 0.0),
                    shared=state.shared if state else True,
                    circuit=state.circuit if state else "closed",
                    circuit_until=_later(state.circuit_until) if state else None,
                    blocked_until=_later(state.blocked_until) if state else None,
                    waiting=state.waiting if state else 0,
                    heard=state.heard if state else False,
                )
            )
        return found

    async def queued(self) -> Mapping[Provider, int]:
        """Ask the consumers."""
        try:
            return await self._backlog.queued()
        except BacklogError as error:
            raise SourceUnavailableError(str(error)) from error

    async def letters(self) -> tuple[int, Sequence[LetterView]]:
        """Leave the commands out: their filters may hold a person's name or phone."""
        try:
            number, letters = await self._backlog.letters()
        except BacklogError as error:
            raise SourceUnavailableError(str(error)) from error
        return number, [_letter(letter) for letter in letters]

    def in_hand(self, job_id: str) -> JobStatus | None:
        """Ask the board's memory."""
        return self._world.status.in_hand(job_id)

    async def status(self, job_id: str) -> JobStatus | None:
        """Read the key, and look for the command in the queue when no worker is heard of."""
        world = self._world
        try:
            return await explained(
                job_id,
                await world.status.look(job_id),
                look_again=lambda: world.status.look(job_id),
                queue=world.queue,
                cancellations=world.cancellations,
                now=world.now(),
                silent_after=world.ack_wait,
            )
        except BoardUnavailableError as error:
            raise SourceUnavailableError("the bucket of job status doesn't answer: try again") from error
        except QueueUnavailableError:
            return None  # as for a job that isn't known: the page says what both may mean

    async def timeline(self, status: JobStatus, after: int) -> AsyncIterator[TimelineEntry]:
        """Read the job's own subject in the event log."""
        subject = job_subject(status.provider, status.oa_id, status.job_id)
        left = EVENTS_AT_ONCE
        try:
            async for entry in self._world.log.read(subject, after + 1, 2**63 - 1):
                try:
                    event: JobEvent = decode(entry.data, JobEvent, content_type(entry.headers))
                    at = entry.headers.get("ce-time") or decode(entry.data, _Envelope).time
                except ValueError:
                    continue  # forged, or of a later version: the others still tell what happened
                yield TimelineEntry(sequence=entry.sequence, at=at, event=event)
                left -= 1
                if not left:
                    return
        except LogUnavailableError as error:
            raise SourceUnavailableError("the event log doesn't answer: try again") from error


class LiveSteering:
    """`worker.page.Steering` on this replica's connection."""

    def __init__(self, client: Client, control: Control, *, timeout: float) -> None:
        """Take what answers requests about jobs, and the seconds for one call."""
        self._client, self._control = client, control
        self._box = LetterBox(client)
        self._backlog = Backlog(client, timeout=timeout)

    async def cancel(self, job_id: str) -> JobStatus | ControlError:
        """Tell all workers, as `followers cancel` does: the one that has the job need not be this one."""
        if is_token(job_id):
            await _check_rights(self._client, STEERING)
            try:
                await self._client.publish(cancel_subject(job_id))
            except (nats.errors.Error, OSError) as error:
                raise SourceUnavailableError(f"NATS can't be told ({type(error).__name__}): try again") from error
        return await self._control.cancel(job_id)

    async def retry(self, number: int) -> int:
        """Publish the command in a letter anew, and delete the letter."""
        await _check_rights(self._client, STEERING)
        try:
            letter = await self._box.get(number)
            if letter is None:
                raise SourceUnavailableError(f"there is no dead letter {number}: somebody was faster")
            if letter.whole_bytes is not None:
                raise SourceUnavailableError(f"letter {number} isn't whole: publish the command yourself")
            newest = letter.job_id and await self._backlog.letter_of(letter.job_id)
            if newest and newest.sequence > number:
                raise SourceUnavailableError(f"letter {number} is superseded by {newest.sequence}: retry that one")
            return await self._box.retry(letter)
        except (LettersError, BacklogError) as error:
            raise SourceUnavailableError(str(error)) from error

    async def retry_job(self, job_id: str) -> int:
        """Look for the job's newest letter."""
        try:
            letter = await self._backlog.letter_of(job_id)
        except BacklogError as error:
            raise SourceUnavailableError(str(error)) from error
        if letter is None:
            raise SourceUnavailableError(f"there is no dead letter of job {job_id}: it may be retried already")
        return await self.retry(letter.sequence)


@asynccontextmanager
async def _watch(client: Client, timeout: float) -> AsyncIterator[JobsWatch]:
    watch = JobsWatch(client, timeout=timeout)
    # Tried and refused, it would count as trouble of the whole worker: a look at a page must not make it unready.
    await _check_rights(client, PAGE, (PAGE_HEARS,))
    try:
        async with watch.watching():
            yield watch
    except (nats.errors.Error, OSError) as error:
        raise SourceUnavailableError(f"job status can't be watched ({type(error).__name__})") from error


async def _check_rights(client: Client, publish: Sequence[str], subscribe: Sequence[str] = ()) -> None:
    lacks = await lacking(client, publish, subscribe)
    if lacks:
        raise SourceUnavailableError(f"the worker's NATS user lacks {'; '.join(lacks)}: grant it on the server")


def _letter(letter: Letter) -> LetterView:
    return LetterView(
        number=letter.sequence,
        job_id=letter.job_id,
        provider=letter.provider,
        code=letter.code,
        message=letter.reason,
        stored_at=letter.stored_at,
    )


def _later(at: float) -> datetime | None:
    """Return the time of day at `at` of the event loop's clock, None when that is over."""
    left = at - asyncio.get_running_loop().time()
    return datetime.now(UTC) + timedelta(seconds=left) if 0 < left < 1e9 else None
