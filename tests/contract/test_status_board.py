"""`StatusBoard`: what the core relies on, for the fake and for JetStream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, cast

import msgspec
import pytest
from nats.aio.client import Client

from schemas.events import FetchError
from schemas.jobs import JobStatus
from schemas.subjects import JOBS_BUCKET
from schemas.types import JobState
from schemas.wire import decode
from tests.contract.conftest import Connect
from tests.fakes import FakeBucket, FakeStatusBoard
from worker.core.ports.job_store import BoardUnavailableError, StatusBoard
from worker.embedded import EmbeddedServer
from worker.jetstream.kv.job_status import REMEMBERED, JetStreamStatusBoard

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AT_ONCE = 0.5
"""Seconds: well below the second that throttling takes."""
LONGER = 1.4
"""Seconds: after this, what was throttled is written."""


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A bucket, and the boards of the replicas that share it."""

    board: Callable[[], Awaitable[StatusBoard]]
    """Another replica's."""
    stored: Callable[[str], Awaitable[JobStatus | None]]
    """What everybody sees."""
    writes: Callable[[], Awaitable[int]]
    put: Callable[[str, bytes], Awaitable[None]]
    delete: Callable[[str], Awaitable[None]]
    go_away: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


class Cable:
    """A way to the server that can be cut: what is sent meanwhile arrives later, as after a network's fault."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.uncut = asyncio.Event()
        self.uncut.set()
        self.url = ""
        self._port = int(server.url.rpartition(":")[2])
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self._stack.callback(server.close)
        self.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._stack.callback(writer.close)
        self._stack.callback(to_server.close)
        await asyncio.gather(self._carry(reader, to_server), self._carry(from_server, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self.uncut.wait()
            writer.write(data)
        writer.close()


def status(state: JobState = "running", *, job_id: str = "job-1", page: int = 0, worker: str = "a") -> JobStatus:
    """Return a status as a worker would post it."""
    return JobStatus(
        job_id=job_id,
        provider="etelecom",
        account="shop",
        oa_id="579745863508352884",
        state=state,
        page=page,
        worker=worker,
        updated_at=NOW,
    )


@pytest.fixture
def fake() -> Rig:
    """In memory."""
    bucket = FakeBucket()

    async def board() -> StatusBoard:
        return FakeStatusBoard(bucket)

    async def stored(job_id: str) -> JobStatus | None:
        _, value = bucket.values.get(job_id, (0, b""))
        return decode(value, JobStatus) if value else None

    async def writes() -> int:
        return len(bucket.writes)

    async def put(job_id: str, value: bytes) -> None:
        bucket.put(job_id, value)

    async def delete(job_id: str) -> None:
        bucket.delete(job_id)

    async def go_away() -> None:
        bucket.down = True

    async def come_back() -> None:
        bucket.down = False

    return Rig(board=board, stored=stored, writes=writes, put=put, delete=delete, go_away=go_away, come_back=come_back)


@contextlib.asynccontextmanager
async def jetstream(server: EmbeddedServer, client: Client) -> AsyncIterator[Rig]:
    bucket = await client.jetstream().key_value(JOBS_BUCKET)
    running: list[asyncio.Task[None]] = []

    async def board() -> StatusBoard:
        board = JetStreamStatusBoard(client, timeout=0.5)
        running.append(asyncio.create_task(board.run()))
        return board

    async def stored(job_id: str) -> JobStatus | None:
        entry = await bucket.get(job_id)
        return decode(entry.value or b"", JobStatus)

    async def writes() -> int:
        return (await client.jetstream().stream_info(f"KV_{JOBS_BUCKET}")).state.last_seq

    async def put(job_id: str, value: bytes) -> None:
        await bucket.put(job_id, value)

    async def delete(job_id: str) -> None:
        await bucket.delete(job_id)

    yield Rig(
        board=board,
        stored=stored,
        writes=writes,
        put=put,
        delete=delete,
        go_away=server.kill,
        come_back=server.restart,
    )
    for task in running:
        task.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*running, return_exceptions=True)
    )


@pytest.fixture
async def real(server: EmbeddedServer, connect: Connect) -> AsyncIterator[Rig]:
    """JetStream on the shared server."""
    async with jetstream(server, await connect(server)) as rig:
        yield rig


@pytest.fixture
async def mortal(mortal_server: EmbeddedServer, connect: Connect) -> AsyncIterator[Rig]:
    """JetStream on a server of the test's own."""
    async with jetstream(mortal_server, await connect(mortal_server)) as rig:
        yield rig


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A bucket that stays where it is."""
    return cast(Rig, request.getfixturevalue(request.param))


@pytest.fixture(params=["fake", "mortal"])
def mortal_rig(request: pytest.FixtureRequest) -> Rig:
    """A bucket whose server may go away."""
    return cast(Rig, request.getfixturevalue(request.param))


async def test_a_job_that_nobody_knows_has_no_status(rig: Rig) -> None:
    board = await rig.board()

    assert await board.get("job-1") is None


async def test_a_deleted_status_is_none(rig: Rig) -> None:
    board = await rig.board()
    await board.settle(status("completed"))
    await rig.delete("job-1")

    assert await board.get("job-1") is None


@pytest.mark.parametrize("value", [b"not JSON", b"[]", b'{"job_id": "job-1"}', b"\xff\xfe"])
async def test_a_status_that_cant_be_read_is_none_and_can_be_written_over(rig: Rig, value: bytes) -> None:
    board = await rig.board()
    await rig.put("job-1", value)

    assert await board.get("job-1") is None

    board.post(status(page=1))
    await _until(rig, page=1)


async def test_a_status_comes_back_with_every_field(rig: Rig) -> None:
    full = msgspec.structs.replace(
        status("failed", page=7),
        followers=650,
        total=1000,
        percent=65.0,
        attempt=3,
        reason="max_pages",
        until=NOW,
        eta=NOW,
        started_at=NOW,
        finished_at=NOW,
        error=FetchError(code="not_found", message="Không tìm thấy OA: check `oa_id`", retryable=False),
        labels={"chiến dịch": "tết"},
        verdict="drifted",
        command_sequence=12,
    )
    board = await rig.board()

    await board.settle(full)

    assert await board.get("job-1") == full
    assert await (await rig.board()).get("job-1") == full


async def test_a_change_of_state_is_written_at_once(rig: Rig) -> None:
    board = await rig.board()
    states: list[JobState] = ["running", "waiting", "running", "waiting"]

    for page, state in enumerate(states, start=1):
        board.post(status(state, page=page))
        await _until(rig, page=page, state=state, within=AT_ONCE)


async def test_without_a_change_of_state_a_job_is_written_once_a_second(rig: Rig) -> None:
    board = await rig.board()
    loop = asyncio.get_running_loop()
    board.post(status(page=0))
    await _until(rig, page=0)
    start, before = loop.time(), await rig.writes()

    for page in range(1, 21):
        board.post(status(page=page))
        await asyncio.sleep(0.01)
    assert await rig.writes() == before

    await _until(rig, page=20)
    assert 0.8 <= loop.time() - start <= LONGER
    assert await rig.writes() == before + 1


async def test_one_job_does_not_hold_up_another(rig: Rig) -> None:
    board = await rig.board()
    board.post(status(job_id="job-1", page=1))
    await _until(rig, page=1)
    board.post(status(job_id="job-1", page=2))

    board.post(status(job_id="job-2", page=1))

    await _until(rig, job_id="job-2", page=1, within=AT_ONCE)
    await _until(rig, job_id="job-1", page=2)


async def test_a_stale_replica_cant_write_over_its_successor(rig: Rig) -> None:
    stale, successor = await rig.board(), await rig.board()
    await stale.get("job-1")
    stale.post(status(page=3, worker="stale"))
    await _until(rig, page=3)
    await successor.get("job-1")
    successor.post(status(page=4, worker="successor"))
    await _until(rig, page=4)

    stale.post(status("waiting", page=3, worker="stale"))
    stale.post(status(page=3, worker="stale"))
    await asyncio.sleep(0)
    await stale.settle(status("queued", page=3, worker="stale"))

    await _stays(rig, page=4, worker="successor", state="running")


async def test_a_look_at_a_job_in_hand_is_no_licence_to_write_over_its_successor(rig: Rig) -> None:
    stale, successor = await rig.board(), await rig.board()
    await stale.get("job-1")
    stale.post(status(page=3, worker="stale"))
    await _until(rig, page=3)
    await successor.get("job-1")
    successor.post(status(page=4, worker="successor"))
    await _until(rig, page=4)

    seen = await stale.get("job-1")  # as a request for its status would
    stale.post(status("waiting", page=3, worker="stale"))

    assert seen is not None
    assert seen.worker == "successor"
    await _stays(rig, page=4, worker="successor", state="running")


async def test_a_replica_that_gets_a_job_again_writes_again(rig: Rig) -> None:
    first, second = await rig.board(), await rig.board()
    await first.get("job-1")
    first.post(status(page=3, worker="first"))
    await _until(rig, page=3)
    await second.get("job-1")
    second.post(status(page=4, worker="second"))
    await _until(rig, page=4)
    first.post(status("waiting", page=3, worker="first"))
    await _stays(rig, page=4, seconds=0.2)
    first.drop("job-1")

    await first.get("job-1")
    first.post(status(page=5, worker="first"))

    await _until(rig, page=5, worker="first", within=AT_ONCE)


async def test_a_terminal_status_is_written_when_settling_returns(rig: Rig) -> None:
    board = await rig.board()
    board.post(status(page=1))

    await board.settle(status("completed", page=2))

    assert await rig.stored("job-1") == status("completed", page=2)


async def test_a_handed_back_job_is_queued_when_settling_returns(rig: Rig) -> None:
    board = await rig.board()
    await board.get("job-1")
    board.post(status(page=1))
    await _until(rig, page=1)

    await board.settle(status("queued", page=1))

    assert await rig.stored("job-1") == status("queued", page=1)


async def test_what_was_posted_before_settling_is_not_written_after_it(rig: Rig) -> None:
    board = await rig.board()
    board.post(status(page=1))
    await _until(rig, page=1)
    board.post(status(page=2))

    await board.settle(status("completed", page=3))

    await _stays(rig, page=3, state="completed", seconds=LONGER)


async def test_a_heartbeat_after_settling_does_not_bring_the_job_back(rig: Rig) -> None:
    board = await rig.board()
    board.post(status(page=1))
    await _until(rig, page=1)
    await board.settle(status("completed", page=2))

    board.post(status(page=2))

    await _stays(rig, page=2, state="completed", seconds=0.3)


async def test_a_job_that_was_handed_back_and_comes_again_is_posted_again(rig: Rig) -> None:
    board = await rig.board()
    await board.get("job-1")
    await board.settle(status("queued", page=1))
    board.drop("job-1")

    await board.get("job-1")
    board.post(status(page=2))

    await _until(rig, page=2, within=AT_ONCE)


async def test_a_terminal_status_wins_over_another_replicas_progress(rig: Rig) -> None:
    ender, other = await rig.board(), await rig.board()
    await ender.get("job-1")
    ender.post(status(page=1, worker="ender"))
    await _until(rig, page=1)
    await other.get("job-1")
    other.post(status(page=2, worker="other"))
    await _until(rig, page=2)

    await ender.settle(status("cancelled", page=1, worker="ender"))

    assert await rig.stored("job-1") == status("cancelled", page=1, worker="ender")
    other.post(status("waiting", page=3, worker="other"))
    await _stays(rig, state="cancelled", seconds=0.3)


async def test_of_two_terminal_statuses_the_first_stays(rig: Rig) -> None:
    first, second = await rig.board(), await rig.board()
    await second.get("job-1")
    await first.settle(status("completed", page=4, worker="first"))

    await second.settle(status("failed", page=3, worker="second"))

    assert await rig.stored("job-1") == status("completed", page=4, worker="first")


async def test_what_is_pending_when_a_job_is_dropped_is_not_written(rig: Rig) -> None:
    board = await rig.board()
    board.post(status(page=1))
    await _until(rig, page=1)
    board.post(status(page=2))

    board.drop("job-1")

    await _stays(rig, page=1, seconds=LONGER)


async def test_dropping_a_job_that_is_not_known_is_harmless(rig: Rig) -> None:
    board = await rig.board()

    board.drop("job-1")

    await board.settle(status("completed"))
    assert await rig.stored("job-1") == status("completed")


async def test_an_outage_costs_a_status_and_no_exception(mortal_rig: Rig) -> None:
    rig = mortal_rig
    board = await rig.board()
    board.post(status(page=1))
    await _until(rig, page=1)
    await rig.go_away()

    assert await board.get("job-1") is None
    board.post(status(page=2))
    await asyncio.wait_for(board.settle(status("completed", job_id="job-2")), 10)

    await rig.come_back()
    board.post(status("waiting", page=3))
    await _until(rig, page=3, within=20)


async def test_a_replica_that_was_cut_off_cant_write_over_its_successor(
    server: EmbeddedServer, connect: Connect, real: Rig
) -> None:
    # Its writes time out, so it can't know what it has in the bucket; what it knows of the time before must hold.
    async with (
        Cable(server) as cable,
        await connect(cable) as client,
        jetstream(server, client) as far,
    ):
        cut_off, successor = await far.board(), await real.board()
        await cut_off.get("job-1")
        cut_off.post(status(page=3, worker="cut off"))
        await _until(real, page=3)
        cable.uncut.clear()
        cut_off.post(status("waiting", page=3, worker="cut off"))
        await successor.get("job-1")
        successor.post(status(page=4, worker="successor"))
        await _until(real, page=4)
        await asyncio.sleep(0.7)  # until the write of the one that is cut off has timed out

        cable.uncut.set()
        cut_off.post(status(page=3, worker="cut off"))

        await _stays(real, page=4, worker="successor")
        successor.post(status(page=5, worker="successor"))
        await _until(real, page=5, worker="successor")


async def test_a_missing_bucket_costs_a_status_and_no_exception(
    server: EmbeddedServer, connect: Connect, real: Rig
) -> None:
    board = await real.board()
    client = await connect(server)
    await client.jetstream().delete_key_value(JOBS_BUCKET)

    assert await board.get("job-1") is None
    board.post(status(page=1))
    await asyncio.wait_for(board.settle(status("completed", job_id="job-2")), 10)


async def test_what_others_ask_for_is_not_remembered_for_ever(server: EmbeddedServer, connect: Connect) -> None:
    board = JetStreamStatusBoard(await connect(server), timeout=1)

    for number in range(REMEMBERED + 100):
        await board.get(f"job-{number}")
        await board.settle(status("failed", job_id=f"job-{number}"))

    remembered = [value for value in vars(board).values() if isinstance(value, dict | set)]
    assert sum(len(memory) for memory in remembered) <= 2 * REMEMBERED


async def _until(rig: Rig, *, job_id: str = "job-1", within: float = LONGER, **fields: Any) -> None:
    """Wait until everybody sees a status with `fields`."""
    found: JobStatus | None = None
    try:
        async with asyncio.timeout(within):
            while True:
                with contextlib.suppress(Exception):  # not there yet
                    found = await rig.stored(job_id)
                if found is not None and all(getattr(found, name) == value for name, value in fields.items()):
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"expected {fields} within {within} s, found {found}")


async def _stays(rig: Rig, *, seconds: float = LONGER, **fields: Any) -> None:
    """Nothing else may be written for `seconds`: the absence of an event can only be waited for."""
    await asyncio.sleep(seconds)
    found = await rig.stored("job-1")
    assert {name: getattr(found, name) for name in fields} == fields


async def test_whoever_asks_sees_what_is_there_and_disturbs_no_write(rig: Rig) -> None:
    board, rival = await rig.board(), await rig.board()
    await board.get("job-1")
    await rival.settle(status("completed", worker="b"))

    assert (await board.look("job-1")) == status("completed", worker="b")
    assert await board.look("job-2") is None
    board.post(status("running"))

    await asyncio.sleep(AT_ONCE)
    assert (await rig.stored("job-1")) == status("completed", worker="b")


async def test_whoever_asks_while_the_bucket_is_away_is_told_so(mortal_rig: Rig) -> None:
    board = await mortal_rig.board()
    await mortal_rig.go_away()

    with pytest.raises(BoardUnavailableError):
        await board.look("job-1")
    await mortal_rig.come_back()
