"""`EventLog`: what the core relies on, for the fake and for JetStream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import pytest
from nats.js import JetStreamContext

from schemas.subjects import EVENTS_STREAM
from tests.contract.conftest import Connect
from tests.fakes import Clock, FakeLog
from worker.core.ports.event_log import Entry, EventLog, LogUnavailableError, PayloadTooLargeError, WrongSequenceError
from worker.embedded import EmbeddedServer
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

SUBJECT = "followers.page.etelecom.579745863508352884.job-1"
OTHER = "followers.page.etelecom.579745863508352884.job-2"
TIMEOUT = 1.0
MANY = 5_000_000
"""More than any sequence here."""


async def nothing() -> None:
    """What the fake needs to do about a real server's business."""


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A log, the same log as another replica has it, and what can happen to them."""

    log: EventLog
    rival: EventLog
    lose_stream: Callable[[], Awaitable[None]] = nothing
    go_away: Callable[[], Awaitable[None]] = nothing
    come_back: Callable[[], Awaitable[None]] = nothing


def fake_rig(log: FakeLog) -> Rig:
    async def go_away() -> None:
        log.down = True

    async def come_back() -> None:
        log.down = False

    return Rig(log=log, rival=log, lose_stream=go_away, go_away=go_away, come_back=come_back)


async def real_rig(server: EmbeddedServer, connect: Connect) -> Rig:
    client, other = await connect(server), await connect(server)

    async def lose_stream() -> None:
        await JetStreamContext(client).delete_stream(EVENTS_STREAM)

    return Rig(
        log=JetStreamLog(client, timeout=TIMEOUT),
        rival=JetStreamLog(other, timeout=TIMEOUT),
        lose_stream=lose_stream,
        go_away=server.kill,
        come_back=server.restart,
    )


@pytest.fixture
async def real(server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on the shared server."""
    return await real_rig(server, connect)


@pytest.fixture
async def mortal(mortal_server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on a server of the test's own."""
    return await real_rig(mortal_server, connect)


@pytest.fixture(params=["fake", "fake, ids first", "jetstream"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A log that stays where it is."""
    if request.param == "jetstream":
        return cast(Rig, request.getfixturevalue("real"))
    return fake_rig(FakeLog(dedupe_first=request.param != "fake"))


@pytest.fixture(params=["fake", "jetstream"])
def mortal_rig(request: pytest.FixtureRequest) -> Rig:
    """A log whose server may go away."""
    return cast(Rig, request.getfixturevalue("mortal")) if request.param == "jetstream" else fake_rig(FakeLog())


async def test_a_subject_without_messages_has_no_last_one(rig: Rig) -> None:
    await rig.log.publish(OTHER, b"other", {}, 0)

    assert await rig.log.last(SUBJECT) is None


async def test_the_last_message_is_the_subjects_newest_and_never_stale(rig: Rig) -> None:
    sequence = 0
    for number in range(20):
        sequence = await rig.rival.publish(SUBJECT, str(number).encode(), {}, sequence)
        await rig.rival.publish(OTHER + str(number), b"other", {}, 0)

        last = await rig.log.last(SUBJECT)

        assert last is not None
        assert (last.sequence, last.data) == (sequence, str(number).encode())


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe not UTF-8", "Trần Thị Bưởi".encode(), b"x" * 200_000])
async def test_a_body_comes_back_byte_for_byte(rig: Rig, data: bytes) -> None:
    sequence = await rig.log.publish(SUBJECT, data, {}, 0)

    assert await rig.log.last(SUBJECT) == Entry(sequence, data, (await _last(rig)).headers, SUBJECT)
    assert (await _last(rig)).data == data


async def test_headers_come_back_as_text_whatever_the_language(rig: Rig) -> None:
    headers = {
        "Content-Type": "application/json",
        "ce-id": "job-1:1.1",
        "Followers-Note": "đã quan tâm — Nguyễn Văn Ổi: 'x=y'; ấ",
        "Followers-Encoded": "=?utf-8?q?nothing?=",
    }

    await rig.log.publish(SUBJECT, b"{}", headers, 0)

    last = await _last(rig)
    assert {name: last.headers[name] for name in headers} == headers
    assert all(type(value) is str for value in last.headers.values())
    [read] = [entry async for entry in rig.log.read(SUBJECT, 1, MANY)]
    assert read == last


async def test_publishing_on_the_expected_sequence_appends_and_returns_the_new_one(rig: Rig) -> None:
    first = await rig.log.publish(SUBJECT, b"1", {}, 0)
    await rig.log.publish(OTHER, b"other", {}, 0)
    second = await rig.log.publish(SUBJECT, b"2", {}, first)

    assert 0 < first < second
    assert await _bodies(rig) == [b"1", b"2"]


@pytest.mark.parametrize("wrong", [-1, 1, 1000], ids=["older", "newer", "far ahead"])
async def test_publishing_on_a_wrong_sequence_appends_nothing(rig: Rig, wrong: int) -> None:
    first = await rig.log.publish(SUBJECT, b"1", {}, 0)
    second = await rig.log.publish(SUBJECT, b"2", {}, first)

    with pytest.raises(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"3", {}, second + wrong)

    assert await _bodies(rig) == [b"1", b"2"]


async def test_expecting_an_empty_subject_that_is_not_empty_appends_nothing(rig: Rig) -> None:
    await rig.rival.publish(SUBJECT, b"theirs", {}, 0)

    with pytest.raises(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"mine", {}, 0)

    assert await _bodies(rig) == [b"theirs"]


async def test_expecting_a_message_on_an_empty_subject_appends_nothing(rig: Rig) -> None:
    other = await rig.log.publish(OTHER, b"other", {}, 0)

    with pytest.raises(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"1", {}, other)

    assert await rig.log.last(SUBJECT) is None


async def test_of_racing_publishers_one_wins(rig: Rig) -> None:
    expected = 0
    for round_ in range(15):
        racers = [rig.log.publish(SUBJECT, f"{round_}.{racer}".encode(), {}, expected) for racer in range(3)]
        racers += [rig.rival.publish(SUBJECT, f"{round_}.{racer}".encode(), {}, expected) for racer in range(3, 6)]

        results = await asyncio.gather(*racers, return_exceptions=True)

        won = [result for result in results if isinstance(result, int)]
        assert len(won) == 1, results
        assert sum(isinstance(result, WrongSequenceError) for result in results) == 5
        expected = won[0]
    assert len(await _bodies(rig)) == 15


async def test_the_same_publish_again_is_a_wrong_sequence(rig: Rig) -> None:
    headers = {"Nats-Msg-Id": "job-1:1.1"}
    await rig.log.publish(SUBJECT, b"page", headers, 0)

    with pytest.raises(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"page", headers, 0)

    assert await _bodies(rig) == [b"page"]


async def test_an_id_that_is_known_is_no_success_even_on_the_right_sequence(rig: Rig) -> None:
    headers = {"Nats-Msg-Id": "job-1:1.1"}
    sequence = await rig.rival.publish(SUBJECT, b"theirs", headers, 0)

    with pytest.raises(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"mine", headers, sequence)

    assert await _bodies(rig) == [b"theirs"]


async def test_a_refused_publish_leaves_its_id_free(rig: Rig) -> None:
    headers = {"Nats-Msg-Id": "job-1:1.1"}
    with pytest.raises(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"page", headers, 7)

    await rig.log.publish(SUBJECT, b"page", headers, 0)

    assert await _bodies(rig) == [b"page"]


async def test_a_body_beyond_max_payload_is_too_large(rig: Rig) -> None:
    with pytest.raises(PayloadTooLargeError):
        await rig.log.publish(SUBJECT, b"x" * (rig.log.max_payload + 1), {}, 0)

    assert await rig.log.last(SUBJECT) is None


async def test_headers_count_against_max_payload_and_cost_nobody_the_connection(rig: Rig) -> None:
    headers = {"Followers-Note": "é" * 600}

    with pytest.raises(PayloadTooLargeError):
        await rig.log.publish(SUBJECT, b"x" * (rig.log.max_payload - 1000), headers, 0)

    await rig.log.publish(SUBJECT, b"x" * (rig.log.max_payload - 3000), headers, 0)
    assert len((await _last(rig)).data) == rig.log.max_payload - 3000


async def test_headers_that_no_stream_stores_are_too_large(rig: Rig) -> None:
    with pytest.raises(PayloadTooLargeError):
        await rig.log.publish(SUBJECT, b"{}", {"Followers-Note": "x" * 65_536}, 0)

    assert await rig.log.last(SUBJECT) is None


async def test_a_message_as_large_as_the_server_takes_is_taken(rig: Rig) -> None:
    # The adapter adds its expectation to the headers, so a little room stays.
    data = b"x" * (rig.log.max_payload - 256)

    await rig.log.publish(SUBJECT, data, {}, 0)

    assert (await _last(rig)).data == data


async def test_reading_yields_a_subjects_messages_in_order_from_first_to_last(rig: Rig) -> None:
    sequences = [0]
    for number in range(6):
        sequences.append(await rig.log.publish(SUBJECT, str(number).encode(), {}, sequences[-1]))
        await rig.log.publish(OTHER + str(number), b"other", {}, 0)

    everything = [entry async for entry in rig.log.read(SUBJECT, 1, MANY)]
    some = [entry.data async for entry in rig.log.read(SUBJECT, sequences[2], sequences[4])]
    between = [entry.data async for entry in rig.log.read(SUBJECT, sequences[2] + 1, sequences[4] - 1)]

    assert [entry.sequence for entry in everything] == sequences[1:]
    assert [entry.data for entry in everything] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert {entry.subject for entry in everything} == {SUBJECT}
    assert some == [b"1", b"2", b"3"]
    assert between == [b"2"]


async def test_reading_where_nothing_is_yields_nothing(rig: Rig) -> None:
    sequence = await rig.log.publish(OTHER, b"other", {}, 0)
    mine = await rig.log.publish(SUBJECT, b"1", {}, 0)

    assert [entry async for entry in rig.log.read(SUBJECT, 1, sequence)] == []
    assert [entry async for entry in rig.log.read(SUBJECT, mine + 1, MANY)] == []
    assert [entry async for entry in rig.log.read(SUBJECT, mine, mine - 1)] == []


async def test_reading_goes_on_while_others_append(rig: Rig) -> None:
    first = await rig.log.publish(SUBJECT, b"1", {}, 0)
    last = await rig.log.publish(SUBJECT, b"2", {}, first)

    seen = []
    async for entry in rig.log.read(SUBJECT, 1, last):
        seen.append(entry.data)
        newest = await _last(rig)
        await rig.rival.publish(SUBJECT, b"later", {}, newest.sequence)

    assert seen == [b"1", b"2"]


async def test_a_log_that_is_not_there_is_unavailable_and_not_empty(rig: Rig) -> None:
    await rig.log.publish(SUBJECT, b"1", {}, 0)
    await rig.lose_stream()

    with pytest.raises(LogUnavailableError):
        await rig.log.last(SUBJECT)
    with pytest.raises(LogUnavailableError):
        await rig.log.publish(SUBJECT, b"2", {}, 1)
    with pytest.raises(LogUnavailableError):
        _ = [entry async for entry in rig.log.read(SUBJECT, 1, MANY)]


async def test_a_server_that_is_away_is_unavailable_and_the_log_has_the_truth_later(mortal_rig: Rig) -> None:
    rig = mortal_rig
    first = await rig.log.publish(SUBJECT, b"1", {"Nats-Msg-Id": "job-1:1.1"}, 0)
    again = {"Nats-Msg-Id": "job-1:2.1"}

    await rig.go_away()
    with pytest.raises(LogUnavailableError):
        await rig.log.last(SUBJECT)
    with pytest.raises(LogUnavailableError):
        await rig.log.publish(SUBJECT, b"2", again, first)
    await rig.come_back()

    # Whether that publish landed with the reconnection or not: trying again can't store it twice.
    await _until_available(rig)
    with contextlib.suppress(WrongSequenceError):
        await rig.log.publish(SUBJECT, b"2", again, first)
    assert await _bodies(rig) == [b"1", b"2"]


async def test_a_reading_that_is_interrupted_says_so(mortal_rig: Rig) -> None:
    rig = mortal_rig
    first = await rig.log.publish(SUBJECT, b"1", {}, 0)
    await rig.log.publish(SUBJECT, b"2", {}, first)
    reading = rig.log.read(SUBJECT, 1, MANY)
    assert (await anext(reading)).data == b"1"

    await rig.go_away()

    with pytest.raises(LogUnavailableError):
        await anext(reading)
    await rig.come_back()
    await _until_available(rig)
    assert [entry.data async for entry in rig.log.read(SUBJECT, first + 1, MANY)] == [b"2"]


@pytest.fixture
async def small_server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(max_payload=65_536) as server:
        yield server


async def test_max_payload_is_what_the_server_says(small_server: EmbeddedServer, connect: Connect) -> None:
    client = await connect(small_server)
    await reconcile(client, TopologyConfig())
    log = JetStreamLog(client, timeout=TIMEOUT)

    assert log.max_payload == 65_536
    with pytest.raises(PayloadTooLargeError):
        await log.publish(SUBJECT, b"x" * 65_000, {"Followers-Note": "n" * 600}, 0)
    await log.publish(SUBJECT, b"x" * 64_000, {"Followers-Note": "n" * 600}, 0)


async def test_a_message_beyond_the_streams_own_limit_is_too_large(
    server: EmbeddedServer, connect: Connect, js: JetStreamContext
) -> None:
    config = (await js.stream_info(EVENTS_STREAM)).config
    config.max_msg_size = 1000
    await js.update_stream(config)
    log = JetStreamLog(await connect(server), timeout=TIMEOUT)

    with pytest.raises(PayloadTooLargeError):
        await log.publish(SUBJECT, b"x" * 2000, {}, 0)

    assert await log.last(SUBJECT) is None


async def test_a_full_stream_takes_nothing_and_loses_nothing(
    server: EmbeddedServer, connect: Connect, js: JetStreamContext
) -> None:
    config = (await js.stream_info(EVENTS_STREAM)).config
    config.max_bytes = 3000
    await js.update_stream(config)
    log = JetStreamLog(await connect(server), timeout=TIMEOUT)
    first = await log.publish(SUBJECT, b"x" * 2000, {}, 0)

    with pytest.raises(LogUnavailableError):
        await log.publish(SUBJECT, b"y" * 2000, {}, first)

    assert [entry.sequence async for entry in log.read(SUBJECT, 1, MANY)] == [first]


async def test_a_purged_subject_is_empty_again(server: EmbeddedServer, connect: Connect, js: JetStreamContext) -> None:
    log = JetStreamLog(await connect(server), timeout=TIMEOUT)
    await log.publish(SUBJECT, b"1", {}, 0)

    await js.purge_stream(EVENTS_STREAM, subject=SUBJECT)

    assert await log.last(SUBJECT) is None


async def test_the_fake_forgets_an_id_after_its_window() -> None:
    clock = Clock()
    log = FakeLog(window=120, clock=clock)
    first = await log.publish(SUBJECT, b"1", {"Nats-Msg-Id": "a"}, 0)

    clock.advance(120)

    assert await log.publish(SUBJECT, b"1", {"Nats-Msg-Id": "a"}, first) > first


async def test_the_fake_meets_the_faults_it_was_told_of() -> None:
    log = FakeLog()
    log.fail_next("lost", "ack_lost", "late")

    for _ in range(2):
        with pytest.raises(LogUnavailableError):
            await log.publish(SUBJECT, b"1", {}, 0)
    with pytest.raises(LogUnavailableError):
        await log.publish(SUBJECT, b"2", {}, 1)

    assert (await _last_of(log)).data == b"1"
    assert (await _last_of(log)).data == b"2"
    log.reads_unavailable = 1
    with pytest.raises(LogUnavailableError):
        await log.last(SUBJECT)


async def _last(rig: Rig) -> Entry:
    return await _last_of(rig.log)


async def _last_of(log: EventLog) -> Entry:
    last = await log.last(SUBJECT)
    assert last is not None
    return last


async def _bodies(rig: Rig) -> list[bytes]:
    return [entry.data async for entry in rig.log.read(SUBJECT, 1, MANY)]


async def _until_available(rig: Rig) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await rig.log.last(SUBJECT)
            except LogUnavailableError:
                continue
            return
