"""Lists from which so many people go that their changes are held back, until they are released or come back."""

import asyncio
import random
import time
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from tests.chaos.acts import ANSWER_WITHIN, Asked
from tests.chaos.journal import Journal
from tests.chaos.load import Command, Load
from tests.chaos.options import Options
from tests.chaos.provider import MOVING, Provider
from tests.chaos.records import EVENTS

FEEDS = (("etelecom", "shop"), ("esms", "get-followers"))
GO = 25
"""So many at once; more than ten, and than 30 % of the list."""
LEFT_HELD = 0.25
"""Share of the held lists that are not released: the next list takes their place."""
LONGEST = 90.0
"""Seconds that a job, or a release, may take."""


class Moving:
    """One list of each provider: fetch it, let people go, fetch it, release what is held, let them come back."""

    def __init__(self, client: Client, load: Load, provider: Provider, options: Options, journal: Journal) -> None:
        """Take a connection, who publishes, whose lists these are, and where to note what is done."""
        self._client = client
        self._load = load
        self._provider = provider
        self._options = options
        self._journal = journal

    async def move_until(self, stop: asyncio.Event, asked: Asked) -> None:
        """Go on until stopped, and to the end of what is begun."""
        await asyncio.gather(*(self._move(provider, account, stop, asked) for provider, account in FEEDS))

    async def _move(self, provider: str, account: str, stop: asyncio.Event, asked: Asked) -> None:
        dice, number = random.Random(f"{self._options.seed} {provider} moves"), 0
        while not stop.is_set():
            number += 1
            if await self._fetch(provider, account, f"{number:04d}-whole") is None or stop.is_set():
                return
            gone = await self._provider.move(provider, MOVING, unfollow=GO)
            job_id = await self._fetch(provider, account, f"{number:04d}-fewer")
            if job_id is not None and dice.random() >= LEFT_HELD:
                await self._release(job_id, asked)
            await self._provider.move(provider, MOVING, follow=gone)

    async def _fetch(self, provider: str, account: str, name: str) -> str | None:
        """Let the list be fetched; return the job once it has ended, None when it takes too long."""
        listed, following = await self._provider.listed(provider, MOVING)
        job_id = f"move-{provider}-{name}"
        fields = {"provider": provider, "account": account, "oa_id": MOVING, "page_size": 16, "id": job_id}
        command = Command(
            job_id=job_id,
            provider=provider,
            oa_id=MOVING,
            page_size=16,
            message_id=f"command-{job_id}",
            body=msgspec.json.encode(fields),
            content_type="application/json",
            named=True,
            listed=listed,
            following=following,
        )
        await self._load.publish(command)
        return job_id if await self._ended(f"followers.job.{provider}.{MOVING}.{job_id}") else None

    async def _ended(self, subject: str) -> bool:
        """Wait for the job's end: the list may move again then, and not before."""
        js, until = self._client.jetstream(timeout=2), time.monotonic() + LONGEST
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
            try:
                message = await js.get_last_msg(EVENTS, subject)
            except (nats.errors.Error, OSError):
                continue
            if message.data and b'"type":"completed"' in message.data:
                return True
        self._journal.problem(f"the job on {subject} didn't end in {LONGEST:g} s")
        return False

    async def _release(self, job_id: str, asked: Asked) -> None:
        """Ask until the workers say that all of the held list's changes are published."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            asked.released_maybe.add(job_id)
            try:
                message = await self._client.request(f"followers.release.{job_id}", b"", timeout=ANSWER_WITHIN)
            except (nats.errors.Error, OSError):
                self._journal.note("release.unanswered", job_id=job_id)
            else:
                feed = msgspec.json.decode(message.data, type=dict[str, Any])
                self._journal.note("release", f"{feed.get('error') or 'a feed'}", job_id=job_id)
                if not feed.get("next") and (feed.get("current") or {}).get("job_id") == job_id:
                    asked.released.add(job_id)
                    return
            await asyncio.sleep(0.2)
        self._journal.problem(f"the held list of {job_id} wasn't released in {LONGEST:g} s")
