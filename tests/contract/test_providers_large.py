"""Large answers that come together: each finds room for itself, and none waits for ever."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from tests.contract.providers_kit import client_of, command
from worker.core.errors import ProviderUnavailableError
from worker.core.memory import COST, HOLD, Budget, Hold, NoRoomError
from worker.core.ports.provider import ProviderPage

BOTH = pytest.mark.parametrize("variant", ["shop", "GetFollowers"])
LISTED: dict[str, dict[str, object]] = {
    "shop": {"followers": [{"zl_user_id": "78"}], "paging": {"next": "abc"}},
    "GetFollowers": {"CodeResult": "100", "Followers": [{"User_Id": "78"}], "Total": 1},
}


@BOTH
@pytest.mark.parametrize("compressed", [False, True])
async def test_large_pages_asked_for_together_all_arrive(variant: str, compressed: bool) -> None:
    body = json.dumps({"padding": "x" * 2_000_000, **LISTED[variant]}).encode()

    async def large(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.Response(body=body, content_type="application/json")
        if compressed:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async with client_of(variant, large, request_timeout=20.0) as client:
        pages = await asyncio.gather(*(client.fetch(command(variant), None) for _ in range(8)))

    assert [[follower.user_id for follower in page.followers] for page in pages] == [["78"]] * 8


@BOTH
async def test_a_large_answer_that_stops_in_the_middle_holds_others_up_until_its_deadline_only(variant: str) -> None:
    body = json.dumps({"padding": "x" * 2_000_000, **LISTED[variant]}).encode()
    stuck = asyncio.Event()
    asked = 0

    async def once_stuck(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        await request.read()
        asked += 1
        response = web.StreamResponse()
        response.content_length = len(body)
        first = asked == 1
        await response.prepare(request)
        await response.write(body[:1_500_000])
        if first:
            stuck.set()
            await asyncio.sleep(30)
        await response.write(body[1_500_000:])
        return response

    async with client_of(variant, once_stuck, request_timeout=1.0) as client:
        first = asyncio.create_task(client.fetch(command(variant), None))
        await stuck.wait()
        await asyncio.sleep(0.5)  # so that the second one's deadline is later than the first one's
        second = await client.fetch(command(variant), None)

        with pytest.raises(ProviderUnavailableError, match="no complete answer"):
            await first
    assert isinstance(second, ProviderPage)


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def hold_of(budget: Budget, *, urgent: bool) -> Hold:
    hold = budget.open(lambda: None)
    if urgent:
        hold.urge(0)
    HOLD.set(hold)
    return hold


def large(variant: str, asked: asyncio.Event, *, compressed: bool = False) -> tuple[Handler, int]:
    body = json.dumps({"padding": "x" * 2_000_000, **LISTED[variant]}).encode()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        asked.set()
        response = web.Response(body=body, content_type="application/json")
        if compressed:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    return answer, len(body)


@BOTH
@pytest.mark.parametrize("compressed", [False, True])
async def test_time_that_an_answer_waits_for_our_memory_is_not_the_providers(variant: str, compressed: bool) -> None:
    budget, asked = Budget(8_000_000), asyncio.Event()
    other = hold_of(budget, urgent=True)
    other.settle(1_999_999, 0)
    other.receive()
    hold = hold_of(budget, urgent=True)
    answer, size = large(variant, asked, compressed=compressed)

    async with client_of(variant, answer, request_timeout=0.6) as client:
        fetch = asyncio.create_task(client.fetch(command(variant), None))
        await asked.wait()
        for _ in range(10):
            await asyncio.sleep(0.1)
        assert not fetch.done()
        other.drop()
        page = await fetch

    assert [follower.user_id for follower in page.followers] == ["78"]
    assert (hold.body, hold.size, budget.used) == (size, COST * size, COST * size)


@BOTH
async def test_an_answer_that_nobody_waits_for_yet_gives_its_connection_back_where_there_is_no_room(
    variant: str,
) -> None:
    budget, asked = Budget(8_000_000), asyncio.Event()
    hold_of(budget, urgent=True).settle(1_999_999, 0)
    hold_of(budget, urgent=False)
    answer, size = large(variant, asked)

    async with client_of(variant, answer, request_timeout=5.0) as client:
        with pytest.raises(NoRoomError) as refused:
            await client.fetch(command(variant), None)

    assert refused.value.body == size


@BOTH
async def test_what_an_answer_says_of_its_length_is_taken_at_once_and_corrected(variant: str) -> None:
    budget, asked = Budget(100_000_000), asyncio.Event()
    hold = hold_of(budget, urgent=True)
    answer, size = large(variant, asked, compressed=True)

    async with client_of(variant, answer, request_timeout=5.0) as client:
        await client.fetch(command(variant), None)

    assert (hold.body, budget.used) == (size, COST * size)
