"""A guard against becoming slow: a ratio within one run, with a wide margin. The figures come from `make bench`."""

import sys

import pytest

from tests.bench.cost import worker_to_bare
from tests.bench.stage import stage

MARGIN = 1.3
"""It is 0.9 where nobody else works, and was 1.02 at most in a turn beside five others. 1.15 is what it was before the
short ways through httpx and nats-py."""


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU time of another process is read from Linux's clocks")
async def test_the_worker_takes_not_much_more_cpu_a_page_than_the_bare_parts() -> None:
    async with stage(seed=1) as place:
        figure = await worker_to_bare(place, rounds=4)

    assert figure.value <= MARGIN, figure
