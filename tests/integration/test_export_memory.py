"""What `followers export` needs in memory: a batch of pages, and no more for a longer list. LONG_TESTS=1: a million."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from nats.js import JetStreamContext

from schemas import Follower, FollowerPage
from tests.integration.test_changes_large import rich
from tests.integration.test_cli import completed, page, publish
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

LARGE = bool(os.environ.get("LONG_TESTS"))
FOLLOWERS = 1_000_000 if LARGE else 100_000
SIZE = 100
"""Followers in a page, which has 62 KB then."""
AT_ONCE = 64
SMALL, MORE = 10 * SIZE, 20_000_000
"""A list that is one batch, and the bytes that a longer one may take beyond it."""
SCRIPT = """
import atexit, pathlib, sys
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    print("peak", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
atexit.register(tell)
from worker.cli import main
main()
"""


def pages_of(job: str, followers: int) -> Iterator[FollowerPage]:
    """The list's pages, as a worker publishes them, but for the digests."""
    count = followers // SIZE
    for number in range(1, count + 1):
        first = (number - 1) * SIZE
        listed: list[Follower] = [rich(one) for one in range(first, first + SIZE)]
        yield msgspec.structs.replace(page(job, number, count, size=0), followers=listed)


async def publish_list(js: JetStreamContext, job: str, followers: int) -> None:
    waiting: list[Any] = []
    for each in pages_of(job, followers):
        waiting.append(publish(js, each))
        if len(waiting) == AT_ONCE:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
    await publish(js, msgspec.structs.replace(completed(job, followers // SIZE), followers=followers))


async def peak_of_export(server: EmbeddedServer, job: str, target: Path) -> int:
    """Return the most bytes that the process held."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, "export", job, str(target)),
        env={**os.environ, "FOLLOWERS_NATS__SERVERS": json.dumps([server.url])},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return int(err.decode().rpartition("peak ")[2]) * 1024


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["jsonl", "csv"] if LARGE else ["jsonl"])
async def test_a_long_list_takes_no_more_memory_than_a_batch_of_its_pages(
    private_nats_server: EmbeddedServer, tmp_path: Path, kind: str
) -> None:
    client = await nats.connect(private_nats_server.url, allow_reconnect=False)
    await reconcile(client, TopologyConfig())
    for job, followers in ("small", SMALL), ("large", FOLLOWERS):
        await publish_list(client.jetstream(), job, followers)
    await client.close()

    small = await peak_of_export(private_nats_server, "small", tmp_path / f"small.{kind}")
    large = await peak_of_export(private_nats_server, "large", tmp_path / f"large.{kind}")

    assert large - small < MORE
    with (tmp_path / f"large.{kind}").open("rb") as file:
        assert sum(1 for _ in file) == FOLLOWERS + (kind == "csv")
