"""What a test that knows only the address can see and steer; and the life of a simulator."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from worker.providers.simulators import (
    API_KEY,
    OA_ID,
    SECRET_KEY,
    SHOP_KEY,
    EsmsConfig,
    EsmsSimulator,
    EtelecomConfig,
    EtelecomSimulator,
    Simulator,
    serve,
)


@pytest.fixture
async def etelecom() -> AsyncIterator[EtelecomSimulator]:
    async with Simulator(EtelecomConfig(followers={OA_ID: 30}, log_size=5)) as running:
        yield running


@pytest.fixture
async def esms() -> AsyncIterator[EsmsSimulator]:
    async with Simulator(EsmsConfig(followers={OA_ID: 30})) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


async def list_followers(client: httpx.AsyncClient, url: str, body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {SHOP_KEY}"}
    return await client.post(f"{url}/v1/shop.Zalo/ListFollowers", headers=headers, json=body)


async def test_requests_are_remembered_with_filter_and_paging_as_they_came(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    body = {"filter": {"oa_id": OA_ID, "Name": "Ngọc", "odd": [1]}, "paging": {"limit": 7, "sort": ""}}
    await list_followers(client, etelecom.url, body)

    seen = (await client.get(f"{etelecom.url}/_control/requests")).json()

    assert len(seen["requests"]) == 1
    entry = seen["requests"][0]
    assert entry["body"] == body
    assert (entry["endpoint"], entry["oa_id"], entry["auth"], entry["status"]) == (
        "ListFollowers",
        OA_ID,
        "ok",
        200,
    )
    assert entry["path"] == "/v1/shop.Zalo/ListFollowers"
    assert seen["counters"]["requests"] == seen["counters"]["status:200"] == 1
    assert seen["counters"]["in_flight_max"] == 1


async def test_no_secret_is_remembered(
    etelecom: EtelecomSimulator, esms: EsmsSimulator, client: httpx.AsyncClient
) -> None:
    await list_followers(client, etelecom.url, {})
    path = "/MainService.svc/json/ZNS/GetFollowers/"
    await client.post(esms.url + path, json={"ApiKey": API_KEY, "secretkey": SECRET_KEY, "OAID": OA_ID})

    texts = [(await client.get(f"{each.url}/_control/requests")).text for each in (etelecom, esms)]

    assert esms.requests[0].body == {"ApiKey": "***", "secretkey": "***", "OAID": OA_ID}
    assert not any(secret in text for text in texts for secret in (SHOP_KEY, API_KEY, SECRET_KEY))


async def test_the_memory_is_bounded_but_the_counters_count_on(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    for _ in range(8):
        await list_followers(client, etelecom.url, {})

    assert [entry.number for entry in etelecom.requests] == [4, 5, 6, 7, 8]
    assert etelecom.journal.counters["endpoint:ListFollowers"] == 8


async def test_requests_can_be_chosen(etelecom: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    await list_followers(client, etelecom.url, {"filter": {"oa_id": OA_ID}})
    await list_followers(client, etelecom.url, {})
    await client.post(f"{etelecom.url}/v1/shop.Zalo/ListOA", json={})

    async def numbers(query: str) -> list[int]:
        seen = (await client.get(f"{etelecom.url}/_control/requests?{query}")).json()
        return [entry["number"] for entry in seen["requests"]]

    assert await numbers("endpoint=ListFollowers") == [1, 2]
    assert await numbers(f"oa_id={OA_ID}") == [1]
    assert await numbers("after=1") == [2, 3]


async def test_faults_are_set_seen_and_cleared_over_http(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient
) -> None:
    faults = f"{etelecom.url}/_control/faults"
    await client.post(faults, json=[{"kind": "status", "status": 500, "times": 2}, {"kind": "empty"}])
    await client.post(faults, json={"kind": "html"})

    statuses = [(await list_followers(client, etelecom.url, {})).status_code for _ in range(2)]
    pending = (await client.get(faults)).json()["pending"]
    await client.delete(faults)

    assert statuses == [500, 500]
    assert [fault["kind"] for fault in pending] == ["empty", "html"]
    assert (await list_followers(client, etelecom.url, {})).json()["followers"]
    assert etelecom.journal.counters["fault:status"] == 2


async def test_the_list_is_changed_and_read_over_http(esms: EsmsSimulator, client: httpx.AsyncClient) -> None:
    before = (await client.get(f"{esms.url}/_control/ids?oa_id={OA_ID}")).json()["ids"]
    change = {"oa_id": OA_ID, "follow": 2, "unfollow": [before[5]]}

    changed = (await client.post(f"{esms.url}/_control/list", json=change)).json()
    after = (await client.get(f"{esms.url}/_control/ids?oa_id={OA_ID}")).json()["ids"]

    assert changed["unfollowed"] == [before[5]]
    assert after == changed["followed"][::-1] + [user for user in before if user != before[5]]


async def test_a_scripted_change_waits_for_its_request(esms: EsmsSimulator, client: httpx.AsyncClient) -> None:
    change = {"oa_id": OA_ID, "before_request": 2, "unfollow": 1}
    body = {"ApiKey": API_KEY, "SecretKey": SECRET_KEY, "OAID": OA_ID, "Count": 50}
    newest = esms.ids(OA_ID)[0]

    waiting = (await client.post(f"{esms.url}/_control/list", json=change)).json()
    url = f"{esms.url}/MainService.svc/json/ZNS/GetFollowers/"
    totals = [(await client.post(url, json=body)).json()["Total"] for _ in range(3)]

    assert waiting == {"unfollowed": [], "followed": [], "updated": []}
    assert totals == [30, 29, 29]
    assert [done.unfollowed for done in esms.changes.done] == [[newest]]


async def test_a_reset_makes_everything_new(etelecom: EtelecomSimulator, client: httpx.AsyncClient) -> None:
    before = etelecom.rows(OA_ID)
    await client.post(f"{etelecom.url}/_control/list", json={"oa_id": OA_ID, "follow": 3, "unfollow": 3})
    await client.post(f"{etelecom.url}/_control/faults", json={"kind": "reset", "times": 0})

    await client.post(f"{etelecom.url}/_control/reset")

    assert etelecom.requests == []
    assert (await list_followers(client, etelecom.url, {})).json()["followers"] == before


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "faults", {"kind": "earthquake"}, "earthquake"),
        ("POST", "faults", {"kind": "reset", "every": 0}, "every"),
        ("POST", "faults", {"kind": "reset", "colour": 1}, "colour"),
        ("POST", "list", {"oa_id": "7", "follow": 1}, "no Official Account 7"),
        ("POST", "list", {"oa_id": OA_ID, "unfollow": ["42"]}, "no follower 42"),
        ("GET", "ids?oa_id=7", None, "no Official Account 7"),
        ("GET", "nothing", None, "no such control"),
    ],
)
async def test_a_control_that_makes_no_sense_is_refused_with_a_reason(
    etelecom: EtelecomSimulator, client: httpx.AsyncClient, method: str, path: str, body: Any, says: str
) -> None:
    response = await client.request(method, f"{etelecom.url}/_control/{path}", json=body)

    assert response.status_code == 400
    assert says in response.json()["error"]


async def test_several_simulators_live_in_one_loop_on_free_ports(
    etelecom: EtelecomSimulator, esms: EsmsSimulator
) -> None:
    assert etelecom.url != esms.url
    assert etelecom.url.startswith("http://127.0.0.1:")


async def test_a_simulator_can_be_stopped_twice_and_started_again(client: httpx.AsyncClient) -> None:
    simulator = await Simulator(EtelecomConfig(followers={OA_ID: 3})).start()
    await simulator.stop()
    await simulator.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = simulator.url

    await simulator.start()

    assert (await list_followers(client, simulator.url, {})).status_code == 200
    await simulator.stop()


async def test_a_taken_port_is_an_os_error(etelecom: EtelecomSimulator) -> None:
    taken = int(etelecom.url.rpartition(":")[2])

    with pytest.raises(OSError, match=str(taken)):
        await Simulator(EsmsConfig(port=taken)).start()


async def test_serve_reports_its_urls_and_runs_until_cancelled(client: httpx.AsyncClient) -> None:
    urls: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(serve(EtelecomConfig(), EsmsConfig(), urls.set_result))
    found = await asyncio.wait_for(urls, 5)

    assert set(found) == {"etelecom", "esms"}
    assert (await list_followers(client, found["etelecom"], {})).status_code == 200
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(httpx.ConnectError):
        await client.get(found["esms"])


async def test_serve_runs_one_provider_alone() -> None:
    urls: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(serve(None, EsmsConfig(), urls.set_result))

    assert set(await asyncio.wait_for(urls, 5)) == {"esms"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
