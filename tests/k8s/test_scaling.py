"""What KEDA would see: the shipped triggers against real servers."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
import yaml
from nats.aio.client import Client

from k8s.checks.accounts import ROLES
from k8s.checks.shipped import ROOT
from schemas.subjects import COMMANDS_STREAM, command_subject
from tests.chaos.cluster import Cluster
from tests.integration import stage
from tests.integration.logins import KeyPair
from tests.k8s import keda
from tests.k8s.cluster import accounts_for, entered
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.permissions import Role
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

SCALED = yaml.safe_load((ROOT / "k8s/components/keda/scaledobject.yaml").read_text("utf-8"))["spec"]
TRIGGERS: dict[str, dict[str, str]] = {one["name"]: one["metadata"] for one in SCALED["triggers"]}


@pytest.fixture
async def server() -> AsyncIterator[tuple[EmbeddedServer, Client]]:
    logins: dict[Role, KeyPair] = {role: KeyPair("user") for role in ROLES}
    async with stage.server(accounts_for(logins)) as server, entered(server, logins["admin"], "admin") as admin:
        await reconcile(admin, TopologyConfig())
        yield server, admin


async def test_the_lag_is_what_was_published_and_not_acknowledged(server: tuple[EmbeddedServer, Client]) -> None:
    endpoint, admin = [server[0].monitor_url], server[1]
    js, trigger = admin.jetstream(), TRIGGERS["etelecom"]
    empty = await keda.lag(endpoint, trigger)
    for number in range(22):
        await js.publish(command_subject("etelecom"), b"{}", headers={"Nats-Msg-Id": str(number)})
    await js.publish(command_subject("esms"), b"{}")
    waiting = await keda.lag(endpoint, trigger)
    taken = await js.pull_subscribe_bind(trigger["consumer"], stream=COMMANDS_STREAM)
    messages = await taken.fetch(9, timeout=5)
    in_hand = await keda.lag(endpoint, trigger)
    for message in messages[:4]:
        await message.ack_sync()
    acknowledged = await keda.lag(endpoint, trigger)

    assert (empty, waiting, in_hand, acknowledged) == (0, 22, 22, 18)
    assert await keda.lag(endpoint, TRIGGERS["esms"]) == 1


@pytest.mark.parametrize("key", ["account", "stream", "consumer"])
async def test_a_wrong_name_is_an_error_here_where_keda_says_nothing(
    server: tuple[EmbeddedServer, Client], key: str
) -> None:
    with pytest.raises(LookupError):
        await keda.lag([server[0].monitor_url], TRIGGERS["esms"] | {key: "WRONG"})


async def test_in_a_cluster_only_the_leader_knows_the_lag() -> None:
    named = os.environ.get("NATS_SERVER_BIN")
    async with Cluster(Path(named) if named else None) as cluster:
        client = await nats.connect(cluster.urls)
        try:
            await reconcile(client, TopologyConfig(replicas=3))
            js = client.jetstream()
            for number in range(25):
                await js.publish(command_subject("esms"), b"{}", headers={"Nats-Msg-Id": str(number)})
            taken = await js.pull_subscribe_bind("worker-esms", stream=COMMANDS_STREAM)
            await taken.fetch(5, timeout=5)
            trigger = TRIGGERS["esms"] | {"account": "$G"}
            endpoints = [node.monitor_url for node in cluster.nodes.values()]

            async def known() -> bool:
                with contextlib.suppress(LookupError):
                    return await keda.lag(endpoints, trigger) == 25
                return False

            await stage.until(known, 20, lambda: "the leader never said 25")
            by_node = sorted(await keda.lags(endpoints, trigger))
        finally:
            await client.close()

    assert by_node == [0, 0, 20]
