"""Large answers that come together: only one at a time may grow, and none waits for ever."""

import asyncio
import json

import pytest
from aiohttp import web

from tests.contract.providers_kit import client_of, command
from worker.core.errors import ProviderUnavailableError
from worker.core.ports import ProviderPage

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
