"""What nobody foresaw is heard in every kind of simulation, also where the world survives it."""

import asyncio
import logging
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ear import faults_in
from tests.schedule_kit import FakeScheduleDesk
from tests.simulation import test_changes, test_gate, test_schedules, test_stateful
from tests.simulation.living import Case, stories
from tests.simulation.loop import run, stop
from tests.simulation.model import Stream
from tests.simulation.world import Simulation
from worker.core.changes.publisher import ChangeLog
from worker.core.errors import ProviderUnavailableError
from worker.core.eventlog.job_log import JobLog
from worker.core.jobs.handler import CommandHandler
from worker.core.jobs.run import Fetch
from worker.core.ports.delivery import Delivery
from worker.logs import configure

SEEDS = range(24)


def now_and_then(original: Callable[..., Any], seed: int = 1) -> Callable[..., Any]:
    """The same function, which fails in one call of ten as only a mistake of ours would."""
    rng = random.Random(seed)

    def fail(*arguments: Any, **options: Any) -> Any:
        if rng.random() < 0.1:
            raise KeyError("planted")
        return original(*arguments, **options)

    return fail


def test_a_fault_of_a_command_is_heard_although_every_job_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobLog, "last_page", now_and_then(JobLog.last_page))

    ledgers = [Simulation(seed).run() for seed in SEEDS]

    assert [problem for ledger in ledgers for problem in ledger.problems] == [], "they are tried again and succeed"
    heard = [text for ledger in ledgers for text in ledger.unforeseen]
    assert heard
    assert all(text.startswith("command.fault: KeyError('planted') at ") for text in heard)


def test_a_fault_of_a_task_beside_a_command_is_heard_although_it_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Fetch, "post", now_and_then(Fetch.post))

    heard = [text for seed in SEEDS for text in Simulation(seed).run().unforeseen]

    assert any(text.startswith("task.failed: KeyError('planted')") for text in heard), heard


def test_a_fault_of_a_callback_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "store", now_and_then(Stream.store))

    heard = [text for seed in SEEDS for text in Simulation(seed).run().unforeseen]

    assert any(text.startswith("Exception in callback ") and "KeyError('planted')" in text for text in heard), heard


def test_a_fault_of_a_change_feed_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChangeLog, "_see", now_and_then(ChangeLog._see))
    worlds = [test_changes.ChangeWorld(seed) for seed in SEEDS]

    for world in worlds:
        world.run()

    assert any("KeyError('planted')" in text for world in worlds for text in world.unforeseen)


def test_a_fault_beside_the_reading_of_a_living_list_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Case.run

    async def with_a_sick_neighbour(case: Case) -> Any:
        nobody: dict[str, Any] = {}
        asyncio.get_running_loop().call_soon(nobody.__getitem__, "planted")
        return await original(case)

    monkeypatch.setattr(Case, "run", with_a_sick_neighbour)

    assert all("KeyError('planted')" in "".join(story.unforeseen) for _, story in stories(SEEDS))


def test_a_fault_of_a_schedule_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeScheduleDesk, "is_queued", now_and_then(FakeScheduleDesk.is_queued))

    with pytest.raises(AssertionError, match=r"schedule\.fault: KeyError\('planted'\)"):
        run(random.Random(1), test_schedules.days(random.Random(1), stops=False))


def test_a_fault_of_a_request_at_the_gate_is_heard() -> None:
    async def broken() -> None:
        raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        run(random.Random(1), test_gate.all_for(1.0, broken()))


def test_a_fault_of_a_job_under_fire_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    original = CommandHandler._handle

    async def fail_first(handler: CommandHandler, delivery: Delivery, *rest: Any) -> None:
        if delivery.deliveries == 1:
            raise KeyError("planted")
        await original(handler, delivery, *rest)

    monkeypatch.setattr(CommandHandler, "_handle", fail_first)
    few = settings(max_examples=5, deadline=None, database=None, phases=[Phase.generate])

    with pytest.raises(AssertionError, match=r"command\.fault: KeyError\('planted'\)"):
        run_state_machine_as_test(test_stateful.JobUnderFire, settings=few)


def test_a_foreseen_failure_that_nobody_looks_at_is_heard_too() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise ProviderUnavailableError("down")

        lost = asyncio.create_task(fail())
        seen = asyncio.create_task(fail())
        with pytest.raises(ProviderUnavailableError):
            await seen
        assert lost.done()

    heard: list[str] = []
    run(random.Random(1), main(), unforeseen=heard)

    (text,) = heard
    assert text.startswith("nobody learnt that ")
    assert "fail failed: ProviderUnavailableError('down')" in text


def test_stopping_tasks_tells_what_one_of_them_failed_with() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise KeyError("planted")

        calm, sick = asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(fail())
        await asyncio.sleep(1)
        await stop([calm])
        assert calm.cancelled()
        await stop([calm, sick])

    with pytest.raises(KeyError, match="planted"):
        run(random.Random(1), main())


@pytest.mark.parametrize("format", ["json", "console"])
def test_faults_are_found_in_the_log_of_a_real_worker(format: Any, capfd: pytest.CaptureFixture[str]) -> None:
    configure("info", format)
    log = structlog.get_logger("worker.core.jobs.handler")
    log.info("job.completed", job_id="j", reason="default.faulty")
    try:
        raise KeyError("planted")
    except KeyError:
        log.exception("command.fault", sequence=7)
    logging.getLogger("asyncio").error("Task exception was never retrieved")

    faults = faults_in(capfd.readouterr().err)

    assert len(faults) == 2
    assert "command.fault" in faults[0]
    assert "never retrieved" in faults[1]


def test_a_process_that_breaks_is_found_with_the_place() -> None:
    program = "import faulthandler; faulthandler.enable()\ndef planted(): faulthandler._sigsegv()\nplanted()"
    broken = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    (fault,) = faults_in(f"a line before\n{broken.stderr}")

    assert fault.startswith("Fatal Python error: Segmentation fault")
    assert "in planted" in fault
