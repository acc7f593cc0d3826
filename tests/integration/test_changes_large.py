"""A large list compared with the last one on a real nats-server: the right events, soon, and in little memory."""

import asyncio
import os
import time
from pathlib import Path

from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.changes import Compared
from schemas.follower import Follower, SharedInfo
from tests.changes_kit import changes, never_stop, people, problems, publish_list, told, user
from tests.fakes import EPOCH, make_world
from worker.core.changes.feeds import ChangeFeeds
from worker.jetstream.changes.open import open_changes
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

LARGE = bool(os.environ.get("LONG_TESTS"))
FOLLOWERS = 200_000 if LARGE else 20_000
CAME, WENT, TURNED = FOLLOWERS // 200, FOLLOWERS * 7 // 2000, FOLLOWERS * 3 // 2000


def rich(number: int, **fields: object) -> Follower:
    """A follower as eTelecom lists one."""
    (bare,) = people([number], **fields)
    name = bare.display_name
    return Follower(
        **{field: getattr(bare, field) for field in ("user_id", "display_name", "phone", "state")},
        user_id_by_app=str(4_650_000_000_000_000_000 + number),
        provider_id=str(1_137_000_000_000_000_000 + number),
        shop_id="1057792338951722956",
        avatar=f"https://avatar.example/{number}/240.jpg",
        avatars={size: f"https://avatar.example/{number}/{size}.jpg" for size in ("120", "240")},
        gender="female",
        shared_info=SharedInfo(name=name, phone=bare.phone, address="1 Phố Mẫu", city="Hà Nội"),
        tags=["VIP"],
        notes=["gọi lại"],
        assigned_user_id="1104466778899001122",
        has_conversation=True,
        created_at=EPOCH,
        updated_at=EPOCH,
    )


async def test_a_large_list_gives_exactly_its_changes_soon_and_in_little_memory(
    nats_client: Client, js: JetStreamContext
) -> None:
    await reconcile(nats_client, TopologyConfig())
    world = make_world(log=JetStreamLog(nats_client, timeout=5))
    feeds = await open_changes(nats_client, world, threshold=0.3, timeout=5)
    assert feeds is not None
    before = await publish_list(world, "before", (rich(number) for number in range(FOLLOWERS)))
    await feeds.follow(before, never_stop)
    # Whoever went and changed is spread over the whole list, and whoever came is between.
    gone, turned = set(range(0, WENT * 200, 200)), set(range(1, TURNED * 200, 200))
    numbers = sorted(set(range(FOLLOWERS)) - gone | set(range(FOLLOWERS, FOLLOWERS + CAME)), key=lambda one: one % 997)
    after = await publish_list(
        world, "after", (rich(n, **{"display_name": "Mới"} if n in turned else {}) for n in numbers), day=1
    )

    seconds, megabytes = await _measured(feeds, after)

    events = (await changes(world.log))[1:]
    assert problems(events) == []
    assert len(events) == CAME + WENT + TURNED + 1
    assert {one for one in told(events) if one[0] == "Followed"} == {
        ("Followed", user(number)) for number in range(FOLLOWERS, FOLLOWERS + CAME)
    }
    assert {one for one in told(events) if one[0] == "Unfollowed"} == {("Unfollowed", user(number)) for number in gone}
    assert {one for one in told(events) if one[0] == "Changed"} == {
        ("Changed", user(number), "display_name", "shared_info") for number in turned
    }
    assert isinstance(events[-1], Compared)
    print(f"\n{FOLLOWERS:,} followers, {len(events):,} events: {seconds:.2f} s, {megabytes:.0f} MB more")
    assert megabytes < 150
    assert seconds < 15  # 5 on a machine with nothing else to do


async def _measured(feeds: ChangeFeeds, job: object) -> tuple[float, float]:
    """Seconds, and how far the memory rose at most."""
    before, peak = _resident(), 0.0
    step = asyncio.ensure_future(feeds.follow(job, never_stop))  # type: ignore[arg-type]
    start = time.perf_counter()
    while not step.done():
        peak = max(peak, _resident())
        await asyncio.wait([step], timeout=0.01)
    await step
    return time.perf_counter() - start, (peak - before) / 2**20


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
