"""Lists for the change feed: jobs whose pages and end are put into a log, fakes of its buckets, and reading it back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import Any

from schemas.changes import Changed, ChangeEvent, Compared, Feed, FeedBaseline, Followed, Held, Unfollowed
from schemas.commands import EsmsFilter, EtelecomFilter, FetchEsmsFollowers, FetchEtelecomFollowers
from schemas.events import FollowerPage, JobCompleted, JobStarted, Progress
from schemas.follower import Follower
from schemas.subjects import change_subject, job_subject, page_subject
from schemas.types import Provider, Verdict
from schemas.wire import content_type, decode, encode, event_message
from tests.fakes import EPOCH
from worker.core.changes.feeds import ChangeFeeds
from worker.core.changes.pointer import EndedJob
from worker.core.changes.ports import FeedsMissingError, FeedsUnavailableError
from worker.core.ports.event_log import Entry, EventLog, WrongSequenceError
from worker.core.services import World

OA = "1"
CHANGES = change_subject("etelecom", OA)


async def publish_list(
    world: World,
    job_id: str,
    followers: Iterable[Follower],
    *,
    day: float = 0,
    provider: Provider = "etelecom",
    account: str = "shop",
    page_size: int = 100,
    verdict: Verdict = "complete",
    missed_at_most: int | None = None,
    begun: int = 0,
    filter: EtelecomFilter | EsmsFilter | None = None,
    **command: Any,
) -> EndedJob:
    """Put a job's pages and its `completed` into the log, as read on `day`; `begun`: what `begin_list` gave."""
    rows, started_at = list(followers), EPOCH + timedelta(days=day)
    common: dict[str, Any] = {"job_id": job_id, "provider": provider, "account": account, "oa_id": OA, "labels": {}}
    starts = range(0, max(len(rows), 1), page_size)
    tail = 0
    for number, start in enumerate(starts, 1):
        page = FollowerPage(
            **common,
            page=number,
            followers=rows[start : start + page_size],
            total=None,
            cursor=None,
            next_cursor=None,
            last=number == len(starts),
            fetched_at=started_at,
            progress=Progress(followers=0, duplicates_dropped=0, total_first=None, requests=1, started_at=started_at),
        )
        tail = await _append(world, page_subject(provider, OA, job_id), page, f"{number}.1", tail)
    ended = JobCompleted(
        **common,
        pages=len(starts),
        followers=len(rows),
        distinct=len(rows),
        duplicates_dropped=0,
        total_first=None,
        total_last=None,
        requests=len(starts),
        started_at=started_at,
        finished_at=started_at,
        verdict=verdict,
        missed_at_most=0 if verdict == "complete" and missed_at_most is None else missed_at_most,
    )
    end = await _append(world, job_subject(provider, OA, job_id), ended, "end", begun)
    kind: Any = FetchEtelecomFollowers if provider == "etelecom" else FetchEsmsFollowers
    return EndedJob(command=kind(oa_id=OA, filter=filter, **command), account=account, ended=ended, sequence=end)


async def begin_list(world: World, job_id: str) -> int:
    """Put a job's `started` into the log; return its sequence."""
    started = JobStarted(
        job_id=job_id, provider="etelecom", account="shop", oa_id=OA, resumed_at_page=1, started_at=world.now()
    )
    return await _append(world, job_subject("etelecom", OA, job_id), started, "started.1", 0)


async def _append(
    world: World, subject: str, event: FollowerPage | JobCompleted | JobStarted, id: str, tail: int
) -> int:
    mode = world.cloudevents
    data, headers = event_message(event, id=id, time=world.now(), encoding=world.encoding, mode=mode)
    return await world.log.publish(subject, data, headers, tail)


def people(numbers: Iterable[int], **fields: Any) -> list[Follower]:
    """Followers with these numbers, who differ by them and have `fields`."""
    return [
        Follower(
            user_id=str(7_800_000_000_000_000_000 + number),
            **{"display_name": f"Người {number}", "state": "follow", "phone": f"+849{number:08}"} | fields,
        )
        for number in numbers
    ]


def user(number: int) -> str:
    """The id of the follower with that number."""
    return people([number])[0].user_id


async def changes(log: EventLog, subject: str = CHANGES) -> list[ChangeEvent]:
    """Every change event on the subject, in order."""
    tail = await log.last(subject)
    last = tail.sequence if tail is not None else 0
    return [change_of(entry) async for entry in log.read(subject, 1, last)]


def change_of(entry: Entry) -> ChangeEvent:
    """The event in a message."""
    event: ChangeEvent = decode(entry.data, ChangeEvent, content_type(entry.headers))
    return event


def told(events: Iterable[ChangeEvent]) -> list[tuple[Any, ...]]:
    """The events in short: type, and whom or how many it is about."""
    return [_short(event) for event in events]


def _short(event: ChangeEvent) -> tuple[Any, ...]:
    match event:
        case Followed() | Unfollowed():
            return type(event).__name__, event.user_id
        case Changed():
            return "Changed", event.user_id, *(field.name for field in event.fields)
        case FeedBaseline() | Compared() | Held():
            return type(event).__name__, event.count
    raise AssertionError(event)


def problems(events: list[ChangeEvent]) -> list[str]:
    """What is wrong with the sets: each must be there once, whole, and in order, whatever other feeds put between."""
    found: list[str] = []
    at: dict[tuple[str, object], int] = {}
    for event in events:
        key = event.job_id, type(event) if isinstance(event, FeedBaseline | Held) else "changes"
        if event.number != at.get(key, 0) + 1:
            found.append(f"{event.job_id}: {type(event).__name__} {event.number} comes after {at.get(key, 0)}")
        at[key] = event.number
    return found


class Mirror:
    """A consumer that keeps each feed's list by its changes alone, and knows what can't be true."""

    def __init__(self) -> None:
        self.lists: dict[tuple[str, str], set[str]] = {}
        """Who follows, by account and filter."""
        self.jobs: dict[tuple[str, str], str] = {}
        """The job whose list that is."""
        self.held: list[str] = []
        """Jobs that were held back, in order."""
        self.problems: list[str] = []
        self._open: dict[tuple[str, str], tuple[str, int]] = {}
        """Sets that have begun: job and last number."""

    def take(self, event: ChangeEvent) -> None:
        """Apply the next event of the subject."""
        feed = event.account, encode(event.filter).decode()
        if isinstance(event, FeedBaseline):
            self.lists.pop(feed, None)  # whoever needs it reads the job's pages
            self.jobs[feed] = event.job_id
            self._open.pop(feed, None)
            return
        if event.previous_job_id != self.jobs.get(feed):
            self._complain(event, f"is against {event.previous_job_id}, but the list is {self.jobs.get(feed)}")
        if isinstance(event, Held):
            self.held.append(event.job_id)
            return
        job_id, number = self._open.get(feed, (event.job_id, 0))
        if (event.job_id, event.number) != (job_id, number + 1):
            self._complain(event, f"comes after {job_id} {number}")
        self._open[feed] = event.job_id, event.number
        self._apply(event, self.lists.setdefault(feed, set()))
        if isinstance(event, Compared):
            self.jobs[feed] = event.job_id
            del self._open[feed]

    def know(self, account: str, filter: str, ids: Iterable[str]) -> None:
        """Fill the list that a baseline began, as by its job's pages."""
        self.lists[account, filter] = set(ids)

    def _apply(self, event: ChangeEvent, following: set[str]) -> None:
        match event:
            case Followed(user_id=who) if who in following:
                self._complain(event, f"{who} follows already")
            case Unfollowed(user_id=who) | Changed(user_id=who) if who not in following:
                self._complain(event, f"{who} doesn't follow")
            case Followed(user_id=who):
                following.add(who)
            case Unfollowed(user_id=who):
                following.remove(who)
            case Compared(count=count) if count != len(following):
                self._complain(event, f"says {count} follow, but {len(following)} do")

    def _complain(self, event: ChangeEvent, what: str) -> None:
        self.problems.append(f"{event.job_id} {type(event).__name__} {event.number} of {event.of}: {what}")


async def inline(act: Callable[..., Any], *arguments: Any) -> Any:
    """Run at once what the product runs in a thread."""
    await asyncio.sleep(0)
    return act(*arguments)


def never_stop() -> None:
    """Let an attempt go on."""


class FakeFeeds:
    """`Feeds` in memory, which several replicas may share."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, bytes]] = {}
        self.missing = False
        self.full = False
        self.failing = 0
        """So many calls to come are not answered."""
        self._revision = 0

    async def get(self, key: str) -> tuple[Feed | None, int]:
        """See `Feeds.get`."""
        await self._answer()
        revision, value = self.values.get(key, (0, b""))
        return (decode(value, Feed) if value else None), revision

    async def put(self, key: str, feed: Feed, revision: int) -> int:
        """See `Feeds.put`."""
        await self._answer()
        if self.full:
            raise FeedsUnavailableError
        if self.values.get(key, (0, b""))[0] != revision:
            raise WrongSequenceError
        self._revision += 1
        self.values[key] = self._revision, encode(feed)
        return self._revision

    async def all(self) -> list[tuple[str, Feed]]:
        """See `Feeds.all`."""
        await self._answer()
        return [(key, decode(value, Feed)) for key, (_, value) in self.values.items()]

    @staticmethod
    def read(value: bytes) -> Feed:
        """The feed in a value."""
        return decode(value, Feed)

    def only(self) -> Feed:
        """The one feed that there is."""
        ((_, value),) = self.values.values()
        return decode(value, Feed)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.missing:
            raise FeedsMissingError("FOLLOWERS_FEEDS")
        if self.failing:
            self.failing -= 1
            raise FeedsUnavailableError


class FakeSnapshots:
    """`Snapshots` in memory."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    async def put(self, key: str, job_id: str, data: bytes) -> None:
        """See `Snapshots.put`."""
        await asyncio.sleep(0)
        self.objects[key, job_id] = data

    async def get(self, key: str, job_id: str) -> bytes | None:
        """See `Snapshots.get`."""
        await asyncio.sleep(0)
        return self.objects.get((key, job_id))

    async def delete(self, key: str, job_id: str) -> None:
        """See `Snapshots.delete`."""
        await asyncio.sleep(0)
        self.objects.pop((key, job_id), None)

    @property
    def jobs(self) -> list[str]:
        """Those that have one."""
        return sorted(job_id for _, job_id in self.objects)


class PlainPages:
    """`PageStore` on any `EventLog`, for logs in memory."""

    def __init__(self, log: Any, *, every: Callable[[], Iterable[Entry]] | None = None) -> None:
        self._log = log
        self._every = every or (lambda: [stored.entry for stored in log.stored])

    async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
        """See `PageStore.read`."""
        async for entry in self._log.read(subject, 1, last):
            yield [entry]

    async def at(self, sequence: int) -> Entry | None:
        """See `PageStore.at`."""
        await asyncio.sleep(0)
        return next((entry for entry in self._every() if entry.sequence == sequence), None)


def fake_feeds(world: World, feeds: Any = None, snapshots: Any = None, **options: Any) -> ChangeFeeds:
    """A change feed over fakes."""
    return ChangeFeeds(
        world,
        feeds or FakeFeeds(),
        snapshots or FakeSnapshots(),
        options.pop("pages", None) or PlainPages(world.log),
        threshold=options.pop("threshold", 0.3),
        drifted=options.pop("drifted", False),
        offload=inline,
    )
