"""The promises of the change feed, checked from the stored events alone."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.records import Record

Feed = tuple[str, str, str]
"""Provider, account and Official Account; no command here has a filter."""
People = Mapping[str, frozenset[str]]
"""Who follows, by job, where the list moves between jobs."""
HELD_FROM, THRESHOLD = 10, 0.3
"""A list is held when so many are gone, and more than this share of the list before."""
NOBODY: frozenset[str] = frozenset()


def is_change(record: Record) -> bool:
    """Say whether this is a change event."""
    return record.subject.startswith("followers.change.")


@dataclass
class _Set:
    """The events of one job, one after the other; those of a held list come after its release."""

    data: dict[str, Any]
    sequence: int
    numbers: list[tuple[int, int]] = field(default_factory=list)
    people: dict[str, list[str]] = field(default_factory=lambda: {"followed": [], "unfollowed": [], "changed": []})

    @property
    def act(self) -> str:
        kind = self.data["type"]
        return kind if kind in ("baseline", "held") else "compared"


def check_changes(
    changes: Iterable[Record],
    job_events: Sequence[Record],
    people: People | None = None,
    *,
    released: Collection[str] = (),
    maybe: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Yield the job and the text of each broken promise: one baseline a feed, then one set after the other.

    `released`: held lists of which the workers said that their changes are published; `maybe`: those for which
    somebody asked for that.
    """
    people, last, held = people or {}, dict[Feed, str](), dict[Feed, str]()
    told: set[tuple[str, bool]] = set()
    for one in _sets(changes):
        feed, job_id, is_held = _feed(one.data), one.data["job_id"], one.act == "held"
        if (job_id, is_held) in told or (is_held and (job_id, False) in told):
            yield job_id, f"#{one.sequence} comes after another set of change events of the same job"
        if (job_id, True) in told and not is_held and (held.get(feed) != job_id or job_id not in maybe):
            yield job_id, f"#{one.sequence} publishes a held list that nobody has released"
        if not is_held and (job_id, True) not in told and _must_be_held(people, job_id, last.get(feed)):
            yield job_id, f"#{one.sequence} publishes a list from which too many are gone, and it was never held"
        told.add((job_id, is_held))
        yield from ((job_id, text) for text in _wrong(one, last.get(feed), people))
        if is_held:
            held[feed] = job_id
        else:
            last[feed] = job_id
            held.pop(feed, None)
    for job_id in released:
        if (job_id, False) not in told:
            yield job_id, "is released, but none of its changes are published"
    for feed, job_id in _newest(job_events).items():
        if job_id not in (last.get(feed), held.get(feed)):
            yield job_id, f"is the newest complete list of {feed}, but its last change event is of {last.get(feed)}"


def _sets(changes: Iterable[Record]) -> Iterator[_Set]:
    """Yield each set where it begins: a feed publishes one after the other."""
    sets: list[_Set] = []
    open_sets: dict[Feed, _Set] = {}
    for record in changes:
        data = record.data
        feed, before = _feed(data), open_sets.get(_feed(data))
        fresh = _Set(data, record.sequence)
        if before is None or (before.data["job_id"], before.act) != (data["job_id"], fresh.act) or _ends(before):
            open_sets[feed] = fresh
            sets.append(fresh)
        one = open_sets[feed]
        one.data = data
        one.numbers.append((data["number"], data["of"]))
        if data["type"] in one.people:
            one.people[data["type"]].append(data["user_id"])
    yield from sets


def _ends(one: _Set) -> bool:
    return one.data["type"] in ("baseline", "compared", "held")


def _wrong(one: _Set, before: str | None, people: People) -> Iterator[str]:
    data, job_id = one.data, one.data["job_id"]
    if (one.act == "baseline") != (before is None):
        yield f"a {data['type']} event where {'only baseline' if before is None else 'no baseline'} can be"
    if data.get("previous_job_id") != before:
        yield f"is against {data.get('previous_job_id')}, not {before}"
    if not _ends(one):
        yield f"its set ends with a {data['type']} event"
    if one.numbers != [(number, len(one.numbers)) for number in range(1, len(one.numbers) + 1)]:
        yield f"its set has the events {one.numbers}"
    after, was = people.get(job_id, NOBODY), people.get(before or "", NOBODY)
    wanted = {"followed": after - was, "unfollowed": was - after, "changed": NOBODY}
    if one.act == "baseline":
        wanted = dict.fromkeys(wanted, NOBODY)
    if one.act == "held":
        yield from _wrong_counts(data, wanted)
        wanted = dict.fromkeys(wanted, NOBODY)
    for kind, ids in wanted.items():
        if sorted(one.people[kind]) != sorted(ids):
            yield f"tells of {len(one.people[kind])} {kind}, not of these {len(ids)} once each"


def _wrong_counts(data: dict[str, Any], wanted: Mapping[str, Collection[str]]) -> Iterator[str]:
    counts = {kind: len(ids) for kind, ids in wanted.items()}
    told = {kind: data["counts"].get(kind, 0) for kind in counts}
    if told != counts:
        yield f"is held with {told}, not {counts}"
    if counts["unfollowed"] < HELD_FROM:
        yield f"is held though only {counts['unfollowed']} are gone"


def _must_be_held(people: People, job_id: str, before: str | None) -> bool:
    was = people.get(before or "", NOBODY)
    gone = len(was - people.get(job_id, NOBODY))
    return gone >= HELD_FROM and gone > THRESHOLD * len(was)


def _newest(job_events: Sequence[Record]) -> dict[Feed, str]:
    """The complete job of each feed that began last, as the stream has it: by its first event."""
    began: dict[str, int] = {}
    found: dict[Feed, tuple[int, str]] = {}
    for record in job_events:
        data = record.data
        first = began.setdefault(record.subject, record.sequence)
        if data["type"] == "completed" and data.get("verdict") == "complete" and "job_id" in data:
            found[_feed(data)] = max((first, data["job_id"]), found.get(_feed(data), (0, "")))
    return {feed: job_id for feed, (_, job_id) in found.items()}


def _feed(data: dict[str, Any]) -> Feed:
    return data["provider"], data["account"], data["oa_id"]
