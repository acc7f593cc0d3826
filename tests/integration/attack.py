"""All attacks and all uses, on each server, with one node and three, in either layout: `make attack`.

Prints a table. Ends with 1 when an attack did anything in the accounts, none did in one account, or a use failed; what
stays open whatever the layout (`STAYS_OPEN`, `NEEDS_PERMISSIONS` in `attack_groups`) is listed and doesn't count.
"""

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from tests.integration import stage
from tests.integration.attack_groups import KINDS
from tests.integration.attack_layout import ATTACKERS, users_of
from tests.integration.attack_run import Result, attack
from tests.integration.attack_stage import FOLLOWERS, build
from tests.integration.attack_uses import USES, open_house, use
from worker.jetstream.topology.permissions import Layout

LAYOUTS: tuple[Layout, ...] = ("accounts", "one")
TITLES = {"accounts": "accounts", "one": "one account"}


@dataclass(frozen=True)
class Row:
    """A server with a layout: what was attacked, and which uses failed."""

    result: Result
    failed: dict[str, str]

    @property
    def where(self) -> str:
        """As the table has it."""
        nodes = "1 node" if self.result.nodes == 1 else f"{self.result.nodes} nodes"
        return f"{self.result.version}, {nodes}, {TITLES[self.result.layout]}"

    @property
    def as_it_must_be(self) -> bool:
        """Whether the layout does what is said of it."""
        harm = len(self.result.successes) - len(self.result.foreseen)
        return not self.failed and (harm > 0) == (self.result.layout == "one")


async def uses(layout: Layout, nodes: int, binary: Path | None) -> dict[str, str]:
    """Return what went wrong of all uses."""
    async with (
        build(users_of(layout), nodes=nodes, binary=binary) as built,
        stage.providers(followers=FOLLOWERS) as providers,
        built.worker(providers.accounts),
    ):
        return await use(await open_house(built, providers))


def table(rows: Sequence[Row]) -> str:
    """Return the results as Markdown."""
    lines = ["| server | uses | groups of attacks | reply injections | groups that did something | s |"]
    lines += ["| --- | --: | --: | --: | --: | --: |"]
    for row in rows:
        result = row.result
        lines.append(
            f"| {row.where} | {len(USES) - len(row.failed)} of {len(USES)} | {result.groups} "
            f"| {result.injections:,} | {len(result.successes)} | {result.seconds:.0f} |"
        )
    lines += ["", "| groups that did something, of how many | " + " | ".join(row.where for row in rows) + " |"]
    lines += ["| --- |" + " --: |" * len(rows)]
    counts = [_counts(row.result) for row in rows]
    for role in ATTACKERS:
        for kind in KINDS:
            cells = [f"{done[role, kind]} of {all_[role, kind]}" for done, all_ in counts]
            lines.append(f"| {role}: {kind} | " + " | ".join(cells) + " |")
    for row in rows:
        lines += ["", f"{row.where}:"] if row.failed or row.result.successes else []
        lines += [f"- fails: {name}: {why}" for name, why in row.failed.items()]
        lines += [f"- {outcome.group}: {'; '.join(outcome.effects)}" for outcome in row.result.successes]
    return "\n".join(lines)


def _counts(result: Result) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    done = Counter((one.group.role, one.group.kind) for one in result.successes)
    return Counter(done), Counter((one.group.role, one.group.kind) for one in result.outcomes)


async def main(options: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    # What the workers and the command line say would bury the table.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable()
    rows = []
    servers: list[Path | None] = [None, *options.nats_server]
    if not options.nats_server:
        say("only the newest server: name an older one with --nats-server PATH, it is left out")
    for binary in servers:
        for nodes in options.nodes or (1, 3):
            for layout in options.layout or LAYOUTS:
                say(f"{binary or 'the newest server'}, {nodes} node{'s' * (nodes > 1)}, {TITLES[layout]}")
                failed = await uses(layout, nodes, binary)
                rows.append(Row(await attack(layout, nodes=nodes, binary=binary), failed))
                say(f"  {len(rows[-1].result.successes)} groups did something, {len(failed)} uses failed")
    sys.stdout.write(f"{table(rows)}\n")
    wrong = [row.where for row in rows if not row.as_it_must_be]
    for where in wrong:
        say(f"not as it must be: {where}")
    return 1 if wrong else 0


def say(line: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"attack: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.integration.attack", description=__doc__)
    parser.add_argument(
        "--nats-server", type=Path, action="append", default=[], metavar="PATH", help="one more nats-server"
    )
    parser.add_argument("--nodes", type=int, action="append", choices=(1, 3), help="only so many")
    parser.add_argument("--layout", action="append", choices=LAYOUTS, help="only this one")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(parser.parse_args())))
