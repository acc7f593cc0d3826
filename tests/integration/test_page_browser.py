"""The live page in a real headless Chromium: twelve jobs in all states, one of them cancelled with a click.

PAGE_SCREENSHOTS names a folder that keeps the pictures.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from schemas.events import FetchError
from schemas.jobs import JobStatus
from schemas.subjects import JOBS_BUCKET, dead_subject
from schemas.types import JobState
from schemas.wire import encode
from tests.integration import page_kit, stage
from tests.integration.page_kit import Live
from worker.embedded import EmbeddedServer
from worker.providers.simulators import OA_ID

PATIENCE = 20_000
"""Milliseconds."""


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    """Chromium; without one the tests are skipped, but never in CI."""
    try:
        from playwright.async_api import Error, async_playwright
    except ImportError:
        _without("playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    async with async_playwright() as playwright:
        try:
            found = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except Error as error:
            _without(f"no Chromium can be started: {error.message.splitlines()[0]}")
        yield found
        await found.close()


def _without(reason: str) -> None:
    if os.environ.get("ALL_TOOLS"):
        pytest.fail(f"CI must have a browser, and .ci/run installs one: {reason}")
    pytest.skip(f"the live page is not tested in a browser: {reason}; try `apt-get install chromium`")


@pytest.fixture
async def live(private_nats_server: EmbeddedServer) -> AsyncIterator[Live]:
    """A worker without jobs."""
    client: Client = await nats.connect(private_nats_server.url, allow_reconnect=False)
    async with page_kit.live(client, private_nats_server.url) as live:
        yield live
    await client.close()


@pytest.fixture
async def twelve(live: Live) -> Live:
    """A worker with twelve jobs in all states."""
    await page_kit.twelve_jobs(live)
    return live


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Any]:
    """Takes a picture of a page under a name."""
    folder = Path(os.environ.get("PAGE_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    async def take(page: Any, name: str) -> None:
        path = folder / f"{name}.png"
        await page.screenshot(path=path, full_page=True)
        assert path.stat().st_size > 10_000

    return take


async def opened(
    browser: Any, url: str, complaints: list[str], jobs: int = page_kit.JOBS, letters: int = 2, **context: Any
) -> Any:
    """A page of a new context, complaining about every script error and refused resource."""
    page = await (await browser.new_context(**context)).new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(url) else None)
    await page.goto(url)
    await page.locator(".job").nth(jobs - 1).wait_for()
    await page.locator(".letter").nth(letters - 1).wait_for()
    return page


async def fits(page: Any) -> bool:
    """Whether nothing is wider than the window."""
    wide: bool = await page.evaluate("document.documentElement.scrollWidth <= Math.min(innerWidth, screen.width)")
    return wide


async def test_twelve_jobs_are_seen_opened_and_one_is_cancelled(
    browser: Any, twelve: Live, picture: Callable[..., Any]
) -> None:
    complaints: list[str] = []
    page = await opened(browser, twelve.url, complaints, viewport={"width": 1280, "height": 900})
    assert await page.locator(".job").count() == page_kit.JOBS
    wanted: dict[JobState, int] = {
        "running": 3,
        "waiting": 2,
        "queued": 2,
        "completed": 2,
        "failed": 2,
        "cancelled": 1,
    }
    for state, count in wanted.items():
        assert await page.locator(f".job > .pill.{state}").count() == count
    waiting = page.locator(".job", has_text="patient-1")
    said = await waiting.inner_text()
    assert re.search(r"rate limited: the provider answered .*: this account's go on in \d+ (s|min);", said)
    assert re.search(r"\d{4}-\d{2}-\d{2}T", said) is None, "one form of a time beside another"
    assert "asks to wait" in await page.locator(".card", has_text="busy-esms").inner_text()
    assert "label-of-nobody" not in await page.content()
    assert await fits(page)
    await picture(page, "desktop")

    # It moves by itself.
    running = page.locator(".job", has_text="big-shop-1").locator(".number")
    before = await running.inner_text()
    await page.wait_for_function(
        "before => [...document.querySelectorAll('.job')].find(job => job.textContent.includes('big-shop-1'))"
        ".querySelector('.number').textContent !== before",
        arg=before,
    )

    await page.get_by_role("link", name="big-shop-1").click()
    await page.locator(".timeline li.started").wait_for()
    await picture(page, "job")
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_label("Token").fill("a wrong token, invented")
    await picture(page, "ask")
    await page.get_by_role("button", name="Do it").click()
    await page.get_by_role("status").get_by_text("token is missing or wrong").wait_for()
    complaints.clear()  # the browser reports the refusal
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_label("Token").fill(page_kit.TOKEN)
    await page.get_by_role("button", name="Do it").click()
    await page.locator(".timeline li.cancelled").wait_for()
    await page.locator(".title .pill.cancelled").wait_for()

    assert await twelve.state("big-shop-1") == "cancelled"
    assert await page.get_by_role("button", name="Cancel").count() == 0
    await picture(page, "job-cancelled")
    await page.get_by_role("link", name="all jobs").click()
    await page.locator(".tab", has_text="cancelled").click()
    await page.wait_for_function("() => document.querySelectorAll('.job').length === 2")
    assert complaints == []


async def test_the_page_fits_a_phone_in_light_and_dark(browser: Any, twelve: Live, picture: Callable[..., Any]) -> None:
    complaints: list[str] = []
    for scheme in ("light", "dark"):
        phone: dict[str, Any] = {"viewport": {"width": 360, "height": 780}, "is_mobile": True, "color_scheme": scheme}
        page = await opened(browser, twelve.url, complaints, device_scale_factor=2, **phone)
        assert await fits(page)
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
        await picture(page, f"phone-{scheme}")
        await page.get_by_role("link", name="no-account-1").first.click()
        await page.locator(".timeline li.failed").wait_for()
        assert await fits(page)
        await picture(page, f"phone-{scheme}-job")
        await page.context.close()
    desktop = await opened(
        browser, twelve.url, complaints, color_scheme="dark", viewport={"width": 1280, "height": 900}
    )
    await picture(desktop, "desktop-dark")
    await desktop.goto(f"{twelve.url}/asyncapi")
    assert await desktop.locator("section#FollowerPage").count() == 1
    await picture(desktop, "asyncapi")

    assert complaints == []


async def test_what_a_job_says_is_text_and_never_markup(browser: Any, live: Live) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    error = FetchError(code="internal", message=hostile, retryable=False)
    status = JobStatus(
        job_id="hostile", provider="esms", account=hostile, oa_id=OA_ID, state="failed",
        worker=hostile, updated_at=datetime.now(UTC), error=error,
    )  # fmt: skip
    await live.put(status)
    # Somebody's own key, and a letter that isn't ours.
    await live.client.jetstream().publish(f"$KV.{JOBS_BUCKET}.no-status", b"<b>")
    headers = {"Followers-Job-Id": "../../x", "Followers-Error-Code": hostile, "Followers-Error-Message": hostile}
    await live.client.jetstream().publish(dead_subject("esms"), encode(error), headers=headers)
    complaints: list[str] = []
    page = await opened(browser, live.url, complaints, jobs=1, letters=1)
    await page.locator(".letter", has_text="<script>").wait_for()
    await page.get_by_role("link", name="hostile", exact=True).click()
    await page.locator(".error", has_text="<script>").wait_for()

    assert await page.locator("img, main script").count() == 0
    assert complaints == []
    await stage.until(lambda: live.worker.page.watching, 5)
