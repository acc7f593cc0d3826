"""Commands that the server keeps and delivers to nobody: after a crash its record of who has what may be wrong.

Seen of nats-server 2.10.25 once in about twenty kills, and reported of later ones: a pull waits, a command is there,
its consumer has passed it, and no redelivery ever comes, not even after another restart.
"""

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import RawStreamMsg

from schemas.subjects import COMMANDS_STREAM, command_subject, consumer_name
from schemas.types import Provider
from worker.jetstream.commands.max_deliveries import ExhaustedDelivery

_log = structlog.get_logger(__name__)


class StrandedCommands:
    """Finds the commands of one provider that look stranded."""

    def __init__(self, client: Client, provider: Provider, *, timeout: float) -> None:
        """Take a connection, whose commands, and the seconds after which an unanswered call is given up."""
        self._js = client.jetstream(timeout=timeout)
        self._provider = provider
        self._suspects: set[int] = set()

    async def look(self) -> list[ExhaustedDelivery]:
        """Return the commands that were passed and unsettled at this look and at the one before, oldest first.

        A command that somebody works on for long is among them: whether its job moves is for the caller to see.
        Empty while nobody waits for commands, since then it is no wonder that none is delivered again, and while
        the server doesn't answer.
        """
        try:
            passed = await self._passed()
        except (nats.errors.Error, OSError) as error:
            _log.warning("commands.unreadable", provider=self._provider, error=type(error).__name__)
            passed = []
        before, self._suspects = self._suspects, {message.seq or 0 for message in passed}
        return [ExhaustedDelivery(self._js, message) for message in passed if message.seq in before]

    async def _passed(self) -> list[RawStreamMsg]:
        info = await self._js.consumer_info(COMMANDS_STREAM, consumer_name(self._provider))
        delivered = info.delivered.stream_seq if info.delivered else 0
        passed: list[RawStreamMsg] = []
        sequence = 1
        while info.num_waiting and sequence <= delivered:
            try:
                message = await self._js.get_msg(
                    COMMANDS_STREAM, seq=sequence, subject=command_subject(self._provider), next=True
                )
            except nats.js.errors.NotFoundError:
                break
            sequence = (message.seq or sequence) + 1
            if sequence <= delivered + 1:
                passed.append(message)
        return passed
