"""The console script `followers`: one file a command family; what is heavy is imported when a command runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from worker import __version__
from worker.cli import (
    cancel,
    changes,
    dead,
    demo,
    doctor,
    export,
    fetch,
    jobs,
    pages,
    schedules,
    schema,
    setup,
    simulate,
    verify,
    watch,
)
from worker.cli import worker as worker_command
from worker.cli.console import ConfigFile, ended, examples, say
from worker.cli.failures import Details
from worker.cli.streams import prepare
from worker.visible import visible

__all__ = ["app", "main"]

EXAMPLES = examples(
    ("followers demo", "See all of it at work: no NATS, no account and no settings needed."),
    ("followers setup", "Make the streams on the NATS server that the settings name."),
    ("followers worker", "Run a worker there."),
    ("followers fetch etelecom 579745863508352884", "Fetch the followers of one Official Account."),
    ("followers pages JOB > followers.jsonl", "And here they are."),
)


class _Commands(TyperGroup):
    """All commands; what is wrong with a command line is told without what would steer the terminal."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _told_visibly():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _told_visibly():
            return super().invoke(ctx)


@contextmanager
def _told_visibly() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(said := getattr(error, "message", None), str):
            setattr(error, "message", visible(said))  # noqa: B010 - of the errors of usage, which have no base in public
        raise


app = typer.Typer(
    name="followers",
    cls=_Commands,
    help="Follower lists of Zalo Official Accounts, from eTelecom and eSMS, by command over NATS JetStream.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and leave with its exit code, whatever happens."""
    prepare()
    sys.exit(ended(_run))


def _run() -> int:
    try:
        app()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"followers {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    config: ConfigFile = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="When something fails, print where in the program.")] = False,
) -> None:
    context.obj = config
    Details.wanted = debug


app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("worker", epilog=worker_command.EXAMPLES)(worker_command.worker)
app.command("setup", epilog=setup.EXAMPLES)(setup.setup)
app.command("fetch", epilog=fetch.EXAMPLES)(fetch.fetch)
app.command("jobs", epilog=jobs.JOBS_EXAMPLES)(jobs.jobs)
app.command("status", epilog=jobs.STATUS_EXAMPLES)(jobs.status)
app.command("watch", epilog=watch.EXAMPLES)(watch.watch)
app.command("cancel", epilog=cancel.EXAMPLES)(cancel.cancel)
app.command("pages", epilog=pages.EXAMPLES)(pages.pages)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("verify", epilog=verify.EXAMPLES)(verify.verify)
app.add_typer(changes.app, name="changes")
app.add_typer(dead.app, name="dead")
app.command("schedules", epilog=schedules.EXAMPLES)(schedules.schedules)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.command("schema", epilog=schema.EXAMPLES)(schema.schema)
app.command("simulate", epilog=simulate.EXAMPLES)(simulate.simulate)
