"""Makes attacks and measures what they do: two looks at all of JetStream, and what others have heard meanwhile."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.jobs import JobStatus
from schemas.subjects import (
    COMMAND_SUBJECTS,
    COMMANDS_STREAM,
    EVENTS_STREAM,
    JOBS_BUCKET,
    cancel_mark_key,
    command_subject,
    page_subject,
    status_subject,
)
from schemas.wire import decode
from tests.integration.attack_calls import HELD
from tests.integration.attack_groups import NEEDS_PERMISSIONS, STAYS_OPEN, Group, bunched, groups
from tests.integration.attack_layout import API, ATTACKERS, BULK, DURABLES, users_of
from tests.integration.attack_stage import Guest, Stage, build, populate, pulled
from tests.integration.attack_state import State, call, difference, digest, look, messages
from tests.integration.attack_targets import JOB, matches
from worker.jetstream.topology.permissions import Layout
from worker.providers.simulators import OA_ID

AT_MOST = 4
"""Lines that are kept of what one group did."""
_LATE = 1.0
"""Seconds after the last group in which something late would show."""
Wanted = Callable[[Group], bool]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a group did; without effects the attack had none."""

    group: Group
    effects: tuple[str, ...]


@dataclass
class Result:
    """A whole run."""

    layout: Layout
    nodes: int
    version: str
    groups: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def injections(self) -> int:
        """Requests whose reply was to do harm."""
        return sum(len(outcome.group.shots) for outcome in self.outcomes if outcome.group.kind == "reply")

    @property
    def foreseen(self) -> list[Outcome]:
        """Those that no layout stops, and that is said."""
        replicated, old = self.nodes > 1, self.version.startswith("2.10.")
        open_ = {STAYS_OPEN} if replicated else set()
        open_ |= {f"{role}: {NEEDS_PERMISSIONS}" for role in ATTACKERS} if old else set()
        return [one for one in self.successes if str(one.group) in open_]

    @property
    def successes(self) -> list[Outcome]:
        """The groups that did anything."""
        return [outcome for outcome in self.outcomes if outcome.effects]


async def attack(
    layout: Layout, *, nodes: int = 1, binary: Path | None = None, wanted: Wanted | None = None, at_once: bool = False
) -> Result:
    """Build a stage and make all attacks, or those that are wanted; `at_once`: in bunches that are judged together."""
    began = asyncio.get_running_loop().time()
    async with build(users_of(layout), nodes=nodes, binary=binary) as built:
        admin = (await built.enter("admin")).client
        await populate(built, admin)
        # Once, so that sequences are the same after each further time.
        await built.restore(admin)
        run = _Run(built, admin)
        result = Result(layout=layout, nodes=nodes, version=str(admin.connected_server_version).split()[-1].strip("v>"))
        made = [group for group in groups(built.users, built.acks) if wanted is None or wanted(group)]
        result.groups = len(made)
        made = bunched(made) if at_once else made
        await built.spy({subject for group in made for subject in group.targets})
        whole = digest(await messages(admin))
        for group in made:
            if not group.worker and not group.last:
                result.outcomes.append(await run.measured(group))
        if not result.successes:
            await asyncio.sleep(_LATE)
            assert digest(await messages(admin)) == whole, "what no look at the streams showed"
        async with run.working():
            for group in made:
                if group.worker:
                    result.outcomes.append(await run.measured(group))
        for group in made:
            if group.last:
                result.outcomes.append(await run.measured_by_a_command(group))
    result.seconds = asyncio.get_running_loop().time() - began
    return result


class _Run:
    def __init__(self, built: Stage, admin: Client) -> None:
        self._built, self._admin = built, admin
        self._guests: dict[str, Guest] = {}
        self._works = False

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """With a worker that has nothing to do but answer."""
        await self._built.restore(self._admin)
        await call(self._admin, f"STREAM.PURGE.{COMMANDS_STREAM}")
        async with self._built.worker():
            self._works = True
            await asyncio.sleep(self._built.settle)
            yield
            self._works = False

    async def measured(self, group: Group) -> Outcome:
        """Make the attacks of one group, and put everything back when they did something."""
        attacker = await self._attacker(group)
        held = ""
        if group.pages:
            try:
                held = await self._page(attacker)
            except (RuntimeError, AssertionError):
                if self._built.users.layout == "accounts":
                    raise
                # The end of an earlier group's pulls did harm once more.
                await self._built.restore(self._admin)
                held = await self._page(attacker)
        spies = [spy for spy in self._built.spies if not self._is_at_home(spy, group)]
        for spy in self._built.spies:
            spy.heard.clear()
        before = await self._look()
        if group.listens:
            return Outcome(group=group, effects=tuple(await self._overheard(attacker, group)))
        await self._fire(attacker, group, held)
        await asyncio.sleep(group.after)
        after = await self._stand_still()
        for spy in spies:
            await spy.hear_all()
        effects = self._differences(group, before, after)
        heard = Counter(subject for spy in spies for subject in spy.heard if subject in group.targets)
        effects += [f"{count} heard on {subject}" for subject, count in heard.items()]
        await self._mend(group, before, effects)
        return Outcome(group=group, effects=_short(effects))

    async def measured_by_a_command(self, group: Group) -> Outcome:
        """Make attacks that may stop the queue of commands, and see whether it still takes any. Nothing is put back."""
        await self._fire(await self._attacker(group), group, "")
        await asyncio.sleep(_LATE)
        publisher = (await self._guest("victim-publisher", node=1)).client.jetstream(timeout=5)
        try:
            await publisher.publish(command_subject("esms"), b"{}")
        except (nats.errors.Error, nats.js.errors.Error) as error:
            return Outcome(group=group, effects=(f"others' commands are no longer taken: {type(error).__name__}",))
        return Outcome(group=group, effects=())

    async def _fire(self, attacker: Guest, group: Group, held: str) -> None:
        for number, shot in enumerate(group.shots):
            reply = shot.reply or f"{self._built.users.logins[group.role].inbox}.attack.{number}"
            subject = shot.subject.replace(HELD, held)
            await attacker.client.publish(subject, shot.data, reply=reply, headers=dict(shot.headers) or None)
        await attacker.hear_all()

    async def _attacker(self, group: Group) -> Guest:
        """One connection a role; who listens gets a fresh one."""
        if group.listens:
            return await self._built.enter(group.role)
        return await self._guest(group.user or group.role)

    def _is_at_home(self, spy: Guest, group: Group) -> bool:
        """Say whether a spy is in the attacker's account: what it hears there reaches nobody else."""
        home = self._built.users.logins[group.role].account
        return len(self._built.spies) > 1 and self._built.spies.index(spy) == self._built.users.accounts.index(home)

    async def _page(self, attacker: Guest) -> str:
        """Fill the durable, hand the attacker one page, and return the rest of its acknowledgement's subject."""
        await self._built.refill(self._admin)
        message = await pulled(attacker.client, EVENTS_STREAM, BULK)
        return message.reply.partition(f".{BULK}.")[2]

    async def _stand_still(self) -> State:
        """Look until nothing changes any more: what was asked for may still be on its way to the disk."""
        found = None
        while True:
            await asyncio.sleep(self._built.settle)
            last, found = found, await self._look()
            if last == found:
                return found

    async def _look(self) -> State:
        return await look(self._admin, own=DURABLES)

    def _differences(self, group: Group, before: State, after: State) -> list[str]:
        if group.adds:
            return difference(before, after, commands=COMMANDS_STREAM, subjects=COMMAND_SUBJECTS)
        return difference(before, after)

    async def _mend(self, group: Group, before: State, effects: Sequence[str]) -> None:
        if any(not line.startswith(tuple("0123456789")) for line in effects) and not self._works:
            # What was asked for more than once may be done more than once, in its own time.
            await asyncio.sleep(_LATE if group.user else self._built.settle)
            await self._built.restore(self._admin)
        elif group.adds:
            await self._built.forget(self._admin, before.streams[COMMANDS_STREAM]["last_seq"])

    async def _overheard(self, attacker: Guest, group: Group) -> list[str]:
        """Subscribe, let others go about their business, and see what was heard of it."""
        subject, _, queue = group.listens.partition(" ")
        await attacker.listen(subject, queue)
        await attacker.hear_all()
        await self._business()
        await asyncio.sleep(self._built.settle)
        await attacker.hear_all()
        granted = self._built.users.logins[group.role].subscribe
        heard = [one for one in attacker.heard if not any(matches(line, one) for line in granted)]
        await attacker.client.close()
        return [f"{count} heard on {subject}" for subject, count in Counter(heard).items()][:AT_MOST]

    async def _business(self) -> None:
        """What others do all day. Each must get its answer."""
        publisher, reader = [await self._guest(f"victim-{role}", node=1) for role in ("publisher", "consumer")]
        answer = await publisher.client.request(status_subject(JOB), b"", timeout=10)
        assert decode(answer.data, JobStatus).state == "completed"
        info = await reader.client.request(f"{API}CONSUMER.INFO.{EVENTS_STREAM}.bi", b"", timeout=10)
        assert b'"name":"bi"' in info.data
        js = self._admin.jetstream(timeout=10)
        await js.publish(page_subject("esms", OA_ID, "heard"), b"{}")
        for key in ("heard", cancel_mark_key("heard")):
            await js.publish(f"$KV.{JOBS_BUCKET}.{key}", b"{}")
        await self._admin.request("$JS.API.INFO", b"", timeout=10)

    async def _guest(self, name: str, node: int = 0) -> Guest:
        guest = self._guests.get(name)
        if guest is None or not guest.client.is_connected:
            guest = self._guests[name] = await self._built.enter(name, node=node)
        return guest


def _short(effects: Sequence[str]) -> tuple[str, ...]:
    """Keep what says most: what is gone, then what was written where, then what was heard."""
    telling = ("is gone", "is new", "subjects", "heard on")
    sorts = {line: next((at for at, word in enumerate(telling) if word in line), len(telling)) for line in effects}
    kept = sorted(effects, key=lambda line: sorts[line])[:AT_MOST]
    more = len(effects) - len(kept)
    return (*kept, *([f"and {more} more"] if more else ()))
