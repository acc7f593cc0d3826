"""What a pod finds in the cluster: NATS with the shipped users, providers, and the shipped configuration."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import nats
import yaml
from nats.aio.client import Client

from k8s.checks.accounts import ROLES, variable
from k8s.checks.shipped import ROOT
from schemas.events import FollowerPage
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, command_subject
from schemas.types import Provider
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.logins import KeyPair
from tests.k8s.pod import Pod, SecretFolder, pod
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.permissions import Role, inbox_prefix
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY, SHOP_KEY


@dataclass(frozen=True, kw_only=True)
class Place:
    """Everything around the pods."""

    server: EmbeddedServer
    admin: Client
    providers: stage.Providers
    logins: Mapping[Role, KeyPair]
    folder: Path
    nats: SecretFolder
    accounts: SecretFolder

    def pod(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Pod]:
        """Start a worker with the shipped configuration."""
        changes: dict[str, Any] = options.pop("settings", {})
        return pod(self.folder, self.config(**changes), self.mounts, **options)

    @property
    def mounts(self) -> dict[str, Path]:
        """The Secrets, where the Deployment mounts them."""
        return {"/run/secrets/nats": self.nats.path, "/run/secrets/accounts": self.accounts.path}

    def config(self, file: str = "worker.toml", **worker: Any) -> str:
        """The shipped settings with this place's addresses, and other values under [worker]."""
        text = (ROOT / "k8s/base" / file).read_text("utf-8")
        changes = {
            '"nats://nats.nats.svc.cluster.local:4222"': f'"{self.server.url}"',
            "http_port = 8080": "http_port = {port}",
            '"0.0.0.0"': '"127.0.0.1"',
            'provider = "etelecom"': f'provider = "etelecom"\nbase_url = "{self.providers.etelecom.shop_url}"',
            'provider = "esms"': f'provider = "esms"\nbase_url = "{self.providers.esms.url}"',
            "rate_limit = 5": "rate_limit = 0",
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        for key, value in worker.items():
            start = text.index(f"{key} = ")
            text = text[:start] + f"{key} = {value}" + text[text.index("\n", start) :]
        return text

    async def order(self, job_id: str, provider: Provider = "etelecom", **fields: Any) -> int:
        """Publish a command; return its sequence."""
        body = {"provider": provider, "oa_id": OA_ID, "id": job_id, **fields}
        return (await self.admin.jetstream().publish(command_subject(provider), encode(body))).seq

    async def backlog(self) -> int:
        """Commands in the queue, those in hand included."""
        return (await self.admin.jetstream().stream_info(COMMANDS_STREAM)).state.messages

    async def all_done(self, timeout: float = 60) -> None:
        """Wait until no command is left."""

        async def empty() -> bool:
            return await self.backlog() == 0

        await stage.until(empty, timeout, lambda: "commands are left in the queue")

    async def pages(self, job_id: str) -> int:
        """How many pages of a job are in the stream."""
        subject = f"followers.page.*.*.{job_id}"
        found = (await self.admin.jetstream().stream_info(EVENTS_STREAM, subjects_filter=subject)).state.subjects
        return sum((found or {}).values())

    async def some_pages(self, job_id: str, count: int = 1, timeout: float = 30) -> None:
        """Wait until there are so many."""

        async def there() -> bool:
            return await self.pages(job_id) >= count

        await stage.until(there, timeout, lambda: f"no {count} pages of {job_id}")

    async def verify(self, followers: int, *job_ids: str) -> None:
        """Every job is complete, its pages are in order, each once, without a gap, with every follower once."""
        for job_id in job_ids:
            pages, ends = await self.events(job_id)
            ids = [follower.user_id for page in pages for follower in page.followers]
            assert [page.page for page in pages] == list(range(1, len(pages) + 1)), job_id
            assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True], job_id
            assert len(ids) == len(set(ids)) == followers, f"{job_id}: {len(ids)} followers, {len(set(ids))} different"
            assert ends == ["completed"], job_id

    async def events(self, job_id: str) -> tuple[list[FollowerPage], list[str]]:
        """A job's pages as they are in the stream, and its terminal events."""
        js, subject = self.admin.jetstream(), f"followers.*.*.*.{job_id}"
        left = sum(((await js.stream_info(EVENTS_STREAM, subjects_filter=subject)).state.subjects or {}).values())
        pages: list[FollowerPage] = []
        ends: list[str] = []
        events = await js.subscribe(subject, stream=EVENTS_STREAM, ordered_consumer=True)
        for _ in range(left):
            message = await events.next_msg(timeout=10)
            if message.subject.startswith("followers.page."):
                pages.append(decode(message.data, FollowerPage))
            elif (kind := msgspec.json.decode(message.data)["type"]) in ("completed", "failed", "cancelled"):
                ends.append(kind)
        await events.unsubscribe()
        return pages, ends


@contextlib.asynccontextmanager
async def place(folder: Path, *, followers: int = 400) -> AsyncIterator[Place]:
    """A cluster's worth of surroundings, set up by the user for that."""
    logins: dict[Role, KeyPair] = {role: KeyPair("user") for role in ROLES}
    async with (
        stage.server(accounts_for(logins)) as server,
        stage.providers(followers) as providers,
        entered(server, logins["admin"], "admin") as admin,
    ):
        around = Place(
            server=server,
            admin=admin,
            providers=providers,
            logins=logins,
            folder=folder,
            nats=SecretFolder(folder / "nats", {"seed": logins["worker"].seed.decode()}),
            accounts=SecretFolder(
                folder / "accounts",
                {"my-shop": SHOP_KEY, "esms-api-key": API_KEY, "esms-secret-key": SECRET_KEY},
            ),
        )
        await set_up(around)
        yield around


def accounts_for(logins: Mapping[Role, KeyPair]) -> str:
    """The shipped users with these keys, as the variables of the server's environment would put them in."""
    text = (ROOT / "k8s/nats/accounts.conf").read_text("utf-8")
    for role, login in logins.items():
        text = text.replace(f"${variable(role)}", login.public)
    return text


async def set_up(around: Place) -> None:
    """Run the setup Job's container."""
    login = SecretFolder(around.folder / "nats-setup", {"seed": around.logins["setup"].seed.decode()})
    job = yaml.safe_load((ROOT / "k8s/components/setup/job.yaml").read_text("utf-8"))
    assert await run(around, job["spec"]["template"]["spec"]["containers"][0], login) == 0


async def run(around: Place, container: Mapping[str, Any], login: SecretFolder, **fields: str) -> int:
    """Run a Job's container to its end; return the exit code. `fields` are what the pod's own fields say."""
    environment = {
        one["name"]: one.get("value") or fields[one["valueFrom"]["fieldRef"]["fieldPath"].split("/")[-1].rstrip("']")]
        for one in container["env"]
        if one["name"] != "FOLLOWERS_CONFIG"
    }
    command = list(container["args"])
    for name, value in environment.items():
        command = [part.replace(f"$({name})", value) for part in command]
    async with pod(
        around.folder,
        around.config("tools.toml"),
        {"/run/secrets/nats": login.path},
        command=command,
        environment=environment,
        ready=False,
    ) as started:
        code = await started.ended(60)
        assert code == 0, started.log
        return code


@contextlib.asynccontextmanager
async def entered(server: EmbeddedServer, login: KeyPair, role: Role) -> AsyncIterator[Client]:
    """A connection as the user of a role."""
    file = server.folder / f"{role}.nk"
    file.write_bytes(login.seed)
    client = await nats.connect(server.url, nkeys_seed=str(file), inbox_prefix=inbox_prefix(role).encode())
    yield client
    await client.close()
