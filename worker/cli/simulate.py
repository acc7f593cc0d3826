"""`followers simulate`: both providers on this machine, for trying things out."""

from typing import Annotated

import typer

from worker.cli.console import USAGE, AsJson, Stop, emit, examples, perform

EXAMPLES = examples(("followers simulate", "x"),)


def simulate(json: AsJson = False) -> None:
    """Run the provider simulators alone."""
