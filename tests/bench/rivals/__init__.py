"""Other ways to do the same, each in one file that does nothing but that.

A rival is told its runs on standard input, one JSON line each, and answers each with a line: the pages it handled. In
between it sleeps, so that the CPU time the system counts from one line to the next is the run's.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

ETELECOM = "/v1/shop.Zalo/ListFollowers"
ESMS = "/MainService.svc/json/ZNS/GetFollowers/"


@dataclass(frozen=True)
class Run:
    """What is to be done: the same list once for each job."""

    provider: str
    oa_id: str
    jobs: list[str]


async def obey(do: Callable[[Run], Awaitable[int]]) -> None:
    """Do one run after the other, until there are no more."""
    say("ready")
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        say(await do(Run(**json.loads(line))))


def obey_plainly(do: Callable[[Run], int]) -> None:
    """As `obey`, for a rival without an event loop."""
    say("ready")
    while line := sys.stdin.readline():
        say(do(Run(**json.loads(line))))


def say(word: object) -> None:
    """Tell the benchmark."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
