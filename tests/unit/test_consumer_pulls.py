"""What `schemas.consume` asks of a server and when, in virtual time and word by word."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, SequenceInfo
from nats.js.errors import NotFoundError, ServiceUnavailableError

from schemas import Follower, FollowerPage, Progress, consume, encode
from schemas.consume import ConsumeError, ConsumerError, GapError, Pages, UnreadableError
from tests.simulation import loop

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
JOB = "followers.page.esms.1.job"
FIT = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=1, max_deliver=-1, deliver_policy=DeliverPolicy.ALL)
ALIVE, OVER = ("100", "Idle Heartbeat"), ("408", "Request Timeout")
REFUSED, GONE = ("409", "Exceeded MaxWaiting"), ("409", "Consumer Deleted")


def page(number: int) -> FollowerPage:
    return FollowerPage(
        job_id="job",
        provider="esms",
        account="main",
        oa_id="1",
        page=number,
        followers=[Follower(user_id=str(number))],
        total=None,
        cursor=None,
        next_cursor=None,
        last=False,
        fetched_at=NOW,
        progress=Progress(followers=number, duplicates_dropped=0, total_first=None, requests=number, started_at=NOW),
    )


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Message:
    """A delivery, which writes down what becomes of it; or, without a `$JS.ACK` to reply to, the server's word."""

    subject: str
    data: bytes = b""
    headers: dict[str, str] | None = None
    reply: str = "$JS.ACK.x"
    delivery: int = 1
    stream: int = 1
    acts: list[tuple[float, str]] = field(default_factory=list)
    fails: BaseException | None = None

    @property
    def metadata(self) -> Any:
        return SimpleNamespace(sequence=SimpleNamespace(consumer=self.delivery, stream=self.stream))

    async def _act(self, name: str) -> None:
        self.acts.append((now(), name))
        if self.fails is not None:
            raise self.fails

    async def ack(self) -> None:
        await self._act("ack")

    async def ack_sync(self) -> None:
        await self._act("ack_sync")

    async def nak(self, delay: float | None = None) -> None:
        await self._act(f"nak {delay}")

    async def in_progress(self) -> None:
        await self._act("in_progress")


def delivered(number: int, delivery: int = 1, **given: Any) -> Message:
    return Message(JOB, encode(page(number)), delivery=delivery, **given)


class Server:
    """A client, its context and the subscription to its inbox: one consumer, and what it was asked."""

    is_connected = True

    def __init__(self, config: ConsumerConfig = FIT, delivered: int | None = 0) -> None:
        sequence = None if delivered is None else SequenceInfo(consumer_seq=delivered, stream_seq=0)
        self.info: Any = SimpleNamespace(config=config, delivered=sequence)
        self.pulls: list[tuple[float, str, dict[str, Any], str]] = []
        self.looks: list[tuple[float, str, str]] = []
        self.listens = 0
        self.subscribed: list[str] = []
        self.inbox: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.answers: Callable[[str], Message | Exception | None] = lambda reply: None
        self.look_fails: list[Exception] = []
        self.unsubscribe_fails: Exception | None = None
        self.js: Any = SimpleNamespace(_nc=self, _prefix="$JS.hub.API", consumer_info=self.consumer_info)

    async def consumer_info(self, stream: str, durable: str) -> Any:
        self.looks.append((now(), stream, durable))
        if self.look_fails:
            raise self.look_fails.pop(0)
        return self.info

    def new_inbox(self) -> str:
        return "_INBOX.me"

    async def subscribe(self, subject: str) -> Any:
        self.subscribed.append(subject)
        return self

    async def unsubscribe(self) -> None:
        self.subscribed.clear()
        if self.unsubscribe_fails is not None:
            raise self.unsubscribe_fails

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        assert len(self.pulls) < 20, "it asks for ever"
        self.pulls.append((now(), subject, json.loads(data), reply))
        if (answer := self.answers(reply)) is not None:
            self.inbox.put_nowait(answer)

    async def next_msg(self, seconds: float) -> Message:
        self.listens += 1
        assert self.listens < 50, "it looks for ever"
        try:
            found = await asyncio.wait_for(self.inbox.get(), seconds)
        except TimeoutError:
            raise nats.errors.TimeoutError from None
        if isinstance(found, Exception):
            raise found
        return found

    def says(self, status: tuple[str, str], pull: int) -> None:
        """Say something about a pull, as a server does."""
        headers = dict(zip(("Status", "Description"), status, strict=True))
        self.inbox.put_nowait(Message(f"_INBOX.me.{pull}", headers=headers, reply=""))

    @property
    def times(self) -> list[float]:
        """When it was asked for a page."""
        return [pull[0] for pull in self.pulls]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Plays a story in virtual time."""
    monkeypatch.setattr(consume, "time", SimpleNamespace(monotonic=now))
    return lambda story: loop.run(random.Random(1), story)


Played = Callable[[Coroutine[Any, Any, None]], None]


@contextlib.asynccontextmanager
async def waiting(server: Server, **given: Any) -> Any:
    """A reader that waits for a page, as a task."""
    async with Pages(server.js, "crm", **given) as pages:
        task = asyncio.ensure_future(anext(pages))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


def test_a_pull_asks_for_one_page_within_two_seconds_and_each_has_its_own_inbox(played: Played) -> None:
    async def story() -> None:
        server = Server()
        async with waiting(server, stream="OTHER"):
            await asyncio.sleep(3.5)
            assert server.subscribed == ["_INBOX.me.*"]

        wish = {"batch": 1, "expires": 2_000_000_000}
        assert [pull[1:] for pull in server.pulls] == [
            ("$JS.hub.API.CONSUMER.MSG.NEXT.OTHER.crm", wish, "_INBOX.me.1"),
            ("$JS.hub.API.CONSUMER.MSG.NEXT.OTHER.crm", wish, "_INBOX.me.2"),
        ]
        assert server.looks == [(0.0, "OTHER", "crm")]
        assert server.subscribed == []

    played(story())


def test_a_pull_of_which_nothing_is_heard_is_made_again_a_second_behind_its_end(played: Played) -> None:
    async def story() -> None:
        server = Server()
        async with waiting(server):
            await asyncio.sleep(8.5)

        assert server.times == [0.0, 3.0, 6.0]
        assert server.listens == 4, "it waits, and once more at its end, and doesn't look again and again"

    played(story())


@pytest.mark.parametrize(
    ("status", "pull", "again"),
    [(ALIVE, 1, 3.0), (OVER, 1, 2.5), (OVER, 0, 3.0), (GONE, 0, 3.0), (REFUSED, 1, 3.0), (GONE, 1, 3.0)],
)
def test_what_the_server_says_of_the_newest_pull_alone_ends_it(
    played: Played, status: tuple[str, str], pull: int, again: float
) -> None:
    async def story() -> None:
        server = Server()
        async with waiting(server):
            await asyncio.sleep(2.5)
            server.says(status, pull)
            await asyncio.sleep(2.0)
            looked = [at for at, *_ in server.looks]

        assert server.times == [0.0, again]
        refused = status in (REFUSED, GONE) and pull == 1
        assert looked == ([0.0, 3.0] if refused else [0.0]), "a refusal is followed by a pause and a look"

    played(story())


def test_while_the_server_is_away_it_is_asked_again_each_half_second(played: Played) -> None:
    async def story() -> None:
        server = Server()
        first = delivered(1)
        for trouble in (nats.errors.Error("away"), nats.errors.NoRespondersError(), nats.errors.TimeoutError()):
            server.inbox.put_nowait(trouble)
        async with waiting(server) as task:
            await asyncio.sleep(0.1)
            server.look_fails = [ServiceUnavailableError(), TimeoutError()]
            await asyncio.sleep(1.4)
            server.inbox.put_nowait(first)
            assert (await task).page == 1

        assert [at for at, *_ in server.looks] == [0.0, 0.5, 1.0]

    played(story())


def test_a_consumer_that_goes_while_its_reader_waits_is_named(played: Played) -> None:
    async def story() -> None:
        server = Server()
        async with Pages(server.js, "crm") as pages:
            server.look_fails = [NotFoundError()]
            server.says(GONE, 1)
            with pytest.raises(ConsumerError) as caught:
                await anext(pages)

        assert str(caught.value) == (
            "consumer crm on FOLLOWERS_EVENTS is missing: have it made by `followers setup --consumer crm`"
        )

    played(story())


@pytest.mark.parametrize("error", [nats.errors.ConnectionClosedError(), nats.errors.BadSubscriptionError()])
def test_a_closed_connection_ends_the_reading(played: Played, error: Exception) -> None:
    async def story() -> None:
        server = Server()
        server.inbox.put_nowait(error)
        async with Pages(server.js, "crm") as pages:
            with pytest.raises(
                ConsumeError, match=r"^the NATS connection is closed: open another one, and read again$"
            ):
                await anext(pages)

    played(story())


def test_after_a_page_the_next_pull_is_made_when_the_next_page_is_asked_for(played: Played) -> None:
    async def story() -> None:
        server, first, second = Server(), delivered(1), delivered(2, 2)
        server.answers = lambda reply: first if reply == "_INBOX.me.1" else second
        async with Pages(server.js, "crm") as pages:
            assert (await anext(pages)).page == 1
            await asyncio.sleep(1.0)
            assert (server.times, first.acts) == ([0.0], [])
            assert (await anext(pages)).page == 2

        assert server.times == [0.0, 1.0]
        assert (first.acts, second.acts) == ([(1.0, "ack")], [(1.0, "ack_sync")])

    played(story())


@pytest.mark.parametrize("trouble", [None, nats.errors.Error(), nats.errors.TimeoutError(), TimeoutError(), OSError()])
@pytest.mark.parametrize("failed", [False, True])
def test_leaving_acknowledges_the_page_or_gives_it_back_for_a_second_and_hears_no_more(
    played: Played, trouble: Exception | None, failed: bool
) -> None:
    async def story() -> None:
        server, first = Server(), delivered(1, fails=trouble)
        server.unsubscribe_fails = nats.errors.ConnectionClosedError()
        server.inbox.put_nowait(first)

        async def body() -> None:
            async with Pages(server.js, "crm") as pages:
                await anext(pages)
                if failed:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) if failed else contextlib.nullcontext():
            await body()
        await asyncio.sleep(60)

        assert first.acts == [(0.0, "nak 1.0" if failed else "ack_sync")]
        assert server.subscribed == []

    played(story())


def test_leaving_without_a_page_in_hand_acknowledges_nothing(played: Played) -> None:
    async def story() -> None:
        server = Server()
        async with Pages(server.js, "crm"):
            pass

        assert (server.pulls, server.subscribed) == ([], [])

    played(story())


@pytest.mark.parametrize(("ack_wait", "beats"), [(None, [10.0, 20.0]), (30.0, [10.0, 20.0]), (15.0, [5, 10, 15, 20])])
@pytest.mark.parametrize("trouble", [None, nats.errors.Error(), OSError(), ValueError("unforeseen")])
def test_a_page_in_hand_is_kept_three_times_within_what_the_server_waits(
    played: Played,
    caplog: pytest.LogCaptureFixture,
    ack_wait: float | None,
    beats: list[float],
    trouble: Exception | None,
) -> None:
    async def story() -> None:
        server, first = Server(dataclasses.replace(FIT, ack_wait=ack_wait)), delivered(1)
        server.inbox.put_nowait(first)
        async with Pages(server.js, "crm") as pages:
            await anext(pages)
            first.fails = trouble
            await asyncio.sleep(21)
            assert first.acts == [(at, "in_progress") for at in beats]
            first.fails = None

    played(story())

    said = {record.getMessage() for record in caplog.records if record.levelno == logging.ERROR}
    assert bool(said) == isinstance(trouble, ValueError), "only what nobody foresees is told"


@pytest.mark.parametrize(
    "fields",
    [
        {"ack_policy": AckPolicy.ALL},
        {"ack_policy": AckPolicy.NONE},
        {"max_ack_pending": 2},
        {"max_ack_pending": 0},
        {"max_ack_pending": None},
        {"max_deliver": 1},
        {"max_deliver": 20},
        {"deliver_subject": "push"},
    ],
)
def test_a_consumer_that_cannot_keep_the_order_is_refused_with_what_it_must_be(
    played: Played, fields: dict[str, Any]
) -> None:
    async def story() -> None:
        server = Server(dataclasses.replace(FIT, **fields))
        with pytest.raises(ConsumerError) as caught:
            await Pages(server.js, "crm").__aenter__()

        assert str(caught.value) == (
            "consumer crm on FOLLOWERS_EVENTS can't keep the order of pages: it must be a pull consumer with"
            " ack_policy explicit, max_ack_pending 1 and max_deliver -1, as `followers setup --consumer crm` makes it"
        )

    played(story())


@pytest.mark.parametrize("endless", [None, 0, -1])
def test_a_consumer_that_delivers_without_end_is_taken_however_that_is_said(
    played: Played, endless: int | None
) -> None:
    async def story() -> None:
        await Pages(Server(dataclasses.replace(FIT, max_deliver=endless)).js, "crm").__aenter__()

    played(story())


@pytest.mark.parametrize(
    ("policy", "before", "whole"),
    [
        (DeliverPolicy.ALL, 0, True),
        (DeliverPolicy.ALL, None, True),
        (DeliverPolicy.ALL, 6, False),
        (DeliverPolicy.NEW, 0, False),
        (DeliverPolicy.LAST_PER_SUBJECT, None, False),
    ],
)
def test_a_job_must_begin_with_page_1_where_its_consumer_begins_with_the_stream(
    played: Played, policy: DeliverPolicy, before: int | None, whole: bool
) -> None:
    async def story() -> None:
        server = Server(dataclasses.replace(FIT, deliver_policy=policy), before)
        server.inbox.put_nowait(delivered(4, (before or 0) + 1))
        async with Pages(server.js, "crm") as pages:
            if whole:
                with pytest.raises(GapError, match="page 4 part 1/1 comes after nothing"):
                    await anext(pages)
            else:
                assert (await anext(pages)).page == 4

    played(story())


@pytest.mark.parametrize(
    ("delivery", "known"),
    [
        (1, True),  # the server was killed before it had written down what it delivered
        (2, True),
        (3, False),  # 2 went to another reader
    ],
)
def test_what_another_reader_took_is_no_gap_and_what_nobody_took_is_one(
    played: Played, delivery: int, known: bool
) -> None:
    async def story() -> None:
        server, heard = Server(), list[ConsumeError]()
        for message in (delivered(1), delivered(7, delivery)):
            server.inbox.put_nowait(message)
        async with Pages(server.js, "crm", on_error=heard.append) as pages:
            assert [(await anext(pages)).page for _ in range(2)] == [1, 7]

        assert [type(error) for error in heard] == ([GapError] if known else [])

    played(story())


def test_deliveries_are_counted_over_what_is_no_page(played: Played) -> None:
    async def story() -> None:
        server, heard = Server(), list[ConsumeError]()
        other = Message("followers.job.esms.1.job", b"no page", delivery=2)
        messages = [delivered(1), other, delivered(1, 3), delivered(3, 4)]
        for message in messages:
            server.inbox.put_nowait(message)
        async with Pages(server.js, "crm", on_error=heard.append) as pages:
            assert [(await anext(pages)).page for _ in range(2)] == [1, 3]

        assert [type(error) for error in heard] == [GapError]
        assert [[act for _, act in message.acts] for message in messages] == [["ack"]] * 3 + [["ack_sync"]]

    played(story())


@pytest.mark.parametrize("field", ["provider", "oa_id", "job_id"])
def test_a_page_on_the_subject_of_another_is_named_with_its_sequence(played: Played, field: str) -> None:
    async def story() -> None:
        tokens = {"provider": "esms", "oa_id": "1", "job_id": "job"} | {field: "etelecom"}
        subject = f"followers.page.{'.'.join(tokens.values())}"
        server = Server()
        server.inbox.put_nowait(Message(subject, encode(page(1)), stream=42))
        async with Pages(server.js, "crm", stream="OTHER", skip_unreadable=False) as pages:
            with pytest.raises(UnreadableError, match="it is a page of another job") as caught:
                await anext(pages)

        assert (caught.value.subject, caught.value.sequence, caught.value.stream) == (subject, 42, "OTHER")

    played(story())


def test_a_page_in_the_middle_of_its_name_is_no_page(played: Played) -> None:
    async def story() -> None:
        server = Server()
        stranger = Message(f"copy.{JOB}", encode(page(1)))
        server.inbox.put_nowait(stranger)
        server.inbox.put_nowait(delivered(1, 2))
        async with Pages(server.js, "crm") as pages:
            assert (await anext(pages)).page == 1

        assert [act for _, act in stranger.acts] == ["ack"]

    played(story())


def test_an_altered_page_is_refused_unless_whoever_hears_of_it_lets_it_pass(played: Played) -> None:
    async def story() -> None:
        changed = cast(Any, page(1))
        text = encode(changed).replace(b'"count":null', b'"count":2')
        for hear in (False, True):
            server, heard = Server(), list[ConsumeError]()
            server.inbox.put_nowait(Message(JOB, text))
            async with Pages(server.js, "crm", on_error=heard.append if hear else None) as pages:
                if hear:
                    assert (await anext(pages)).count == 2
                else:
                    with pytest.raises(consume.AlteredError, match="page 1 says 2 followers, but has 1"):
                        await anext(pages)
            assert len(heard) == hear

    played(story())
