"""The worker under a pod's constraints, with the shipped configuration and the shipped users of NATS."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from k8s.checks.shipped import ROOT
from schemas.events import FollowerPage
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM
from schemas.wire import decode
from tests.integration import stage
from tests.k8s.cluster import Place, place, run
from tests.k8s.pod import GRACE, Pod, SecretFolder, memory_limit, memory_peak, need_tools, out_of_memory
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY, SHOP_KEY, EtelecomConfig, EtelecomSimulator, Fault

pytestmark = pytest.mark.timeout(900)

FOLLOWERS = 400
LONG = bool(os.environ.get("LONG_TESTS"))
MEMORY = 384 * 2**20
"""The Deployment's memory limit."""


@pytest.fixture(scope="module")
async def same_place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    need_tools()
    async with place(tmp_path_factory.mktemp("pods"), followers=FOLLOWERS) as around:
        yield around


@pytest.fixture
async def around(same_place: Place) -> AsyncIterator[Place]:
    yield same_place
    same_place.providers.etelecom.faults.clear()
    same_place.providers.esms.faults.clear()
    for stream in (COMMANDS_STREAM, EVENTS_STREAM):
        await same_place.admin.jetstream().purge_stream(stream)


async def test_a_pod_does_the_main_job_and_holds_nothing_that_it_does_not_need(around: Place) -> None:
    async with around.pod() as pod:
        status = pod.status()
        for provider in ("etelecom", "esms"):
            await around.order(f"job-{provider}", provider)
        await around.all_done()
        logs = pod.log
        code = await pod.stop()

    assert code == 0
    assert status["Uid"].split() == ["65532"] * 4
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    await around.verify(FOLLOWERS, "job-etelecom", "job-esms")
    assert "permission" not in logs
    for secret in (API_KEY, SECRET_KEY, around.logins["worker"].seed.decode()):
        assert secret not in logs


async def test_sigterm_soon_after_the_start_ends_the_pod_with_0_and_the_job_is_left_to_others(around: Place) -> None:
    await around.order("early", page_size=50)
    took = {}
    for delay in (0, 0.1, 0.2, 0.5, 1, 3):
        async with around.pod(ready=False) as pod:
            pod.execed()
            await asyncio.sleep(delay)
            began = time.monotonic()
            assert await pod.stop() == 0, f"{delay} s after exec: {pod.log}"
            took[delay] = round(time.monotonic() - began, 2)
    async with around.pod():
        await around.all_done()

    print(f"SIGTERM after so many seconds, and how long it took: {took}")
    assert max(took.values()) < GRACE / 2
    await around.verify(FOLLOWERS, "early")


async def test_sigterm_at_the_very_exec_is_not_lost_when_the_pod_shares_its_process_namespace(around: Place) -> None:
    """Process 1 is then the pause container: a worker without a handler yet dies, as any process does."""
    async with around.pod(ready=False, shared=True) as pod:
        assert await pod.stop() in (0, 143), pod.log


async def test_sigterm_in_mid_job_loses_and_repeats_nothing(around: Place) -> None:
    around.providers.etelecom.inject(Fault(kind="latency", seconds=0.1, times=0))
    await around.order("middle", page_size=20)
    for taken in (2, 5):
        async with around.pod() as pod:
            await around.some_pages("middle", taken)
            assert await pod.stop() == 0, pod.log
            assert await around.backlog() == 1, "it was not in mid-job"
    around.providers.etelecom.faults.clear()
    async with around.pod():
        await around.all_done()

    await around.verify(FOLLOWERS, "middle")


async def test_a_large_list_fits_into_the_memory_limit(tmp_path: Path) -> None:
    need_tools()
    tmp_path.chmod(0o755)
    followers, jobs = (100_000, 6) if LONG else (3_000, 4)
    with memory_limit(MEMORY) as group:
        async with place(tmp_path, followers=followers) as around:
            names = [f"large-{number}" for number in range(jobs)]
            for name in names:
                await around.order(name)
            async with around.pod(memory=group) as pod:
                await around.all_done(timeout=600)
                rss = pod.rss_of_worker()
                assert await pod.stop() == 0
            peak, killed = memory_peak(group), out_of_memory(group)
            await around.verify(followers, *names)

    print(f"{jobs} jobs of {followers} followers: peak {peak >> 20} MiB of {MEMORY >> 20}, at the end {rss >> 20} MiB")
    assert killed == 0
    assert peak < MEMORY


async def test_a_rotated_key_is_picked_up_from_its_mounted_file(around: Place) -> None:
    async with around.pod() as pod:
        await around.order("before")
        await around.all_done()
        new_key = "1150000000000000009:" + "rotatedshopkey00" * 4
        port = urlsplit(around.providers.etelecom.url).port or 0
        config = EtelecomConfig(followers={OA_ID: FOLLOWERS}, shop_keys=(new_key,), port=port)
        await around.providers.etelecom.stop()
        around.accounts.swap({"my-shop": new_key, "esms-api-key": API_KEY, "esms-secret-key": SECRET_KEY})
        async with EtelecomSimulator(config):
            await around.order("after")
            await around.all_done()
        reloaded = pod.events("provider.secret_reloaded")
        assert await pod.stop() == 0
    around.accounts.swap({"my-shop": SHOP_KEY, "esms-api-key": API_KEY, "esms-secret-key": SECRET_KEY})
    around.providers.etelecom.config = msgspec.structs.replace(around.providers.etelecom.config, port=port)
    await around.providers.etelecom.start()

    assert len(reloaded) == 1
    await around.verify(FOLLOWERS, "before", "after")


async def test_a_broker_outage_restarts_nobody(around: Place) -> None:
    outage = 60.0 if LONG else 4.0
    around.providers.etelecom.inject(Fault(kind="latency", seconds=0.1, times=0))
    await around.order("outage", page_size=20)
    alive: list[tuple[int, str]] = []
    async with around.pod() as pod:
        worker = pod.worker_pid()
        await around.some_pages("outage", 2)
        await around.server.kill()
        gone = time.monotonic()
        await pod.answers("/readyz", 503, "NATS is not connected")
        while time.monotonic() - gone < outage:
            alive.append(await pod.get("/healthz"))
            await asyncio.sleep(0.25)
        assert (await pod.get("/readyz"))[0] == 503
        await around.server.start()
        await pod.answers("/readyz", 200)
        await around.all_done()
        same = pod.worker_pid() == worker
        assert await pod.stop() == 0

    assert set(alive) == {(200, "ok\n")}
    assert same
    await around.verify(FOLLOWERS, "outage")


async def test_from_one_worker_to_four_and_back_loses_and_repeats_nothing(around: Place) -> None:
    # So slow that there is work for all until they have been drained.
    slow = (around.providers.etelecom, around.providers.esms)
    for provider in slow:
        provider.inject(Fault(kind="latency", seconds=0.5, times=0))
    names = [f"scale-{number}" for number in range(36)]
    for number, name in enumerate(names):
        await around.order(name, "etelecom" if number % 2 else "esms", page_size=20)
    limited = {"settings": {"max_jobs": 2}}

    async with around.pod(**limited) as first, contextlib.AsyncExitStack() as more:
        await at_work(first)
        others = [await more.enter_async_context(around.pod(**limited, ready=False)) for _ in range(3)]
        for pod in others:
            await at_work(pod)
        before = await around.backlog()
        codes = [await pod.stop() for pod in others]
        after = await around.backlog()
        for provider in slow:
            provider.faults.clear()
        await around.all_done()
        codes.append(await first.stop())

    print(f"{before} commands when four were at work, {after} when three of them had been drained")
    assert codes == [0, 0, 0, 0]
    assert after > 4, "the drains came too late to prove anything"
    await around.verify(FOLLOWERS, *names)


async def at_work(pod: Pod) -> None:
    """Wait until it has a command in hand."""

    async def busy() -> bool:
        lines = (await pod.get("/metrics"))[1].splitlines()
        return any(float(line.split()[-1]) for line in lines if line.startswith("followers_jobs_in_flight{"))

    await stage.until(busy, 30, lambda: f"no command in hand:\n{pod.log}")


async def test_the_schedule_publishes_one_command_a_night_however_often_it_is_tried(around: Place) -> None:
    cron = yaml.safe_load((ROOT / "k8s/components/schedule/cronjob.yaml").read_text("utf-8"))
    container = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    login = SecretFolder(around.folder / "nats-publisher", {"seed": around.logins["publisher"].seed.decode()})
    night = {"job-name": "followers-nightly-29745630"}

    for _ in range(2):
        assert await run(around, container, login, **night) == 0

    assert await around.backlog() == 1


async def test_a_page_says_the_account_and_nothing_of_its_key(around: Place) -> None:
    async with around.pod():
        await around.order("named", account="my-shop")
        await around.all_done()

    message = await around.admin.jetstream().get_last_msg(EVENTS_STREAM, f"followers.page.etelecom.{OA_ID}.named")
    assert decode(message.data or b"", FollowerPage).account == "my-shop"
    assert SHOP_KEY.encode() not in (message.data or b"")
