"""`followers dead`: look at the commands that couldn't be done, publish them anew, or delete them."""

import sys
from collections import deque
from typing import Annotated, Any

import typer

from worker.cli.console import FAILED, OK, USAGE, AsJson, ConfigFile, Stop, complain, examples, perform, table
from worker.cli.dead_letters import (
    Code,
    Job,
    Numbers,
    Oa,
    OlderThan,
    ProviderName,
    Since,
    described,
    letter_box,
    print_letter,
    report,
    row,
    selection,
)
from worker.cli.wording import counted

COLUMNS = ("LETTER", "STORED", "PROVIDER", "OA", "JOB", "CODE", "REASON")
Everything = Annotated[bool, typer.Option("--all", help="All of them; else name letters or conditions.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]

app = typer.Typer(
    help="Dead letters: commands that can't be decoded, or whose job failed.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples(
        ("followers dead list --code unauthorized --since 2h", "What failed for a key lately."),
        ("followers dead retry --code unauthorized", "And again, now that it is repaired."),
    ),
)

_LIST = examples(
    ("followers dead list", "The newest letters."),
    ("followers dead list --provider esms --code rate_limited --since 2026-11-23T00:00:00Z", "Only those."),
    ("followers dead list --json | jq -r .job_id", "For programs: one JSON object a line, all of them."),
)
_SHOW = examples(
    ("followers dead show 17", "All headers of letter 17."),
    ("followers dead show 17 --body", "And the command itself: its filter may hold a person's name or phone."),
)
_RETRY = examples(
    ("followers dead retry 17", "The command anew; a failed job goes on behind its last published page."),
    ("followers dead retry --code unauthorized --dry-run", "What that would be for everything of one code."),
    ("followers dead retry --all", "All of them; of several letters of a job the latest."),
)
_PURGE = examples(
    ("followers dead purge 17 18", "Delete these."),
    ("followers dead purge --older-than 14d --yes", "And what is older than two weeks, without asking."),
)


@app.command("list", epilog=_LIST)
def list_letters(
    context: typer.Context,
    provider: ProviderName = None,
    code: Code = None,
    oa: Oa = None,
    job: Job = None,
    since: Since = None,
    older_than: OlderThan = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="The newest N; 50, with --json all.")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List dead letters, the oldest first."""

    async def work() -> int:
        wanted = selection((), provider, code, oa, job, since, older_than)
        kept: deque[dict[str, Any]] = deque(maxlen=limit or (None if json else 50))
        found = 0
        async with letter_box(context, config) as box:
            async for letter in box.read(provider):
                if not wanted.matches(letter):
                    continue
                found += 1
                if json and limit is None:
                    report(described(letter), json=True)
                else:
                    kept.append(described(letter))
        if json:
            for one in kept:
                report(one, json=True)
            return OK
        table(COLUMNS, [row(one) for one in kept])
        if found > len(kept):
            complain(f"{found - len(kept):,} older ones: use --limit")
        return OK

    perform(work)


@app.command("show", epilog=_SHOW)
def show(
    context: typer.Context,
    letter: Annotated[int, typer.Argument(min=1, metavar="LETTER", help="Its number.")],
    body: Annotated[
        bool, typer.Option("--body", help="Print the command too; its filter may hold a person's name or phone.")
    ] = False,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show one dead letter."""

    async def work() -> int:
        async with letter_box(context, config) as box:
            found = await box.get(letter)
        if found is None:
            raise Stop(f"there is no dead letter {letter}: see `followers dead list`")
        print_letter(found, body=body, json=json)
        return OK

    perform(work)


@app.command("retry", epilog=_RETRY)
def retry(
    context: typer.Context,
    letters: Numbers = None,
    provider: ProviderName = None,
    code: Code = None,
    oa: Oa = None,
    job: Job = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Publish commands anew, each under the id of its job, and delete their letters.

    A failed job goes on at the page after the last published one; one that completed or was cancelled meanwhile
    stays as it is. Exit code 1: a letter couldn't be retried.
    """

    async def work() -> int:
        wanted = selection(letters or (), provider, code, oa, job, since, older_than, everything=everything)
        failed = False
        async with letter_box(context, config) as box:
            latest: dict[Any, int] = {}
            meant: list[int] = []
            async for letter in box.read():
                if letter.job is not None:
                    latest[letter.job] = letter.sequence
                if wanted.matches(letter):
                    meant.append(letter.sequence)
            failed = _complain_of_missing(wanted.sequences, meant)
            if not meant and not failed:
                complain("no dead letter meets the conditions: see `followers dead list`")
            for number in meant:
                found = await box.get(number)
                if found is None:
                    continue  # somebody else was faster
                newest = latest.get(found.job, number)
                if newest != number:
                    said = {"outcome": "superseded", "by": newest}
                elif found.whole_bytes is not None:
                    failed = True
                    said = {"outcome": "not whole", "kept": len(found.body), "of": found.whole_bytes}
                elif dry_run:
                    said = {"outcome": "would be retried"}
                else:
                    said = {"outcome": "retried", "command": await box.retry(found)}
                report({"letter": number, "job_id": found.job_id, "code": found.code, **said}, json=json)
        return FAILED if failed else OK

    perform(work)


@app.command("purge", epilog=_PURGE)
def purge(
    context: typer.Context,
    letters: Numbers = None,
    provider: ProviderName = None,
    code: Code = None,
    oa: Oa = None,
    job: Job = None,
    since: Since = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Delete dead letters for good. Exit code 1: a letter that was named isn't there, or you said no."""

    async def work() -> int:
        wanted = selection(letters or (), provider, code, oa, job, since, older_than, everything=everything)
        async with letter_box(context, config) as box:
            meant = []
            async for letter in box.read():
                if wanted.matches(letter):
                    meant.append(letter.sequence)
                    if dry_run:
                        one = {"letter": letter.sequence, "job_id": letter.job_id, "code": letter.code}
                        report({**one, "outcome": "would be deleted"}, json=json)
            failed = _complain_of_missing(wanted.sequences, meant)
            if dry_run or not meant:
                complain(f"{counted(len(meant), 'dead letter')} would be deleted" if dry_run else _deleted(len(meant)))
                return FAILED if failed else OK
            if not yes and not _agreed(len(meant)):
                raise Stop("nothing is deleted")
            deleted = [number for number in meant if await box.delete(number)]
        if json:
            for number in deleted:
                report({"letter": number, "outcome": "deleted"}, json=True)
        complain(_deleted(len(deleted)))
        return FAILED if failed else OK

    perform(work)


def _complain_of_missing(named: frozenset[int], found: list[int]) -> bool:
    missing = sorted(named - set(found))
    for number in missing:
        complain(f"there is no dead letter {number} that meets the conditions: see `followers dead list`")
    return bool(missing)


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise Stop("nobody is there to be asked: add --yes", code=USAGE)
    return typer.confirm(f"Delete {counted(count, 'dead letter')} for good?", err=True)


def _deleted(number: int) -> str:
    return f"{counted(number, 'dead letter is', 'dead letters are')} deleted"
