"""People who cancel jobs and retry dead letters, at any moment and more than once."""

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING

from schemas import deadletters
from schemas.subjects import command_subject
from tests.simulation.model import Letter
from worker.core.status.control import Control

if TYPE_CHECKING:
    from tests.simulation.world import Replica, Simulation


class Steering:
    """What people do in one simulation, with dice of their own."""

    def __init__(self, simulation: "Simulation", seed: int) -> None:
        self.cancelled: dict[str, int] = {}
        """When each job's cancellation was noted."""
        self.asked: set[str] = set()
        """The jobs that somebody tried to cancel."""
        self.retried: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        """The failures, by job, whose dead letter was retried."""
        self.retries = 0
        self.cancels = 0
        self._simulation = simulation
        self._rng = random.Random(f"steering {seed}")
        self.active = self._rng.random() < 0.6
        if self.active:
            simulation.faults.fatal = self._rng.choice([0.0, 0.3, 0.9])

    async def act(self) -> None:
        """Steer now and then, until cancelled."""
        if not self.active:
            return
        pace = self._rng.choice([0.3, 1, 4])
        for _ in range(self._rng.randint(0, 20)):
            await asyncio.sleep(self._rng.expovariate(pace))
            if self._simulation.letters.left and self._rng.random() < 0.7:
                self._retry(self._rng.choice(self._simulation.letters.left))
            elif self._rng.random() < 0.4:
                self._cancel(self._rng.choice(self._simulation.jobs).id)

    def _cancel(self, job_id: str) -> None:
        self.cancels += 1
        self.asked.add(job_id)
        replicas = self._simulation.replicas
        answering = self._rng.choice(replicas)
        self._simulation.tasks.append(asyncio.create_task(Control(answering.world).cancel(job_id)))
        for replica in replicas:
            if self._rng.random() < 0.8:  # the others are just not connected
                self._simulation.tasks.append(asyncio.create_task(self._hear(replica, job_id)))

    async def _hear(self, replica: "Replica", job_id: str) -> None:
        await asyncio.sleep(self._rng.expovariate(200))
        await replica.process.step()
        replica.handler.cancel(job_id)

    def _retry(self, letter: Letter) -> None:
        self.retries += 1
        provider, body, headers = letter
        command, generation = headers[deadletters.COMMAND_SEQUENCE], headers.get(deadletters.GENERATION, "1")
        kept = {name: headers[name] for name in (deadletters.JOB_ID, deadletters.GENERATION) if name in headers}
        kept[deadletters.RETRY] = command
        self.retried[headers[deadletters.JOB_ID]].add((command, generation))
        for _ in range(self._rng.choice([1, 1, 2])):
            self._simulation.queue.put(command_subject(provider), body, kept)
        if self._rng.random() < 0.7:
            self._simulation.letters.left.remove(letter)
