"""The manifests against the worker's own code: settings, ports, users, commands, metrics."""

import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import click
from prometheus_client import CollectorRegistry
from typer.main import get_command

from k8s.checks.accounts import FILE as ACCOUNTS_FILE
from k8s.checks.pods import PodMaker, environment, pod_makers, worker_container, worker_pod
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped
from worker.cli import app as command_line
from worker.jetstream.topology.permissions import SCHEDULING, Role, inbox_prefix
from worker.metrics import PrometheusMeter
from worker.settings import Settings, SettingsError, load

SECRETS = "/run/secrets/"
ROLES: dict[str, Role] = {"worker": "worker", "setup": "setup", "fetch": "publisher"}
"""Which NATS user a command of ours is run as."""


@rule("settings")
def settings(shipped: Shipped) -> Iterator[str]:
    """Each pod's configuration is one that the worker takes, with every secret that it names mounted."""
    for maker in pod_makers(shipped):
        try:
            loaded, named = _load(shipped, maker)
        except SettingsError as error:
            for problem in error.problems:
                yield f"{maker.name}: {problem}"
            continue
        mounted = set(_mounted(shipped, maker))
        for path in sorted(named - mounted):
            yield f"{maker.name} reads {path}, which no Secret mounts there"
        if loaded.nats.auto_setup:
            yield f"{maker.name} makes streams by itself: its NATS user must not be able to"
        if not (loaded.nats.nkey_seed_file or loaded.nats.creds_file):
            yield f"{maker.name} logs in to NATS without a file"
        if shipped.overlay == "prod" and loaded.nats.tls_ca is None:
            yield f"{maker.name} talks to NATS without TLS"
        if loaded.log.format != "json":
            yield f"{maker.name} doesn't log JSON"


@rule("listening")
def listening(shipped: Shipped) -> Iterator[str]:
    """The worker listens on the pod's address, on the port that the manifest calls `http`."""
    worker = _load(shipped, worker_pod(shipped))[0].worker
    if worker.http_host not in ("0.0.0.0", "::"):
        yield f"worker.http_host {worker.http_host} can't be reached by probes"
    ports = {one["name"]: one["containerPort"] for one in worker_container(shipped).get("ports", ())}
    if ports.get("http") != worker.http_port:
        yield f"worker.http_port is {worker.http_port}, the container's port http {ports.get('http')}"


@rule("nats-users")
def nats_users(shipped: Shipped) -> Iterator[str]:
    """Each pod logs in as the user for what it does, and names that user's inbox: else it would hear no answer."""
    for maker in pod_makers(shipped):
        role = ROLES[maker.containers[0]["args"][0]]
        prefix = _load(shipped, maker)[0].nats.inbox_prefix
        if prefix != inbox_prefix(role):
            yield f"{maker.name}: nats.inbox_prefix is {prefix}, that of the user {role} is {inbox_prefix(role)}"
        for volume in maker.spec["volumes"]:
            name = volume.get("secret", {}).get("secretName", "")
            if name.startswith("followers-nats-") and name != f"followers-nats-{role}":
                yield f"{maker.name} holds the login {name}, but needs that of {role}"
            if name == "followers-accounts" and role != "worker":
                yield f"{maker.name} holds the providers' keys without need"


@rule("schedules")
def schedules(shipped: Shipped) -> Iterator[str]:
    """A worker with schedules publishes commands, which its NATS user must be allowed to."""
    configured = tomllib.loads(_config(shipped)["worker.toml"]).get("schedules")
    if configured and f'"{SCHEDULING[1]}"' not in shipped.files[ACCOUNTS_FILE]:
        yield (
            "worker.toml has schedules, but the NATS user worker has not the rights for them: set SCHEDULES in"
            " checks/accounts.py, then run `python -m k8s.checks.accounts`"
        )


@rule("agreement")
def agreement(shipped: Shipped) -> Iterator[str]:
    """What the setup Job makes is what the worker counts on: both files say the same where both say it."""
    files = {name: tomllib.loads(text) for name, text in _config(shipped).items()}
    worker, tools = files["worker.toml"], files["tools.toml"]
    for section, keys in (
        ("nats", ("servers", "tls_ca", "replicas")),
        ("worker", ("ack_wait",)),
        ("streams", tuple(worker.get("streams", {}) | tools.get("streams", {}))),
    ):
        for key in keys:
            ours, theirs = worker.get(section, {}).get(key), tools.get(section, {}).get(key)
            if ours != theirs:
                yield f"{section}.{key} is {ours} in worker.toml and {theirs} in tools.toml"
    if tools.get("accounts"):
        yield "tools.toml names the providers' accounts, which its pods have no need for"
    replicas = worker["nats"].get("replicas", 1)
    if shipped.overlay == "prod" and replicas < 3:
        yield f"nats.replicas is {replicas}: production loses no server's disk with 3"


@rule("commands")
def commands(shipped: Shipped) -> Iterator[str]:
    """The arguments are a command line that `followers` takes."""
    root: Any = get_command(command_line)
    for maker in pod_makers(shipped):
        for container in maker.containers:
            name, *rest = [re.sub(r"\$\((\w+)\)", "value", part) for part in container.get("args") or [""]]
            try:
                root.commands[name].make_context(name, list(rest), parent=click.Context(root))
            except KeyError:
                yield f"{maker.name}: there is no command {name!r}"
            except Exception as error:  # typer brings a click of its own, with exceptions of its own
                yield f"{maker.name}: {getattr(error, 'message', error)}"


@rule("metrics")
def metrics(shipped: Shipped) -> Iterator[str]:
    """Every metric of ours that an alert asks for is one that the worker has."""
    registry = CollectorRegistry()
    PrometheusMeter(registry)
    known = set()
    for metric in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
        known |= {metric.name + suffix for suffix in suffixes}
    for document in shipped.of("PrometheusRule"):
        groups = document["spec"]["groups"]
        recorded = {one.get("record") for group in groups for one in group["rules"]}
        for one in (one for group in groups for one in group["rules"]):
            for name in sorted(set(re.findall(r"\bfollowers_[a-z_]+\b", one["expr"])) - known - recorded):
                yield f"{one.get('alert') or one.get('record')} asks for {name}, which the worker hasn't"
    for document in shipped.of("PodMonitor"):
        for endpoint in document["spec"]["podMetricsEndpoints"]:
            if endpoint.get("path", "/metrics") != "/metrics":
                yield f"PodMonitor {document['metadata']['name']} reads {endpoint['path']}, not /metrics"


def _config(shipped: Shipped) -> dict[str, str]:
    data: dict[str, str] = shipped.the("ConfigMap", "followers-config")["data"]
    return data


def _load(shipped: Shipped, maker: PodMaker) -> tuple[Settings, set[str]]:
    """Return the settings that a pod would have, and the secret files that they name. Raises SettingsError."""
    variables = environment(maker.containers[0])
    file = PurePosixPath(variables.get("FOLLOWERS_CONFIG", ""))
    mounted = {mount["mountPath"] for mount in maker.containers[0].get("volumeMounts", ())}
    text = _config(shipped).get(file.name)
    if text is None or str(file.parent) not in mounted:
        raise SettingsError(f"FOLLOWERS_CONFIG names {file}, which isn't mounted there")
    named = set(re.findall(rf'"({SECRETS}[A-Za-z0-9._/-]+)"', text))
    with tempfile.TemporaryDirectory() as folder:
        for path in named:
            stand_in = Path(folder, path.removeprefix(SECRETS))
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text("invented\n", "utf-8")
        config = Path(folder, file.name)
        config.write_text(text.replace(SECRETS, f"{folder}/"), "utf-8")
        return load(config, {name: value.replace(SECRETS, f"{folder}/") for name, value in variables.items()}), named


def _mounted(shipped: Shipped, maker: PodMaker) -> Iterator[str]:
    """Return the files that a pod's Secrets bring, as the examples show them."""
    examples = shipped.example_secrets()
    named = {one["name"]: one["secret"]["secretName"] for one in maker.spec["volumes"] if "secret" in one}
    for mount in maker.containers[0]["volumeMounts"]:
        for key in examples.get(named.get(mount["name"], ""), ()):
            yield f"{mount['mountPath']}/{key}"
