"""One subject of the event log as a chain: whoever appends must know its tail."""

import asyncio
from collections.abc import Callable, Mapping

from schemas.subjects import EVENTS_STREAM
from worker.core.backoff import Pause
from worker.core.cures import DUPLICATE
from worker.core.holdups import Failed, Holdups
from worker.core.ports.event_log import (
    COMMAND_HEADER,
    TOKEN_HEADER,
    Entry,
    EventLog,
    LogUnavailableError,
    WrongSequenceError,
)


class FencedError(Exception):
    """Somebody else appended to the chain: the job is theirs."""

    def __init__(self, tail: Entry | None, command_sequence: int) -> None:
        """Keep the new tail, and whether its writer works on the same command message."""
        super().__init__("another worker owns this job")
        self.tail = tail
        written_for = tail.headers.get(COMMAND_HEADER) if tail else None
        self.same_command = written_for in (None, str(command_sequence))


class Chain:
    """The tail of one subject, and the only way to append after it."""

    def __init__(
        self,
        log: EventLog,
        subject: str,
        command_sequence: int,
        token: Callable[[], str],
        holdups: Holdups | None = None,
    ) -> None:
        """Take the log, the subject, the command's sequence, a source of tokens that never repeat, and who is told."""
        self.sequence = 0
        """The tail's sequence; 0 while the subject is empty."""
        self._log = log
        self._subject = subject
        self._command_sequence = command_sequence
        self._token = token
        self._holdups = holdups or Holdups()
        self._lock = asyncio.Lock()

    async def load(self) -> Entry | None:
        """Read the tail, however long that takes, and stand behind it. Returns None when the subject is empty."""
        tail = await self._read()
        self.sequence = tail.sequence if tail else 0
        return tail

    async def confirm(self) -> None:
        """Read the tail once more. Raises FencedError when somebody else has appended since."""
        async with self._lock:
            tail = await self._read()
            if (tail.sequence if tail else 0) != self.sequence:
                raise FencedError(tail, self._command_sequence)

    async def append(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Append one message; returns once it is in the log, exactly once.

        Raises FencedError when somebody else has appended, PayloadTooLargeError.
        """
        async with self._lock:
            await self._append(data, headers)

    async def _append(self, data: bytes, headers: Mapping[str, str]) -> None:
        token = self._token()
        headers = {**headers, TOKEN_HEADER: token, COMMAND_HEADER: str(self._command_sequence)}
        began = asyncio.get_running_loop().time()
        refusal = await self._try_to_append(data, headers)
        if refusal is None:
            return  # as nearly always
        pause = Pause()
        with self._holdups.trying(EVENTS_STREAM, writes=True, began=began) as failed:
            while refusal is not None and not await self._is_there(token, refusal, failed):
                await pause()
                refusal = await self._try_to_append(data, headers)

    async def _try_to_append(self, data: bytes, headers: Mapping[str, str]) -> Exception | None:
        """Return why the message isn't known to be in the log, None when it is."""
        try:
            self.sequence = await self._log.publish(self._subject, data, headers, self.sequence)
        except (WrongSequenceError, LogUnavailableError) as error:
            return error
        return None

    async def _is_there(self, token: str, refusal: Exception, failed: Failed) -> bool:
        """Say whether the message is in the log all the same, where the log can be read. Raises FencedError."""
        if isinstance(refusal, LogUnavailableError):
            failed(refusal.code, refusal.words)
            return False
        tail = await self._read()
        # An ack says little: "duplicate" also answers a zombie's other payload. The log says who wrote.
        if tail is not None and tail.headers.get(TOKEN_HEADER) == token:
            self.sequence = tail.sequence
            return True
        if (tail.sequence if tail else 0) != self.sequence:
            raise FencedError(tail, self._command_sequence)
        # Our message isn't there, and neither is another one: the server remembers an id whose message is gone.
        failed(None, DUPLICATE)
        return False

    async def _read(self) -> Entry | None:
        pause = Pause()
        with self._holdups.trying(EVENTS_STREAM, writes=False) as failed:
            while True:
                try:
                    return await self._log.last(self._subject)
                except LogUnavailableError as error:
                    failed(error.code, error.words)
                    await pause()
