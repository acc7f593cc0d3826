"""Defects planted in cancelling and retrying: the simulation notices each of them."""

from collections.abc import Callable

import pytest

from tests.simulation.world import Simulation
from worker.core.eventlog.job_log import JobLog
from worker.core.jobs.run import Fetch


def caught(seeds: range) -> list[str]:
    """Return the first problems found."""
    return next((found for seed in seeds if (found := Simulation(seed).run().problems)), [])


async def end_without_sealing(self: Fetch) -> None:
    await self.log.still_ours()


async def seal_without_starting(self: Fetch) -> None:
    if self._contested and not self.standing.last:
        await self.log.seal(self._seal())
    await self.log.still_ours()


def is_a_retry(self: Fetch) -> bool:
    return self.job.retry_of is not None


def always(self: Fetch) -> bool:
    return True


def stay_in_the_generation(self: JobLog) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("owner", "name", "defect", "seeds", "problem"),
    [
        # The first two need a worker that is stopped in the middle of a publish, and somebody who cancels then.
        (Fetch, "claim", end_without_sealing, range(100, 180), "FollowerPage after the terminal event"),
        (Fetch, "claim", seal_without_starting, range(2_210, 2_230), "FollowerPage after the terminal event"),
        (Fetch, "_supersedes_failure", is_a_retry, range(860, 970), "reopened"),
        (Fetch, "_supersedes_failure", always, range(200), "reopened"),
        (JobLog, "reopen", stay_in_the_generation, range(200), "is of generation 1, not 2"),
    ],
)
def test_a_planted_defect_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    defect: Callable[..., object],
    seeds: range,
    problem: str,
) -> None:
    monkeypatch.setattr(owner, name, defect)

    found = caught(seeds)

    assert any(problem in text for text in found), found
