"""Troubles planted around a real worker and a real nats-server, and where each is told."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from typer.testing import CliRunner

from schemas.subjects import command_subject, status_subject
from tests.integration import stage
from tests.integration.page_kit import Stream
from worker.cli import app
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID, Fault

JOB = "nightly"
ACK_WAIT = 2.0
SETTLES_WITHIN = 20.0
"""Seconds in which each place must say what it goes on saying."""
COLUMNS = ("status", "wait", "live page", "followers status", "readiness", "doctor", "log")
_LOGINS = """
accounts { F { jetstream: { max_file: 64MB }, users: [
  { user: admin, password: invented-admin }, { user: worker, password: invented-worker %s } ] } }
"""
NO_PAGES = ', permissions: { publish: { deny: ["followers.page.>"] } }'
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?")
_NUMBER = re.compile(r"(?<![\w.-])(?<!error )(?<!HTTP )\d[\d,]*(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One trouble."""

    name: str
    how: str
    """How it is planted."""
    plant: Callable[["Scene"], Awaitable[None]]
    owner: str | None
    """Of the job's wait; None: it doesn't wait."""
    ready: bool
    says: str
    """The event in the worker's log."""
    rights: str = ""
    """What is taken from the worker's user."""
    begins: bool = True
    """The job is under way when the trouble comes."""
    reaches_nats: bool = True


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A server, a worker, and a job of many pages in its middle."""

    server: EmbeddedServer
    client: Client
    replica: stage.Replica
    providers: stage.Providers
    config: Path
    sections: Mapping[str, Any]
    """The worker's configuration."""

    @property
    def js(self) -> JetStreamContext:
        """As the administrator."""
        return self.client.jetstream(timeout=2)

    def another(self, folder: Path) -> AbstractAsyncContextManager[stage.Replica]:
        """Run another replica."""
        return stage.replica(self.sections, folder)

    async def publish(self) -> None:
        """Publish the job's command."""
        body = {"provider": "etelecom", "account": "shop", "oa_id": OA_ID, "id": JOB, "page_size": 5}
        await self.js.publish(command_subject("etelecom"), json.dumps(body).encode())

    async def status(self) -> dict[str, Any] | None:
        """What a worker answers about the job; None: nobody answers."""
        with contextlib.suppress(nats.errors.Error):
            answer: dict[str, Any] = json.loads((await self.client.request(status_subject(JOB), timeout=2)).data)
            return answer
        return None

    async def fill(self, stream: str, subject: str) -> None:
        """Publish until `stream` takes no more."""
        with contextlib.suppress(nats.errors.Error):
            while True:
                await self.js.publish(subject, bytes(200_000), stream=stream)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a `followers` command with the administrator's rights: exit code, stdout, stderr."""
        environment = {"FOLLOWERS_CONFIG": str(self.config)}
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)
        return result.exit_code, result.stdout, result.stderr


@contextlib.asynccontextmanager
async def scene(trouble: Trouble, folder: Path) -> AsyncIterator[Scene]:
    """All of it, healthy; the job is under way unless `trouble` says otherwise."""
    async with stage.server(_LOGINS % trouble.rights) as server, stage.providers(followers=5_000) as providers:
        login = {"user": "admin", "password": "invented-admin"}
        client = await nats.connect(server.url, **login, error_cb=_expect, reconnect_time_wait=0.1)
        await reconcile(client, TopologyConfig(ack_wait=ACK_WAIT))
        providers.etelecom.inject(Fault(kind="latency", seconds=0.1, times=0))
        sections = stage.sections_for(server.url, providers.accounts, worker={"ack_wait": ACK_WAIT})
        config = folder / "admin.toml"
        config.write_text(stage.toml({**sections, "nats": {**sections["nats"], **login}}), "utf-8")
        worker = {"user": "worker", "password": "invented-worker"}
        try:
            sections = {**sections, "nats": {**sections["nats"], **worker}}
            async with stage.replica(sections, folder) as replica:
                made = Scene(
                    server=server, client=client, replica=replica, providers=providers, config=config, sections=sections
                )
                if trouble.begins:
                    await made.publish()
                    await stage.until(lambda: _moves(made, trouble), 20, lambda: replica.log[-3000:])
                yield made
        finally:
            await client.close()


async def told(
    trouble: Trouble, scene: Scene, is_it: Callable[[dict[str, str]], bool] = lambda cells: True
) -> dict[str, str]:
    """Plant the trouble, wait until the worker has met it, and return what each place says.

    Not all places learn of it at the same moment: while `is_it` doesn't know the cells, they are looked at again.
    """
    before = await _doctor(scene)
    await trouble.plant(scene)
    seen: dict[str, Any] = {}

    async def met() -> bool:
        seen["status"] = await scene.status() if trouble.reaches_nats else None
        wait = (seen["status"] or {}).get("wait") or {}
        seen["ready"] = await scene.replica.get("/readyz")
        seen["page"] = await _page(scene)
        owner = (seen["page"][1] or {}).get("owner") if not trouble.reaches_nats else wait.get("owner")
        heard = bool(scene.replica.events(trouble.says))
        return owner == trouble.owner and (seen["ready"][0] == 200) == trouble.ready and heard

    await stage.until(met, 40, lambda: f"{seen}\n{scene.replica.log[-3000:]}")
    deadline = asyncio.get_running_loop().time() + SETTLES_WITHIN
    while not is_it(cells := await _cells(trouble, scene, seen, before)):
        if asyncio.get_running_loop().time() > deadline:
            break
        await stage.until(met, 40, lambda: f"{seen}\n{scene.replica.log[-3000:]}")
    return cells


async def _cells(trouble: Trouble, scene: Scene, seen: Mapping[str, Any], before: set[str]) -> dict[str, str]:
    return {
        "status": _state(seen["status"]),
        "wait": _wait(seen["status"]),
        "live page": seen["page"][0],
        "followers status": await _command(scene),
        "readiness": plain(f"{seen['ready'][0]}: {'; '.join(seen['ready'][1].splitlines())}", numbers=False),
        "doctor": "; ".join(sorted(await _doctor(scene) - before)) or "nothing",
        "log": _line(scene.replica.events(trouble.says)[-1]),
    }


def plain(text: str, *, numbers: bool = True) -> str:
    """Return `text` without what differs from run to run: times, and numbers that are no codes."""
    text = re.sub(r"127\.0\.0\.1(:\d+)?", "HOST", _TIME.sub("TIME", " ".join(text.split())))
    text = re.sub(r"'HOST', \d+", "HOST", text)
    text = re.sub(r"worker \S+-[0-9a-f]{8} ", "worker W ", text).replace("|", "\\|")
    return _NUMBER.sub("N", text) if numbers else text


def _state(status: Mapping[str, Any] | None) -> str:
    return "no answer" if status is None else f"`{status.get('state') or status['error']['code']}`"


def _wait(status: Mapping[str, Any] | None) -> str:
    if status is None:
        return "no answer"
    wait = status.get("wait")
    return plain(f"`{wait['owner']}`: {wait['text']}") if wait else "none: it goes on"


async def _moves(scene: Scene, trouble: Trouble) -> bool:
    status = await scene.status()
    return status is not None and (status.get("page", 0) >= 2 or bool(trouble.rights))


async def _page(scene: Scene) -> tuple[str, dict[str, Any] | None]:
    url = f"http://127.0.0.1:{scene.replica.port}/stream/jobs/{JOB}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        if answer.status != 200:
            return f"{answer.status}: {plain((await answer.json())['message'])}", None
        # The page learns of all jobs a moment after the first browser has come.
        frame = await Stream(answer).until("job", lambda data: data["job"] is not None)
    job = frame.get("job") or {}
    wait = job.get("wait") or {}
    parts = [f"`{job.get('state', 'unknown')}`", f"`{wait['owner']}`" if wait else "", plain(frame.get("why") or "")]
    return ", ".join(filter(None, parts)), {"owner": wait.get("owner")}


async def _command(scene: Scene) -> str:
    code, out, err = await scene.run("status", JOB)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line)
    if code:
        return plain(f"exit {code}: {err.strip().splitlines()[-1]}", numbers=False)
    return plain(f"`{lines['state']}`" + (f": {lines['waits']}" if "waits" in lines else ", goes on"))


async def _doctor(scene: Scene) -> set[str]:
    _, out, _ = await scene.run("doctor", "--json")
    found = [item for item in json.loads(out) if item["state"] == "fail"]
    return {
        plain(f"`{item['check']}` {item['subject']}: {item['detail']} → {item['advice']}".removesuffix(" → "))
        for item in found
    }


def _line(event: Mapping[str, Any]) -> str:
    fields = [f"{name}={event[name]}" for name in ("err_code", "code", "why", "reason", "error") if event.get(name)]
    return plain(" ".join([f"`{event['event']}`", *fields[:2]]), numbers=False)


async def _expect(_: Exception) -> None:
    """Servers are killed and rights taken on purpose."""
