"""Reading, retrying and deleting what the stream `FOLLOWERS_DEAD` holds."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, command_subject, dead_subject, provider_of
from schemas.types import Provider
from worker.core.cures import cure
from worker.core.dead_letters import Letter, retry_headers
from worker.jetstream.client.headers import can_be_published, parse_headers
from worker.jetstream.events.delete import delete_message
from worker.jetstream.events.reader import EventReader

_SILENCE = 15.0
"""Seconds without an answer after which the server is taken to be away."""


class LettersError(Exception):
    """The dead letters can't be reached, or refuse; the message says what to do."""


class LetterBox:
    """The dead letters, for people. Every method may raise LettersError."""

    def __init__(self, client: Client) -> None:
        """Take a connection, which stays the caller's to close."""
        self._client = client
        self._js: JetStreamContext = client.jetstream()

    async def read(self, provider: Provider | None = None) -> AsyncIterator[Letter]:
        """Yield the letters there are now, oldest first, one in memory at a time."""
        subject = dead_subject(provider) if provider else "followers.dead.*"
        if not await self._count(subject):
            return
        async with EventReader(self._client, subject, stream=DEAD_STREAM) as reader:
            while True:
                message = await reader.next(_SILENCE)
                if message is None:
                    raise LettersError("NATS has fallen silent in the middle of the dead letters: try again")
                meta = message.metadata
                yield Letter(
                    sequence=meta.sequence.stream,
                    provider=provider_of(message.subject),
                    stored_at=meta.timestamp.astimezone(UTC),
                    headers=message.headers or {},
                    body=message.data,
                )
                if meta.num_pending == 0:
                    return

    async def get(self, sequence: int) -> Letter | None:
        """Return one letter, None when there is none of that number."""
        try:
            message = await self._js.get_msg(DEAD_STREAM, seq=sequence)
        except nats.js.errors.NotFoundError:
            await self._count("followers.dead.*")
            return None
        except (nats.errors.Error, OSError) as error:
            raise _explained(error) from error
        assert message.subject is not None
        assert message.time is not None
        return Letter(
            sequence=sequence,
            provider=provider_of(message.subject),
            stored_at=message.time.astimezone(UTC),
            headers=parse_headers(base64.b64decode(message.hdrs)) if message.hdrs else {},
            body=message.data or b"",
        )

    async def retry(self, letter: Letter) -> int:
        """Publish the command in `letter` anew, then delete the letter; return the new command's sequence."""
        headers = {name: value for name, value in retry_headers(letter).items() if can_be_published(name)}
        try:
            ack = await self._js.publish(
                command_subject(letter.provider), letter.body, stream=COMMANDS_STREAM, headers=headers
            )
        except (nats.errors.Error, OSError) as error:
            raise _explained(error) from error
        # Only now: a letter that is gone before its command is stored would be a lost command.
        await self.delete(letter.sequence)
        return ack.seq

    async def delete(self, sequence: int) -> bool:
        """Delete one letter; return False when it was gone already."""
        try:
            return await delete_message(self._js, DEAD_STREAM, sequence)
        except (nats.errors.Error, OSError) as error:
            raise _explained(error) from error

    async def _count(self, subject: str) -> int:
        try:
            info = await self._js.stream_info(DEAD_STREAM, subjects_filter=subject)
        except nats.js.errors.NotFoundError as error:
            raise LettersError(f"stream {DEAD_STREAM} is missing: run `followers setup`") from error
        except (nats.errors.Error, OSError) as error:
            raise _explained(error) from error
        return sum((info.state.subjects or {}).values())


def _explained(error: Exception) -> LettersError:
    if isinstance(error, nats.js.errors.NoStreamResponseError):
        return LettersError(f"stream {COMMANDS_STREAM} is missing: run `followers setup`")
    if isinstance(error, nats.js.errors.APIError):
        words = error.description or "no words"
        advice = f"; {cure(error.err_code, words, COMMANDS_STREAM)}" if words.startswith("maximum") else ""
        return LettersError(f"NATS refuses: {words}{advice}")
    return LettersError(f"NATS didn't answer ({type(error).__name__}): try again, nothing is done twice")
