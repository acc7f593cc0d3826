"""`SharedLimit`: what the core relies on, for the fake and for the bucket."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from nats.js import JetStreamContext

from schemas.subjects import LIMITS_BUCKET
from tests.contract.conftest import Connect
from tests.limits_kit import FakeSharedLimit, SharedState
from worker.core.ports.limiter import LimitUnavailableError, SharedLimit
from worker.core.ratelimit.gcra import SECOND, Limit
from worker.embedded import EmbeddedServer
from worker.jetstream.kv import rate_limits as limits
from worker.jetstream.kv.rate_limits import JetStreamLimit, ServerClock
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

LIMIT = Limit(100)
EXACT = 0.005
"""Seconds: how far the clocks of two replicas may be apart on one machine."""


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A limit, the same limit as another replica has it, and what can happen to the bucket."""

    limit: SharedLimit
    rival: SharedLimit
    set_arrival: Callable[[int], Awaitable[None]]
    """Microseconds since 1970 on the bucket's clock."""
    now: Callable[[], int]
    lose: Callable[[], Awaitable[None]]
    restore: Callable[[], Awaitable[None]]


def fake_rig() -> Rig:
    state = SharedState()

    async def set_arrival(arrival: int) -> None:
        state.arrival = arrival

    async def lose() -> None:
        state.up = False

    async def restore() -> None:
        state.up = True

    return Rig(
        limit=FakeSharedLimit(LIMIT, state),
        rival=FakeSharedLimit(LIMIT, state),
        set_arrival=set_arrival,
        now=lambda: round(now() * SECOND),
        lose=lose,
        restore=restore,
    )


async def real_rig(server: EmbeddedServer, connect: Connect) -> Rig:
    client, other = await connect(server), await connect(server)
    js = JetStreamContext(client)

    async def set_arrival(arrival: int) -> None:
        await js.publish(f"$KV.{LIMITS_BUCKET}.shop", str(arrival).encode())

    async def lose() -> None:
        await js.delete_stream(f"KV_{LIMITS_BUCKET}")

    async def restore() -> None:
        await reconcile(client, TopologyConfig())

    return Rig(
        limit=JetStreamLimit(client, ServerClock(), "shop", LIMIT),
        rival=JetStreamLimit(other, ServerClock(), "shop", LIMIT),
        set_arrival=set_arrival,
        now=lambda: round(datetime.now(UTC).timestamp() * SECOND),
        lose=lose,
        restore=restore,
    )


@pytest.fixture(params=["fake", "jetstream"])
async def rig(request: pytest.FixtureRequest, server: EmbeddedServer, connect: Connect) -> Rig:
    return fake_rig() if request.param == "fake" else await real_rig(server, connect)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_first_start_is_now_and_the_others_follow_an_interval_apart(rig: Rig) -> None:
    await rig.limit.take(1)
    await asyncio.sleep(0.05)

    began = now()
    taken = await rig.limit.take(4)

    assert taken.times[0] == pytest.approx(began, abs=0.05)
    assert [time - taken.times[0] for time in taken.times] == pytest.approx([0.0, 0.01, 0.02, 0.03], abs=1e-4)
    assert taken.free_at == pytest.approx(taken.times[0] + 0.04, abs=1e-4)


async def test_two_replicas_never_get_the_same_start(rig: Rig) -> None:
    async def take(limit: SharedLimit) -> list[float]:
        return [time for _ in range(15) for time in (await limit.take(2)).times]

    mine, theirs = await asyncio.gather(take(rig.limit), take(rig.rival))

    times = sorted(mine + theirs)
    assert len(times) == 60
    assert min(after - before for before, after in itertools.pairwise(times)) > 0.01 - EXACT
    assert times[-1] - times[0] < 60 * 0.01 + 0.5


async def test_many_at_once_all_get_their_starts(rig: Rig) -> None:
    async def take(number: int) -> list[float]:
        return list((await (rig.limit, rig.rival)[number % 2].take(1)).times)

    taken = [time for times in await asyncio.gather(*(take(number) for number in range(30))) for time in times]

    assert len(taken) == 30
    assert max(taken) - min(taken) == pytest.approx(0.29, abs=0.2)


async def test_nothing_starts_before_the_time_that_another_replica_pushed_to(rig: Rig) -> None:
    until = now() + 1.0

    await rig.rival.push(until)

    taken = await rig.limit.take(1)
    assert taken.times[0] >= until - EXACT
    assert taken.times[0] == pytest.approx(until, abs=0.05)


async def test_a_push_never_moves_the_limit_back(rig: Rig) -> None:
    until = now() + 2.0
    await rig.limit.push(until)

    await rig.rival.push(until - 1.0)

    assert (await rig.rival.take(1)).times[0] >= until - EXACT


async def test_a_limit_that_is_blocked_far_ahead_gives_no_start_but_says_until_when(rig: Rig) -> None:
    until = now() + 3600.0
    await rig.rival.push(until)

    taken = await rig.limit.take(1)

    assert list(taken.times) == []
    assert taken.free_at == pytest.approx(until, abs=EXACT)


async def test_a_limit_that_was_blocked_can_be_reset(rig: Rig) -> None:
    await rig.limit.push(now() + 3600.0)
    assert not (await rig.limit.take(1)).times

    await rig.set_arrival(0)

    assert (await rig.limit.take(1)).times


async def test_a_limit_out_of_reach_says_so_and_works_again_afterwards(rig: Rig) -> None:
    await rig.limit.take(1)
    await rig.lose()

    for call in (rig.limit.take(1), rig.limit.push(now() + 1.0), rig.rival.take(1)):
        with pytest.raises(LimitUnavailableError):
            await call

    await rig.restore()
    assert (await rig.limit.take(1)).times
    assert (await rig.rival.take(1)).times


async def test_a_dead_server_is_noticed_in_time(mortal_server: EmbeddedServer, connect: Connect) -> None:
    rig = await real_rig(mortal_server, connect)
    await rig.limit.take(1)
    await mortal_server.kill()

    began = now()
    with pytest.raises(LimitUnavailableError):
        await rig.limit.take(1)

    assert now() - began <= limits.TIMEOUT + 0.5
    await mortal_server.restart()


async def test_the_bucket_holds_one_readable_number_an_account(server: EmbeddedServer, connect: Connect) -> None:
    rig = await real_rig(server, connect)
    js = JetStreamContext(await connect(server))

    await rig.limit.take(3)

    entry = await (await js.key_value(LIMITS_BUCKET)).get("shop")
    assert entry.value is not None
    assert int(entry.value) == pytest.approx(rig.now() + 30_000, abs=50_000)


@pytest.mark.parametrize("value", [b"", b"nonsense", b"-5"])
async def test_a_value_that_is_no_time_is_overwritten(server: EmbeddedServer, connect: Connect, value: bytes) -> None:
    rig = await real_rig(server, connect)
    js = JetStreamContext(await connect(server))
    await js.publish(f"$KV.{LIMITS_BUCKET}.shop", value)

    taken = await rig.limit.take(1)

    assert taken.times[0] == pytest.approx(now(), abs=0.2)


async def test_replicas_whose_clocks_disagree_reckon_in_the_servers_time(
    server: EmbeddedServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await real_rig(server, connect)
    until = now() + 1.0
    await rig.limit.push(until)
    real = limits._now
    # The rival's machine was started an hour later: its loop's clock shows another time.
    monkeypatch.setattr(limits, "_now", lambda: real() + 3600.0)

    taken = await rig.rival.take(1)

    assert taken.times[0] - 3600.0 == pytest.approx(until, abs=EXACT)


async def test_the_servers_clock_is_measured_again_from_time_to_time(
    server: EmbeddedServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ServerClock()
    limit = JetStreamLimit(await connect(server), clock, "shop", LIMIT)
    await limit.take(1)
    assert not clock.is_due
    clock.measured(datetime.now(UTC).timestamp() + 2.0, now(), now())  # it had drifted by two seconds

    monkeypatch.setattr(limits, "MEASURE_EVERY", 0.0)
    real = limits._now
    monkeypatch.setattr(limits, "_now", lambda: real() + 30.0)
    await limit.take(1)

    assert clock.here(round(datetime.now(UTC).timestamp() * SECOND)) == pytest.approx(now() + 30.0, abs=EXACT)
