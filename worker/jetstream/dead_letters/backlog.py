"""What a live page shows beside the jobs: commands that are queued, and the newest dead letters. Reading only."""

import base64

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, PROVIDERS, consumer_name, provider_of
from schemas.types import Provider
from worker.core.dead_letters import Letter
from worker.jetstream.client.headers import parse_headers
from worker.jetstream.events.log import NO_MESSAGE

NEWEST = 20
"""Dead letters that are looked at."""
SEARCHED = 2000
"""Dead letters among which that of a job is looked for."""


class BacklogError(Exception):
    """The server doesn't answer, or the search was given up; the message says what to do."""


class Backlog:
    """Every method may raise BacklogError."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._js = client.jetstream(timeout=timeout)
        self._known: dict[int, Letter] = {}

    async def queued(self) -> dict[Provider, int]:
        """Return how many commands no worker has taken yet."""
        try:
            return {
                provider: (await self._js.consumer_info(COMMANDS_STREAM, consumer_name(provider))).num_pending or 0
                for provider in PROVIDERS
            }
        except (nats.errors.Error, OSError) as error:
            raise _silent(error) from error

    async def letters(self) -> tuple[int, list[Letter]]:
        """Return how many dead letters there are, and the newest, the newest first."""
        try:
            state = (await self._js.stream_info(DEAD_STREAM)).state
            found: list[Letter] = []
            high, width = state.last_seq, NEWEST
            while len(found) < NEWEST and high >= max(1, state.first_seq) and state.messages:
                low = max(1, state.first_seq, high - width + 1)
                found += reversed(await self._window(low, high))
                high, width = low - 1, width * 4
        except (nats.errors.Error, OSError) as error:
            raise _silent(error) from error
        self._known = {letter.sequence: letter for letter in found[:NEWEST]}
        return state.messages, found[:NEWEST]

    async def letter_of(self, job_id: str) -> Letter | None:
        """Return the newest letter of a job, None when there is none. Gives up after the newest `SEARCHED`."""
        try:
            state = (await self._js.stream_info(DEAD_STREAM)).state
            high, floor = state.last_seq, max(1, state.first_seq)
            while high >= floor and state.messages:
                if state.last_seq - high >= SEARCHED:
                    raise BacklogError(f"no letter among the newest: use `followers dead retry --job {job_id}`")
                low = max(floor, high - 99)
                for letter in reversed(await self._window(low, high)):
                    if letter.job_id == job_id:
                        return letter
                high = low - 1
        except (nats.errors.Error, OSError) as error:
            raise _silent(error) from error
        return None

    async def _window(self, low: int, high: int) -> list[Letter]:
        """Return the letters with sequences from `low` to `high`, in order; a letter never changes."""
        found: list[Letter] = []
        while low <= high:
            letter = self._known.get(low) or await self._get(low)
            if letter is None or letter.sequence > high:
                break
            found.append(letter)
            low = letter.sequence + 1
        return found

    async def _get(self, sequence: int) -> Letter | None:
        """Return the first letter at or behind `sequence`."""
        try:
            message = await self._js.get_msg(DEAD_STREAM, seq=sequence, subject="followers.dead.*", next=True)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise
        assert message.subject is not None
        assert message.time is not None
        return Letter(
            sequence=message.seq or 0,
            provider=provider_of(message.subject),
            stored_at=message.time,
            headers=parse_headers(base64.b64decode(message.hdrs)) if message.hdrs else {},
            body=b"",  # its filter may hold a person's name or phone
        )


def _silent(error: Exception) -> BacklogError:
    return BacklogError(f"NATS didn't answer ({type(error).__name__}): try again")
