"""What anybody may cause through the live page is bounded: searches of the queue, and looks at the token's file."""

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from worker.page import guard, search
from worker.page.guard import Guard
from worker.page.search import Search


class Sources:
    """Knows no job, and is asked for one until `free` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.free = asyncio.Event()

    async def status(self, job_id: str) -> None:
        self.asked += 1
        await self.free.wait()


async def test_pages_of_unknown_jobs_search_one_at_a_time_and_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: Any = Sources()
    lock = asyncio.Lock()
    pages = [Search(lock, sources, f"job-{number}") for number in range(50)]

    looks = [asyncio.create_task(page.look(None)) for page in pages]
    await asyncio.sleep(0)
    sources.free.set()
    await asyncio.gather(*looks)
    assert (sources.asked, [page.done for page in pages].count(True)) == (1, 1)

    for page in pages:
        await page.look(None)
        await page.look(None)
    assert sources.asked == 50

    monkeypatch.setattr(search, "SEARCH_EVERY", 0.0)
    await pages[0].look(None)
    assert sources.asked == 50, "its five seconds are not over"


class Token:
    """A token that was rotated."""

    def __init__(self) -> None:
        self.reads, self.value = 0, "old"

    def reveal(self) -> str:
        return self.value

    def reload(self) -> bool:
        self.reads += 1
        changed, self.value = self.value != "new", "new"
        return changed


async def test_wrong_tokens_have_the_file_read_once_a_second_and_a_rotated_one_is_taken_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = Token()
    guarding = Guard(token)

    def bearing(value: str) -> Any:
        return make_mocked_request("POST", "/jobs/x/cancel", headers={"Authorization": f"Bearer {value}"})

    assert [await guarding.allows(bearing("wrong")) for _ in range(20)] == [False] * 20
    assert token.reads == 1
    assert await guarding.allows(bearing("new"))

    token.value = "older"
    monkeypatch.setattr(guard, "READ_EVERY", 0.0)
    assert await guarding.allows(bearing("new"))
    assert not await Guard(None).allows(bearing("new"))
