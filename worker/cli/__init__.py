"""The console script `followers`: one file a command family; what is heavy is imported when a command runs."""

from typing import Annotated

import typer

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
from worker.cli.console import ConfigFile, examples

__all__ = ["app", "main"]

EXAMPLES = examples(
    ("followers demo", "See all of it at work: no NATS, no account and no settings needed."),
    ("followers setup", "Make the streams on the NATS server that the settings name."),
    ("followers worker", "Run a worker there."),
    ("followers fetch etelecom 579745863508352884", "Fetch the followers of one Official Account."),
    ("followers pages JOB > followers.jsonl", "And here they are."),
)

app = typer.Typer(
    name="followers",
    help="Follower lists of Zalo Official Accounts, from eTelecom and eSMS, by command over NATS JetStream.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and leave with its exit code."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"followers {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    config: ConfigFile = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = config


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
