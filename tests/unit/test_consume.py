"""What becomes of a delivered command."""

import asyncio
import random
from datetime import timedelta

import msgspec
import pytest

from schemas import JobCompleted, JobEvent, JobFailed, JobStarted, JobStatus, JobWaiting, decode
from schemas.subjects import job_subject
from tests.fakes import (
    EPOCH,
    FakeClient,
    FakeDelivery,
    FakeLog,
    FakeStatusBoard,
)
from tests.replica import EVENTS, PAGES, Replica, command, kinds
from tests.simulation.loop import run
from worker.core.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnknownRefusalError,
    UnsupportedError,
)
from worker.core.jobs.handler import FAULTS_ALLOWED, CommandHandler, OpenAccount
from worker.core.ports.event_log import COMMAND_HEADER, TOKEN_HEADER
from worker.core.retry import UNKNOWN_ATTEMPTS, RetryPolicy


async def test_a_command_ends_as_a_run_of_pages_and_one_terminal_event():
    replica = Replica()

    delivery = await replica.handle(command(labels={"a": "b"}))

    assert [(page.page, len(page.followers), page.last) for page in replica.pages] == [
        (1, 5, False),
        (2, 5, False),
        (3, 2, True),
    ]
    assert replica.ids == replica.client.users
    assert kinds(replica.events) == ["started", "completed"]
    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.pages, end.followers, end.distinct, end.requests, end.verdict) == (3, 12, 12, 3, "complete")
    assert (delivery.acks, delivery.naks) == (1, [])
    assert {page.labels["a"] for page in replica.pages} == {"b"} == {end.labels["a"]}
    assert replica.board.settled[-1].state == "completed"
    assert replica.meter.jobs == {("etelecom", "completed"): 1}
    assert (replica.meter.pages, replica.meter.followers) == ({"etelecom": 3}, {"etelecom": 12})


async def test_a_list_of_nobody_is_one_empty_page():
    replica = Replica(FakeClient(0))

    await replica.handle(command())

    assert [(page.page, page.followers, page.last) for page in replica.pages] == [(1, [], True)]
    assert kinds(replica.events) == ["started", "completed"]


async def test_each_event_has_a_trace_context_and_tells_who_wrote_it_for_which_command():
    replica = Replica()

    await replica.handle(command(headers={"traceparent": "00-ab-cd-01"}, sequence=9))

    headers = [entry.headers for entry in replica.log.on(PAGES) + replica.log.on(EVENTS)]
    assert {header["traceparent"] for header in headers} == {"00-ab-cd-01"}
    assert {header[COMMAND_HEADER] for header in headers} == {"9"}
    assert len({header[TOKEN_HEADER] for header in headers}) == len(headers)
    assert len({header["Nats-Msg-Id"] for header in headers}) == len(headers)


async def test_a_finished_job_is_acknowledged_without_a_request():
    replica = Replica()
    await replica.handle(command())
    asked = len(replica.client.requests)

    again = await replica.handle(command(sequence=2))

    assert len(replica.client.requests) == asked
    assert again.acks == 1
    assert kinds(replica.events) == ["started", "completed"]


async def test_a_redelivered_command_goes_on_at_the_page_after_the_last_published_one():
    first = Replica()
    first.client.fail_at("1009", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await first.handle(command())
    second = Replica(FakeClient(12), log=first.log, status=first.board, worker="worker-2")

    delivery = await second.handle(command(deliveries=2))

    assert second.client.requests == ["1009"]
    assert second.ids == second.client.users
    started = [event for event in second.events if isinstance(event, JobStarted)]
    assert [(event.attempt, event.resumed_at_page) for event in started] == [(1, 1), (2, 3)]
    end = second.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.pages, end.followers, end.attempt) == (3, 12, 2)
    assert delivery.acks == 1


async def test_a_job_whose_last_page_is_out_only_gets_its_terminal_event():
    replica = Replica()
    await replica.handle(command())
    replica.log.stored = [one for one in replica.log.stored if b'"completed"' not in one.entry.data]
    replica.log._ids.clear()
    asked = len(replica.client.requests)

    await replica.handle(command(deliveries=2))

    assert kinds(replica.events) == ["started", "completed"]
    assert len(replica.client.requests) == asked


async def test_a_cancelled_delivery_is_handed_back():
    replica = Replica()
    replica.client.gate.clear()
    delivery = command()
    task = asyncio.create_task(replica.handler.handle(delivery))
    while not replica.client.requests:
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert (delivery.acks, delivery.naks) == (0, [1.0])
    assert replica.handler.running == {}


async def test_a_draining_replica_finishes_the_page_in_hand_and_hands_the_job_back():
    replica = Replica()
    replica.client.gate.clear()
    delivery = command()
    task = asyncio.create_task(replica.handler.handle(delivery))
    while not replica.client.requests:
        await asyncio.sleep(0)

    replica.draining.set()
    replica.client.gate.set()
    await task

    assert [page.page for page in replica.pages] == [1]
    assert kinds(replica.events) == ["started"]
    assert (delivery.acks, delivery.naks) == (0, [1.0])
    assert replica.board.settled[-1].state == "queued"


async def test_a_draining_replica_takes_nothing_new():
    replica = Replica()
    replica.draining.set()

    delivery = await replica.handle(command())

    assert (delivery.acks, delivery.naks, replica.client.requests) == (0, [1.0], [])


async def test_a_command_that_is_no_command_becomes_a_dead_letter_byte_for_byte():
    replica = Replica()
    delivery = FakeDelivery(data=b"{not json", headers={"Nats-Msg-Id": "m1", "x": "y", "Nats-Expected-Stream": "S"})

    await replica.handle(delivery)

    (letter,) = replica.letters.letters
    assert (letter.provider, letter.body) == ("etelecom", b"{not json")
    assert letter.headers["Followers-Error-Code"] == "invalid_command"
    assert "can't be decoded" in letter.headers["Followers-Error-Message"]
    assert (letter.headers["x"], letter.headers["Followers-Msg-Id"]) == ("y", "m1")
    assert letter.headers["Followers-Stream-Sequence"] == "1"
    assert "Nats-Expected-Stream" not in letter.headers
    assert delivery.acks == 1
    assert replica.log.stored == []


async def test_a_refused_command_with_a_readable_address_also_gets_a_failed_event_and_a_status():
    replica = Replica()

    delivery = await replica.handle(command(page_size=101))

    (failed,) = replica.events
    assert isinstance(failed, JobFailed)
    assert (failed.error.code, failed.error.attempts) == ("invalid_command", 0)
    assert "$.page_size" in failed.error.message
    assert replica.letters.letters[0].headers["Followers-Job-Id"] == "j1"
    assert replica.board.settled[-1].state == "failed"
    assert (delivery.acks, replica.client.requests) == (1, [])


async def test_a_faulty_duplicate_does_not_end_the_job_whose_id_it_bears():
    replica = Replica()
    await replica.handle(command())

    await replica.handle(command(page_size=101, sequence=2))

    assert kinds(replica.events) == ["started", "completed"]
    assert len(replica.letters.letters) == 1


@pytest.mark.parametrize(
    ("account", "says"),
    [("nobody", "account 'nobody' is not known; for etelecom name one of shop"), (None, None)],
)
async def test_the_account_must_be_known_and_may_be_left_out_when_there_is_one(account, says):
    replica = Replica()

    await replica.handle(command(**({"account": account} if account else {})))

    end = replica.events[-1]
    if says is None:
        assert isinstance(end, JobCompleted)
        assert end.account == "shop"
    else:
        assert isinstance(end, JobFailed)
        assert (end.error.code, end.error.message) == ("unknown_account", says)


async def test_a_command_without_account_where_there_are_several_names_them():
    replica = Replica()
    accounts = {name: OpenAccount(name, "etelecom", replica.client) for name in ("b", "a")}
    handler = CommandHandler(accounts, replica.world, replica.draining)

    await handler.handle(command())

    end = replica.events[-1]
    assert isinstance(end, JobFailed)
    assert end.error.message == "the command names no account; for etelecom name one of a, b"


async def test_a_provider_without_any_account_says_what_to_add():
    replica = Replica()
    handler = CommandHandler({}, replica.world, replica.draining)

    await handler.handle(command())

    assert "add [accounts.NAME]" in replica.letters.letters[0].headers["Followers-Error-Message"]


async def test_an_id_that_is_another_jobs_is_refused():
    replica = Replica()
    await replica.handle(command())

    await replica.handle(command(oa_id="2", sequence=2))

    (failed,) = [decode(entry.data, JobEvent) for entry in replica.log.on(job_subject("etelecom", "2", "j1"))]
    assert isinstance(failed, JobFailed)
    assert "already that of a job for OA 1" in failed.error.message
    known = await replica.board.get("j1")
    assert known is not None
    assert (known.oa_id, known.state) == ("1", "completed")


async def test_a_fatal_error_is_stored_as_a_dead_letter_before_the_job_ends_and_then_acknowledged():
    replica = Replica()
    replica.client.fail_next(UnauthorizedError("the key is wrong: check it", http_status=401))
    replica.letters.open.clear()
    delivery = command()
    task = asyncio.create_task(replica.handler.handle(delivery))
    for _ in range(50):
        await asyncio.sleep(0)

    assert kinds(replica.events) == ["started"]
    assert delivery.acks == 0
    replica.letters.open.set()
    await task

    assert kinds(replica.events) == ["started", "failed"]
    failed = replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.error.code, failed.error.http_status, failed.error.attempts) == ("unauthorized", 401, 1)
    assert failed.error.retryable is False
    assert replica.letters.letters[0].headers["Followers-Attempts"] == "1"
    assert delivery.acks == 1
    status = replica.board.settled[-1]
    assert status.error is not None
    assert (status.state, status.error.code) == ("failed", "unauthorized")


async def test_what_the_account_can_not_do_fails_without_a_request():
    replica = Replica()
    replica.client.refusal = UnsupportedError("filter.tag needs another endpoint", requests=0)

    await replica.handle(command())

    failed = replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "unsupported"
    assert replica.client.requests == []


async def test_a_page_is_tried_again_until_it_comes():
    replica = Replica()
    replica.client.fail_next(
        ProviderUnavailableError("down"), UnknownRefusalError("code 777"), ProviderUnavailableError("x")
    )

    await replica.handle(command())

    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.pages, end.requests) == (3, 6)
    assert replica.meter.requests == {
        ("etelecom", "provider_unavailable"): 2,
        ("etelecom", "bad_response"): 1,
        ("etelecom", "ok"): 3,
    }
    assert len(replica.meter.seconds) == 6


async def test_a_refusal_that_nobody_documented_ends_the_job_after_the_allowed_attempts():
    replica = Replica()
    replica.client.fail_next(*[UnknownRefusalError("code 777")] * 20)

    await replica.handle(command())

    failed = replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.error.code, failed.error.attempts, failed.error.retryable) == (
        "bad_response",
        UNKNOWN_ATTEMPTS,
        True,
    )


def test_a_named_wait_is_told_with_its_end_and_waited_for():
    async def story() -> tuple[Replica, float]:
        replica = Replica(policy=RetryPolicy(base=0.0))
        replica.client.fail_next(RateLimitedError("slow down", retry_after=30.0))
        started = asyncio.get_running_loop().time()
        await replica.handle(command())
        return replica, asyncio.get_running_loop().time() - started

    replica, seconds = run(random.Random(1), story())

    assert kinds(replica.events) == ["started", "waiting", "completed"]
    waiting = replica.events[1]
    assert isinstance(waiting, JobWaiting)
    assert (waiting.reason, waiting.until) == ("rate_limited", EPOCH + timedelta(seconds=30))
    assert seconds >= 30
    assert "waiting" in [status.state for status in replica.board.posted]


async def test_a_deadline_that_has_passed_fails_without_a_request():
    replica = Replica()

    await replica.handle(command(not_after="2026-01-01T00:00:00Z"))

    failed = replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "deadline_exceeded"
    assert replica.client.requests == []


async def test_a_deadline_ends_a_request_that_hangs():
    replica = Replica()
    replica.client.gate.clear()
    not_after = (EPOCH + timedelta(seconds=0.05)).isoformat()

    delivery = await replica.handle(command(not_after=not_after))

    failed = replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "deadline_exceeded"
    assert delivery.acks == 1


@pytest.mark.parametrize("paging", ["cursor", "offset"])
async def test_a_ceiling_in_pages_is_never_read_past(paging):
    replica = Replica(FakeClient(40, paging=paging), prefetch=8)

    await replica.handle(command(max_pages=3))

    assert len(replica.client.requests) == 3
    assert [page.last for page in replica.pages] == [False, False, True]
    assert replica.pages[-1].next_cursor is None
    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.verdict, end.reason, end.pages) == ("truncated", "max_pages", 3)


async def test_a_ceiling_in_followers_cuts_the_page_in_which_it_is_reached():
    replica = Replica(FakeClient(40))

    await replica.handle(command(max_followers=7))

    assert replica.ids == replica.client.users[:7]
    assert len(replica.client.requests) == 2
    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.followers, end.verdict, end.reason) == (7, "truncated", "max_followers")


async def test_ceilings_that_the_list_just_fits_under_truncate_nothing():
    replica = Replica(FakeClient(12))

    await replica.handle(command(max_followers=12, max_pages=3))

    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert end.verdict == "complete"


async def test_a_list_that_the_provider_caps_is_truncated():
    client = FakeClient(40, paging="offset")
    client.cap = 20
    replica = Replica(client)

    await replica.handle(command())

    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.verdict, end.reason, end.followers) == ("truncated", "provider_cap", 20)


async def test_rows_that_come_twice_are_published_once_and_called_drift():
    client = FakeClient(12, paging="offset")
    replica = Replica(client, prefetch=1)

    async def follow_in_between(cursor: str | None) -> None:
        if cursor == "4" and "new" not in client.users:
            client.users.insert(0, "new")

    client.before_request = follow_in_between
    await replica.handle(command())

    assert len(replica.ids) == len(set(replica.ids)) == 12
    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.verdict, end.duplicates_dropped, end.total_first, end.total_last) == ("drifted", 1, 12, 13)


async def test_what_was_published_before_a_crash_is_not_published_again_when_rows_move():
    client = FakeClient(12, paging="offset")
    first = Replica(client, prefetch=1)
    client.fail_at("4", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await first.handle(command())
    client.users.insert(0, "new")
    second = Replica(client, log=first.log, status=first.board)

    await second.handle(command(deliveries=2))

    assert len(second.ids) == len(set(second.ids)) == 12
    assert second.pages[-1].progress.duplicates_dropped == 1


async def test_a_page_too_large_for_the_server_comes_in_parts():
    replica = Replica(FakeClient(60), log=FakeLog(max_payload=3_300))

    await replica.handle(command(page_size=60))

    parts = replica.pages
    assert len(parts) > 1
    assert [(part.page, part.part, part.parts) for part in parts] == [
        (1, number, len(parts)) for number in range(1, len(parts) + 1)
    ]
    assert replica.ids == replica.client.users
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]


async def test_a_crash_between_parts_is_made_good_without_repeating_anybody():
    client = FakeClient(60)
    replica = Replica(client, log=FakeLog(max_payload=3_300))
    await replica.handle(command(page_size=60))
    whole = replica.ids
    cut = FakeLog(max_payload=3_300)
    cut.stored = [one for one in replica.log.stored if one.subject == PAGES][:1]
    cut._sequences = iter(range(100, 1000))  # type: ignore[assignment]
    second = Replica(client, log=cut)

    await second.handle(command(page_size=60, deliveries=2))

    assert second.ids == whole
    parts = second.pages
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert parts[-1].part == parts[-1].parts
    assert second.events[-1].followers == 60  # type: ignore[union-attr]


async def test_a_lost_acknowledgement_of_a_page_is_found_out_from_the_log():
    replica = Replica()
    replica.log.fail_next("ack_lost", None, "lost", None, "ack_lost")

    await replica.handle(command())

    assert replica.ids == replica.client.users
    assert kinds(replica.events) == ["started", "completed"]


async def test_a_worker_whose_job_was_taken_over_says_nothing_more():
    replica = Replica()
    rival = Replica(FakeClient(12), log=replica.log, worker="worker-2")
    replica.client.gate.clear()
    mine = command()
    task = asyncio.create_task(replica.handler.handle(mine))
    while not replica.client.requests:
        await asyncio.sleep(0)

    await rival.handle(command(deliveries=2))
    replica.client.gate.set()
    await task

    assert (mine.acks, mine.naks) == (0, [])
    assert replica.ids == rival.client.users
    assert kinds(replica.events) == ["started", "started", "completed"]


async def test_a_worker_that_loses_to_a_duplicate_command_steps_back_until_that_is_done():
    replica = Replica()
    rival = Replica(FakeClient(12), log=replica.log, worker="worker-2")
    replica.client.gate.clear()
    mine = command(sequence=1)
    task = asyncio.create_task(replica.handler.handle(mine))
    while not replica.client.requests:
        await asyncio.sleep(0)

    await rival.handle(command(sequence=2))
    replica.client.gate.set()
    await task

    assert (mine.acks, mine.naks) == (0, [30.0])


async def test_a_zombies_failure_is_no_dead_letter_and_not_the_jobs_end():
    replica = Replica()
    rival = Replica(FakeClient(12), log=replica.log, worker="worker-2")
    replica.client.gate.clear()
    replica.client.fail_next(UnauthorizedError("the key was rotated meanwhile"))
    mine = command()
    task = asyncio.create_task(replica.handler.handle(mine))
    while not replica.client.requests:
        await asyncio.sleep(0)

    await rival.handle(command(deliveries=2))
    replica.client.gate.set()
    await task

    assert kinds(replica.events) == ["started", "started", "completed"]
    assert replica.letters.letters == []
    assert (mine.acks, mine.naks) == (0, [])


async def test_a_second_message_of_a_job_in_hand_comes_back_later_without_a_request():
    replica = Replica()
    replica.client.gate.clear()
    task = asyncio.create_task(replica.handler.handle(command()))
    while not replica.client.requests:
        await asyncio.sleep(0)

    second = await replica.handle(command(sequence=2))

    assert (second.acks, second.naks, len(replica.client.requests)) == (0, [5.0], 1)
    replica.client.gate.set()
    await task


async def test_a_second_message_of_a_job_in_another_replicas_hands_comes_back_later():
    first, board = Replica(), FakeStatusBoard()
    status = JobStatus(
        job_id="j1",
        provider="etelecom",
        account="shop",
        oa_id="1",
        state="running",
        updated_at=EPOCH,
        command_sequence=1,
    )
    board.bucket.put("j1", msgspec.json.encode(status))
    second = Replica(FakeClient(12), log=first.log, status=board, worker="worker-2")

    early = await second.handle(command(sequence=2))
    second.clock.advance(31)
    late = await second.handle(command(sequence=2, deliveries=2))

    assert (early.acks, early.naks) == (0, [5.0])
    assert late.acks == 1
    assert second.ids == second.client.users


async def test_an_unforeseen_fault_is_tried_again_a_few_times_and_then_a_dead_letter(faults):
    replica = Replica()
    replica.client.fail_next(*[ZeroDivisionError("a bug")] * 20)

    deliveries = [await replica.handle(command(deliveries=n + 1)) for n in range(FAULTS_ALLOWED + 1)]

    assert [delivery.naks for delivery in deliveries] == [[5.0]] * FAULTS_ALLOWED + [[]]
    assert deliveries[-1].acks == 1
    failed = replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "internal"
    assert "a bug" not in failed.error.message
    assert len(replica.letters.letters) == 1
    assert len(faults) == replica.meter.faults["etelecom"] == FAULTS_ALLOWED


async def test_a_held_command_is_beaten_for_until_it_is_settled():
    replica = Replica(ack_wait=0.03)
    replica.client.gate.clear()
    delivery = command()
    task = asyncio.create_task(replica.handler.handle(delivery))
    while delivery.beats < 3:
        await asyncio.sleep(0.005)
    replica.client.gate.set()
    await task
    beats = delivery.beats

    await asyncio.sleep(0.05)

    assert delivery.beats == beats
    assert delivery.acks == 1


def test_a_held_job_is_posted_with_each_beat():
    async def main() -> Replica:
        replica = Replica(ack_wait=30.0)
        replica.client.gate.clear()
        task = asyncio.create_task(replica.handle(command()))
        await asyncio.sleep(35)
        assert len(replica.board.posted) == 1 + 3, "at the start, and each ten seconds"
        replica.client.gate.set()
        await task
        return replica

    assert run(random.Random(1), main()).board.states == ["running", "completed"]


async def test_a_settled_command_leaves_no_task_behind():
    before = asyncio.all_tasks()

    await Replica().handle(command())

    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert "command.heartbeat" not in left


async def test_a_cancelled_job_ends_as_cancelled():
    replica = Replica(FakeClient(12))
    replica.client.gate.clear()
    delivery = command()
    task = asyncio.create_task(replica.handler.handle(delivery))
    while not replica.client.requests:
        await asyncio.sleep(0)

    replica.handler.running["j1"].signals.cancelled.set()
    replica.client.gate.set()
    await task

    assert kinds(replica.events) == ["started", "cancelled"]
    assert delivery.acks == 1
    assert replica.board.settled[-1].state == "cancelled"


def slowly(delivery: FakeDelivery, seconds: float) -> FakeDelivery:
    """Let the acknowledgement take so long."""
    settle = delivery.ack

    async def ack() -> None:
        await asyncio.sleep(seconds)
        await settle()

    delivery.ack = ack  # type: ignore[method-assign]
    return delivery


def test_a_heart_that_beats_until_a_late_acknowledgement_says_nothing_more_of_the_job():
    async def main() -> tuple[Replica, FakeDelivery, int]:
        replica = Replica(ack_wait=3.0)
        delivery = slowly(command(), 20.5)
        await replica.handle(delivery)
        posted = replica.board.posted
        ended = next(number for number, one in enumerate(posted) if one.page == 3)
        return replica, delivery, len(posted) - ended - 1

    replica, delivery, later = run(random.Random(1), main())
    assert delivery.beats == 20, "every second, up to the acknowledgement"
    assert later == 0
    assert replica.board.states == ["running", "completed"]


def test_a_command_whose_job_is_over_says_nothing_while_the_log_answers_slowly():
    async def main() -> tuple[Replica, int]:
        replica = Replica(ack_wait=3.0)
        await replica.handle(command())
        posted = len(replica.board.posted)
        replica.log.reads_unavailable = 9  # about five seconds
        delivery = slowly(command(sequence=2, deliveries=2), 5.0)
        await replica.handle(delivery)
        assert delivery.beats > 4
        return replica, len(replica.board.posted) - posted

    replica, posted = run(random.Random(1), main())
    assert posted == 0
    assert replica.board.states == ["running", "completed"]


def test_a_job_that_nats_takes_nothing_from_waits_for_nats_until_it_does():
    async def main() -> Replica:
        replica = Replica(FakeClient(5), ack_wait=30.0)
        replica.log.fail_next(None, *(["lost"] * 8))  # type: ignore[arg-type]
        await replica.handle(command())
        return replica

    replica = run(random.Random(1), main())
    told = [(one.state, one.reason, one.wait and one.wait.owner) for one in replica.board.posted]
    moves = ("running", None, None)
    assert told == [moves, ("waiting", "nats", "nats"), moves, moves]
    wait = replica.board.posted[1].wait
    assert wait is not None
    assert (wait.nats_code, wait.nats_error) == (None, "publish: no answer")
    assert replica.board.settled[-1].wait is None


def test_a_job_whose_dead_letter_is_not_taken_waits_for_nats():
    async def main() -> Replica:
        replica = Replica(ack_wait=3.0)
        replica.client.fail_next(UnauthorizedError("no"))
        store, tries = replica.letters.store, iter(range(4))

        async def refuse(*arguments, failed, **options):
            for _ in tries:
                await asyncio.sleep(0.5)
                failed(10023, "insufficient resources")
            await store(*arguments, **options)

        async def storing(provider, body, headers, key, failed):
            await refuse(provider, body, headers, key, failed=failed)

        replica.letters.store = storing  # type: ignore[method-assign, assignment]
        await replica.handle(command())
        return replica

    replica = run(random.Random(1), main())
    waits = [one.wait for one in replica.board.posted if one.wait]
    assert {(wait.owner, wait.nats_code) for wait in waits} == {("nats", 10023)}
    assert "FOLLOWERS_DEAD" in waits[0].text
    assert replica.board.states[-1] == "failed"


def test_a_status_names_the_job_event_and_the_generation_that_it_rests_on():
    async def main() -> Replica:
        replica = Replica()
        await replica.handle(command())
        return replica

    replica = run(random.Random(1), main())
    started, completed = (entry.sequence for entry in replica.log.on(EVENTS))
    assert {one.event_sequence for one in replica.board.posted} == {started}
    assert (replica.board.settled[-1].event_sequence, replica.board.settled[-1].generation) == (completed, 1)


@pytest.mark.parametrize("page_failing", [2, 3])
async def test_a_job_that_fails_before_its_first_page_leaves_what_its_predecessor_had_counted(
    page_failing: int, faults
):
    replica = Replica(FakeClient(17))
    replica.client.fail_at({2: "1004", 3: "1009"}[page_failing], ZeroDivisionError("a bug"), UnauthorizedError("no"))
    await replica.handle(command())
    before = replica.pages[-1]

    await replica.handle(command(deliveries=2))

    seal, failed = replica.pages[-1], replica.events[-1]
    assert isinstance(failed, JobFailed)
    assert (seal.page, seal.part, seal.parts, seal.last, seal.followers) == (page_failing, 1, 2, False, [])
    assert (seal.total, seal.cursor, seal.next_cursor) == (17, before.next_cursor, None)
    # The request that failed by a bug of ours is not known to have been made.
    assert seal.progress == msgspec.structs.replace(before.progress, requests=seal.progress.requests)
    assert seal.progress.followers == 5 * (page_failing - 1)
    assert before.progress.requests < seal.progress.requests <= before.progress.requests + 2


@pytest.mark.parametrize(
    ("state", "seconds_ago", "sequence", "runs"),
    [
        ("running", 29.999, 9, False),
        ("waiting", 29.999, 9, False),
        ("running", 30.0, 9, True),  # of `ack_wait`: whoever had it is gone
        ("queued", 0.0, 9, True),
        ("running", 0.0, 1, True),  # the status of this very command
    ],
)
async def test_a_job_that_a_status_shows_in_other_hands_is_left_there_as_long_as_that_is_news(
    state: str, seconds_ago: float, sequence: int, runs: bool
):
    replica = Replica(ack_wait=30.0)
    known = JobStatus(
        job_id="j1", provider="etelecom", account="shop", oa_id="1", state=state,  # type: ignore[arg-type]
        updated_at=EPOCH - timedelta(seconds=seconds_ago), command_sequence=sequence,
    )  # fmt: skip
    replica.board.bucket.put("j1", msgspec.json.encode(known))

    delivery = await replica.handle(command())

    assert (delivery.acks, delivery.naks) == ((1, []) if runs else (0, [5.0]))
    assert bool(replica.client.requests) == runs


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "queued"])
def test_the_last_status_of_an_attempt_says_how_it_ended_and_when(how: str):
    async def main() -> JobStatus:
        loop = asyncio.get_running_loop()
        replica = Replica(FakeClient(12), now=lambda: EPOCH + timedelta(seconds=loop.time()))

        async def act(cursor: str | None) -> None:
            await asyncio.sleep(10)
            if cursor != "1004":
                return
            if how == "failed":
                raise UnauthorizedError("no", http_status=401)
            if how == "cancelled":
                replica.handler.cancel("j1")
                await asyncio.sleep(1)
            if how == "queued":
                replica.draining.set()
                await asyncio.sleep(1)

        replica.client.before_request = act
        await replica.handle(command())
        (settled,) = replica.board.settled
        return settled

    told = run(random.Random(1), main())
    assert (told.state, told.worker, told.started_at, told.attempt) == (how, "worker-1", EPOCH, 1)
    assert told.finished_at == (None if how == "queued" else told.updated_at)
    assert (told.reason, told.until, told.eta) == (None, None, None)
    assert (told.verdict, told.percent) == (("complete", 100.0) if how == "completed" else (None, told.percent))
    assert (told.error and (told.error.code, told.error.http_status, told.error.attempts)) == (
        ("unauthorized", 401, 1) if how == "failed" else None
    )
    assert (told.wait and (told.wait.owner, told.wait.since)) == (
        ("queue", told.updated_at) if how == "queued" else None
    )
    assert told.generation == 1
    assert told.event_sequence > 0
