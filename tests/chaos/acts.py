"""What people do to jobs meanwhile: cancel them, ask for their status, retry their dead letters."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import nats.errors
from nats.aio.client import Client

from tests.chaos.journal import Journal
from tests.chaos.load import ACCOUNTS, RECENT, Command, Load
from tests.chaos.options import Options
from tests.chaos.provider import FAILING
from worker.jetstream.dead_letters.store import LetterBox, LettersError

ANSWER_WITHIN = 3.0
FEW = 30
"""Of so many newest commands most are queued, running, or just over."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One request about a job, and its answer. Times in seconds since 1970, as those of the stored events."""

    act: Literal["cancel", "status"]
    job_id: str
    sent: float
    received: float
    answer: dict[str, Any]

    @property
    def state(self) -> str | None:
        """The job's state; None in a refusal."""
        return self.answer.get("state")

    @property
    def code(self) -> str | None:
        """Why there is no status, or why the job failed."""
        error = self.answer.get("error")
        return error["code"] if error else None


@dataclass(kw_only=True)
class Asked:
    """What was asked of the workers, as the checker needs it."""

    told: list[Told] = field(default_factory=list)
    """The requests that were answered."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """When it was first asked to cancel a job, whether or not that was answered, by job id."""
    retried: Counter[str] = field(default_factory=Counter)
    """How many dead letters of a job were retried."""
    released: set[str] = field(default_factory=set)
    """Jobs whose list, held before, was released; the workers said that all is published."""
    released_maybe: set[str] = field(default_factory=set)
    """Jobs whose release was asked for."""


class Acts:
    """Acts by the seed until stopped. A request without an answer, while something is killed, is only counted."""

    def __init__(self, client: Client, load: Load, options: Options, journal: Journal) -> None:
        """Take a connection, whose jobs these are, and where to note what is done."""
        self._client = client
        self._load = load
        self._options = options
        self._journal = journal
        self.asked = Asked()

    async def cancel_until(self, stop: asyncio.Event) -> None:
        """Cancel jobs: queued, running and finished ones, one whose command comes next, and ids of nobody."""
        dice = self._dice("cancels")
        async with asyncio.TaskGroup() as requests:
            while not stop.is_set():
                await self._pause(dice, self._options.cancel_every)
                job_id = self._draw(dice, lambda command: command.listed is None)
                self.asked.cancelled.setdefault(job_id, time.time())
                requests.create_task(self._ask("cancel", job_id))

    async def ask_until(self, stop: asyncio.Event) -> None:
        """Ask for the status of all kinds of jobs."""
        dice = self._dice("questions")
        async with asyncio.TaskGroup() as requests:
            while not stop.is_set():
                await self._pause(dice, self._options.ask_every)
                requests.create_task(self._ask("status", self._draw(dice, lambda command: True)))

    async def fail_until(self, stop: asyncio.Event) -> None:
        """Publish commands whose jobs fail for good, now and then."""
        dice, number = self._dice("failures"), 0
        while not stop.is_set():
            number += 1
            provider, account = dice.choice(ACCOUNTS[:3])
            fields = {"provider": provider, "account": account, "oa_id": FAILING, "page_size": dice.randint(5, 12)}
            job_id = f"fail-{number:04d}"
            command = Command(
                job_id=job_id,
                provider=provider,
                oa_id=FAILING,
                page_size=int(str(fields["page_size"])),
                message_id=f"command-{job_id}",
                body=msgspec.json.encode({**fields, "id": job_id}),
                content_type="application/json",
                named=True,
                fails=True,
            )
            await self._load.publish(command)
            await self._pause(dice, self._options.fail_every)

    async def retry_until(self, stop: asyncio.Event) -> None:
        """Retry the dead letters of jobs that failed, as `followers dead retry` does."""
        dice = self._dice("retries")
        while not stop.is_set():
            await self._pause(dice, self._options.retry_every)
            with contextlib.suppress(LettersError, TimeoutError, nats.errors.Error, OSError):
                await self.retry_all()

    async def retry_all(self) -> int:
        """Retry each letter there is of a valid command; return how many. Raises LettersError, TimeoutError."""
        box, count = LetterBox(self._client), 0
        may_fail = {command.job_id for command in self._load.commands if command.fails}
        async with asyncio.timeout(10):
            letters = [letter async for letter in box.read() if letter.job_id in may_fail]
        for letter in letters:
            assert letter.job_id is not None
            self.asked.retried[letter.job_id] += 1
            sequence = await box.retry(letter)
            self._journal.note("retry", f"of letter #{letter.sequence} as command #{sequence}", job_id=letter.job_id)
            count += 1
        return count

    async def _ask(self, act: Literal["cancel", "status"], job_id: str) -> None:
        sent = time.time()
        try:
            message = await self._client.request(f"followers.{act}.{job_id}", b"", timeout=ANSWER_WITHIN)
        except (nats.errors.Error, OSError):
            self._journal.note(f"{act}.unanswered", job_id=job_id)
            return
        answer = msgspec.json.decode(message.data, type=dict[str, Any])
        told = Told(act=act, job_id=job_id, sent=sent, received=time.time(), answer=answer)
        self.asked.told.append(told)
        self._journal.note(act, f"sent {sent:.3f}: {told.state or told.code}", job_id=job_id)

    def _draw(self, dice: random.Random, fits: Any) -> str:
        """Return the id of a job: a new, a recent or an old one, the next one, or nobody's."""
        luck, commands = dice.random(), [command for command in self._load.commands if fits(command)]
        if luck < 0.05 or not commands:
            return f"nobody-{dice.getrandbits(32):08x}"
        if luck < 0.1:
            return self._load.next_id
        return dice.choice(commands[-FEW:] if luck < 0.6 else commands[-RECENT:] if luck < 0.85 else commands).job_id

    async def _pause(self, dice: random.Random, mean: float) -> None:
        await asyncio.sleep(dice.uniform(0.5, 1.5) * mean)

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self._options.seed} {name}")
