"""A job's two chains: how pages are cut to fit, and under which ids and headers messages stand there."""

from typing import Any

import pytest

from schemas import Follower, FollowerPage, JobCancelled, JobStarted, decode
from schemas.digest import START, next_digest
from schemas.events import Progress
from tests.fakes import EPOCH, FakeLog, make_world
from tests.replica import EVENTS, PAGES
from worker.core.eventlog.job_log import FIRST_PART_HEADER, JobLog
from worker.core.job import Address
from worker.core.ports.tracing import Untraced

IDS = [str(1000 + row) for row in range(40)]
BEFORE = Progress(followers=0, duplicates_dropped=0, total_first=None, requests=0, started_at=EPOCH, missed_at_most=0)


def joblog(log: FakeLog, **world: Any) -> JobLog:
    address = Address(provider="etelecom", oa_id="1", job_id="j1", labels={"a": "b"})
    return JobLog(address, "shop", 7, make_world(log=log, **world), Untraced())


def page(log: JobLog, number: int = 1) -> FollowerPage:
    return FollowerPage(
        **log.common,
        page=number,
        followers=[Follower(user_id=id, display_name="A name " * 20) for id in IDS],
        total=40,
        cursor=None,
        next_cursor=None,
        last=True,
        fetched_at=EPOCH,
        progress=Progress(
            followers=40, duplicates_dropped=0, total_first=40, requests=1, started_at=EPOCH, missed_at_most=0
        ),
    )


async def appended(max_payload: int, **world: Any) -> tuple[FakeLog, list[FollowerPage]]:
    """The log, and the messages of one page in it."""
    log = FakeLog(max_payload=max_payload)
    mine = joblog(log, **world)
    await mine.append_page(page(mine), BEFORE, done=0, parts=1)
    found = [decode(entry.data, FollowerPage) for entry in log.on(PAGES)]
    assert [follower.user_id for one in found for follower in one.followers] == IDS
    return log, found


async def test_a_page_goes_whole_as_long_as_two_kilobytes_are_left_for_its_headers() -> None:
    log, (whole,) = await appended(10**6)
    size = len(log.on(PAGES)[0].data)

    assert (whole.part, whole.parts, whole.last, whole.count) == (1, 1, True, 40)
    assert whole.digest == next_digest(START, whole.followers)
    assert len((await appended(size + 2048))[1]) == 1
    parts = (await appended(size + 2047))[1]
    assert [(one.part, one.parts, one.last) for one in parts] == [(1, 2, False), (2, 2, True)]


async def test_parts_name_the_first_of_them_and_go_on_with_its_digest() -> None:
    log, parts = await appended(4_500)
    entries = log.on(PAGES)
    sizes = [len(entry.data) for entry in entries]

    assert len(parts) > 2
    assert max(sizes) <= 4_500 - 2048
    assert [entry.headers.get(FIRST_PART_HEADER) for entry in entries] == [
        None, *[str(entries[0].sequence)] * (len(parts) - 1),
    ]  # fmt: skip
    digest = START
    for one in parts:
        digest = next_digest(digest, one.followers)
        assert (one.digest, one.count) == (digest, len(one.followers))
    ids = [entry.headers["Nats-Msg-Id"] for entry in entries]
    assert [id[-3:] for id in ids] == [f"1.{part}" for part in range(1, len(parts) + 1)]


async def test_a_limit_that_was_lowered_since_is_met_by_halves() -> None:
    log, _ = await appended(10**6)
    size = len(log.on(PAGES)[0].data)

    class Lowered(FakeLog):
        """It says that it takes more than it does."""

        async def publish(self, subject: str, data: bytes, *arguments: Any) -> int:
            said, self.max_payload = self.max_payload, size
            try:
                return await super().publish(subject, data, *arguments)
            finally:
                self.max_payload = said

    lowered = Lowered(max_payload=10**6)
    mine = joblog(lowered)
    await mine.append_page(page(mine), BEFORE, done=0, parts=1)

    parts = [decode(entry.data, FollowerPage) for entry in lowered.on(PAGES)]
    assert [follower.user_id for one in parts for follower in one.followers] == IDS
    assert max(len(entry.data) for entry in lowered.on(PAGES)) <= size // 2
    assert len(parts) in (2, 3)


@pytest.mark.parametrize(
    ("encoding", "mode"), [("msgpack", "structured"), ("msgpack", "binary"), ("json", "structured")]
)
@pytest.mark.parametrize("max_payload", [4_500, 5_000, 6_000])
async def test_parts_fit_in_every_encoding(encoding: str, mode: str, max_payload: int) -> None:
    log = FakeLog(max_payload=max_payload)
    mine = joblog(log, encoding=encoding, cloudevents=mode)

    await mine.append_page(page(mine), BEFORE, done=0, parts=1)

    sizes = [len(entry.data) for entry in log.on(PAGES)]
    assert max(sizes) <= max_payload - 2048
    assert sum(size < (max_payload - 2048) // 2 for size in sizes) <= 1, "no more parts than are needed"


async def test_a_successor_reads_what_its_predecessor_published_and_stands_behind_it() -> None:
    log, parts = await appended(4_500)
    heir = joblog(log)

    assert await heir.last_page() == parts[-1]
    assert heir.digest == parts[-1].digest
    assert [one.user_id for one in await heir.first_page()] == IDS
    whole = [ids async for ids in heir.read_ids(parts=False, between=lambda: None)]
    assert [id for ids in whole for id in ids] == IDS
    calls: list[int] = []
    last = [ids async for ids in heir.read_ids(parts=True, between=lambda: calls.append(1))]
    assert ([id for ids in last for id in ids], len(calls)) == (IDS, len(parts))


async def test_a_job_whose_newest_message_is_a_part_has_no_whole_page_yet() -> None:
    log, parts = await appended(4_500)
    log.stored.pop()
    heir = joblog(log)
    await heir.last_page()

    assert [ids async for ids in heir.read_ids(parts=False, between=lambda: None)] == []
    found = [id async for ids in heir.read_ids(parts=True, between=lambda: None) for id in ids]
    assert found == [follower.user_id for one in parts[:-1] for follower in one.followers]


async def test_each_generation_ends_once_and_bears_its_number() -> None:
    log = FakeLog()
    mine = joblog(log)
    started = JobStarted(**mine.common, attempt=1, resumed_at_page=1, started_at=EPOCH)
    ended = JobCancelled(**mine.common, attempt=1, finished_at=EPOCH)

    await mine.tell(started, "started.1")
    await mine.end(ended, anyone=False)
    mine.reopen()
    await mine.end(ended, anyone=False)

    entries = log.on(EVENTS)
    ids = [entry.headers["Nats-Msg-Id"] for entry in entries]
    assert [id.rpartition("j1")[2].lstrip(".:/") or id for id in ids] == ["started.1", "end", "end.2"]
    assert mine.end_sequence == entries[-1].sequence
    heir = joblog(log)
    event = await heir.last_event()
    assert event is not None
    assert (event.generation, heir.generation, heir.told_for) == (2, 2, 7)
