"""Which request meets which fault."""

import pytest

from worker.simulators.exchange import Call
from worker.simulators.faults import Fault, FaultPlan


def call(endpoint: str = "ListFollowers", oa_id: str = "1") -> Call:
    return Call(
        number=1,
        method="POST",
        path="/",
        content_type="",
        authorization="",
        raw=b"",
        endpoint=endpoint,
        oa_id=oa_id,
    )


def kinds(plan: FaultPlan, requests: int) -> list[list[str]]:
    return [[fault.kind for fault in plan.take(call())] for _ in range(requests)]


def test_faults_queue_and_each_is_used_up() -> None:
    plan = FaultPlan()
    plan.add(Fault(kind="status", times=2), Fault(kind="empty"))

    assert kinds(plan, 4) == [["status"], ["status"], ["empty"], []]
    assert plan.pending == []


def test_a_fault_can_wait_and_strike_every_kth_time() -> None:
    plan = FaultPlan()
    plan.add(Fault(kind="reset", skip=1, every=3, times=0))

    assert kinds(plan, 8) == [[], [], [], ["reset"], [], [], ["reset"], []]


def test_latency_comes_on_top_of_another_fault() -> None:
    plan = FaultPlan()
    plan.add(Fault(kind="latency", times=0), Fault(kind="latency"), Fault(kind="html"))

    assert kinds(plan, 2) == [["latency", "latency", "html"], ["latency"]]


def test_a_fault_strikes_only_its_endpoint_and_account() -> None:
    plan = FaultPlan()
    plan.add(Fault(kind="empty", endpoint="GetFollowers", oa_id="2"))

    assert plan.take(call("QueryListUID", "2")) == []
    assert plan.take(call("GetFollowers", "1")) == []
    assert plan.take(call("GetFollowers", "2")) != []


def test_a_rate_limit_lets_so_many_a_second_through_and_stays() -> None:
    plan = FaultPlan()
    plan.add(Fault(kind="rate_limit", per_second=3))

    assert kinds(plan, 5) == [[], [], [], ["rate_limit"], ["rate_limit"]]
    assert len(plan.pending) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "reset", "every": 0}, "every"),
        ({"kind": "rate_limit"}, "per_second"),
        ({"kind": "error"}, "code"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Fault(**wrong)  # type: ignore[arg-type]
