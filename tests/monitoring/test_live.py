"""Dashboard, rules and the table of metrics against a real worker that a real Prometheus scrapes."""

import asyncio
import contextlib
import json
import math
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration import stage
from tests.monitoring.shipped import ALERTS, DASHBOARD, FOREIGN, GROUPS, QUERIES, family, metrics_in, program, rows
from worker.jetstream.client.connect import NatsOptions, connect
from worker.providers.simulators import OA_ID, Fault

NAMESPACE = {"namespace": "followers", "pod": "worker-0"}
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Live:
    """A worker at work, and what scrapes it."""

    replica: stage.Replica
    prometheus: str

    async def families(self) -> dict[str, Metric]:
        """What `/metrics` has now, by name."""
        text = await self.replica.answers("/metrics", 200)
        return {family.name: family for family in text_string_to_metric_families(text)}

    async def query(self, expression: str) -> list[float]:
        """The values that an expression has now, without those that are no number."""
        answer = await asyncio.to_thread(_ask, f"{self.prometheus}/api/v1/query", {"query": expression})
        values = [float(series["value"][1]) for series in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    async def rules(self) -> list[dict[str, Any]]:
        """The rules as Prometheus has loaded and evaluated them."""
        answer = await asyncio.to_thread(_ask, f"{self.prometheus}/api/v1/rules", {})
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Jobs of all kinds at both providers: done, failed, refused, repeated, waiting."""
    folder = tmp_path_factory.mktemp("live")
    async with stage.server() as server, stage.providers(followers=600) as providers:
        for simulator in (providers.etelecom, providers.esms):
            simulator.inject(Fault(kind="latency", seconds=0.1, times=0), Fault(kind="status", every=5, times=3))
        accounts = providers.accounts
        accounts["esms"]["rate_limit"] = 3.0
        yearly = {"cron": "0 3 1 1 *", "provider": "esms", "oa_id": OA_ID}
        sections = stage.sections_for(
            server.url, accounts, nats={"auto_setup": True}, worker={"max_jobs": 2}, schedules={"yearly": yearly}
        )
        async with stage.replica(sections, folder) as replica, prometheus(folder, replica.port) as url:
            made = Live(replica=replica, prometheus=url)
            # Counters must have been seen at zero: what is there at the first scrape is no increase.
            await stage.until(
                lambda: _holds(made, 'count_over_time(followers_ready{pod="worker-0"}[1m]) > 1'), PATIENCE
            )
            client = await connect(NatsOptions(servers=(server.url,)))
            for number in range(12):
                for provider in ("etelecom", "esms"):
                    extra = {"colour": "red"} if number == 1 else {}
                    body = {"provider": provider, "oa_id": OA_ID, "id": f"{provider}-{number}"} | extra
                    await client.jetstream().publish(f"followers.fetch.{provider}", msgspec.json.encode(body))
            yield made
            await client.close()


@contextlib.asynccontextmanager
async def prometheus(folder: Path, port: int) -> AsyncIterator[str]:
    """Prometheus with our rules, scraping a worker twice a second; its address."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}), "utf-8")
    scrape = {
        "job_name": "followers",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": NAMESPACE}],
    }
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
    address = f"127.0.0.1:{stage.free_port()}"
    command = [
        program("prometheus"),
        "--config.file=prometheus.yaml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    process = _start(command, folder)
    try:
        yield f"http://{address}"
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def test_the_table_lists_the_metrics_that_are_there_and_no_others(live: Live) -> None:
    families = await live.families()
    ours = {name: one for name, one in families.items() if not name.startswith("process_")}

    there = set()
    for name, one in ours.items():
        labels = {label for sample in one.samples for label in sample.labels} - {"le"}
        full = f"{name}_total" if one.type == "counter" else name
        there.add((full, one.type, " ".join(sorted(labels))))

    table = {(name, kind, " ".join(sorted(labels.split()))) for name, kind, labels, _ in rows("Metrics")}
    assert table == there


async def test_every_metric_in_the_dashboard_and_in_the_rules_is_there(live: Live) -> None:
    families = await live.families()
    known = {sample.name for one in families.values() for sample in one.samples} | set(families) | FOREIGN

    used = {name for _, query in QUERIES for name in metrics_in(query)}
    used |= {name for rule in ALERTS.values() for name in metrics_in(rule["expr"])}
    variables = {name for one in DASHBOARD["templating"]["list"] for name in metrics_in(json.dumps(one))}

    assert len(used) > 15
    assert {family(name) for name in used | variables} - known - {family(name) for name in known} == set()


@pytest.mark.parametrize("title", dict(QUERIES))
async def test_every_panel_draws_data(live: Live, title: str) -> None:
    for query in (query for name, query in QUERIES if name == title):
        expression = query.replace("$namespace", ".*").replace("$__rate_interval", "1m")
        assert "$" not in expression

        await stage.until(lambda: _holds(live, expression), PATIENCE, lambda: f"no data: {expression}")  # noqa: B023


async def test_every_choice_of_series_in_the_rules_finds_some(live: Live) -> None:
    selectors = {
        selector
        for rule in ALERTS.values()
        for selector in re.findall(r"followers_[a-z_]+(?:\{[^}]*\})?", rule["expr"])
    }

    assert len(selectors) > 10
    missing = [selector for selector in selectors if not await live.query(f"count({selector})")]
    assert missing == []


async def test_prometheus_loads_and_evaluates_every_rule(live: Live) -> None:
    async def evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in await live.rules())

    await stage.until(evaluated, PATIENCE)

    states = {rule["name"]: rule["state"] for rule in await live.rules()}
    assert states.keys() == ALERTS.keys()
    # A command that nobody could read was published, and it is noticed.
    await stage.until(lambda: _fires(live, "FollowersDeadLetters"), PATIENCE)
    assert states["FollowersNoWorker"] == "inactive"


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "prometheus.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def _holds(live: Live, expression: str) -> bool:
    try:
        return bool(await live.query(expression))
    except OSError:
        return False  # it is starting


async def _fires(live: Live, name: str) -> bool:
    return any(rule["state"] == "firing" for rule in await live.rules() if rule["name"] == name)


def _ask(url: str, parameters: dict[str, str]) -> Any:
    body = urllib.parse.urlencode(parameters).encode() or None
    with urllib.request.urlopen(url, data=body, timeout=5) as answer:
        return json.load(answer)
