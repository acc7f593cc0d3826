"""Changes as events, with people's data read back from the page events of both jobs."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TypedDict

import msgspec

from schemas.changes import (
    ChangeCounts,
    Changed,
    ChangeEvent,
    Compared,
    FeedBaseline,
    FieldChange,
    Filter,
    Followed,
    Held,
    Unfollowed,
)
from schemas.counted import counted
from schemas.follower import Follower
from schemas.types import Labels, Provider
from schemas.wire import content_type, decode
from worker.core.backoff import Pause
from worker.core.changes.fingerprint import different, value_of
from worker.core.changes.ports import PageStore
from worker.core.changes.snapshot import Change
from worker.core.ports.event_log import Entry, LogUnavailableError
from worker.core.tasks import begin

CHUNK = 128
"""Changes whose people are read from the log together, while those before them are published."""
AT_ONCE = 8
"""Pages asked for at the same time."""


class SetFields(TypedDict):
    """The fields that every event of a set has."""

    job_id: str
    provider: Provider
    account: str
    oa_id: str
    labels: Labels
    previous_job_id: str | None
    filter: Filter
    of: int


class _Page(msgspec.Struct):
    job_id: str
    followers: list[Follower]


class ChangeSet:
    """The events of one job's set, by number."""

    def __init__(
        self, common: SetFields, previous_job_id: str, changes: Sequence[Change], pages: PageStore, count: int
    ) -> None:
        """Take what all events share, both jobs' differences, where their pages are, and the followers now."""
        self._common = common
        self._jobs = common["job_id"], previous_job_id
        self._changes = changes
        self._pages = pages
        self._count = count
        self._people: dict[int, asyncio.Task[_People]] = {}

    async def event(self, number: int) -> ChangeEvent:
        """Return event `number` (from 1); quick where they are asked for in order."""
        if number > len(self._changes):
            return Compared(**self._common, number=number, counts=counts_of(self._changes), count=self._count)
        change = self._changes[number - 1]
        chunk = (number - 1) // CHUNK
        people = await self._chunk(chunk)
        self._chunk(chunk + 1)
        old, new = people.get((change.old, change.user_id)), people.get((change.new, change.user_id))
        if change.kind == "followed":
            return Followed(**self._common, number=number, user_id=change.user_id, follower=new)
        if change.kind == "unfollowed":
            at = new.updated_at if new is not None else None
            return Unfollowed(**self._common, number=number, user_id=change.user_id, at=at)
        names = different(old, new) if old is not None and new is not None else change.names
        fields = [_field(name, old, new) for name in names]
        return Changed(**self._common, number=number, user_id=change.user_id, fields=fields)

    def close(self) -> None:
        """Stop reading ahead."""
        for task in self._people.values():
            task.cancel()

    def _chunk(self, number: int) -> "asyncio.Task[_People]":
        if number not in self._people:
            for old in [one for one in self._people if one < number - 1]:
                self._people.pop(old).cancel()
            part = self._changes[number * CHUNK : (number + 1) * CHUNK]
            self._people[number] = begin(self._read(part), "changes.people")
        return self._people[number]

    async def _read(self, changes: Sequence[Change]) -> "_People":
        wanted: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
        gone: set[tuple[int, str]] = set()
        for change in changes:
            if change.new:
                wanted[change.new, self._jobs[0]].add(change.user_id)
                if change.kind == "unfollowed":
                    gone.add((change.new, change.user_id))
            if change.old and change.kind == "changed":
                wanted[change.old, self._jobs[1]].add(change.user_id)
        found: _People = {}
        queue = list(wanted.items())

        async def read() -> None:
            while queue:
                (sequence, job_id), ids = queue.pop()
                for follower in _followers(await self._at(sequence), job_id):
                    key = sequence, follower.user_id
                    if follower.user_id in ids and (follower.state == "unfollow") == (key in gone):
                        found.setdefault(key, follower)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(read())
        return found

    async def _at(self, sequence: int) -> Entry | None:
        pause = Pause()
        while True:
            try:
                return await self._pages.at(sequence)
            except LogUnavailableError:
                await pause()


_People = dict[tuple[int, str], Follower]


def counts_of(changes: Sequence[Change]) -> ChangeCounts:
    """Return how many there are of each kind."""
    kinds = [change.kind for change in changes]
    return ChangeCounts(
        followed=kinds.count("followed"), unfollowed=kinds.count("unfollowed"), changed=kinds.count("changed")
    )


def leaner(event: ChangeEvent) -> ChangeEvent | None:
    """Return `event` with less of people's data, for a server that finds it too large; None: there is no less."""
    if isinstance(event, Followed) and event.follower is not None:
        return msgspec.structs.replace(event, follower=None)
    if isinstance(event, Changed):
        bare = [FieldChange(name=field.name) for field in event.fields]
        return msgspec.structs.replace(event, fields=bare) if bare != event.fields else None
    return None


def baseline(common: SetFields, count: int) -> FeedBaseline:
    """Return the only event of a feed's first list."""
    return FeedBaseline(**common, count=count)


def held(common: SetFields, counts: ChangeCounts, count: int, previous_count: int) -> Held:
    """Return the only event of a list that is held back."""
    gone = f"{counts.unfollowed:,} of {counted(previous_count, 'follower')} {'is' if counts.unfollowed == 1 else 'are'}"
    message = (
        f"{gone} gone from the list, more than changes.threshold"
        f" allows: if that is right, publish it with `followers changes release {common['job_id']}`; if not, nothing"
        " needs to be done, the next complete list is compared with the previous one"
    )
    return Held(**common, counts=counts, count=count, previous_count=previous_count, message=message)


def _followers(entry: Entry | None, job_id: str) -> list[Follower]:
    if entry is None:
        return []
    try:
        page = decode(entry.data, _Page, content_type(entry.headers))
    except (msgspec.DecodeError, ValueError):
        return []  # the stream was made anew, and its numbers now stand for something else
    return page.followers if page.job_id == job_id else []


def _field(name: str, old: Follower | None, new: Follower | None) -> FieldChange:
    change = FieldChange(name=name)
    if old is not None:
        change = msgspec.structs.replace(change, old=value_of(old, name))
    if new is not None:
        change = msgspec.structs.replace(change, new=value_of(new, name))
    return change
