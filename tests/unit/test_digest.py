"""The digest of a job's pages, as the worker chains it: over takeovers, parts, retries, encodings."""

import itertools
from typing import Any

import msgspec
import pytest

from schemas import Follower, FollowerPage, JobCompleted, JobEvent, decode
from schemas.digest import START, next_digest
from schemas.verify import Checker, Finding
from schemas.wire import content_type
from tests.fakes import FakeClient, FakeLog, Stored
from tests.replica import EVENTS, PAGES, Replica, command, kinds
from tests.unit.test_retry_of_dead_letters import failed_after_a_page, retry
from worker.core.errors import UnauthorizedError
from worker.core.ports.event_log import Entry


def story(log: FakeLog) -> list[FollowerPage | JobEvent]:
    """The job's events in the order of the log, whatever their encoding."""
    return [
        decode(one.entry.data, FollowerPage if one.subject == PAGES else JobEvent, content_type(one.entry.headers))
        for one in log.stored
        if one.subject in (PAGES, EVENTS)
    ]


def verified(log: FakeLog) -> Checker:
    """Check the job; it must be in order."""
    checker = Checker()
    findings = [finding for event in story(log) if (finding := checker.take(event))]
    assert findings == []
    assert checker.end() is None
    return checker


def end_of(log: FakeLog) -> JobCompleted:
    end = story(log)[-1]
    assert isinstance(end, JobCompleted)
    return end


def without_digests(log: FakeLog, count: int) -> FakeLog:
    """The first `count` messages of `log`, as a version without digests wrote them."""
    older = FakeLog()
    older._sequences = itertools.count(100)
    for one in log.stored[:count]:
        fields: dict[str, Any] = msgspec.json.decode(one.entry.data)
        data = msgspec.json.encode({name: fields[name] for name in fields if name not in ("count", "digest")})
        entry = Entry(one.entry.sequence, data, one.entry.headers)
        older.stored.append(Stored(subject=one.subject, entry=entry, at=one.at))
    return older


def test_the_digest_is_what_the_readme_says() -> None:
    # printf '%064d' 0 | xxd -r -p; printf '7800378501923859642\n7800378501923859643\n'; both into sha256sum
    both = [Follower(user_id="7800378501923859642"), Follower(user_id="7800378501923859643")]

    assert next_digest(START, both) == "44ea81be30bcdc0254ee49af710d4578aa65bbe370b8aea1bce355bb37ed97e3"


def test_a_message_of_nobody_moves_the_chain_on() -> None:
    first = next_digest(START, [])

    assert first == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    assert next_digest(first, []) != first


def test_where_one_message_ends_and_the_next_begins_is_part_of_the_digest() -> None:
    one, two = Follower(user_id="1"), Follower(user_id="2")

    assert next_digest(next_digest(START, [one]), [two]) != next_digest(START, [one, two])


async def test_every_page_has_its_count_and_digest_and_the_end_has_the_last_one() -> None:
    replica = Replica()

    await replica.handle(command())

    assert [page.count for page in replica.pages] == [5, 5, 2]
    assert verified(replica.log).digest == end_of(replica.log).digest == replica.pages[-1].digest
    assert len({page.digest for page in replica.pages}) == 3


async def test_a_list_of_nobody_has_a_digest_too() -> None:
    replica = Replica(FakeClient(0))

    await replica.handle(command())

    assert [(page.count, page.digest) for page in replica.pages] == [(0, next_digest(START, []))]
    verified(replica.log)


async def test_a_successor_goes_on_with_the_chain(faults: list[str]) -> None:
    whole = Replica()
    await whole.handle(command())
    first = Replica()
    first.client.fail_at("1004", ZeroDivisionError("dies here"))
    await first.handle(command())

    await Replica(log=first.log, worker="worker-2").handle(command(deliveries=2))

    assert verified(first.log).digest == end_of(whole.log).digest
    assert len(faults) == 1


async def test_parts_are_links_of_the_chain_and_a_crash_between_them_leaves_it_whole() -> None:
    whole = FakeLog(max_payload=3_300)
    await Replica(FakeClient(60), log=whole).handle(command(page_size=60))
    parts = len(whole.on(PAGES))
    assert parts > 1
    cut = FakeLog(max_payload=3_300)
    cut.stored = [one for one in whole.stored if one.subject == PAGES][:1]
    cut._sequences = itertools.count(100)

    await Replica(FakeClient(60), log=cut, worker="worker-2").handle(command(page_size=60))

    assert verified(cut).digest == verified(whole).digest
    assert len(cut.on(PAGES)) == parts


async def test_a_retry_goes_on_with_the_chain_behind_the_part_that_sealed_it() -> None:
    replica = await failed_after_a_page()
    replica.client.fail_at("1004", UnauthorizedError("the key is still wrong"))
    await Replica(replica.client, log=replica.log, worker="worker-2").handle(retry(3, sequence=4))

    await Replica(replica.client, log=replica.log, worker="worker-3").handle(retry(4, generation=2, sequence=5))

    assert kinds(replica.events) == ["started", "failed"] * 2 + ["started", "completed"]
    assert verified(replica.log).digest == end_of(replica.log).digest


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_the_digest_is_the_same_in_every_encoding(encoding: str, mode: str) -> None:
    plain, other = Replica(), Replica(encoding=encoding, cloudevents=mode)

    for replica in (plain, other):
        await replica.handle(command())

    assert verified(other.log).digest == verified(plain.log).digest


async def test_a_job_that_an_older_version_began_has_counts_and_no_digests() -> None:
    done = Replica()
    await done.handle(command())
    older = without_digests(done.log, 2)

    await Replica(log=older, worker="worker-2").handle(command(deliveries=2))

    pages = [event for event in story(older) if isinstance(event, FollowerPage)]
    assert [(page.count, page.digest) for page in pages] == [(None, None), (5, None), (2, None)]
    assert end_of(older).digest is None


async def test_a_job_of_an_older_version_fits_but_is_not_proven() -> None:
    done = Replica()
    await done.handle(command())
    checker, older = Checker(), without_digests(done.log, 99)

    assert [checker.take(event) for event in story(older)] == [None] * 5
    finding = checker.end()

    assert isinstance(finding, Finding)
    assert (finding.kind, finding.page) == ("no_digest", 1)
