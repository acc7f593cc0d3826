"""One id for two OAs at once, while replicas die and freeze: one of them runs, the other one is told why not."""

from collections import Counter

import pytest

from schemas import FollowerPage, JobCompleted, JobEvent, JobFailed, JobStarted, decode
from schemas.subjects import command_subject, id_subject, job_subject, page_subject
from tests.simulation import some
from tests.simulation.world import Breakage, ExpectedJob, Simulation

SEEDS = some(150)
OAS = ("oa", "oa2")


class TwoOas(Simulation):
    """Each id is published for both OAs, in any order, some of the commands twice."""

    def _publish(self) -> None:
        self.steering.active = False
        self.faults.fatal = 0.0
        for number in range(self.rng.randint(1, 3)):
            job = ExpectedJob("etelecom", f"job-{number}", [str(1000 * (number + 1) + one) for one in range(12)])
            self.jobs.append(job)
            for oa in OAS * self.rng.choice([1, 1, 2]):
                body = f'{{"provider":"etelecom","oa_id":"{oa}","id":"{job.id}","page_size":5}}'
                self.queue.put(command_subject("etelecom"), body.encode(), {})
        self.rng.shuffle(self.queue.commands)

    def _check(self) -> None:
        if self.queue.left:
            self.ledger.problems.append(f"{self.queue.left} commands were never done")
        for job in self.jobs:
            self.ledger.problems += [f"{job.id}: {problem}" for problem in self._problems(job)]

    def _problems(self, job: ExpectedJob) -> list[str]:
        stories = {oa: self._events(job, oa) for oa in OAS}
        ends = Counter(type(story[-1]) if story else None for story in stories.values())
        if ends != Counter([JobCompleted, JobFailed]):
            return [f"ended as {ends}"]
        loser, winner = sorted(OAS, key=lambda oa: isinstance(stories[oa][-1], JobCompleted))
        found = []
        if self.stream.of(page_subject(job.provider, loser, job.id)):
            found.append("the loser has pages")
        [only, *more] = stories[loser]
        if more or not isinstance(only, JobFailed) or only.error.code != "invalid_command":
            found.append(f"the loser's events are {stories[loser]}")
        pages = [decode(entry.data, FollowerPage) for entry in self.stream.of(page_subject("etelecom", winner, job.id))]
        if [follower.user_id for page in pages for follower in page.followers] != job.ids:
            found.append("the winner's list isn't whole")
        if not any(isinstance(event, JobStarted) for event in stories[winner]):
            found.append("the winner never started")
        if len(self.stream.of(id_subject(job.id))) != 1:
            found.append("whose the id is was not written once")
        status = self.statuses.get(job.id)
        if status is None or status.oa_id != winner:
            found.append(f"the status says {status}")
        return found

    def _events(self, job: ExpectedJob, oa: str) -> list[JobEvent]:
        return [decode(entry.data, JobEvent) for entry in self.stream.of(job_subject("etelecom", oa, job.id))]


def test_an_id_is_one_job_whatever_dies() -> None:
    kills = pauses = 0

    for seed in range(SEEDS):
        ledger = TwoOas(seed).run()
        assert not ledger.problems, f"seed {seed}: {ledger.problems}"
        assert not ledger.unforeseen, f"seed {seed}: {ledger.unforeseen}"
        kills, pauses = kills + ledger.kills, pauses + ledger.pauses

    assert kills > SEEDS / 2
    assert pauses > SEEDS / 2


@pytest.mark.parametrize(
    "breakage", [Breakage(keep_ids=False), Breakage(fence=False, window=0.01)], ids=["by the status alone", "no fence"]
)
def test_without_the_condition_both_run(breakage: Breakage) -> None:
    assert any("ended as" in problem for seed in range(40) for problem in TwoOas(seed, breakage).run().problems)
