"""Both providers in a process of their own, faulty, with a nonce in each of eTelecom's cursors.

As a program (`python -m tests.chaos.provider SEED`) it prints its URLs as JSON and runs until its stdin closes.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Self

import aiohttp
import msgspec

from worker.providers.simulators import EsmsConfig, EsmsSimulator, EtelecomConfig, EtelecomSimulator, Fault

SIZES = (0, 1, 2, 3, 5, 8, 13, 21, 34, 45, 60, 75, 90, 120, 150, 177)
"""Followers of the Official Accounts, the same at both providers."""
FAILING = "280200000000009045"
"""The Official Account at either provider whose jobs fail for good, now and then."""
MOVING = "280200000000008060"
"""The Official Account at either provider from whose list people go, and come back."""
OTHERS = {FAILING: 45, MOVING: 60}
"""Followers of these, in the beginning."""
LATENCY = (0.008, 0.05)
_GARBLED = ("bad_json", "html", "empty")


def oa_id(size: int) -> str:
    """Return the Official Account that has `size` followers."""
    return f"2802000000000000{size:03d}"


def faults() -> list[Fault]:
    """Return what goes wrong: about every twentieth request."""
    return [
        Fault(kind="status", status=500, every=83, times=0),
        Fault(kind="status", status=429, retry_after="1", every=97, times=0),
        Fault(kind="reset", every=89, times=0),
        Fault(kind="bad_json", every=107, times=0),
        Fault(kind="html", every=211, times=0),
        Fault(kind="empty", every=223, times=0),
    ]


def refusals() -> list[Fault]:
    """Return what ends jobs of one Official Account for good: most that read it in one go, few that go on."""
    return [
        Fault(kind="error", code="unauthenticated", oa_id=FAILING, endpoint="ListFollowers", every=29, times=0),
        Fault(kind="error", code="already_exists", oa_id=FAILING, endpoint="ListFollowers", every=11, times=0),
        Fault(kind="error", code="103", oa_id=FAILING, endpoint="GetFollowers", every=11, times=0),
    ]


class Provider:
    """The process as its starter sees it: `async with Provider(seed) as provider`."""

    def __init__(self, seed: int, *, latency: tuple[float, float] = LATENCY) -> None:
        """`seed` makes the followers."""
        self._seed = seed
        self._latency = latency
        self._ids: dict[tuple[str, str], list[str]] = {}
        self.urls: dict[str, str] = {}
        """By provider."""

    async def __aenter__(self) -> Self:
        """Start the process and wait for its URLs."""
        low, high = self._latency
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, str(self._seed), str(low), str(high)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=measured_no_more(),
        )
        assert self._process.stdout is not None
        self.urls = msgspec.json.decode(await self._process.stdout.readline(), type=dict[str, str])
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process."""
        await self._http.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def ids(self, provider: str, oa: str) -> list[str]:
        """Return the user ids of an Official Account in the order of its list."""
        if (provider, oa) not in self._ids:
            self._ids[provider, oa] = (await self._get(provider, f"ids?oa_id={oa}"))["ids"]
        return self._ids[provider, oa]

    async def calm(self) -> None:
        """Let nothing go wrong any more."""
        for url in self.urls.values():
            async with self._http.delete(f"{url}/_control/faults") as answer:
                answer.raise_for_status()

    async def move(self, provider: str, oa: str, *, unfollow: int = 0, follow: Sequence[str] = ()) -> list[str]:
        """Let so many go, or these people come back; return who has gone."""
        change = {"oa_id": oa, "unfollow": unfollow, "follow": list(follow)}
        async with self._http.post(f"{self.urls[provider]}/_control/list", data=msgspec.json.encode(change)) as answer:
            answer.raise_for_status()
            gone: list[str] = msgspec.json.decode(await answer.read(), type=dict[str, list[str]])["unfollowed"]
            return gone

    async def listed(self, provider: str, oa: str) -> tuple[tuple[str, ...], frozenset[str]]:
        """Return the ids of a list as it is now, and who of them follows."""
        ids = (await self._get(provider, f"ids?oa_id={oa}"))["ids"]
        gone = (await self._get(provider, f"ids?oa_id={oa}&state=unfollow"))["ids"]
        return tuple(ids), frozenset(ids) - frozenset(gone)

    async def counters(self) -> Counter[str]:
        """Return what was asked of both, by `requests`, `pages` (answered whole), `faults`."""
        counted: Counter[str] = Counter()
        for provider in self.urls:
            seen = Counter((await self._get(provider, "requests"))["counters"])
            garbled = sum(seen[f"fault:{kind}"] for kind in _GARBLED)
            counted["requests"] += seen["requests"]
            counted["pages"] += seen["status:200"] - garbled
            counted["faults"] += sum(count for name, count in seen.items() if name.startswith("fault:"))
        return counted

    async def _get(self, provider: str, what: str) -> dict[str, list[str]]:
        async with self._http.get(f"{self.urls[provider]}/_control/{what}") as answer:
            return msgspec.json.decode(await answer.read(), type=dict)


def measured_no_more() -> dict[str, str]:
    """Return this process's environment without what makes coverage measure the processes that are killed here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


async def _serve(seed: int, latency: tuple[float, float]) -> None:
    followers = {oa_id(size): size for size in SIZES} | OTHERS
    etelecom = EtelecomConfig(followers=followers, seed=seed, latency=latency, log_size=1, cursor_nonce=True)
    esms = EsmsConfig(followers=followers, seed=seed, latency=latency, log_size=1)
    async with EtelecomSimulator(etelecom) as one, EsmsSimulator(esms) as two:
        for simulator in (one, two):
            simulator.inject(*refusals(), *faults())
        print(msgspec.json.encode({"etelecom": one.url, "esms": two.url}).decode(), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), (float(sys.argv[2]), float(sys.argv[3]))))
