"""The whole of it: a nats-server, the providers, a configuration, workers; and jobs to follow."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance import product
from tests.acceptance.broker import Broker, broker, new_id
from tests.acceptance.product import Config, Result, Worker, until
from tests.acceptance.providers import Providers
from tests.acceptance.reading import Event, Reader, Run


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that has been published."""

    id: str
    oa: str
    provider: str
    sequence: int
    """Of the command in its stream."""
    reader: Reader

    async def end(self, timeout: float = 60.0) -> Run:
        """Wait for the end; return all that was published."""
        return await self.reader.to_end(timeout)

    async def page(self, number: int, timeout: float = 30.0) -> Event:
        """Wait for page `number`."""
        return await self.reader.page(number, timeout)


class World:
    """One nats-server with streams, and what reaches it."""

    def __init__(self, folder: Path, providers: Providers, broker: Broker, worker: Mapping[str, Any]) -> None:
        self.folder = folder
        self.providers = providers
        self.broker = broker
        self.config: Config = {
            "nats": {"servers": [broker.url]},
            "worker": dict(worker),
            "accounts": providers.accounts(folder / "secrets"),
            "log": {"level": "debug"},
        }
        self.shared_worker: Worker | None = None
        self._folders = 0

    async def publish(self, account: str, oa: str, *, id: str | None = None, **command: Any) -> Job:
        """Publish a command for `oa` through one account, under a new job id or this one."""
        provider = self.config["accounts"][account]["provider"]
        job_id = id or new_id()
        body = {"provider": provider, "id": job_id, "account": account, "oa_id": oa, **command}
        ack = await self.broker.publish(provider, body)
        return self.follow(provider, job_id, oa, ack.seq)

    def follow(self, provider: str, job_id: str, oa: str, sequence: int) -> Job:
        """A handle on a job whose command has this sequence."""
        return Job(id=job_id, oa=oa, provider=provider, sequence=sequence, reader=self.broker.reader(job_id))

    def worker(
        self,
        *,
        config: Config | None = None,
        environment: Mapping[str, str] | None = None,
        program: list[str] | None = None,
    ) -> contextlib.AbstractAsyncContextManager[Worker]:
        """A further worker with this world's configuration, or with another one."""
        return product.worker(config or self.config, self.new_folder("worker"), environment, program)

    async def run(self, *arguments: str, timeout: float = 60.0) -> Result:
        """Run one `followers` command with this world's configuration."""
        folder = self.new_folder("command")
        path = product.write_config(self.config, folder)
        environment = {"FOLLOWERS_CONFIG": str(path)}
        return await product.run(*arguments, folder=folder, environment=environment, timeout=timeout)

    def new_folder(self, name: str) -> Path:
        """An empty folder of its own for one process."""
        self._folders += 1
        return self.folder / f"{name}-{self._folders}"

    async def until_requests(self, oa: str, count: int, timeout: float = 20.0) -> list[Any]:
        """Wait until `count` requests about `oa` have reached a provider; return them."""

        async def enough() -> bool:
            return len(self.providers.requests(oa)) >= count

        await until(enough, timeout)
        requests = self.providers.requests(oa)
        assert len(requests) >= count, f"only {len(requests)} requests about OA {oa} within {timeout:g} s"
        return requests


@contextlib.asynccontextmanager
async def world(folder: Path, providers: Providers, **worker: Any) -> AsyncIterator[World]:
    """A nats-server of its own, set up by `followers setup`; `worker` are keys of that table."""
    async with broker(folder / "nats") as opened:
        made = World(folder, providers, opened, worker)
        result = await made.run("setup")
        assert result.code == 0, f"`followers setup` failed\n{result.out}\n{result.err}"
        yield made
