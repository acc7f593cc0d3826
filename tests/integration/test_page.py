"""The live page over HTTP: what it shows and to whom, what it may do, and that many jobs or viewers don't hurt."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import nats
import pytest

from schemas import asyncapi
from schemas.events import FetchError
from schemas.jobs import JobStatus
from schemas.subjects import DEAD_STREAM, JOBS_BUCKET
from schemas.wait import Wait
from schemas.wire import encode
from tests.integration import page_kit, stage
from tests.integration.page_kit import TOKEN, Live, Stream
from worker.embedded import EmbeddedServer
from worker.page import hub
from worker.page import server as page_server
from worker.page.board import KEPT
from worker.providers.simulators import OA_ID

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def live(private_nats_server: EmbeddedServer) -> AsyncIterator[Live]:
    """A worker with a page that may steer."""
    client = await nats.connect(private_nats_server.url, allow_reconnect=False)
    async with page_kit.live(client, private_nats_server.url) as live:
        yield live
    await client.close()


@pytest.fixture
async def http(live: Live) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser's connections."""
    async with aiohttp.ClientSession(live.url) as session:
        yield session


@contextlib.asynccontextmanager
async def stream(http: aiohttp.ClientSession, path: str = "/stream") -> AsyncIterator[Stream]:
    """An open stream of events."""
    async with http.get(path) as response:
        assert response.status == 200
        yield Stream(response)


def status(number: int, state: Any, **fields: Any) -> JobStatus:
    """An invented job."""
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=number)
    common: dict[str, Any] = {"provider": "esms", "account": "my-esms", "oa_id": OA_ID, "started_at": at}
    return JobStatus(job_id=f"job-{number}", state=state, updated_at=at, **common, **fields)


async def test_every_answer_forbids_what_the_page_does_not_need(http: aiohttp.ClientSession) -> None:
    for path in ("/", "/page.js", "/page.css", "/icon.svg", "/asyncapi", "/asyncapi.json", "/stream"):
        async with http.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert response.status == 200
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"
            if path not in ("/stream", "/asyncapi.json", "/icon.svg"):
                text = await response.text()
                assert "http://" not in text
                assert "https://" not in text.replace("https://avatar.example", "")


async def test_the_asyncapi_document_is_served_as_json_and_as_a_page(http: aiohttp.ClientSession) -> None:
    async with http.get("/asyncapi.json") as response:
        assert await response.json() == json.loads(json.dumps(asyncapi.document()))
    async with http.get("/asyncapi") as response:
        page = await response.text()
    for name in asyncapi.document()["components"]["messages"]:
        assert f'id="{name}"' in page


async def test_the_stream_tells_what_happens_and_nothing_of_labels(live: Live, http: aiohttp.ClientSession) -> None:
    async with stream(http) as events:
        assert "now" in await events.next("clock")
        first = await events.until("overview", lambda data: not data["reading"])
        assert first["counts"]["all"] == 0
        assert {account["name"] for account in first["accounts"]} == {"my-shop", "my-esms", "busy-esms"}

        await live.publish("a-job", "esms", "my-esms", labels={"campaign": "nobodys-secret"}, filter={})
        done = await events.until("overview", lambda data: data["counts"]["completed"] == 1)

    assert done["jobs"][0]["id"] == "a-job"
    assert done["jobs"][0]["followers"] == 230
    assert done["jobs"][0]["rate"] > 0
    assert "nobodys-secret" not in json.dumps(done)


async def test_a_circuit_that_is_open_in_another_worker_is_shown_as_that(
    live: Live, http: aiohttp.ClientSession
) -> None:
    now = datetime.now(UTC)
    until = now + timedelta(minutes=1)
    wait = Wait(owner="breaker", reason="circuit_open", since=now, until=until, text="the provider is away")

    def of(data: Any, name: str) -> Any:
        return next(account for account in data["accounts"] if account["name"] == name)

    async with stream(http) as events:
        before = await events.until("overview", lambda data: not data["reading"])
        held = status(1, "waiting", worker="another", wait=wait, reason="circuit_open", until=until)
        await live.put(msgspec.structs.replace(held, updated_at=now))
        broken = await events.until("overview", lambda data: data["counts"]["waiting"] == 1)
        await live.put(msgspec.structs.replace(held, state="completed", wait=None, finished_at=now))
        await live.publish("a-job", "esms", "my-esms")
        mended = await events.until("overview", lambda data: data["counts"]["completed"] == 2)

    assert [of(data, "my-esms")["circuit"] for data in (before, broken, mended)] == ["unknown", "open", "closed"]
    assert of(broken, "my-esms")["circuitIn"] == "elsewhere"
    assert of(broken, "my-esms")["circuitUntil"] == f"{until:%Y-%m-%dT%H:%M:%SZ}"
    assert of(broken, "my-shop")["circuit"] == "unknown"


async def test_a_provider_that_asks_for_patience_is_seen_at_its_account(
    live: Live, http: aiohttp.ClientSession
) -> None:
    async with stream(http, "/stream?state=waiting") as events:
        await live.publish("patient", "esms", "busy-esms")
        data = await events.until("overview", lambda data: data["counts"]["waiting"] == 1)
    busy = next(account for account in data["accounts"] if account["name"] == "busy-esms")

    assert busy["blockedUntil"] > datetime.now(UTC).isoformat()
    job = data["jobs"][0]
    assert job["reason"] == "rate_limited"
    assert (job["wait"]["owner"], job["wait"]["until"]) == ("limit", job["until"])
    assert "the provider answered that there are too many requests" in job["wait"]["text"]
    async with stream(http, "/stream/jobs/patient") as events:
        told = await events.until("job", lambda data: any(event["type"] == "waiting" for event in data["events"]))
    waiting = next(event for event in told["events"] if event["type"] == "waiting")
    assert waiting["wait"]["owner"] == told["job"]["wait"]["owner"] == "limit"


async def test_a_job_whose_worker_fell_silent_says_so_on_its_own_page(live: Live, http: aiohttp.ClientSession) -> None:
    heard = datetime.now(UTC) - timedelta(minutes=5)
    abandoned = JobStatus(
        job_id="abandoned", provider="esms", account="my-esms", oa_id=OA_ID, state="running", page=7, worker="gone",
        started_at=heard, updated_at=heard,
    )  # fmt: skip
    await live.put(abandoned)
    await live.client.publish(f"$KV.{JOBS_BUCKET}.cancel.abandoned", b"{}")
    async with stream(http, "/stream/jobs/abandoned") as events:
        told = await events.until("job", lambda data: data["job"] and data["job"]["wait"])

    assert told["job"]["wait"]["owner"] == "cancelled"
    assert told["job"]["page"] == 7


async def test_a_jobs_stream_has_its_timeline_and_goes_on_with_it(live: Live, http: aiohttp.ClientSession) -> None:
    await live.publish("big", "etelecom", "my-shop")
    await live.comes_to("big", "running")
    async with stream(http, "/stream/jobs/big") as events:
        running = await events.until("job", lambda data: data["events"])
        async with http.post("/jobs/big/cancel", headers=AUTHORIZED) as answer:
            assert (answer.status, (await answer.json())["state"]) == (200, "cancelled")
        over = await events.until("job", lambda data: data["job"]["state"] == "cancelled" and len(data["events"]) > 1)

    assert [event["type"] for event in running["events"]] == ["started"]
    assert [event["type"] for event in over["events"]] == ["started", "cancelled"]
    assert all(datetime.fromisoformat(event["at"]) for event in over["events"])


async def test_a_job_that_nobody_knows_has_no_status(http: aiohttp.ClientSession) -> None:
    async with stream(http, "/stream/jobs/nobody") as events:
        assert (await events.next("job"))["job"] is None
    async with http.get("/stream/jobs/no.job") as response:
        assert response.status == 404


REFUSED: dict[str, dict[str, str]] = {
    "no token": {},
    "a wrong token": {"Authorization": "Bearer x" + TOKEN[1:]},
    "a token that begins right": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "an empty token": {"Authorization": "Bearer "},
    "no ASCII": {"Authorization": "Bearer tôken-của-trang-này"},
    "another scheme": {"Authorization": f"Basic {TOKEN}"},
    "a cookie": {"Cookie": f"token={TOKEN}"},
    "another site's page": {**AUTHORIZED, "Sec-Fetch-Site": "cross-site"},
    "another origin of the site": {**AUTHORIZED, "Sec-Fetch-Site": "same-site"},
}


async def test_nobody_steers_without_the_token(live: Live, http: aiohttp.ClientSession) -> None:
    for why, headers in REFUSED.items():
        for path in ("/jobs/nobody/cancel", "/jobs/nobody/retry", "/letters/1/retry"):
            async with http.post(path, headers=headers) as answer:
                assert answer.status == 403, why
                assert TOKEN not in await answer.text()
    async with http.get("/jobs/nobody/cancel", headers=AUTHORIZED) as answer:
        assert answer.status == 405
    assert await live.state("cancel.nobody") is None


async def test_a_foreign_page_gets_no_leave_to_send_the_token(http: aiohttp.ClientSession) -> None:
    asking = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with http.options("/jobs/nobody/cancel", headers=asking) as answer:
        assert answer.status == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_without_a_configured_token_there_is_nothing_to_steer_with(private_nats_server: EmbeddedServer) -> None:
    client = await nats.connect(private_nats_server.url, allow_reconnect=False)
    async with (
        page_kit.live(client, private_nats_server.url, token=None) as live,
        aiohttp.ClientSession(live.url) as http,
    ):
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            async with http.post("/jobs/nobody/cancel", headers=headers) as answer:
                assert answer.status == 404
        async with stream(http) as events:
            assert (await events.next("overview"))["steer"] is False
    await client.close()


async def test_a_failed_job_is_retried_from_the_page(live: Live, http: aiohttp.ClientSession) -> None:
    live.busy.faults.clear()
    await live.publish("hopeless", "esms", "busy-esms", filter={"tag": "x"})  # GetFollowers knows no filter
    await live.comes_to("hopeless", "failed")
    async with stream(http) as events:
        data = await events.until("overview", lambda data: data["dead"] == 1 and data["letters"])
        assert (data["letters"][0]["job"], data["letters"][0]["code"]) == ("hopeless", "unsupported")

        async with http.post("/jobs/hopeless/retry", headers=AUTHORIZED) as answer:
            assert (answer.status, list(await answer.json())) == (200, ["sequence"])
        again = await events.until("overview", lambda data: data["letters"] and data["letters"][0]["number"] == 2)

    assert again["dead"] == 1
    async with http.post("/letters/1/retry", headers=AUTHORIZED) as answer:
        assert (answer.status, (await answer.json())["message"]) == (
            503,
            "there is no dead letter 1: somebody was faster",
        )
    async with http.post("/jobs/nobody/retry", headers=AUTHORIZED) as answer:
        assert answer.status == 503


async def test_the_newest_dead_letters_are_found_behind_gaps(live: Live, http: aiohttp.ClientSession) -> None:
    js = live.client.jetstream()
    for number in range(1, 121):
        headers = {"Followers-Job-Id": f"lost-{number}", "Followers-Error-Code": "internal"}
        await js.publish("followers.dead.esms", b'{"filter": {"phone": "nobodys-phone"}}', headers=headers)
    for number in range(31, 121):
        await js.delete_msg(DEAD_STREAM, number)

    async with stream(http) as events:
        data = await events.until("overview", lambda data: data["dead"])

    assert [letter["number"] for letter in data["letters"]] == list(range(30, 10, -1))
    assert "nobodys-phone" not in json.dumps(data)


async def test_the_watch_is_shared_begins_with_the_first_viewer_and_ends_after_the_last(
    live: Live, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LINGER", 0.2)
    subscriptions = live.worker._client._subs  # type: ignore[union-attr]

    def watches() -> int:
        return sum(one.subject == f"$KV.{JOBS_BUCKET}.*" for one in subscriptions.values())

    assert not live.worker.page.watching
    async with stream(http) as first, stream(http) as second, stream(http, "/stream/jobs/x"):
        await first.next("overview")
        await second.next("overview")
        await stage.until(lambda: watches() == 1, 5)
        assert live.worker.page.watching
    await stage.until(lambda: not live.worker.page.watching, 20)
    await stage.until(lambda: watches() == 0, 5)


async def test_too_many_viewers_are_refused(
    live: Live, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.worker.page._hub, "_places", 1)
    async with stream(http) as events:
        await events.next("overview")
        async with http.get("/stream") as response:
            assert response.status == 503
            assert "too many" in await response.text()


@contextlib.asynccontextmanager
async def visitor(live: Live, address: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser on another machine, as far as this one has addresses for it."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(live.url, connector=connector) as session:
        yield session


async def test_a_crowd_at_one_address_makes_room_for_somebody_at_another(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.worker.page._hub, "_places", 3)
    async with visitor(live, "127.0.0.2") as crowd, visitor(live, "127.0.0.3") as operator:
        streams = [await crowd.get("/stream") for _ in range(3)]
        for response in streams:
            await Stream(response).next("overview")

        async with stream(operator) as events:
            await events.next("overview")
            assert await asyncio.wait_for(streams[2].content.read(), 5) is not None  # its end
            async with operator.get("/stream") as another, crowd.get("/stream") as refused:
                assert (another.status, refused.status) == (503, 503)
        for response in streams:
            response.close()


async def test_a_viewer_who_reads_nothing_is_let_go(
    live: Live, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "EVERY", 0.02)
    monkeypatch.setattr(page_server, "STALLED_AFTER", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1024)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readline()
    kept = live.worker.page._hub
    assert kept is not None
    assert kept.viewers == 1

    async with asyncio.timeout(60):
        for turn in itertools.count():
            if not kept.viewers:
                break
            error = FetchError(code="internal", message=f"{turn} " + "x" * 1000, retryable=False)
            for number in range(50):
                await live.put(status(number, "failed", error=error))

    assert kept.viewers == 0
    writer.transport.abort()


FOREIGN = {
    "a name that points here": {"Host": "evil.example"},
    "our name in another's": {"Host": "localhost.evil.example"},
    "another address": {"Host": "203.0.113.9"},
    "no name": {"Host": ""},
    "another site's page": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    "another origin of the site": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    "another origin, by a browser that says no more": {"Origin": "http://localhost:3000"},
    "another site's origin": {"Origin": "https://evil.example"},
    "a page without an origin": {"Origin": "null"},
    "another site's link to data": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
}


async def test_a_foreign_page_reads_and_opens_nothing(live: Live, http: aiohttp.ClientSession) -> None:
    for why, headers in FOREIGN.items():
        for path in ("/stream", "/stream/jobs/x", "/metrics", "/asyncapi.json", "/nothing"):
            async with http.get(path, headers=headers) as answer:
                assert answer.status == 403, (why, path)
        async with http.post("/jobs/nobody/cancel", headers={**AUTHORIZED, **headers}) as answer:
            assert answer.status == 403, why
        for path in ("/healthz", "/readyz"):
            async with http.get(path, headers=headers) as answer:
                assert answer.status == 200, (why, path)
    assert live.worker.page._hub is not None
    assert live.worker.page._hub.viewers == 0


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "[::1]:8080", "[::1]"],
)
async def test_the_names_of_this_machine_are_known(http: aiohttp.ClientSession, host: str) -> None:
    async with http.get("/metrics", headers={"Host": host}) as answer:
        assert answer.status == 200


async def test_a_link_from_another_site_leads_to_a_page_and_to_no_stream(http: aiohttp.ClientSession) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path, status in (("/", 200), ("/asyncapi", 200), ("/stream", 403), ("/stream/jobs/x", 403)):
        async with http.get(path, headers=link) as answer:
            assert answer.status == status, path
    async with http.get("/", headers=link | {"Sec-Fetch-Dest": "iframe"}) as answer:
        assert answer.status == 403


async def test_a_worker_stops_at_once_though_somebody_is_looking(private_nats_server: EmbeddedServer) -> None:
    client = await nats.connect(private_nats_server.url, allow_reconnect=False)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        live = await stack.enter_async_context(page_kit.live(client, private_nats_server.url))
        http = await stack.enter_async_context(aiohttp.ClientSession(live.url))
        response = await http.get("/stream")
        await Stream(response).next("overview")
        began = loop.time()
        await live.worker.__aexit__()
        assert loop.time() - began < 10
        with contextlib.suppress(aiohttp.ClientError):
            await response.read()
        stack.pop_all()
        await http.close()
    await client.close()


async def test_thousands_of_jobs_are_counted_listed_in_pages_and_hurt_nobody(
    live: Live, http: aiohttp.ClientSession
) -> None:
    total = 3000
    error = FetchError(code="internal", message="invented", retryable=False)
    js = live.client.jetstream()

    async def put(number: int) -> None:
        if number % 5:
            job = status(number, "completed", followers=number, finished_at=status(number, "queued").updated_at)
        else:
            job = status(number, "failed", error=error)
        await js.publish(f"$KV.{JOBS_BUCKET}.{job.job_id}", encode(job))

    for start in range(0, total, 250):
        await asyncio.gather(*(put(number) for number in range(start, start + 250)))
    slowest, done = 0.0, asyncio.Event()

    async def beat() -> None:
        nonlocal slowest
        loop = asyncio.get_running_loop()
        while not done.is_set():
            before = loop.time()
            await asyncio.sleep(0.005)
            slowest = max(slowest, loop.time() - before)

    beating = asyncio.create_task(beat())
    began = asyncio.get_running_loop().time()
    async with stream(http) as events:
        data = await events.until("overview", lambda data: data["counts"]["all"] == total)
        took = asyncio.get_running_loop().time() - began
        await live.put(status(total + 1, "running"))
        data = await events.until("overview", lambda data: data["counts"]["running"] == 1)
    async with stream(http, "/stream?state=failed&page=2") as events:
        failed = await events.until("overview", lambda data: data["counts"]["all"] == total + 1)
    done.set()
    await beating

    print(f"{total} jobs read in {took:.2f} s, longest stall of the loop {slowest * 1000:.0f} ms")
    assert slowest < 1.0
    assert [len(data["jobs"]), data["jobs"][0]["id"]] == [hub.ROWS, f"job-{total + 1}"]
    assert data["hidden"] == total - 2 * KEPT
    assert len(json.dumps(data)) < 60_000
    assert (failed["page"], failed["pages"], failed["counts"]["failed"]) == (2, KEPT // hub.ROWS, total // 5)
    assert failed["jobs"][0]["id"] == f"job-{total - 5 * (hub.ROWS + 1)}"


async def test_what_is_deleted_or_no_status_is_not_counted(live: Live, http: aiohttp.ClientSession) -> None:
    bucket = await live.client.jetstream().key_value(JOBS_BUCKET)
    await live.put(status(1, "running"))
    await live.put(status(2, "running"))
    await bucket.put("not-a-job", b"{}")
    await bucket.put("cancel.job-9", b'{"cancel":true}')
    async with stream(http) as events:
        await events.until("overview", lambda data: data["counts"]["running"] == 2)
        await bucket.delete("job-1")
        data = await events.until("overview", lambda data: data["counts"]["running"] == 1)
        await bucket.purge("job-2")
        gone = await events.until("overview", lambda data: data["counts"]["running"] == 0)

    assert [job["id"] for job in data["jobs"]] == ["job-2"]
    assert gone["counts"]["all"] == 0


async def test_a_bucket_that_is_made_anew_is_read_anew(
    live: Live, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.jetstream.kv import watch
    from worker.jetstream.topology.assets import TopologyConfig
    from worker.jetstream.topology.reconcile import reconcile

    monkeypatch.setattr(watch, "LOOK_EVERY", 0.2)
    for number in range(5):
        await live.put(status(number, "running"))
    async with stream(http) as events:
        await events.until("overview", lambda data: data["counts"]["running"] == 5)
        await live.client.jetstream().delete_stream(f"KV_{JOBS_BUCKET}")
        await reconcile(live.client, TopologyConfig(ack_wait=5))
        await live.put(status(1, "waiting"))
        data = await events.until("overview", lambda data: data["counts"]["waiting"] == 1)

    assert data["counts"]["all"] == 1
