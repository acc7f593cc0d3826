"""`followers setup`: streams, consumers and buckets as the contract wants them."""

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import FAILED, OK, AsJson, ConfigFile, complain, emit, examples, perform, table
from worker.cli.session import connected, load_settings, topology_config

if TYPE_CHECKING:
    from worker.jetstream.topology import Change, Difference

EXAMPLES = examples(
    ("followers setup", "Create what is missing, update what differs. Safe to repeat; never shrinks or deletes."),
    ("followers setup --check", "Only compare: exit code 1 when something differs."),
    ("FOLLOWERS_NATS__REPLICAS=3 followers setup", "The same with three replicas of everything."),
)


def setup(
    context: typer.Context,
    only_check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when something differs.")] = False,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Create or reconcile streams, consumers and buckets.

    Safe to repeat. What would lose messages (shrinking, deleting) is refused and named. Exit code 1: something
    was refused or failed, or with --check differs.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        async with connected(settings) as client:
            from worker.jetstream import topology

            wanted = topology_config(settings)
            if only_check:
                return _report_check(await topology.check(client, wanted), json=json)
            return _report_changes(await topology.reconcile(client, wanted), json=json)

    perform(work)


def _report_check(differences: "list[Difference]", *, json: bool) -> int:
    if json:
        emit(differences)
    elif differences:
        rows = [(item.kind, item.name, item.state, item.detail) for item in differences]
        table(("KIND", "NAME", "STATE", "DETAIL"), rows)
        complain("", _advice([item.state == "refused" for item in differences]))
    else:
        complain("everything is as it should be")
    return FAILED if differences else OK


def _report_changes(changes: "list[Change]", *, json: bool) -> int:
    if json:
        emit(changes)
    else:
        rows = [(item.kind, item.name, item.outcome, item.detail) for item in changes]
        table(("KIND", "NAME", "OUTCOME", "DETAIL"), rows)
    return FAILED if any(item.outcome in ("refused", "failed") for item in changes) else OK


def _advice(refused: list[bool]) -> str:
    if all(refused):
        return "`followers setup` refuses to change these: do it by hand, or change the settings to match"
    return "run `followers setup` to change this"
