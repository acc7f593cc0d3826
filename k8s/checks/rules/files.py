"""The files that no overlay renders: the image's recipe, and what goes to the NATS servers."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from k8s.checks.accounts import FILE, READERS, ROLES, accounts_file, variable
from k8s.checks.registry import rule
from k8s.checks.shipped import Shipped


@rule("dockerfile")
def dockerfile(shipped: Shipped) -> Iterator[str]:
    """An init as process 1, which gets signals and remaps the death of a Python that had no handler yet; no root."""
    text = shipped.files["Dockerfile"]
    stages = re.split(r"(?m)^(?=FROM )", text)
    final = stages[-1]
    entry = re.findall(r"(?m)^ENTRYPOINT (.+)$", final)
    words = json.loads(entry[-1]) if entry and entry[-1].startswith("[") else []
    if not words or not words[0].endswith("/tini"):
        yield "ENTRYPOINT must start tini, as a list: Python as process 1 loses SIGTERM, and so does a shell"
    elif words[1:4] != ["-s", "-e", "143"]:
        yield "tini must end with 0 when SIGTERM came before Python had a handler: -s -e 143"
    if re.findall(r"(?m)^USER (.+)$", final) != ["65532:65532"]:
        yield "the image must run as 65532:65532, by number: runAsNonRoot can't check a name"
    if re.search(r"(?m)^HEALTHCHECK", text):
        yield "HEALTHCHECK is not read by Kubernetes: probes are"
    for image in re.findall(r"(?m)^ARG \w*BASE\w*=(.+)$|^FROM (?!\$)(\S+)", text):
        name = "".join(image)
        if name != "scratch" and (":" not in name.rpartition("/")[2] or name.endswith(":latest")):
            yield f"the base image {name} has no version"
    for line in re.findall(r"(?m)^ARG .*|^ENV .*", text):
        if re.search(r"(PASSWORD|SECRET|TOKEN|API_KEY)", line):
            yield f"a secret in the image's history: {line.split('=')[0]}"
    if "--require-hashes" not in text:
        yield "dependencies are installed without the hashes of the lock"
    for label in ("title", "description", "licenses", "version"):
        if f"org.opencontainers.image.{label}" not in final:
            yield f"there is no label org.opencontainers.image.{label}"


@rule("dockerignore")
def dockerignore(shipped: Shipped) -> Iterator[str]:
    """What isn't named isn't sent: history, tests and somebody's settings stay out of the image."""
    lines = [line for line in shipped.files[".dockerignore"].splitlines() if line and not line.startswith("#")]
    if not lines or lines[0] != "*":
        yield ".dockerignore must start with * and then name what is let in"
    for line in lines[1:]:
        if line.startswith("!") and re.search(r"tests|\.git|k8s|\*\*?$|\.venv", line):
            yield f".dockerignore lets {line[1:]} in"


@rule("hadolint")
def hadolint(shipped: Shipped) -> Iterator[str]:
    """What hadolint says of the Dockerfile."""
    yield from _hadolint(shipped.files["Dockerfile"])


@cache
def _hadolint(text: str) -> tuple[str, ...]:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [program, "--no-color", "--format", "json", "-"], input=text, capture_output=True, text=True, check=False
    )
    return tuple(f"line {one['line']}: {one['code']} {one['message']}" for one in json.loads(done.stdout))


@rule("accounts")
def accounts(shipped: Shipped) -> Iterator[str]:
    """The users of the NATS servers have the rights that the worker's code names, no more and no fewer."""
    if shipped.files[FILE] != accounts_file():
        yield f"{FILE} is not what `python -m k8s.checks.accounts` writes"


@rule("nats-server")
def nats_server(shipped: Shipped) -> Iterator[str]:
    """What the chart is told: synced writes, three nodes, TLS, our users, the monitoring port, a known version."""
    values: dict[str, Any] = yaml.safe_load(shipped.files["k8s/nats/values.yaml"])
    config, container = values["config"], values["container"]
    if config["jetstream"].get("merge", {}).get("sync_interval") != "always":
        yield "sync_interval is not always: a power cut loses what was acknowledged in the last two minutes"
    if not config["cluster"].get("enabled") or config["cluster"].get("replicas") != 3:
        yield "the cluster must have three nodes"
    for part in ("cluster", "nats"):
        if not config[part].get("tls", {}).get("enabled"):
            yield f"{part} has no TLS"
    if not config["cluster"].get("tls", {}).get("merge", {}).get("verify"):
        yield "the nodes don't verify each other"
    if not config["jetstream"]["fileStore"]["pvc"].get("enabled"):
        yield "JetStream's files are on no volume"
    if config.get("monitor", {}).get("port") != 8222 or not config["monitor"].get("enabled"):
        yield "KEDA asks port 8222"
    if "accounts.conf" not in [value for key, value in config["merge"].items() if key.endswith("$include")]:
        yield "accounts.conf is not included: everybody could do everything"
    missing = {variable(role) for role in ROLES} | set(READERS.values())
    missing -= set(container.get("env", {}))
    if missing:
        yield f"the servers have no variable {', '.join(sorted(missing))}"
    version = [int(part) for part in re.findall(r"\d+", str(container["image"]["tag"]))[:3]]
    if version < [2, 12, 5]:
        yield f"nats-server {container['image']['tag']} is older than 2.12.5"
    dev: dict[str, Any] = yaml.safe_load(shipped.files["k8s/nats/values-dev.yaml"])
    if "merge" in dev["config"] or "sync_interval" in str(dev):
        yield "values-dev.yaml changes more than sizes and TLS"
