"""`followers demo`: everything at once on this machine, and nothing of it left behind."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.console import FAILED, OK, AsJson, Stop, emit, examples, perform

if TYPE_CHECKING:
    from nats.aio.client import Client

    from schemas.commands import FetchFollowers
    from worker.cli.demo_view import DemoView
    from worker.settings import Settings

EXAMPLES = examples(
    ("followers demo", "Four fetches; then it stays, for you to publish more from another terminal."),
    ("followers demo --once", "End after the four fetches."),
    ("followers demo --once --followers 20000 --latency 5", "Longer lists from faster providers."),
    ("followers demo --json | jq '.[].verdict'", "The four last events as JSON."),
)

_SILENCE = 30.0
"""Seconds without any event until the demo gives up."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """One of the demo's four fetches."""

    title: str
    job_id: str
    account: str
    command: "FetchFollowers"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asked for."""

    followers: int
    latency: tuple[float, float]
    """Seconds."""
    seed: int
    nats_server: Path | None


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the four fetches (always so when piped).")] = False,
    followers: Annotated[int, typer.Option(min=0, metavar="N", help="Followers of each Official Account.")] = 1234,
    latency: Annotated[float, typer.Option(min=0, metavar="MS", help="The providers' mean time to answer.")] = 80.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same people.")] = 1,
    color: Annotated[bool, typer.Option("--color/--no-color", help="Colours on a terminal.")] = True,
    nats_server: Annotated[
        Path | None,
        typer.Option(
            envvar="FOLLOWERS_EMBEDDED__SERVER", show_envvar=False, help="Another nats-server program to run."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """See all of it at work: NATS, both providers simulated, a worker, four fetches.

    Needs no account and no settings, listens on this machine only, and leaves nothing behind.
    """
    spread = (latency * 0.0005, latency * 0.0015)
    options = Options(followers=followers, latency=spread, seed=seed, nats_server=nats_server)
    stay = sys.stdout.isatty() and not once and not json

    async def work() -> int:
        from worker.cli.demo_view import make_view

        _end_cleanly_when_told()
        return await _demo(options, make_view(color=color, quiet=json), stay=stay, json=json)

    perform(work, fast_loop=True)


async def _demo(options: Options, view: "DemoView", *, stay: bool, json: bool) -> int:
    from worker import app, logs  # noqa: F401: FastStream sets up loggers of its own when it is imported
    from worker.cli.demo_view import summarize
    from worker.cli.session import connected

    logs.configure("error")
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
    return OK if all(_completed(end) for end in ends.values()) else FAILED


@contextlib.asynccontextmanager
async def _stage(options: Options, view: "DemoView") -> "AsyncIterator[Settings]":
    """Start nats-server, simulators and a worker; take them away in the opposite order."""
    from worker.embedded import EmbeddedServer, EmbeddedServerError
    from worker.simulators import OA_ID, EsmsConfig, EtelecomConfig, Simulator

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
        view.introduce(server.url, etelecom.url, esms.url, settings.worker.http_port)
        yield settings


async def _enter_worker(stack: contextlib.AsyncExitStack, nats_url: str, urls: dict[str, str]) -> "Settings":
    from worker.app import StartError, Worker

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


def _settings(nats_url: str, urls: dict[str, str], http_port: int) -> "Settings":
    from worker.cli.simulate import accounts
    from worker.settings import Settings

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
    from schemas.commands import FetchEsmsFollowers, FetchEtelecomFollowers
    from worker.simulators import OA_ID

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


async def _play(client: "Client", shows: list[Show], view: "DemoView") -> dict[str, Any]:
    """Publish the four commands and show their events; return the terminal one of each job."""
    from schemas.events import TERMINAL
    from worker.cli.fetch import publish
    from worker.cli.follow import decode_event
    from worker.jetstream.reader import EventReader

    titles = {show.job_id: show.title for show in shows}
    ends: dict[str, Any] = {}
    with view.playing(titles):
        async with EventReader(client, "followers.*.*.*.*") as reader:
            for show in shows:
                await publish(client, show.command)
            while len(ends) < len(shows):
                message = await reader.next(_SILENCE)
                if message is None:
                    raise Stop(f"no event for {_SILENCE:g} s: the demo gives up")
                event = decode_event(message)
                if isinstance(event, TERMINAL):
                    ends[event.job_id] = event
                if event is not None:
                    view.show(titles.get(event.job_id, event.job_id), event)
    return ends


async def _keep_showing(client: "Client", view: "DemoView") -> None:
    from worker.cli.follow import decode_event
    from worker.jetstream.reader import EventReader

    own = {show.job_id for show in _shows()}
    async with EventReader(client, "followers.*.*.*.*") as reader:
        while True:
            message = await reader.next(60)
            event = decode_event(message) if message is not None else None
            if event is not None and event.job_id not in own:
                view.show(event.job_id, event)


def _completed(event: Any) -> bool:
    from schemas.events import JobCompleted

    return isinstance(event, JobCompleted)


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
