"""The shipped configuration of NATS on a real server: what each user may do, and that the server takes the files."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client

from k8s.checks.accounts import ROLES, variable
from k8s.checks.shipped import ROOT
from schemas.subjects import (
    COMMANDS_STREAM,
    DEAD_STREAM,
    EVENTS_STREAM,
    FEEDS_BUCKET,
    JOBS_BUCKET,
    LIMITS_BUCKET,
    SNAPSHOTS_BUCKET,
)
from tests.integration import stage
from tests.integration.logins import Certificates, KeyPair
from tests.k8s.cluster import accounts_for, entered
from worker.embedded import EmbeddedServer, find_server
from worker.jetstream.client.connect import ConnectError, NatsOptions, connect
from worker.jetstream.topology.permissions import Role
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

# act, subject that it is a publish to, and who may.
ACTS: list[tuple[str, str, set[Role]]] = [
    ("publish a command", "followers.fetch.esms", {"publisher", "admin"}),
    ("ask for a status", "followers.status.job", {"publisher", "consumer", "viewer", "admin"}),
    ("cancel a job", "followers.cancel.job", {"publisher", "admin"}),
    ("release held changes", "followers.release.job", {"publisher", "admin"}),
    ("publish a page", "followers.page.esms.oa.job", {"worker", "admin"}),
    ("publish a job event", "followers.job.esms.oa.job", {"worker", "admin"}),
    ("publish a change", "followers.change.esms.oa", {"worker", "admin"}),
    ("publish a dead letter", "followers.dead.esms", {"worker", "admin"}),
    ("take a command", f"$JS.API.CONSUMER.MSG.NEXT.{COMMANDS_STREAM}.worker-esms", {"worker", "admin"}),
    ("acknowledge a command", f"$JS.ACK.{COMMANDS_STREAM}.worker-esms.1.1.1.1.0", {"worker", "admin"}),
    ("write a status", f"$KV.{JOBS_BUCKET}.job", {"worker", "admin"}),
    ("change a shared limit", f"$KV.{LIMITS_BUCKET}.shop", {"worker", "admin"}),
    ("change a feed", f"$KV.{FEEDS_BUCKET}.esms.shop.oa.all", {"worker", "admin"}),
    ("store a snapshot", f"$O.{SNAPSHOTS_BUCKET}.C.one", {"worker", "admin"}),
    ("purge snapshots", f"$JS.API.STREAM.PURGE.OBJ_{SNAPSHOTS_BUCKET}", {"worker", "admin"}),
    ("read the tail of a job", f"$JS.API.STREAM.MSG.GET.{EVENTS_STREAM}", {"worker", "viewer", "admin"}),
    ("read events by gets", f"$JS.API.DIRECT.GET.{EVENTS_STREAM}", {"worker", "viewer", "admin"}),
    ("read events by its durable", f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.crm", {"consumer", "admin"}),
    ("read dead letters", f"$JS.API.STREAM.MSG.GET.{DEAD_STREAM}", {"worker", "admin"}),
    ("read events by subject", f"$JS.API.DIRECT.GET.{EVENTS_STREAM}.followers.page.esms.oa.job", {"admin"}),
    ("make the durable", f"$JS.API.CONSUMER.CREATE.{EVENTS_STREAM}.crm", {"setup", "admin"}),
    ("make another consumer", f"$JS.API.CONSUMER.CREATE.{EVENTS_STREAM}.mine", {"admin"}),
    ("make the worker's consumer", f"$JS.API.CONSUMER.CREATE.{COMMANDS_STREAM}.worker-esms", {"setup", "admin"}),
    ("delete a consumer", f"$JS.API.CONSUMER.DELETE.{COMMANDS_STREAM}.worker-esms", {"admin"}),
    ("make a stream", f"$JS.API.STREAM.CREATE.{EVENTS_STREAM}", {"setup", "admin"}),
    ("make another stream", "$JS.API.STREAM.CREATE.OTHER", {"admin"}),
    ("purge a stream", f"$JS.API.STREAM.PURGE.{EVENTS_STREAM}", {"admin"}),
    ("delete a stream", f"$JS.API.STREAM.DELETE.{EVENTS_STREAM}", {"admin"}),
    ("delete an event", f"$JS.API.STREAM.MSG.DELETE.{EVENTS_STREAM}", {"admin"}),
    ("write to another bucket", "$KV.OTHER.key", {"admin"}),
    ("publish anything else", "orders.new", {"admin"}),
]
HEARD: list[tuple[str, str, set[Role]]] = [
    ("hear everything", ">", {"admin"}),
    ("hear pages", "followers.page.>", {"admin"}),
    ("hear others' answers", "_INBOX.>", {"admin"}),
    ("hear that a status has changed", f"$KV.{JOBS_BUCKET}.*", {"worker", "viewer", "admin"}),
    ("hear cancellations", "followers.cancel.*", {"worker", "admin"}),
]


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[tuple[EmbeddedServer, dict[Role, KeyPair]]]:
    logins: dict[Role, KeyPair] = {role: KeyPair("user") for role in ROLES}
    async with stage.server(accounts_for(logins)) as server:
        async with entered(server, logins["setup"], "setup") as client:
            assert {change.outcome for change in await reconcile(client, TopologyConfig())} == {"created"}
        yield server, logins


async def refused(guarded: tuple[EmbeddedServer, dict[Role, KeyPair]], role: Role) -> set[str]:
    """What the server refuses to the user of a role, of all that is in the tables."""
    server, logins = guarded
    seed = server.folder / f"{role}-acts.nk"
    seed.write_bytes(logins[role].seed)
    told: list[str] = []

    async def note(error: Exception) -> None:
        told.append(str(error).lower())

    client = Client()
    await client.connect(server.url, nkeys_seed=str(seed), error_cb=note)
    if role == "admin":
        # May do everything, so is not let loose on it.
        await client.close()
        return set()
    for _, subject, _ in ACTS:
        await client.publish(subject, b"{}")
    for _, subject, _ in HEARD:
        await client.subscribe(subject)
    # The server answers a second round trip when it has dealt with all before the first.
    await client.flush()
    await client.flush()
    await client.close()
    text = "\n".join(told)
    acts = {act for act, subject, _ in ACTS if f'publish to "{subject}"'.lower() in text}
    return acts | {act for act, subject, _ in HEARD if f'subscription to "{subject}"'.lower() in text}


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
async def test_each_user_may_do_its_work_and_nothing_else(
    guarded: tuple[EmbeddedServer, dict[Role, KeyPair]], role: Role
) -> None:
    assert await refused(guarded, role) == {act for act, _, may in (*ACTS, *HEARD) if role not in may}


async def test_a_stranger_does_not_get_in(guarded: tuple[EmbeddedServer, dict[Role, KeyPair]]) -> None:
    with pytest.raises(ConnectError, match="refuses the credentials"):
        await connect(NatsOptions(servers=(guarded[0].url,)))


def test_the_guide_shows_what_each_user_may_do() -> None:
    guide = (ROOT / "k8s/README.md").read_text("utf-8")
    people = [role for role in ROLES if role != "admin"]

    for act, _, may in (*ACTS, *HEARD):
        assert f"| {act} | " + " | ".join("yes" if role in may else "" for role in people) + " |" in guide


# The values of the chart, as it would turn them into a configuration.


@pytest.mark.parametrize("production", [True, False], ids=["production", "development"])
def test_the_server_takes_what_the_chart_makes_of_the_values(tmp_path: Path, production: bool) -> None:
    values = yaml.safe_load((ROOT / "k8s/nats/values.yaml").read_text("utf-8"))
    if not production:
        values = merged(values, yaml.safe_load((ROOT / "k8s/nats/values-dev.yaml").read_text("utf-8")))
    (tmp_path / "accounts.conf").write_text((ROOT / "k8s/nats/accounts.conf").read_text("utf-8"), "utf-8")
    config = tmp_path / "nats.conf"
    config.write_text(chart_config(values["config"], tmp_path), "utf-8")
    keys = {variable(role): KeyPair("user").public for role in ROLES}

    done = subprocess.run(
        [find_server().path, "-t", "-c", config], env=keys, capture_output=True, text=True, check=False
    )
    without = subprocess.run(
        [find_server().path, "-t", "-c", config], env={}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert without.returncode != 0, "a missing key must not open the door"
    assert ("sync_interval" in config.read_text("utf-8")) is True


def test_the_server_takes_the_layout_of_the_version_before(tmp_path: Path) -> None:
    """With which a move to the accounts begins, and to which it goes back."""
    command = [sys.executable, "-m", "k8s.checks.accounts", "--one"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    config = tmp_path / "one.conf"
    config.write_text(printed, "utf-8")
    keys = {variable(role): KeyPair("user").public for role in ROLES}

    done = subprocess.run(
        [find_server().path, "-t", "-c", config], env=keys, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "FOLLOWERS_PUBLISHERS" not in printed
    assert '"_R_.>"' in printed


def merged(values: Any, more: Any) -> Any:
    """Values on top of values, as helm merges them."""
    if not isinstance(values, dict) or not isinstance(more, dict):
        return more
    return values | {key: merged(values.get(key), value) for key, value in more.items()}


def chart_config(config: dict[str, Any], folder: Path) -> str:
    """The server's configuration that chart 2.14.2 makes of `config`, with certificates in `folder`."""
    certificates = Certificates.new(folder / "tls")
    made: dict[str, Any] = {
        "port": 4222,
        "http_port": config["monitor"]["port"],
        "jetstream": {"store_dir": str(folder / "data"), **config["jetstream"].get("merge", {})},
    }
    if config["nats"]["tls"]["enabled"]:
        certificate, key = certificates.issue("nats")
        made["tls"] = {"cert_file": certificate, "key_file": key, "ca_file": certificates.ca}
    if config["cluster"]["enabled"]:
        certificate, key = certificates.issue("node")
        tls = {"cert_file": certificate, "key_file": key, "ca_file": certificates.ca}
        routes = [f"tls://nats-{number}.nats-headless:6222" for number in range(config["cluster"]["replicas"])]
        made["server_name"] = "nats-0"
        made["cluster"] = {
            "name": "nats",
            "port": 6222,
            "no_advertise": True,
            "routes": routes,
            "tls": tls | config["cluster"]["tls"]["merge"],
        }
    lines = [f"{key}: {json.dumps(value)}" for key, value in made.items()]
    for key, value in config["merge"].items():
        if key.endswith("$include"):
            lines.insert(0, f"include {value};")
        else:
            text = str(value)
            lines.append(f"{key}: {text.strip('<> ') if text.startswith('<<') else json.dumps(value)}")
    return "\n".join(lines) + "\n"
