"""Publishes commands as applications do: retried until stored, some twice, some that are no commands."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from tests.chaos.journal import Journal
from tests.chaos.options import Options
from tests.chaos.provider import SIZES, oa_id
from tests.chaos.records import COMMANDS

ACCOUNTS = (
    ("etelecom", "shop"),
    ("etelecom", "partner"),
    ("esms", "get-followers"),
    ("esms", "query-list-uid"),
)
LONGEST = 60
"""Pages of the longest job."""
POISON_EVERY = 25
RECENT = 60
"""Of so many newest commands one is published again; the older ones among them have ended."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command that the server has."""

    job_id: str
    provider: str
    oa_id: str
    page_size: int
    message_id: str
    body: bytes
    content_type: str
    named: bool
    """The id stands in the body: another message id still means the same job."""
    poison: bool = False
    """No valid command: its job fails, and it becomes a dead letter."""
    fails: bool = False
    """Its Official Account makes jobs fail for good, now and then; their dead letters are retried."""
    listed: tuple[str, ...] | None = None
    """The ids of a list that moves between its jobs, as they were for this one; None: the list never moves."""
    following: frozenset[str] = frozenset()
    """Who of those follows."""

    @property
    def subject(self) -> str:
        """Where it is published."""
        return f"followers.fetch.{self.provider}"


def pages_needed(command: Command, size: int) -> int:
    """Return how many answers of the provider a list of `size` takes when nothing goes wrong."""
    if command.provider == "etelecom":
        return 1 + -(-size // command.page_size)  # the end shows by an empty one
    count = max(command.page_size, 2)
    return 1 + -(-max(0, size - count) // (count - 1))  # each begins at the last row of the one before


class Load:
    """Keeps the work queue filled, and publishes duplicates."""

    def __init__(self, client: Client, options: Options, journal: Journal) -> None:
        """`client` is this load's own connection."""
        self._js = client.jetstream(timeout=2)
        self._options = options
        self._journal = journal
        self._dice = random.Random(f"{options.seed} commands")
        self._drawn = 0
        self.commands: list[Command] = []
        """Those that the server has, oldest first."""

    async def publish_until(self, stop: asyncio.Event) -> None:
        """Publish whenever fewer than `open_commands` are in the work queue."""
        while not stop.is_set():
            for _ in range(self._options.open_commands - await self.open()):
                await self.publish(self.draw())
            await asyncio.sleep(0.25)

    @property
    def next_id(self) -> str:
        """The job id of the command that is drawn next."""
        return f"job-{self._drawn + 1:05d}"

    async def publish(self, command: Command) -> None:
        """Publish one command until the server has it."""
        await self._publish(command, command.message_id)
        self.commands.append(command)
        self._journal.note("command", f"published as {command.message_id}", job_id=command.job_id)

    async def duplicate_until(self, stop: asyncio.Event) -> None:
        """Publish one of the newest commands again, every now and then."""
        dice = random.Random(f"{self._options.seed} duplicates")
        while not stop.is_set():
            await asyncio.sleep(dice.uniform(0.5, 1.5) * self._options.duplicate_every)
            valid = [command for command in self.commands[-RECENT:] if not command.poison]
            if not valid:
                continue
            command = dice.choice(valid)
            anew = command.named and dice.random() < 0.6
            message_id = f"{command.message_id}-again-{dice.getrandbits(32):08x}" if anew else command.message_id
            await self._publish(command, message_id)
            kind = "duplicate.other_message_id" if anew else "duplicate.same_message_id"
            self._journal.note(kind, f"as {message_id}", job_id=command.job_id)

    async def open(self) -> int:
        """Return how many commands are in the work queue, also while the server comes and goes."""
        while True:
            try:
                return (await self._js.stream_info(COMMANDS)).state.messages
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.1)

    def draw(self) -> Command:
        """Return the next command; the same seed gives the same commands."""
        dice, job_id = self._dice, self.next_id
        number = self._drawn = self._drawn + 1
        provider, account = dice.choice(ACCOUNTS)
        size = dice.choice(SIZES)
        pages = max(1, round(LONGEST * dice.random() ** 2))
        page_size = min(max(1, -(-size // pages)), 100 if provider == "etelecom" else 50)
        named = dice.random() < 0.75
        fields: dict[str, Any] = {
            "provider": provider,
            "account": account,
            "oa_id": oa_id(size),
            "page_size": page_size,
            "labels": {"number": str(number)},
            **({"id": job_id} if named else {}),
        }
        if poison := number % POISON_EVERY == 0:
            fields["page_sise"] = page_size
        packed = dice.random() < 0.2
        return Command(
            job_id=job_id,
            provider=provider,
            oa_id=oa_id(size),
            page_size=page_size,
            message_id=f"command-{number:05d}" if named else job_id,
            body=msgspec.msgpack.encode(fields) if packed else msgspec.json.encode(fields),
            content_type="application/msgpack" if packed else "application/json",
            named=named,
            poison=poison,
        )

    async def _publish(self, command: Command, message_id: str) -> None:
        while True:
            headers = {"Nats-Msg-Id": message_id, "Content-Type": command.content_type}
            try:
                await self._js.publish(command.subject, command.body, stream=COMMANDS, headers=headers)
            except (nats.errors.Error, OSError):
                self._journal.note("publish_retry", job_id=command.job_id)
                await asyncio.sleep(0.2)
            else:
                return
