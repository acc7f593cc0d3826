"""The promises of the contract, checked from the stored events alone."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.acts import Asked
from tests.chaos.check_changes import check_changes, is_change
from tests.chaos.load import Command
from tests.chaos.records import Record

TERMINAL = ("completed", "failed", "cancelled")
CLOCKS = 0.05
"""Seconds by which the server's clock and ours may differ: it is the same machine's."""


@dataclass(frozen=True)
class Violation:
    """One promise that was broken."""

    kind: str
    job_id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class End:
    """How a job's newest generation ended."""

    record: Record
    data: dict[str, Any]
    """The terminal event."""
    pages: int
    """Published whole."""
    followers: int
    """Published, those of a page of which a part is missing included."""

    @property
    def type(self) -> str:
        """Which event it is."""
        return str(self.data["type"])

    @property
    def generation(self) -> int:
        """1, and one more with each retry."""
        return int(self.data.get("generation", 1))


@dataclass
class Findings:
    """What the events say."""

    violations: list[Violation] = field(default_factory=list)
    jobs: int = 0
    pages_expected: int = 0
    pages_published: int = 0
    """Page events that belong to different pages, parts counted as one."""
    page_events: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    mixed_chains: int = 0
    split_pages: int = 0
    attempts: int = 0
    changes: int = 0
    """Change events."""
    resumed: int = 0
    """Times that a worker went on after page 1 of a job."""
    cancelled: int = 0
    reopened: int = 0
    """Generations after a job's first one."""
    held: int = 0
    """Lists whose changes were held back."""
    releases: int = 0
    """Held lists whose changes were published after all."""
    ends: dict[str, list[End]] = field(default_factory=dict)
    """Each generation's end of each job that was asked for."""


def pages_of(provider: str, followers: int, page_size: int) -> int:
    """Return how many pages such a list has: eTelecom's ends with an empty page, eSMS's with its total."""
    full = -(-followers // page_size)
    return full + 1 if provider == "etelecom" else max(full, 1)


def check(
    commands: Sequence[Command],
    lists: Mapping[tuple[str, str], Sequence[str]],
    events: Iterable[Record],
    dead: Iterable[Record],
    asked: Asked | None = None,
) -> Findings:
    """Compare the events and dead letters with the commands.

    `lists` has the user ids by (provider, oa_id), in the provider's order; `asked` what else was asked of the workers.
    """
    found, asked = Findings(), asked or Asked()
    by_job: dict[tuple[str, str], list[Record]] = defaultdict(list)
    changes: list[Record] = []
    job_events: list[Record] = []
    holders: Counter[str] = Counter()
    for record in events:
        if record.subject.startswith("followers.id."):
            holders[record.subject.rpartition(".")[2]] += 1
            continue
        if is_change(record):
            changes.append(record)
            continue
        if record.subject.startswith("followers.job."):
            job_events.append(record)
        _, kind, provider, oa, job_id = record.subject.split(".")
        by_job[f"{provider}.{oa}.{job_id}", kind].append(record)
    found.changes = len(changes)
    people = {command.job_id: command.following for command in commands if command.listed is not None}
    wrong = check_changes(changes, job_events, people, released=asked.released, maybe=asked.released_maybe)
    found.violations += [Violation("changes", job_id, text) for job_id, text in wrong]
    held = [record.data["job_id"] for record in changes if record.data["type"] == "held"]
    found.held = len(held)
    found.releases = sum(record.data["type"] == "compared" and record.data["job_id"] in held for record in changes)
    found.violations += [
        Violation("id", job_id, f"whose it is was written {count} times")
        for job_id, count in holders.items()
        if count > 1
    ]
    letters = Counter(record.headers.get("Followers-Job-Id", "?") for record in dead)
    for command in commands:
        key = f"{command.provider}.{command.oa_id}.{command.job_id}"
        job = _Job(command, by_job.pop((key, "page"), []), by_job.pop((key, "job"), []), found, asked)
        listed = lists[command.provider, command.oa_id] if command.listed is None else command.listed
        job.check(listed, letters.pop(command.job_id, 0))
    for (key, kind), records in by_job.items():
        job_id = key.rsplit(".", 1)[-1]
        found.violations.append(Violation("stray", job_id, f"{len(records)} {kind} events on {key}, never asked for"))
    for job_id, count in letters.items():
        found.violations.append(Violation("dead letter", job_id, f"{count} dead letters of an unknown job"))
    return found


class _Job:
    def __init__(
        self, command: Command, pages: list[Record], events: list[Record], found: Findings, asked: Asked
    ) -> None:
        self._command = command
        self._asked = asked
        self._pages = [(record, record.data) for record in pages]
        self._events = [(record, record.data) for record in events]
        self._found = found

    def check(self, ids: Sequence[str], letters: int) -> None:
        found, command = self._found, self._command
        found.jobs += 1
        found.page_events += len(self._pages)
        ends = self._ends()
        found.ends[command.job_id] = ends
        found.reopened += len(ends[1:])
        self._check_events(ends)
        if command.poison:
            self._check_poison(ends, letters)
            return
        if letters:
            self._broken("dead letter", f"{letters} dead letters of a valid command")
        whole = bool(ends) and ends[-1].type == "completed"
        self._check_end(ends)
        # What ended otherwise has the first pages of the list.
        expected = pages_of(command.provider, len(ids), command.page_size) if whole or not ends else ends[-1].pages
        found.pages_expected += expected
        self._check_pages(expected, whole or not ends)
        self._check_chain(whole)
        self._check_ids(ids, whole or not ends)
        digest = self._check_digests()
        if whole:
            self._check_counts(ends[-1].data, expected, ids, digest)

    def _ends(self) -> list[End]:
        ends: list[End] = []
        for record, data in self._events:
            if data["type"] not in TERMINAL:
                continue
            before = [page for one, page in self._pages if one.sequence < record.sequence]
            whole = [page["page"] for page in before if page.get("part", 1) == page.get("parts", 1)]
            followers = sum(len(page["followers"]) for page in before)
            ends.append(End(record=record, data=data, pages=max(whole, default=0), followers=followers))
        return ends

    def _check_events(self, ends: list[End]) -> None:
        starts = [data for _, data in self._events if data["type"] == "started"]
        self._found.attempts += len(starts)
        self._found.resumed += sum(data["resumed_at_page"] > 1 for data in starts)
        if [data["attempt"] for data in starts] != list(range(1, len(starts) + 1)):
            self._broken("attempts", f"the started events count {[data['attempt'] for data in starts]}")
        if not self._events or self._events[-1][1]["type"] not in TERMINAL:
            self._broken("lost command", "its job has no terminal event")
            self._found.lost += 0 if self._command.poison else 1
        generations = [end.generation for end in ends]
        if generations != list(range(1, len(ends) + 1)):
            self._broken("terminal", f"the terminal events {[end.type for end in ends]} end generations {generations}")
        for end in ends:
            self._check_behind(end)

    def _check_behind(self, end: End) -> None:
        """After an end comes nothing but, after a failure, the start of the next generation."""
        behind = [(record, data) for record, data in self._events if record.sequence > end.record.sequence]
        if behind and not (
            end.type == "failed"
            and behind[0][1]["type"] == "started"
            and behind[0][1].get("generation", 1) == end.generation + 1
        ):
            self._broken("terminal", f"a job event comes after the terminal one: {behind[0][1]['type']}")
        anew = behind[0][0].sequence if behind else float("inf")
        if any(end.record.sequence < record.sequence < anew for record, _ in self._pages):
            self._broken("terminal", "a page comes after the terminal event")

    def _check_end(self, ends: list[End]) -> None:
        """Valid commands complete, unless somebody cancels them; those that fail do once they are retried."""
        command, asked = self._command, self._asked
        self._found.cancelled += bool(ends) and ends[-1].type == "cancelled"
        if len(ends) - 1 > asked.retried[command.job_id]:
            text = f"{len(ends)} generations, but {asked.retried[command.job_id]} dead letters were retried"
            self._broken("retry", text)
        for end in ends:
            told_at = asked.cancelled.get(command.job_id)
            if end.type == "cancelled" and (told_at is None or told_at > end.record.at + CLOCKS):
                self._broken("cancel", "it ended as cancelled before anybody asked for that")
            elif end.type == "failed" and not command.fails:
                self._broken("terminal", f"the job ended as failed: {end.data.get('error')}")
        if ends and ends[-1].type == "failed" and command.fails and command.job_id not in asked.cancelled:
            self._broken("retry", "it is still failed, though its dead letters were retried")

    def _check_poison(self, ends: list[End], letters: int) -> None:
        if self._pages:
            self._broken("poison", "an invalid command has pages")
        if ends and ends[0].type != "failed":
            self._broken("poison", f"an invalid command ended as {ends[0].type}")
        if not letters:
            self._broken("dead letter", "an invalid command has no dead letter")

    def _check_pages(self, expected: int, whole: bool) -> None:
        found = self._found
        places = [(data["page"], data.get("part", 1)) for _, data in self._pages]
        pages = {page for page, _ in places}
        found.pages_published += len(pages) if whole else len(pages & set(range(1, expected + 1)))
        missing = sorted(set(range(1, expected + 1)) - pages)
        if missing:
            found.lost += len(missing)
            self._broken("lost", f"pages {missing} of {expected} are missing")
        if extra := sorted(page for page in pages if page > expected + (not whole)):
            self._broken("pages", f"pages {extra} are beyond the {expected} of the list")
        twice = sorted(place for place, count in Counter(places).items() if count > 1)
        if twice:
            found.duplicated += sum(Counter(places)[place] - 1 for place in twice)
            self._broken("duplicated", f"(page, part) {twice} come more than once")
        backwards = sum(after < before for before, after in itertools.pairwise(places))
        if backwards:
            found.out_of_order += backwards
            self._broken("out of order", f"the pages come as {places}")
        self._check_parts(None if whole else expected + 1)
        lasts = [index for index, (_, data) in enumerate(self._pages) if data["last"]]
        if self._pages and lasts != ([len(self._pages) - 1] if whole else []):
            self._broken("last", f"`last` is true on page events {lasts} of {len(self._pages)}")

    def _check_parts(self, unfinished: int | None) -> None:
        """Each page has all its parts, but for the one at which a job ended early."""
        for page, events in self._whole_pages():
            numbers = [data.get("part", 1) for data in events]
            self._found.split_pages += len(numbers) > 1
            parts = numbers[-1] if page == unfinished else events[-1].get("parts", 1)
            if numbers != list(range(1, len(numbers) + 1)) or parts != numbers[-1]:
                self._broken("parts", f"page {page} has the parts {numbers} of {events[-1].get('parts', 1)}")

    def _check_chain(self, whole: bool) -> None:
        """A page is read where the one before it says; the provider's nonce tells two readings apart."""
        before: str | None = None
        for page, events in self._whole_pages():
            if {data.get("cursor") for data in events} != {before}:
                self._found.mixed_chains += 1
                cursors = [data.get("cursor") for data in events]
                self._broken("chain", f"page {page} was read at {cursors}, the page before it ends at {before!r}")
            before = events[-1].get("next_cursor")
        if whole and before is not None and self._pages:
            self._broken("chain", f"the last page goes on at {before!r}")

    def _check_ids(self, ids: Sequence[str], whole: bool) -> None:
        published: list[str] = []
        for _, data in self._pages:
            published += [follower["user_id"] for follower in data["followers"]]
            if data["progress"]["followers"] != len(published):
                text = f"page {data['page']}: {data['progress']['followers']} so far, but {len(published)} are there"
                self._broken("progress", text)
        if published != list(ids if whole else ids[: len(published)]):
            self._broken("followers", f"{len(published)} ids are published, not the list's {len(ids)} in its order")

    def _check_digests(self) -> str:
        """Chain the digests anew, as the README says; return the last one."""
        digest = bytes(32)
        for _, data in self._pages:
            ids = "".join(f"{follower['user_id']}\n" for follower in data["followers"])
            digest = hashlib.sha256(digest + ids.encode()).digest()
            if (data.get("count"), data.get("digest")) != (len(data["followers"]), digest.hex()):
                text = f"page {data['page']}: {data.get('count')} followers, digest {data.get('digest')}"
                self._broken("digest", f"{text}, not {len(data['followers'])} and {digest.hex()}")
        return digest.hex()

    def _check_counts(self, end: dict[str, Any], expected: int, ids: Sequence[str], digest: str) -> None:
        wanted = {
            "pages": expected,
            "followers": len(ids),
            "distinct": len(set(ids)),
            "duplicates_dropped": 0,
            "verdict": "complete",
            "digest": digest,
        }
        wrong = {name: end.get(name) for name, value in wanted.items() if end.get(name) != value}
        if wrong:
            right = {name: wanted[name] for name in wrong}
            self._broken("counts", f"`completed` says {wrong}, not {right}")
        # Pages of one row come from requests for two, so one of them needs no request of its own.
        if end["requests"] < expected - 1:
            self._broken("counts", f"`completed` says {end['requests']} requests for {expected} pages")

    def _whole_pages(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield each page with its events, neighbours of one number taken together."""
        events: list[dict[str, Any]] = []
        for _, data in self._pages:
            if events and events[0]["page"] != data["page"]:
                yield events[0]["page"], events
                events = []
            events.append(data)
        if events:
            yield events[0]["page"], events

    def _broken(self, kind: str, text: str) -> None:
        self._found.violations.append(Violation(kind, self._command.job_id, text))
