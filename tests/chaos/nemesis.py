"""Kills and freezes what runs, at moments drawn from the seed."""

import asyncio
import random
import time

from tests.chaos.journal import Journal
from tests.chaos.options import Options
from tests.chaos.workers import Workers
from worker.embedded import EmbeddedServer

GROWN_UP = 1.0
"""Seconds after its start from which a worker has its signal handlers for sure."""


class Nemesis:
    """Acts until `stop` is set, and then leaves everything running."""

    def __init__(
        self, options: Options, workers: Workers, server: EmbeddedServer, journal: Journal, stop: asyncio.Event
    ) -> None:
        """Take who is to suffer, and the event that ends it."""
        self._options = options
        self._workers = workers
        self._server = server
        self._journal = journal
        self._stop = stop
        self.longest_drain = 0.0

    async def run(self) -> None:
        """Act until stopped; then see to it that enough workers and the server run."""
        await asyncio.gather(self._kill_workers(), self._kill_server(), self._freeze_workers(), self._drain_workers())
        self._fill_up()

    async def _kill_workers(self) -> None:
        dice = self._dice("kills")
        while await self._pause(dice, self._options.kill_every):
            if prey := self._workers.prey:
                victim = dice.choice(prey)
                await self._workers.kill(victim)
                self._journal.note("worker_kill", f"worker {victim.id}")
            await asyncio.sleep(dice.uniform(0, 0.2))
            self._fill_up()

    async def _kill_server(self) -> None:
        dice = self._dice("servers")
        while await self._pause(dice, self._options.server_kill_every):
            await self._server.kill()
            self._journal.note("server_kill")
            await asyncio.sleep(dice.uniform(0.05, 0.8))
            await self._server.restart()
            self._journal.note("server_restart")

    async def _freeze_workers(self) -> None:
        dice = self._dice("zombies")
        frozen: list[asyncio.Task[None]] = []
        while await self._pause(dice, self._options.zombie_every):
            frozen.append(asyncio.create_task(self._freeze_one(dice)))
        await asyncio.gather(*frozen)

    async def _freeze_one(self, dice: random.Random) -> None:
        prey = self._workers.prey
        if not prey:
            return
        # The oldest has most in hand.
        victim = prey[0]
        self._workers.stop(victim)
        self._journal.note("worker_stop", f"worker {victim.id}")
        self._fill_up()
        await asyncio.sleep(dice.uniform(1.0, 2.2) * self._options.ack_wait)
        self._workers.go_on(victim, spare_for=dice.uniform(0.3, 1.5))
        self._journal.note("zombie", f"worker {victim.id} goes on")

    async def _drain_workers(self) -> None:
        dice = self._dice("drains")
        while await self._pause(dice, self._options.drain_every):
            now = time.monotonic()
            prey = [worker for worker in self._workers.prey if now - worker.born > GROWN_UP]
            if prey:
                victim = dice.choice(prey)
                self._journal.note("worker_drain", f"worker {victim.id}")
                took = asyncio.create_task(self._workers.drain(victim))
                self._fill_up()
                self.longest_drain = max(self.longest_drain, await took)

    def _fill_up(self) -> None:
        for _ in range(self._options.workers - len(self._workers.running)):
            self._workers.spawn()

    async def _pause(self, dice: random.Random, mean: float) -> bool:
        """Wait for the next moment; False when it is over."""
        try:
            await asyncio.wait_for(self._stop.wait(), dice.uniform(0.4, 1.6) * mean)
        except TimeoutError:
            return True
        return False

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self._options.seed} {name}")
