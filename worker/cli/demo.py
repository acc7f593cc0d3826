"""`followers demo`: everything at once on this machine, and nothing of it left behind."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.console import AsJson, examples, perform

EXAMPLES = examples(
    ("followers demo", "Four fetches; then it stays, for you to publish more from another terminal."),
    ("followers demo --once", "End after the four fetches."),
    ("followers demo --once --followers 20000 --latency 5", "Longer lists from faster providers."),
    ("followers demo --json | jq '.[].verdict'", "The four last events as JSON."),
)


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
    stay = sys.stdout.isatty() and not once and not json

    async def work() -> int:
        from worker.cli.demo_run import Options, perform_demo
        from worker.cli.demo_view import make_view

        spread = (latency * 0.0005, latency * 0.0015)
        options = Options(followers=followers, latency=spread, seed=seed, nats_server=nats_server)
        return await perform_demo(options, make_view(color=color, quiet=json), stay=stay, json=json)

    perform(work, fast_loop=True)
