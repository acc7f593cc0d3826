"""`schemas.consume` against a real nats-server, with the rights of a consumer and no more."""

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from schemas import Encoding, Follower, FollowerPage, Progress, consume, encode
from schemas.consume import ConsumeError, ConsumerError, GapError, Pages
from schemas.order import Place, UnreadableError
from schemas.subjects import EVENTS_STREAM, page_subject
from schemas.wire import event_headers
from tests.integration import stage
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.permissions import Role, User, accounts_block, inbox_prefix
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
JOB = page_subject("esms", "1", "job")
TOPOLOGY = TopologyConfig(readers={"crm": ("followers.page.>",)})
Numbers = list[tuple[int, int]]


def page(number: int, part: int = 1, parts: int = 1, *, job: str = "job") -> FollowerPage:
    return FollowerPage(
        job_id=job,
        provider="esms",
        account="main",
        oa_id="1",
        page=number,
        part=part,
        parts=parts,
        followers=[Follower(user_id=f"{number}{part}")],
        total=None,
        cursor=None,
        next_cursor=None,
        last=False,
        fetched_at=NOW,
        progress=Progress(followers=number, duplicates_dropped=0, total_first=None, requests=number, started_at=NOW),
    )


async def store(js: JetStreamContext, *pages: FollowerPage, encoding: Encoding = "json") -> None:
    for each in pages:
        headers = event_headers(each, id=f"{each.page}.{each.part}", time=NOW, encoding=encoding)
        await js.publish(page_subject("esms", "1", each.job_id), encode(each, encoding), headers=headers)


async def take(pages: Pages, count: int) -> Numbers:
    """The next pages; each is acknowledged when the next one is asked for."""
    async with asyncio.timeout(40):
        return [(each.page, each.part) for each in [await anext(pages) for _ in range(count)]]


async def unacknowledged(js: JetStreamContext) -> int | None:
    waiting: int | None = (await js.consumer_info(EVENTS_STREAM, "crm")).num_ack_pending
    return waiting


@pytest.fixture
async def events(nats_client: Client, js: JetStreamContext) -> JetStreamContext:
    await reconcile(nats_client, TOPOLOGY)
    return js


@pytest.fixture
async def guarded() -> AsyncIterator[Callable[..., Any]]:
    """Connects as a user of a server: an admin, a consumer who may read `crm`, and one who may make just that."""
    roles: tuple[Role, ...] = ("admin", "consumer", "setup")
    users = [User(role=role, login={"user": role, "password": "x"}, durables=("crm",)) for role in roles]
    async with stage.server(accounts_block(users)) as server, contextlib.AsyncExitStack() as stack:
        refused: list[str] = []

        async def heard(error: Exception) -> None:
            refused.append(str(error))

        async def enter(role: Any) -> tuple[Client, list[str]]:
            client = await nats.connect(
                server.url, user=role, password="x", inbox_prefix=inbox_prefix(role), error_cb=heard
            )
            stack.push_async_callback(client.close)
            return client, refused

        yield enter


async def test_the_rights_of_a_consumer_are_enough(guarded: Callable[..., Any]) -> None:
    maker, _ = await guarded("setup")
    assert {change.outcome for change in await reconcile(maker, TOPOLOGY)} == {"created"}
    admin, _ = await guarded("admin")
    await store(admin.jetstream(), page(1), page(2))
    consumer, refused = await guarded("consumer")

    async with Pages(consumer.jetstream(), "crm") as pages:
        found = await take(pages, 2)
    await consumer.flush()

    assert found == [(1, 1), (2, 1)]
    assert await unacknowledged(admin.jetstream()) == 0
    assert refused == []


async def test_pages_in_both_encodings_and_in_parts_come_in_order(events: JetStreamContext) -> None:
    await store(events, page(1), page(2, 1, 2))
    await store(events, page(2, 2, 2), page(1, job="other"), encoding="msgpack")

    async with Pages(events, "crm") as pages:
        found = [await anext(pages) for _ in range(4)]

    assert found == [page(1), page(2, 1, 2), page(2, 2, 2), page(1, job="other")]


async def test_a_page_is_acknowledged_when_its_body_has_finished(events: JetStreamContext) -> None:
    await store(events, page(1), page(2))
    held = []

    async with Pages(events, "crm") as pages:
        async for each in pages:
            held.append((await unacknowledged(events), (await events.consumer_info(EVENTS_STREAM, "crm")).num_pending))
            if each.page == 2:
                break

    assert held == [(1, 1), (1, 0)]
    assert await unacknowledged(events) == 0


async def test_a_page_whose_body_failed_comes_first_the_next_time(events: JetStreamContext) -> None:
    await store(events, page(1), page(2), page(3))

    async def fail_at(number: int) -> None:
        async with Pages(events, "crm") as pages:
            async for each in pages:
                assert each.page != number, "the body fails"

    with pytest.raises(AssertionError, match="the body fails"):
        await fail_at(2)
    async with Pages(events, "crm") as pages:
        found = await take(pages, 2)

    assert found == [(2, 1), (3, 1)]


async def test_a_page_that_came_twice_is_given_once(events: JetStreamContext) -> None:
    await store(events, page(1), page(2))
    await store_again(events, page(1))
    await store(events, page(3))

    async with Pages(events, "crm") as pages:
        assert await take(pages, 3) == [(1, 1), (2, 1), (3, 1)]


async def store_again(js: JetStreamContext, each: FollowerPage) -> None:
    await js.publish(page_subject("esms", "1", each.job_id), encode(each))


async def test_what_was_stored_but_not_acknowledged_is_left_out(events: JetStreamContext) -> None:
    await store(events, page(1), page(2), page(3))

    async with Pages(events, "crm", after={JOB: Place(2)}) as pages:
        assert await take(pages, 1) == [(3, 1)]


async def test_a_gap_ends_the_loop_and_the_page_stays(events: JetStreamContext) -> None:
    await store(events, page(1), page(3))

    async with Pages(events, "crm") as pages:
        assert await take(pages, 1) == [(1, 1)]
        with pytest.raises(GapError, match=r"page 3 part 1/1 comes after page 1 part 1/1") as caught:
            await anext(pages)

    assert (caught.value.subject, caught.value.after, caught.value.found) == (JOB, Place(1), Place(3))


async def test_a_gap_shows_across_a_restart_where_the_place_was_stored(events: JetStreamContext) -> None:
    await store(events, page(1), page(2), page(3), page(4))
    async with Pages(events, "crm") as pages:
        await take(pages, 2)
    await events.purge_stream(EVENTS_STREAM, seq=4)

    async with Pages(events, "crm", after={JOB: Place(2)}) as pages:
        with pytest.raises(GapError, match="page 4 part 1/1 comes after page 2"):
            await anext(pages)


async def test_whoever_hears_of_trouble_may_let_it_pass(events: JetStreamContext) -> None:
    await store(events, page(1))
    await events.publish(JOB, b"no page")
    await store(events, page(3))
    heard: list[ConsumeError] = []

    async with Pages(events, "crm", on_error=heard.append) as pages:
        found = await take(pages, 2)

    assert found == [(1, 1), (3, 1)]
    assert [type(error) for error in heard] == [UnreadableError, GapError]
    assert "message 2 on followers.page.esms.1.job can't be read" in str(heard[0])


async def test_what_cannot_be_read_ends_the_loop_and_stays_for_whoever_wants_that(events: JetStreamContext) -> None:
    await events.publish(JOB, b"{}")

    for _ in range(2):
        with pytest.raises(UnreadableError, match="missing required field"):
            async with Pages(events, "crm", skip_unreadable=False) as pages:
                await anext(pages)


SECRET = "Nguyen Thi Bi Mat"


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"\xff" + SECRET.encode(), {}, "JSON is malformed"),
        (b'"' + SECRET.encode() + b'"', {}, "Expected `object`, got `str`"),
        (
            b'{"progress":{"truncated":"' + SECRET.encode() + b'"}}',
            {},
            "Invalid enum value (value) - at `$.progress.truncated`",
        ),
        (b'{"x":' + b"[" * 100_000, {}, "Nested too deeply"),
        (b'{"job_id":"\xff' + SECRET.encode() + b'"}', {}, "Text that is no UTF-8"),
        (b"{}", {"Content-Type": f"text/{SECRET}"}, "Content-Type (value) is not supported"),
        (encode(page(2, job="other")), {}, "it is a page of another job"),
    ],
)
async def test_what_cannot_be_read_is_named_without_its_content_and_can_be_gone_behind(
    events: JetStreamContext, caplog: pytest.LogCaptureFixture, body: bytes, headers: dict[str, str], why: str
) -> None:
    await store(events, page(1))
    await events.publish(JOB, body, headers=headers)
    await store(events, page(2))

    with pytest.raises(UnreadableError) as caught:
        async with Pages(events, "crm", skip_unreadable=False) as pages:
            await take(pages, 2)
    async with Pages(events, "crm") as pages:
        found = await take(pages, 1)

    assert f"message 2 on {JOB} can't be read: " in str(caught.value)
    assert why in str(caught.value)
    assert "nats stream get FOLLOWERS_EVENTS 2" in str(caught.value)
    assert (caught.value.subject, caught.value.sequence, caught.value.stream) == (JOB, 2, EVENTS_STREAM)
    assert SECRET.lower() not in "".join(traceback.format_exception(caught.value)).lower()
    assert found == [(2, 1)]
    assert await unacknowledged(events) == 0
    (record,) = [record for record in caplog.records if record.name == "schemas.consume"]
    assert (record.levelname, record.getMessage()) == ("WARNING", f"left out: {caught.value}")


async def test_a_gap_is_no_message_that_can_be_skipped(events: JetStreamContext) -> None:
    await store(events, page(1), page(3))

    async with Pages(events, "crm") as pages:
        await take(pages, 1)
        with pytest.raises(GapError):
            await take(pages, 1)


@pytest.mark.parametrize("how", ["the next page", "the end", "a failed body"])
async def test_nobody_beats_for_a_page_that_was_let_go(nats_client: Client, events: JetStreamContext, how: str) -> None:
    await give_up_after(events, 0.15)
    await store(events, page(1), page(2))
    beats: list[str] = []

    async def hear(message: Msg) -> None:
        if message.data == b"+WPI":
            beats.append(message.subject)

    await nats_client.subscribe(f"$JS.ACK.{EVENTS_STREAM}.crm.>", cb=hear)
    with contextlib.suppress(ZeroDivisionError):
        async with Pages(events, "crm") as pages:
            await take(pages, 1)
            await asyncio.sleep(0.2)
            assert beats, "while the body works it is beaten for"
            first = beats[0]
            if how == "a failed body":
                raise ZeroDivisionError
            if how == "the next page":
                await take(pages, 1)
                beats.clear()
                await asyncio.sleep(0.2)
                assert beats, "for the second one it is beaten"
                assert first not in beats
    beats.clear()
    await asyncio.sleep(0.2)

    assert beats == []


async def test_two_readers_of_one_durable_take_turns_and_lose_nothing(
    nats_server: EmbeddedServer, events: JetStreamContext
) -> None:
    await store(events, *(page(number) for number in range(1, 41)))
    found: list[int] = []
    everything = asyncio.Event()

    async def read() -> None:
        client = await nats.connect(nats_server.url)
        try:
            async with Pages(client.jetstream(), "crm") as pages:
                async for each in pages:
                    found.append(each.page)
                    if len(found) == 40:
                        everything.set()
        finally:
            await client.close()

    readers = [asyncio.create_task(read()) for _ in range(2)]
    async with asyncio.timeout(20):
        await everything.wait()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)

    assert found == list(range(1, 41))


async def test_a_page_under_work_stays_with_its_reader(nats_client: Client, js: JetStreamContext) -> None:
    await reconcile(nats_client, TOPOLOGY)
    await give_up_after(js, 0.6)
    await store(js, page(1), page(2))

    async with Pages(js, "crm") as pages, Pages(js, "crm") as other:
        await take(pages, 1)
        started, second = time.monotonic(), asyncio.create_task(take(other, 1))
        done, _ = await asyncio.wait([second], timeout=1.8)
        assert not done, f"taken away after {time.monotonic() - started:.1f} s"
        following = asyncio.create_task(take(pages, 1))
        async with asyncio.timeout(20):
            assert await second == [(2, 1)]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def give_up_after(js: JetStreamContext, seconds: float) -> None:
    """Let the server deliver a page again so soon after its reader fell silent."""
    info = await js.consumer_info(EVENTS_STREAM, "crm")
    info.config.ack_wait = seconds
    await js.add_consumer(EVENTS_STREAM, info.config)


async def test_reading_goes_on_after_a_restart_of_the_server(private_nats_server: EmbeddedServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        client = await nats.connect(private_nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        stack.push_async_callback(client.close)
        await reconcile(client, TOPOLOGY)
        # A page that was on its way when the server died comes after this.
        await give_up_after(client.jetstream(), 2)
        await store(client.jetstream(), page(1), page(2))

        async with Pages(client.jetstream(), "crm") as pages:
            before = await take(pages, 1)
            waiting = asyncio.create_task(take(pages, 2))
            await private_nats_server.kill()
            await private_nats_server.restart()
            other = await nats.connect(private_nats_server.url)
            await store(other.jetstream(), page(3))
            await other.close()
            after = await waiting

    assert before + after == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize("status", ["100", "404", "408", "409", "503", "anything"])
async def test_a_stored_header_named_status_is_data(events: JetStreamContext, status: str) -> None:
    """A client that takes such a page for the server's word loses it, and gets it again after each `ack_wait`."""
    headers = event_headers(page(2), id="2.1", time=NOW, encoding="json")
    await store(events, page(1))
    await events.publish(JOB, encode(page(2)), headers=headers | {"Status": status, "Description": "Consumer Deleted"})
    await store(events, page(3))

    async with asyncio.timeout(5), Pages(events, "crm") as pages:
        assert await take(pages, 3) == [(1, 1), (2, 1), (3, 1)]


async def test_a_reader_that_waits_has_one_pull_open(
    nats_client: Client, events: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would bring two pages, one of which nobody keeps from going to another reader."""
    monkeypatch.setattr(consume, "_FETCH", 0.1)
    async with Pages(events, "crm") as pages:
        waiting = asyncio.create_task(take(pages, 2))
        for _ in range(10):
            await asyncio.sleep(0.05)
            assert ((await events.consumer_info(EVENTS_STREAM, "crm")).num_waiting or 0) <= 1
        await store(events, page(1), page(2))

        assert await waiting == [(1, 1), (2, 1)]
        assert pages._pulls >= 4


async def test_a_page_that_comes_though_its_pull_was_given_up_is_taken(
    nats_client: Client, events: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Pages(events, "crm") as pages:
        await pages._pull()
        pages._open_until = 0.0
        await store(events, page(1), page(2))

        assert await take(pages, 2) == [(1, 1), (2, 1)]


async def test_a_consumer_that_is_missing_or_goes_is_named(events: JetStreamContext) -> None:
    with pytest.raises(ConsumerError, match="have it made by `followers setup --consumer nobody`"):
        await Pages(events, "nobody").__aenter__()

    async with Pages(events, "crm") as pages:
        waiting = asyncio.create_task(take(pages, 1))
        await asyncio.sleep(0)
        await events.delete_consumer(EVENTS_STREAM, "crm")
        with pytest.raises(ConsumerError, match="crm on FOLLOWERS_EVENTS is missing"):
            await waiting


@pytest.mark.parametrize("unfit", [{"max_ack_pending": 2}, {"ack_policy": AckPolicy.NONE}, {"max_deliver": 3}])
async def test_a_consumer_that_cannot_keep_the_order_is_refused(
    events: JetStreamContext, unfit: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"ack_policy": AckPolicy.EXPLICIT, "max_ack_pending": 1} | unfit
    if fields["ack_policy"] == AckPolicy.NONE:
        del fields["max_ack_pending"]
    await events.add_consumer(EVENTS_STREAM, ConsumerConfig(durable_name="unfit", **fields))

    with pytest.raises(ConsumerError, match="can't keep the order of pages"):
        await Pages(events, "unfit").__aenter__()


async def test_a_closed_connection_ends_the_reading(nats_server: EmbeddedServer, events: JetStreamContext) -> None:
    client = await nats.connect(nats_server.url)

    async with Pages(client.jetstream(), "crm") as pages:
        waiting = asyncio.create_task(take(pages, 1))
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(ConsumeError, match="connection is closed"):
            await waiting
