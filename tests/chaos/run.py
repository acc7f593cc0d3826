"""One run: start everything, let the nemesis loose, wait for quiet, and compare."""

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import nats
from nats.aio.client import Client

from tests.chaos.acts import Acts
from tests.chaos.check import Findings, Violation, check
from tests.chaos.check_acts import check_answers, check_statuses
from tests.chaos.journal import Journal
from tests.chaos.ledger import Ledger, figures, timeline
from tests.chaos.load import ACCOUNTS, Command, Load, pages_needed
from tests.chaos.moving import Moving
from tests.chaos.nemesis import Nemesis
from tests.chaos.options import Options
from tests.chaos.provider import Provider
from tests.chaos.records import DEAD, EVENTS, Queue, read_all, read_statuses, until_quiet
from tests.chaos.workers import Workers
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.assets import TopologyConfig
from worker.jetstream.topology.reconcile import reconcile
from worker.providers.simulators import API_KEY, PARTNER_KEY, SECRET_KEY, SHOP_KEY

MAX_PAYLOAD = 16_384
"""Bytes; so small that the larger pages travel in parts."""


async def run(options: Options) -> Ledger:
    """Do one run and return its ledger."""
    journal, stop = Journal(), asyncio.Event()
    async with AsyncExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="followers-chaos-")))
        server = await stack.enter_async_context(
            EmbeddedServer(binary=options.nats_server, max_payload=MAX_PAYLOAD, start_timeout=60)
        )
        provider = await stack.enter_async_context(Provider(options.seed))
        client = await stack.enter_async_context(await connected([server.url]))
        version = str(client.connected_server_version).removeprefix("<nats server v").removesuffix(">")
        await prepare(client, options)
        config = folder / "followers.toml"
        config.write_text(settings([server.url], provider.urls, options))
        log = stack.enter_context((folder / "workers.log").open("wb"))
        workers = await stack.enter_async_context(
            Workers(config, journal, log, program=options.program, mutant=options.mutant)
        )
        load = Load(client, options, journal)
        acts, moving = Acts(client, load, options, journal), Moving(client, load, provider, options, journal)
        nemesis = Nemesis(options, workers, server, journal, stop)
        for _ in range(options.workers):
            workers.spawn()
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for task in (
                load.publish_until(stop),
                load.duplicate_until(stop),
                acts.cancel_until(stop),
                acts.ask_until(stop),
                acts.fail_until(stop),
                acts.retry_until(stop),
                moving.move_until(stop, acts.asked),
                nemesis.run(),
            ):
                group.create_task(task)
            await asyncio.sleep(options.seconds)
            stop.set()
        lasted = time.monotonic() - start
        left = await until_quiet(client, limit=options.quiet, settle=options.ack_wait * 1.5)
        await provider.calm()
        while await acts.retry_all():
            left = await until_quiet(client, limit=options.quiet, settle=options.ack_wait * 1.5)
        quiet_after = time.monotonic() - start - lasted
        statuses = await read_statuses(client)
        drains = await asyncio.gather(*(workers.drain(worker) for worker in workers.running))
        events, dead = await read_all(client, EVENTS), await read_all(client, DEAD)
        lists = {
            (command.provider, command.oa_id): await provider.ids(command.provider, command.oa_id)
            for command in load.commands
        }
        findings = check(load.commands, lists, events, dead, acts.asked)
        asked = await provider.counters()
    findings.violations += _beside_the_events(left, journal)
    findings.violations += check_statuses(findings.ends, statuses)
    findings.violations += check_answers(acts.asked, findings.ends, events)
    needed = sum(_needed(command, lists, findings) for command in load.commands if not command.poison)
    again = asked["pages"] - needed
    disturbances = sum(journal.counts[kind] for kind in ("worker_kill", "zombie", "worker_drain", "server_kill"))
    violated = [f"{item.kind}: {item.job_id} {item.text}" for item in findings.violations]
    worst = next((item.job_id for item in findings.violations if item.job_id), "")
    return Ledger(
        figures={
            "nats_server": version,
            "seed": options.seed,
            "mutant": options.mutant or "-",
            "seconds": round(lasted),
            "seconds_until_quiet": round(quiet_after, 1),
            **figures(findings, journal, load.commands),
            "commands_left": left.messages,
            "commands_held": left.ack_pending,
            "invalid_commands": sum(command.poison for command in load.commands),
            "dead_letters": len(dead),
            "provider_requests": asked["requests"],
            "provider_faults": asked["faults"],
            "pages_to_fetch": needed,
            "pages_fetched_again": again,
            "pages_fetched_again_per_disturbance": round(again / max(1, disturbances), 2),
            "workers_started": workers.started,
            "longest_drain_seconds": round(max([nemesis.longest_drain, *drains]), 1),
        },
        broken=violated,
        timeline=timeline(worst, events, journal) if worst else [],
    )


async def connected(urls: list[str]) -> Client:
    """Return a plain connection that comes back whenever the server does."""

    async def ignore(*_: object) -> None:
        """The server's comings and goings are the point."""

    return await nats.connect(
        urls, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=ignore, disconnected_cb=ignore
    )


async def prepare(client: Client, options: Options, *, replicas: int = 1) -> None:
    """Make the streams as `followers setup` does."""
    changes = await reconcile(
        client,
        TopologyConfig(replicas=replicas, ack_wait=options.ack_wait, duplicate_window=options.duplicate_window),
    )
    assert all(change.outcome == "created" for change in changes), changes


def settings(servers: list[str], urls: dict[str, str], options: Options, *, replicas: int = 1) -> str:
    """Return the workers' configuration."""
    sections: dict[str, dict[str, object]] = {
        "nats": {"servers": servers, "replicas": replicas},
        "worker": {
            "ack_wait": options.ack_wait,
            "max_jobs": 8,
            "prefetch": 3,
            "http_port": 0,
            "drain_timeout": 2.0,
            "request_timeout": 5.0,
        },
        "streams": {"duplicate_window": options.duplicate_window},
        "log": {"level": "info", "format": "json"},
    }
    keys: dict[str, dict[str, object]] = {
        "shop": {"base_url": f"{urls['etelecom']}/v1/shop", "api_key": SHOP_KEY},
        "partner": {"base_url": f"{urls['etelecom']}/v1/partner", "api_key": PARTNER_KEY},
        "get-followers": {"base_url": urls["esms"], "endpoint": "GetFollowers"},
        "query-list-uid": {"base_url": urls["esms"], "endpoint": "QueryListUID"},
    }
    for provider, account in ACCOUNTS:
        login = {"api_key": API_KEY, "secret_key": SECRET_KEY} if provider == "esms" else {}
        sections[f"accounts.{account}"] = {"provider": provider, "rate_limit": 0, **login, **keys[account]}
    blocks = [
        "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())])
        for name, section in sections.items()
    ]
    return "\n\n".join(blocks) + "\n"


def _needed(command: Command, lists: Mapping[tuple[str, str], Sequence[str]], findings: Findings) -> int:
    """Return how many answers of the provider a job takes when nothing goes wrong on its way to its end."""
    ends = findings.ends[command.job_id]
    if ends and ends[-1].type != "completed":
        return ends[-1].pages
    listed = lists[command.provider, command.oa_id] if command.listed is None else command.listed
    return pages_needed(command, len(listed))


def _beside_the_events(left: Queue, journal: Journal) -> list[Violation]:
    broken = [Violation("process", "", text) for text in journal.problems]
    if not left.empty:
        text = f"{left.messages} commands are left, {left.ack_pending} held, {left.pending} not delivered"
        broken.append(Violation("left", "", text))
    return broken
