"""`followers demo` shows everything in one go and leaves nothing behind."""

import asyncio
import os
import signal
import uuid
from pathlib import Path

import pytest

from tests.acceptance.product import MARK, Running, marked_processes, until

VARIANTS = ("eTelecom Shop", "eTelecom Partner", "eSMS GetFollowers", "eSMS QueryListUID")


class Demo:
    """One run of the demo, with a mark on all its processes and a folder for all its temporary files."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.running = Running(["demo", *arguments], folder, {MARK: self.mark, "TMPDIR": str(self.temporary)})

    async def has_its_server(self) -> bool:
        """Whether more than the command line itself is running."""
        return len(marked_processes(self.mark)) >= 2

    def leftovers(self) -> list[str]:
        """Processes and files that should not be there any more."""
        return marked_processes(self.mark) + [str(path) for path in self.temporary.iterdir()]


@pytest.mark.parametrize("arguments", [["--once"], []], ids=["once", "piped"])
async def test_the_demo_ends_with_a_summary_and_leaves_nothing_running(tmp_path: Path, arguments: list[str]) -> None:
    demo = Demo(tmp_path, *arguments)

    try:
        result = await demo.running.ended(60)
        leftovers = demo.leftovers()
    finally:
        await demo.running.destroy()

    assert result.code == 0, result.err[-3000:]
    assert leftovers == []
    summary = [line for line in result.out.splitlines() if line.strip()][-len(VARIANTS) :]
    for variant, line in zip(VARIANTS, summary, strict=True):
        assert all(word in line for word in (variant, "1,234", "complete")), result.out[-2000:]
        assert result.out.count(variant) > 13, "pages are shown as they arrive"
    assert "Traceback" not in result.err


async def test_two_demos_at_once_do_not_meet(tmp_path: Path) -> None:
    demos = [Demo(tmp_path / name, "--once") for name in ("one", "two")]

    try:
        results = await asyncio.gather(*(demo.running.ended(90) for demo in demos))
        leftovers = [demo.leftovers() for demo in demos]
    finally:
        for demo in demos:
            await demo.running.destroy()

    assert [result.code for result in results] == [0, 0], [result.err[-2000:] for result in results]
    assert leftovers == [[], []]


async def test_one_ctrl_c_ends_the_demo_and_all_that_belongs_to_it(tmp_path: Path) -> None:
    demo = Demo(tmp_path)

    try:
        assert await until(demo.has_its_server, 30), demo.running.err
        os.killpg(demo.running.process.pid, signal.SIGINT)  # a terminal signals the whole foreground group
        result = await demo.running.ended(20)
        leftovers = demo.leftovers()
    finally:
        await demo.running.destroy()

    assert result.code == 130, result.err[-3000:]
    assert leftovers == []
    assert "Traceback" not in result.err


async def test_the_simulators_run_alone_until_ctrl_c(tmp_path: Path) -> None:
    running = Running(["simulate"], tmp_path)

    async def both_addresses() -> bool:
        assert running.process.poll() is None, running.err
        return (running.out + running.err).count("http://127.0.0.1:") >= 2

    try:
        assert await until(both_addresses, 20), running.err
        running.signal(signal.SIGINT)
        result = await running.ended(10)
    finally:
        await running.destroy()

    assert result.code == 130
    assert "Traceback" not in result.err
