"""What `EventReader` asks of a server and when, in virtual time and word by word."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest

from tests.simulation import loop
from worker.jetstream.events import reader as module
from worker.jetstream.events.reader import EventReader

ALIVE, OVER = ("100", "Idle Heartbeat"), ("408", "Request Timeout")
REFUSED, GONE, LARGE = (
    ("409", "Exceeded MaxWaiting"),
    ("409", "Consumer Deleted"),
    ("409", "Message Size Exceeds MaxBytes"),
)
BATCH: dict[str, Any] = {
    "batch": 64, "max_bytes": 8_388_608, "expires": 30_000_000_000, "idle_heartbeat": 2_000_000_000,
}  # fmt: skip
ALONE = {"batch": 1, "expires": 30_000_000_000, "idle_heartbeat": 2_000_000_000}
Played = Callable[[Coroutine[Any, Any, None]], None]


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Plays a story in virtual time."""
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=now))
    return lambda story: loop.run(random.Random(1), story)


class Server:
    """A client and the subscription to its inbox, and what was asked of it."""

    def __init__(self) -> None:
        self.stats = {"reconnects": 0}
        self.is_closed, self.is_connected = False, True
        self.asked: list[tuple[float, str, Any]] = []
        self.pulls: list[tuple[float, dict[str, Any]]] = []
        self.listened: list[str] = []
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.answers: list[dict[str, Any] | Exception] = []
        self.waits: list[float] = []
        self.swallows = False
        """Whether a cancellation is taken for a timeout, as Python 3.11's `wait_for` may do."""

    def new_inbox(self) -> str:
        return "_INBOX.me"

    async def subscribe(self, subject: str) -> "Server":
        self.listened.append(subject)
        return self

    async def unsubscribe(self) -> None:
        self.listened.clear()

    async def request(self, subject: str, body: bytes, timeout: float) -> Any:
        assert timeout == 5.0
        assert len(self.asked) < 200, "it asks for ever"
        self.asked.append((now(), subject, json.loads(body) if body else None))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=json.dumps(answer).encode())

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        assert len(self.pulls) < 200, "it pulls for ever"
        self.pulls.append((now(), json.loads(data)))
        assert (subject, reply) == (
            f"$JS.API.CONSUMER.MSG.NEXT.FOLLOWERS_EVENTS.{self.consumer}", f"_INBOX.me.{len(self.pulls)}"
        )  # fmt: skip

    @property
    def pending_msgs(self) -> int:
        return self.inbox.qsize()

    async def next_msg(self, seconds: float) -> Any:
        self.waits.append(seconds)
        try:
            return await asyncio.wait_for(self.inbox.get(), seconds)
        except TimeoutError:
            raise nats.errors.TimeoutError from None
        except asyncio.CancelledError:
            if self.swallows:
                raise nats.errors.TimeoutError from None
            raise

    @property
    def created(self) -> list[tuple[float, int]]:
        """When consumers were made, and from which sequence on each reads."""
        return [(at, body["config"]["opt_start_seq"]) for at, subject, body in self.asked if ".CREATE." in subject]

    @property
    def consumer(self) -> str:
        """The newest one."""
        return [subject for _, subject, _ in self.asked if ".CREATE." in subject][-1].rpartition(".")[2]

    def says(self, status: tuple[str, str], pull: int | None = None) -> None:
        headers = dict(zip(("Status", "Description"), status, strict=True))
        number = len(self.pulls) if pull is None else pull
        self.inbox.put_nowait(SimpleNamespace(reply="", headers=headers, subject=f"_INBOX.me.{number}"))

    def gives(self, sequence: int, delivery: int, consumer: str | None = None) -> None:
        place = SimpleNamespace(stream=sequence, consumer=delivery)
        metadata = SimpleNamespace(sequence=place, consumer=consumer or self.consumer)
        self.inbox.put_nowait(SimpleNamespace(reply="$JS.ACK.x", headers=None, metadata=metadata, subject="a"))


async def sequence(events: EventReader, timeout: float = 0.5) -> int | None:
    """That of the next event."""
    message = await events.next(timeout)
    return None if message is None else message.metadata.sequence.stream


async def opened(server: Server) -> EventReader:
    """A reader that has made its consumer and pulled."""
    client: Any = server
    events = await EventReader(client, "followers.page.>").__aenter__()
    assert await sequence(events, 0.001) is None
    server.asked[:] = [(0.0, subject, body) for _, subject, body in server.asked]
    return events


def test_the_first_wish_makes_a_nameless_consumer_in_memory_and_asks_for_a_batch(played: Played) -> None:
    async def story() -> None:
        server = Server()
        client: Any = server
        async with EventReader(client, "followers.page.>") as events:
            assert (server.asked, server.listened) == ([], ["_INBOX.me.*"])
            assert await sequence(events, 0.0) is None
            assert server.asked == [], "who has no time asks for nothing"
            assert await sequence(events, 5.0) is None
            assert now() == pytest.approx(5.05)
            assert server.waits == pytest.approx([2.0, 2.0, 0.9])
            name = server.consumer

        prefix, hexadecimal = name.split("-")
        assert (prefix, len(hexadecimal), int(hexadecimal, 16) > 0) == ("read", 32, True)
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": 1,
            "ack_policy": "none",
            "filter_subject": "followers.page.>",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60_000_000_000,
        }
        assert [(subject, body) for _, subject, body in server.asked] == [
            (f"$JS.API.CONSUMER.CREATE.FOLLOWERS_EVENTS.{name}",
             {"stream_name": "FOLLOWERS_EVENTS", "config": config}),
            (f"$JS.API.CONSUMER.DELETE.FOLLOWERS_EVENTS.{name}", None),
        ]  # fmt: skip
        assert server.pulls == [(0.0, BATCH)]
        assert server.listened == []

    played(story())


@pytest.mark.parametrize(
    ("status", "pull", "bounds", "again"),
    [
        (ALIVE, None, None, False),
        (OVER, None, BATCH, False),
        (OVER, 0, None, False),
        (GONE, 0, None, False),
        (LARGE, None, ALONE, False),
        (REFUSED, None, BATCH, False),
        (GONE, None, BATCH, True),
    ],
)
def test_what_the_server_says_of_the_newest_pull_alone_is_heeded(
    played: Played, status: tuple[str, str], pull: int | None, bounds: dict[str, Any] | None, again: bool
) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.says(status, pull)
        said_at = now()
        assert await sequence(events) is None

        assert [pull[1] for pull in server.pulls] == [BATCH, *([bounds] if bounds else [])]
        assert len(server.created) == 1 + again
        if status is REFUSED:
            assert server.pulls[1][0] == pytest.approx(said_at + 0.05), "after a pause"

    played(story())


def test_a_message_that_is_too_large_for_a_batch_is_asked_for_alone_and_the_next_ones_together(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.gives(3, 1)
        server.says(LARGE)
        assert [await sequence(events), await sequence(events)] == [3, None]
        server.says(LARGE)
        assert await sequence(events) is None
        server.gives(4, 2)
        assert [await sequence(events), await sequence(events)] == [4, None]

        assert [pull[1] for pull in server.pulls] == [BATCH, BATCH, ALONE, BATCH]

    played(story())


def test_a_batch_that_has_come_is_followed_by_another(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        for number in range(1, 65):
            server.gives(10 + number, number)
        assert [await sequence(events) for _ in range(63)] == list(range(11, 74))
        assert len(server.pulls) == 1
        assert await sequence(events) == 74
        assert (len(server.pulls), await sequence(events), len(server.pulls)) == (1, None, 2)
        assert len(server.created) == 1

    played(story())


def test_a_delivery_that_was_lost_on_the_way_is_read_again_by_another_consumer(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.gives(3, 1)
        assert await sequence(events) == 3
        first = server.consumer
        server.gives(7, 3)
        assert await sequence(events) is None
        server.gives(5, 2, first)
        server.gives(5, 1)
        server.gives(7, 2)

        assert [await sequence(events), await sequence(events), await sequence(events)] == [5, 7, None]
        assert [start for _, start in server.created] == [1, 4]

    played(story())


@pytest.mark.parametrize(("alive", "created"), [(None, [6.0]), (4.0, [10.0])])
def test_a_server_that_is_silent_for_three_heartbeats_gets_another_consumer(
    played: Played, alive: float | None, created: list[float]
) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        if alive is not None:
            asyncio.get_running_loop().call_later(alive - now(), server.says, ALIVE, 1)
        assert await sequence(events, 11.0) is None

        silent = [at for at, _ in server.created[1:]]
        assert silent == pytest.approx([created[0] + 0.1], abs=0.15)
        assert len(server.pulls) == 2

    played(story())


def test_what_waits_here_is_no_silence_however_long_it_does(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.gives(3, 1)
        await asyncio.sleep(60)

        assert await sequence(events) == 3
        assert len(server.created) == 1

    played(story())


def test_behind_a_reconnect_another_consumer_reads_on(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.gives(3, 1)
        assert await sequence(events) == 3
        server.stats["reconnects"] = 1
        assert [await sequence(events), await sequence(events)] == [None, None]

        assert [start for _, start in server.created] == [1, 4]
        assert len(server.pulls) == 2

    played(story())


def test_a_stream_that_is_missing_is_told_with_what_to_run(played: Played) -> None:
    async def story() -> None:
        server = Server()
        server.answers = [{"error": {"err_code": 10059, "description": "stream not found"}}]
        client: Any = server
        async with EventReader(client, "a") as events:
            with pytest.raises(LookupError, match=r"^stream FOLLOWERS_EVENTS is missing: run `followers setup`$"):
                await events.next(1.0)
        assert len(server.asked) == 1, "there is no consumer to take away"

    played(story())


@pytest.mark.parametrize(
    "trouble",
    [{"error": {"err_code": 10058, "description": "busy"}}, nats.errors.NoRespondersError(), TimeoutError(), OSError()],
)
def test_a_server_that_cannot_make_a_consumer_is_asked_again_after_a_pause(
    played: Played, trouble: dict[str, Any] | Exception
) -> None:
    async def story() -> None:
        server = Server()
        server.answers = [trouble, trouble]
        client: Any = server
        async with EventReader(client, "a", stream="FOLLOWERS_EVENTS") as events:
            assert await sequence(events, 1.0) is None
            assert [at for at, _ in server.created] == pytest.approx([0.0, 0.05, 0.1])

    played(story())


@pytest.mark.parametrize("trouble", [None, nats.errors.NoRespondersError(), TimeoutError(), OSError()])
@pytest.mark.parametrize(
    ("closed", "connected", "deleted"), [(False, True, True), (False, False, False), (True, False, False)]
)
def test_leaving_takes_the_consumer_away_where_the_server_can_be_reached(
    played: Played, trouble: Exception | None, closed: bool, connected: bool, deleted: bool
) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.is_closed, server.is_connected = closed, connected
        server.answers = [trouble] if trouble else []
        await events.__aexit__(None, None, None)

        assert any(".DELETE." in subject for _, subject, _ in server.asked) is deleted
        assert bool(server.listened) is closed

    played(story())


def test_a_cancellation_that_was_swallowed_on_the_way_is_heeded(played: Played) -> None:
    async def story() -> None:
        server = Server()
        server.swallows = True
        events = await opened(server)
        reading = asyncio.create_task(events.next(60.0))
        await asyncio.sleep(1.0)
        reading.cancel()
        await asyncio.wait([reading])

        assert reading.cancelled()
        assert now() < 2.0

    played(story())


def test_silence_behind_a_pull_of_one_message_is_silence_too(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.says(LARGE)
        assert await sequence(events, 7.0) is None

        assert server.pulls[1][1] == ALONE
        assert [at for at, _ in server.created[1:]] == pytest.approx([6.2], abs=0.15)

    played(story())


def test_who_comes_back_for_more_after_a_while_reads_on_with_the_same_consumer(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        server.says(LARGE)
        assert await sequence(events) is None
        server.gives(3, 1)
        assert await sequence(events) == 3
        await asyncio.sleep(60)
        assert await sequence(events) is None

        assert len(server.created) == 1, "no pull was open in which it could have been silent"
        assert len(server.pulls) == 3

    played(story())


def test_a_message_is_a_sign_of_life(played: Played) -> None:
    async def story() -> None:
        server = Server()
        events = await opened(server)
        asyncio.get_running_loop().call_later(4.0 - now(), server.gives, 3, 1)
        assert await sequence(events, 5.0) == 3
        assert await sequence(events, 5.5) is None
        assert len(server.created) == 1
        assert await sequence(events, 4.0) is None
        assert len(server.created) == 2

    played(story())
