"""`Cancellations`: what the core relies on, for the fake and for JetStream."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest

from schemas.subjects import EARLY_KEYS, JOBS_BUCKET
from tests.contract.conftest import Connect
from tests.fakes import Clock, FakeCancellations
from worker.core.ports.job_store import BoardUnavailableError, Cancellations
from worker.embedded import EmbeddedServer
from worker.jetstream.kv import cancellations
from worker.jetstream.kv.cancellations import JetStreamCancellations


@dataclass(frozen=True, kw_only=True)
class Rig:
    """The cancellations as two replicas have them, and what can happen to them."""

    one: Cancellations
    other: Cancellations
    go_away: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]


@pytest.fixture
def fake() -> Rig:
    """In memory."""
    marks = FakeCancellations(Clock(datetime.now(UTC)))

    async def go_away() -> None:
        marks.down = True

    async def come_back() -> None:
        marks.down = False

    return Rig(one=marks, other=marks, go_away=go_away, come_back=come_back)


async def jetstream(server: EmbeddedServer, connect: Connect) -> Rig:
    one, other = await connect(server), await connect(server)
    return Rig(
        one=JetStreamCancellations(one, timeout=0.5),
        other=JetStreamCancellations(other, timeout=0.5),
        go_away=server.kill,
        come_back=server.restart,
    )


@pytest.fixture
async def real(server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on the shared server."""
    return await jetstream(server, connect)


@pytest.fixture
async def mortal(mortal_server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on a server of the test's own."""
    return await jetstream(mortal_server, connect)


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A bucket that stays where it is."""
    return cast(Rig, request.getfixturevalue(request.param))


@pytest.fixture(params=["fake", "mortal"])
def mortal_rig(request: pytest.FixtureRequest) -> Rig:
    """A bucket that goes away."""
    return cast(Rig, request.getfixturevalue(request.param))


async def test_a_request_is_seen_by_every_replica_with_its_time(rig: Rig) -> None:
    assert await rig.other.requested_us("job-1") is None

    await rig.one.request("job-1")

    requested = await rig.other.requested_us("job-1")
    assert requested is not None
    assert abs(requested / 1_000_000 - time.time()) < 60
    assert await rig.other.requested_us("job-2") is None


async def test_a_second_request_is_as_good_as_the_first(rig: Rig) -> None:
    await rig.one.request("job-1")
    first = await rig.one.requested_us("job-1")
    await rig.other.request("job-1")

    second = await rig.one.requested_us("job-1")

    assert first is not None
    assert second is not None
    assert second >= first


async def test_an_id_of_which_nobody_has_heard_is_noted_for_a_while(rig: Rig) -> None:
    await rig.one.request_unknown("early", 60)
    await rig.one.request_unknown("over", 0)
    await rig.other.request_unknown("longer", 60)
    await rig.other.request_unknown("longer", 0)

    requested = await rig.other.requested_us("early")
    assert requested is not None
    assert abs(requested / 1_000_000 - time.time()) < 60
    assert await rig.other.requested_us("over") is None
    assert await rig.one.requested_us("longer") is not None


async def test_two_replicas_that_note_many_ids_at_once_lose_none(real: Rig) -> None:
    ids = [f"id-{number}" for number in range(100)]

    await asyncio.gather(
        *((real.one, real.other)[number % 2].request_unknown(job, 60) for number, job in enumerate(ids))
    )

    assert None not in [await real.one.requested_us(job) for job in ids]


async def test_any_number_of_unknown_ids_takes_bounded_room_and_leaves_known_jobs_alone(
    server: EmbeddedServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "EARLY_AT_MOST", 4)
    client = await connect(server)
    marks = JetStreamCancellations(client, timeout=2)
    await marks.request("known")
    await marks.request_unknown("kept-for-long", 3600)

    for batch in range(50):
        await asyncio.gather(*(marks.request_unknown(f"x{batch}-{number}", 60) for number in range(20)))

    bucket = await client.jetstream().stream_info(f"KV_{JOBS_BUCKET}")
    assert bucket.state.messages <= EARLY_KEYS + 1
    found = [await marks.requested_us(f"x{batch}-{number}") for batch in range(50) for number in range(20)]
    assert 100 < sum(one is not None for one in found) <= 4 * EARLY_KEYS
    assert await marks.requested_us("known") is not None
    assert await marks.requested_us("kept-for-long") is not None


async def test_a_bucket_that_is_away_takes_no_request_and_stops_no_job(mortal_rig: Rig) -> None:
    await mortal_rig.one.request("job-1")
    await mortal_rig.go_away()

    with pytest.raises(BoardUnavailableError):
        await mortal_rig.one.request("job-1")
    with pytest.raises(BoardUnavailableError):
        await mortal_rig.one.request_unknown("job-2", 60)
    assert await mortal_rig.one.requested_us("job-1") is None
    await mortal_rig.come_back()


async def test_a_mark_looks_like_a_value_to_others_and_can_be_taken_back(
    server: EmbeddedServer, connect: Connect
) -> None:
    client = await connect(server)
    marks, bucket = JetStreamCancellations(client, timeout=0.5), await client.jetstream().key_value(JOBS_BUCKET)
    await marks.request("job-1")
    assert (await bucket.get("cancel.job-1")).value

    await bucket.delete("cancel.job-1")

    assert await marks.requested_us("job-1") is None
