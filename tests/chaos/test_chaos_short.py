"""A short run of what `make chaos` does for longer."""

import os
from pathlib import Path

import pytest

from tests.chaos.options import Options
from tests.chaos.run import run

pytestmark = pytest.mark.timeout(300)


async def test_no_page_or_command_is_lost_or_doubled_while_everything_is_killed() -> None:
    named = os.environ.get("NATS_SERVER_BIN")
    options = Options(
        seconds=14,
        seed=7,
        nats_server=Path(named) if named else None,
        kill_every=0.6,
        server_kill_every=3.5,
        zombie_every=2.5,
        drain_every=5,
        duplicate_every=0.4,
        fail_every=1.5,
    )

    ledger = await run(options)

    assert ledger.broken == [], f"\n{ledger}"
    for kind, least in (
        ("worker_kills", 8),
        ("server_kills", 2),
        ("zombies", 2),
        ("jobs", 40),
        ("page_events", 300),
        ("change_events", 20),
        ("cancels_answered", 3),
        ("jobs_cancelled", 2),
        ("status_requests_answered", 50),
        ("generations_reopened", 1),
        ("lists_released", 1),
    ):
        assert ledger.figures[kind] >= least, f"too little was done to prove anything:\n{ledger}"
