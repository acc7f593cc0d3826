"""The demo itself: nats-server, simulators and worker started, four fetches played, all of it taken away."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from schemas.commands import FetchEsmsFollowers, FetchEtelecomFollowers, FetchFollowers
from schemas.events import TERMINAL, JobCompleted
from worker.cli.console import FAILED, OK, Stop, emit
from worker.cli.demo_view import DemoView, summarize
from worker.cli.fetch import publish
from worker.cli.follow import Terminal, as_entry, decode_event
from worker.cli.session import connected
from worker.cli.simulate import accounts
from worker.embedded import EmbeddedServer, EmbeddedServerError
from worker.jetstream.events.reader import EventReader
from worker.providers.simulators import OA_ID, EsmsConfig, EtelecomConfig, Simulator
from worker.settings import Settings

_SILENCE = 30.0
"""Seconds without any event until the demo gives up."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """One of the demo's four fetches."""

    title: str
    job_id: str
    account: str
    command: FetchFollowers


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asked for."""

    followers: int
    latency: tuple[float, float]
    """Seconds."""
    seed: int
    nats_server: Path | None


async def perform_demo(options: Options, view: DemoView, *, stay: bool, json: bool) -> int:
    """Play the demo and show it on `view`; return the exit code. With `stay`, until it is interrupted."""
    _end_cleanly_when_told()
    async with _stage(options, view) as settings, connected(settings) as client:
        shows = _shows()
        ends = await _play(client, shows, view)
        if json:
            emit([ends[show.job_id] for show in shows])
        else:
            summarize([(show.title, ends[show.job_id]) for show in shows], view.console)
        if stay:
            view.tell_more(settings)
            await _keep_showing(client, view)
    return OK if all(isinstance(end, JobCompleted) for end in ends.values()) else FAILED


@contextlib.asynccontextmanager
async def _stage(options: Options, view: DemoView) -> AsyncIterator[Settings]:
    """Start nats-server, simulators and a worker; take them away in the opposite order."""
    shared: dict[str, Any] = {
        "followers": {OA_ID: options.followers},
        "latency": options.latency,
        "seed": options.seed,
    }
    async with contextlib.AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(EmbeddedServer(binary=options.nats_server))
        except EmbeddedServerError as error:
            raise Stop(*str(error).splitlines()) from error
        etelecom = await stack.enter_async_context(Simulator(EtelecomConfig(**shared)))
        esms = await stack.enter_async_context(Simulator(EsmsConfig(**shared)))
        settings = await _enter_worker(stack, server.url, {"etelecom": etelecom.url, "esms": esms.url})
        assert server.program is not None
        program = await asyncio.to_thread(server.program.described)
        view.introduce(server.url, program, etelecom.url, esms.url, settings.worker.http_port)
        yield settings


async def _enter_worker(stack: contextlib.AsyncExitStack, nats_url: str, urls: dict[str, str]) -> Settings:
    from worker import logs
    from worker.app import StartError, Worker

    logs.configure("error")
    for attempts_left in (2, 1, 0):
        settings = _settings(nats_url, urls, _free_port())
        try:
            await stack.enter_async_context(Worker(settings))
        except StartError as error:
            # Somebody else may take the port between our look and the worker's.
            if "http_port" in str(error) and attempts_left:
                continue
            raise Stop(str(error)) from error
        return settings
    raise AssertionError("unreachable")


def _settings(nats_url: str, urls: dict[str, str], http_port: int) -> Settings:
    known = accounts(urls)
    chosen = {
        "demo-shop": known["sim-shop"],
        "demo-partner": known["sim-partner"],
        "demo-getfollowers": known["sim-esms"] | {"endpoint": "GetFollowers"},
        "demo-querylistuid": known["sim-esms"] | {"endpoint": "QueryListUID"},
    }
    return Settings.model_validate(
        {
            "nats": {"servers": [nats_url], "auto_setup": True},
            "worker": {"http_port": http_port},
            "accounts": chosen,
        }
    )


def _shows() -> list[Show]:
    kinds: Sequence[tuple[str, str, type[FetchEtelecomFollowers] | type[FetchEsmsFollowers]]] = (
        ("eTelecom Shop", "demo-shop", FetchEtelecomFollowers),
        ("eTelecom Partner", "demo-partner", FetchEtelecomFollowers),
        ("eSMS GetFollowers", "demo-getfollowers", FetchEsmsFollowers),
        ("eSMS QueryListUID", "demo-querylistuid", FetchEsmsFollowers),
    )
    return [
        Show(
            title=title,
            job_id=name,
            account=name,
            command=make(oa_id=OA_ID, id=name, account=name, page_size=50),
        )
        for title, name, make in kinds
    ]


async def _play(client: Client, shows: list[Show], view: DemoView) -> dict[str, Terminal]:
    """Publish the four commands and show their events; return the terminal one of each job."""
    titles = {show.job_id: show.title for show in shows}
    ends: dict[str, Terminal] = {}
    with view.playing(titles):
        async with EventReader(client, "followers.*.*.*.*") as reader:
            for show in shows:
                await publish(client, show.command)
            while len(ends) < len(shows):
                message = await reader.next(_SILENCE)
                if message is None:
                    raise Stop(f"no event for {_SILENCE:g} s: the demo gives up")
                event = decode_event(as_entry(message))
                if isinstance(event, TERMINAL):
                    ends[event.job_id] = event
                if event is not None:
                    view.show(titles.get(event.job_id, event.job_id), event)
    return ends


async def _keep_showing(client: Client, view: DemoView) -> None:
    own = {show.job_id for show in _shows()}
    async with EventReader(client, "followers.*.*.*.*") as reader:
        while True:
            message = await reader.next(60)
            event = decode_event(as_entry(message)) if message is not None else None
            if event is not None and event.job_id not in own:
                view.show(event.job_id, event)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_cleanly_when_told() -> None:
    """Let SIGTERM and a closed terminal take everything away, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), task.cancel)
