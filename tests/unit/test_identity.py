"""An id stands for one job over all providers, OAs and accounts, whatever the status says."""

import asyncio
from typing import Any

import msgspec
import pytest

from schemas import JobCompleted, JobEvent, JobFailed, JobStatus, decode
from schemas.subjects import id_subject, job_subject, page_subject
from tests.fakes import EPOCH, FakeClient, FakeLog, FakeStatusBoard
from tests.replica import Replica, command, kinds
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.jobs.identity import IdHolder

ID = id_subject("j1")


def replica(**world: Any) -> Replica:
    return Replica(keeps_ids=True, **world)


def with_accounts(one: Replica, *names: str) -> None:
    accounts = {name: OpenAccount(name, "etelecom", one.client) for name in names}
    one.handler = CommandHandler(accounts, one.world, one.draining)


def events(one: Replica, oa_id: str, job_id: str = "j1") -> list[JobEvent]:
    return [decode(entry.data, JobEvent) for entry in one.log.on(job_subject("etelecom", oa_id, job_id))]


def refusal(one: Replica, oa_id: str) -> str:
    (failed,) = events(one, oa_id)
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "invalid_command"
    return failed.error.message


def holder(one: Replica) -> IdHolder:
    (entry,) = one.log.on(ID)
    return msgspec.json.decode(entry.data, type=IdHolder)


async def test_the_first_command_of_an_id_writes_down_whose_it_is_before_anything_is_asked() -> None:
    one = replica()
    asked_after: list[int] = []

    async def note(cursor: str | None) -> None:
        asked_after.append(len(one.log.on(ID)))

    one.client.before_request = note
    await one.handle(command())

    assert holder(one) == IdHolder(provider="etelecom", oa_id="1", account="shop")
    assert asked_after[0] == 1
    assert one.log.stored[0].subject == ID
    assert kinds(one.events) == ["started", "completed"]


async def test_another_oas_command_fails_without_a_request_and_leaves_the_first_ones_status_alone() -> None:
    one = replica()
    await one.handle(command())
    requests = len(one.client.requests)

    second = await one.handle(command(oa_id="2", sequence=2))

    assert refusal(one, "2") == (
        "the id 'j1' is already that of a job for OA 1 at etelecom: an id stands for one job, so publish this command"
        " under another"
    )
    assert len(one.client.requests) == requests
    assert one.log.on(page_subject("etelecom", "2", "j1")) == []
    assert (second.acks, one.letters.letters[0].headers["Followers-Error-Code"]) == (1, "invalid_command")
    known = await one.board.get("j1")
    assert known is not None
    assert (known.oa_id, known.state) == ("1", "completed")


async def test_at_the_same_instant_on_two_replicas_one_of_them_runs_and_its_status_stays() -> None:
    log, board = FakeLog(), FakeStatusBoard()
    first, second = replica(log=log, status=board, worker="a"), replica(log=log, status=board, worker="b")

    await asyncio.gather(
        first.handle(command(sequence=1)),
        second.handle(command(oa_id="2", sequence=2)),
    )

    ends = [type(events(first, oa)[-1]) for oa in ("1", "2")]
    assert sorted(end.__name__ for end in ends) == ["JobCompleted", "JobFailed"]
    assert [bool(first.client.requests), bool(second.client.requests)] == [end is JobCompleted for end in ends]
    known = await board.get("j1")
    assert known is not None
    assert (known.state, known.oa_id) == ("completed", "1" if ends[0] is JobCompleted else "2")


async def test_a_refused_command_is_first_to_tell_and_still_writes_no_status() -> None:
    one = replica()
    await one.log.publish(ID, msgspec.json.encode(IdHolder(provider="esms", oa_id="9")), {"Nats-Msg-Id": "x"}, 0)

    await one.handle(command())

    assert "already that of a job for OA 9 at esms: an id" in refusal(one, "1")
    assert await one.board.get("j1") is None


async def test_a_command_that_is_invalid_otherwise_is_shown_in_the_status_as_before() -> None:
    one = replica()

    await one.handle(command(colour="red"))

    known = await one.board.get("j1")
    assert known is not None
    assert known.state == "failed"
    assert one.log.on(ID) == [], "what never runs takes no id"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [("a", "a", True), ("a", "b", False), (None, None, True)],
)
async def test_the_account_is_a_part_of_what_an_id_stands_for(
    first: str | None, second: str | None, same: bool
) -> None:
    one = replica()
    with_accounts(one, *(("a", "b") if first else ("a",)))
    await one.handle(command(**({"account": first} if first else {})))

    await one.handle(command(sequence=2, **({"account": second} if second else {})))

    assert kinds(one.events) == ["started", "completed"]
    letters = [letter.headers["Followers-Error-Message"] for letter in one.letters.letters]
    assert bool(letters) is not same
    if letters:
        assert "for OA 1 at etelecom, account a: an id stands for one job" in letters[0]


async def test_a_command_without_an_account_means_that_of_the_job_also_when_it_was_renamed() -> None:
    one = replica()
    await one.handle(command())
    with_accounts(one, "renamed")

    again = await one.handle(command(sequence=2))

    assert (again.acks, one.letters.letters) == (1, [])


async def test_a_redelivery_goes_on_under_its_own_record() -> None:
    one = replica(client=FakeClient(12))
    one.client.gate.clear()
    task = asyncio.create_task(one.handle(command()))
    while not one.client.requests:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    one.client.gate.set()

    await one.handle(command(deliveries=2))

    assert len(one.log.on(ID)) == 1
    assert kinds(one.events)[-1] == "completed"


async def test_once_the_record_has_aged_out_the_id_is_free_again() -> None:
    one = replica()
    await one.handle(command())
    for subject in (ID, job_subject("etelecom", "1", "j1"), page_subject("etelecom", "1", "j1")):
        one.log.purge(subject)
    one.board.bucket.values.clear()

    await one.handle(command(oa_id="2", sequence=2))

    assert holder(one).oa_id == "2"
    assert kinds(events(one, "2")) == ["started", "completed"]


async def test_a_record_that_was_purged_is_written_anew_within_the_window_for_duplicates() -> None:
    one = replica()
    await one.handle(command())
    one.log.purge(ID)

    await asyncio.wait_for(one.handle(command(sequence=2)), 5)

    assert holder(one).oa_id == "1"


async def test_a_retry_of_the_refused_ones_dead_letter_is_refused_again_and_ends_nothing_twice() -> None:
    one = replica()
    await one.handle(command())
    await one.handle(command(oa_id="2", sequence=2))

    await one.handle(command(oa_id="2", sequence=3, headers={"Followers-Retry": "2"}))

    assert len(events(one, "2")) == 1
    assert len(one.letters.letters) == 2


def status(oa_id: str, **fields: Any) -> JobStatus:
    return JobStatus(job_id="j1", provider="etelecom", account="shop", oa_id=oa_id, updated_at=EPOCH, **fields)


async def test_a_status_that_somebody_else_wrote_does_not_refuse_whoever_has_the_id() -> None:
    one = replica()
    await one.log.publish(
        ID, msgspec.json.encode(IdHolder(provider="etelecom", oa_id="1", account="shop")), {"Nats-Msg-Id": "x"}, 0
    )
    await one.board.settle(status("2", state="queued"))

    await one.handle(command())

    assert kinds(one.events) == ["started", "completed"]


async def test_of_a_job_from_before_ids_were_kept_the_status_tells_and_nothing_is_written() -> None:
    one = replica()
    await one.board.settle(status("2", state="completed"))

    await one.handle(command())

    assert "already that of a job for OA 2" in refusal(one, "1")
    assert one.log.on(ID) == []


async def test_without_room_for_ids_the_status_alone_tells() -> None:
    one = Replica()
    await one.handle(command())

    await one.handle(command(oa_id="2", sequence=2))

    assert one.log.on(ID) == []
    assert "already that of a job for OA 1" in refusal(one, "2")


async def test_a_status_that_is_away_changes_nothing() -> None:
    one = replica()
    await one.handle(command())
    one.board.bucket.values.clear()

    await one.handle(command(oa_id="2", sequence=2))

    assert "already that of a job for OA 1" in refusal(one, "2")


async def test_a_record_that_cannot_be_read_fails_the_command_and_says_what_to_delete() -> None:
    one = replica()
    await one.log.publish(ID, b'{"provider":', {"Nats-Msg-Id": "x"}, 0)

    delivery = await one.handle(command())

    (failed,) = one.events
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "internal"
    assert "message 1 of stream FOLLOWERS_EVENTS on followers.id.j1" in failed.error.message
    assert "`nats stream rmm FOLLOWERS_EVENTS 1`" in failed.error.message
    assert delivery.acks == 1


async def test_a_lost_answer_to_the_record_is_looked_up() -> None:
    one = replica()
    one.log.fail_next("ack_lost")

    await one.handle(command())

    assert len(one.log.on(ID)) == 1
    assert kinds(one.events) == ["started", "completed"]
