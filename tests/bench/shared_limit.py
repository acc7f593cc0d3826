"""Real worker processes against one account: what its provider's log says of the shared limit.

python -m tests.bench.shared_limit --replicas 4 --rate 20 --seconds 30 [--without-bucket] [--prefetching]

Prints the figures, and ends with 1 when more than the limit was used (1 % and a burst more in any second; without the
bucket: nothing more), or less than 95 % of it.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats

from schemas.subjects import LIMITS_BUCKET, command_subject
from schemas.types import Provider
from tests.limits_kit import worst_second
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import FALLBACK
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY, SHOP_KEY, EsmsConfig, EtelecomConfig, Simulator


async def main(options: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    jobs = max(3, round(options.rate / 8))  # a replica: more than enough to want the whole limit
    provider: Provider = "esms" if options.prefetching else "etelecom"
    config = EsmsConfig if options.prefetching else EtelecomConfig
    size = max(100_000, round(2 * options.rate * options.seconds))
    listing = config(followers={f"{OA_ID[:-1]}{n}": size for n in range(10)}, latency=(0.02, 0.2), log_size=10**6)
    async with EmbeddedServer() as server, Simulator(listing) as simulator:
        client = await nats.connect(server.url)
        await reconcile(client, TopologyConfig())
        keys = (
            f'api_key = "{API_KEY}"\nsecret_key = "{SECRET_KEY}"' if options.prefetching else f'api_key = "{SHOP_KEY}"'
        )
        base_url = simulator.url if options.prefetching else f"{simulator.url}/v1/shop"
        text = (
            f'[nats]\nservers = ["{server.url}"]\n[worker]\nhttp_port = 0\nmax_jobs = {jobs}\n[log]\nlevel = "error"\n'
            f'[accounts.one]\nprovider = "{provider}"\nbase_url = "{base_url}"\nrate_limit = {options.rate}\n{keys}\n'
        )
        async with _workers(options.replicas, text):
            for number in range(options.replicas * jobs):
                body = {
                    "provider": provider,
                    "oa_id": f"{OA_ID[:-1]}{number % 10}",
                    "id": f"job-{number}",
                    "page_size": 1,
                }
                await client.jetstream().publish(command_subject(provider), msgspec.json.encode(body))
            async with asyncio.timeout(60):
                await simulator.journal.until(lambda counters: counters["requests"] > 0)
            # The replicas start one after the other; what counts begins when all of them work.
            await asyncio.sleep(5.0)
            if options.without_bucket:
                await client.jetstream().delete_stream(f"KV_{LIMITS_BUCKET}")
                await asyncio.sleep(4.0)
            began = simulator.requests[-1].at
            await asyncio.sleep(options.seconds)
            times = [entry.at for entry in simulator.requests if began <= entry.at < began + options.seconds]
        await client.close()
    return _judge(options, times)


def _judge(options: argparse.Namespace, times: list[float]) -> int:
    limit = Limit(options.rate)
    allowed = options.rate if options.without_bucket else options.rate * 1.01 + limit.burst
    share = min(1.0, options.replicas * FALLBACK) if options.without_bucket else 1.0
    used, worst = len(times) / (options.rate * options.seconds), worst_second(times)
    print(
        f"{options.replicas} replicas, {options.rate:g} requests/s, {options.seconds:g} s: {len(times)} requests, "
        f"{used:.1%} of the limit; {worst} in the worst second (allowed: {allowed:g})"
    )
    return 0 if worst <= allowed and used >= 0.95 * share else 1


@contextlib.asynccontextmanager
async def _workers(count: int, config: str) -> AsyncIterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "followers.toml"
        path.write_text(config)
        command = [sys.executable, "-m", "worker", "worker", "--config", str(path)]
        processes = [await asyncio.create_subprocess_exec(*command) for _ in range(count)]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            await asyncio.gather(*(process.wait() for process in processes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--without-bucket", action="store_true")
    parser.add_argument("--prefetching", action="store_true", help="eSMS, whose pages are read ahead")
    sys.exit(asyncio.run(main(parser.parse_args())))
