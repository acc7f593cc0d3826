"""`followers setup`: streams, consumers and buckets as the contract wants them."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import FAILED, OK, USAGE, AsJson, ConfigFile, Stop, complain, emit, examples, perform, table
from worker.cli.session import connected, load_settings, topology_config

if TYPE_CHECKING:
    from worker.jetstream.topology.reconcile import Change, Difference

EXAMPLES = examples(
    ("followers setup", "Create what is missing, update what differs. Safe to repeat; never shrinks or deletes."),
    ("followers setup --check", "Only compare: exit code 1 when something differs."),
    ("followers setup --consumer crm", "Also a durable consumer of all pages, for `schemas.consume`."),
    ("followers setup --consumer bi=followers.page.esms.>", "One of some pages only."),
    ("FOLLOWERS_NATS__REPLICAS=3 followers setup", "The same with three replicas of everything."),
)


def setup(
    context: typer.Context,
    only_check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when something differs.")] = False,
    consumer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=SUBJECT]", help="A durable consumer of the events; repeat for more."),
    ] = None,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Create or reconcile streams, consumers and buckets.

    Safe to repeat. What would lose messages (shrinking, deleting) is refused and named. Exit code 1: something
    was refused or failed, or with --check differs.
    """

    async def work() -> int:
        readers = _readers(consumer or [])
        settings = load_settings(context, config)
        async with connected(settings) as client:
            from worker.jetstream.topology import reconcile as topology

            wanted = replace(topology_config(settings), readers=readers)
            if only_check:
                return _report_check(await topology.check(client, wanted), json=json)
            return _report_changes(await topology.reconcile(client, wanted), json=json)

    perform(work)


def _readers(words: list[str]) -> dict[str, tuple[str, ...]]:
    from schemas.subjects import is_token

    found: dict[str, tuple[str, ...]] = {}
    for name, _, subject in (word.partition("=") for word in words):
        subject = subject or "followers.page.>"
        if not is_token(name):
            raise Stop(f"--consumer {name}: a name is 1 to 64 letters, digits, '_' or '-'", code=USAGE)
        if not re.match(r"followers\.(page|job|change)\.[^\s]+$", subject):
            raise Stop(f"--consumer {name}={subject}: events are on followers.page.> and followers.job.>", code=USAGE)
        found[name] = (*found.get(name, ()), subject)
    return found


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
