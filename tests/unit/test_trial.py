"""What `followers doctor` asks workers about commands in hand, and what it makes of their answers."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest
from nats.js.errors import NotFoundError

from schemas import JobStatus, Wait, encode
from tests.jetstream_kit import FakeStream, answer
from worker.core.diagnostics import Finding
from worker.jetstream.topology.trial import held_up

AT = datetime(2026, 3, 1, tzinfo=UTC)


def status(job_id: str, owner: str | None, text: str = "") -> JobStatus:
    wait = Wait(owner=owner, reason="nats", since=AT, text=text) if owner else None  # type: ignore[arg-type]
    return JobStatus(job_id=job_id, provider="esms", account="a", oa_id="1", state="running", updated_at=AT, wait=wait)


class Server(FakeStream):
    """The command stream, its consumers, and workers that answer for their jobs."""

    def __init__(self, in_hand: dict[str, int]) -> None:
        super().__init__()
        self.in_hand = in_hand
        """By consumer, the sequence up to which commands were delivered; 0: none is in hand."""
        self.told: dict[str, JobStatus | Exception | bytes] = {}
        self.requests: list[tuple[str, float]] = []

    async def consumer_info(self, stream: str, consumer: str) -> Any:
        assert stream == "FOLLOWERS_COMMANDS"
        if consumer not in self.in_hand:
            raise NotFoundError
        last = self.in_hand[consumer]
        return SimpleNamespace(delivered=SimpleNamespace(stream_seq=last), num_ack_pending=int(last > 0))

    async def request(self, subject: str, body: bytes = b"", *, timeout: float) -> Any:
        self.requests.append((subject, timeout))
        told = self.told.get(subject.rpartition(".")[2], nats.errors.NoRespondersError())
        if isinstance(told, Exception):
            raise told
        return answer(None, told if isinstance(told, bytes) else encode(told))

    def command(self, sequence: int, job_id: str, provider: str = "esms") -> None:
        data = b'{"provider":"%s","oa_id":"1","id":"%s"}' % (provider.encode(), job_id.encode())
        self.put(sequence, f"followers.fetch.{provider}", data)

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.requests]


async def test_what_nats_does_not_take_from_a_job_is_told_with_what_to_do() -> None:
    server = Server({"worker-esms": 3, "worker-etelecom": 4})
    server.command(2, "full")
    server.command(3, "waits")
    server.command(4, "moves", "etelecom")
    server.told = {
        "full": status("full", "nats", "writes fail: maximum bytes exceeded: make room"),
        "waits": status("waits", "queue", "other commands come first: add workers"),
        "moves": status("moves", None),
    }

    found = await held_up(server.client)

    assert found == [
        Finding(
            check="nats.jobs",
            subject="job full",
            state="fail",
            detail="writes fail: maximum bytes exceeded",
            advice="make room",
        )
    ]
    assert sorted(server.requests) == [(f"followers.status.{job}", 1.0) for job in ("full", "moves", "waits")]
    assert server.timeouts == [3.0]


async def test_only_the_three_oldest_of_each_provider_are_asked_about_and_none_that_nobody_has() -> None:
    server = Server({"worker-esms": 6, "worker-etelecom": 0})
    for sequence in range(1, 8):
        server.command(sequence, f"j{sequence}")
    server.command(8, "e8", "etelecom")

    assert await held_up(server.client) == []
    assert server.subjects == [f"followers.status.j{number}" for number in (1, 2, 3)]
    assert [one["seq"] for one in server.asked] == [1, 2, 3]
    assert {one["subject"] for one in server.asked} == {"followers.fetch.esms"}


async def test_what_was_not_delivered_yet_or_is_no_command_is_not_asked_about() -> None:
    server = Server({"worker-esms": 4})
    server.put(2, "followers.fetch.esms", b"no command")
    server.command(4, "last")
    server.command(5, "next")

    await held_up(server.client)

    assert server.subjects[-1] == "followers.status.last"
    assert "followers.status.next" not in server.subjects


async def test_a_command_behind_the_last_that_was_delivered_is_nobodys() -> None:
    server = Server({"worker-esms": 4})
    server.command(9, "next")

    await held_up(server.client)

    assert server.subjects == []


@pytest.mark.parametrize("trouble", [NotFoundError(), nats.errors.TimeoutError(), OSError()])
async def test_a_stream_that_cannot_be_read_is_asked_nothing_more(trouble: Exception) -> None:
    server = Server({"worker-esms": 4})
    server.command(1, "j1")
    server.errors = [trouble]

    assert await held_up(server.client) == []
    assert server.subjects == []


@pytest.mark.parametrize("told", [nats.errors.NoRespondersError(), nats.errors.TimeoutError(), OSError(), b"{}", b"<"])
async def test_a_worker_that_says_nothing_readable_is_passed_over(told: Exception | bytes) -> None:
    server = Server({"worker-esms": 2})
    server.command(1, "silent")
    server.command(2, "full")
    server.told = {"silent": told, "full": status("full", "nats", "it is full: make room")}

    assert [one.subject for one in await held_up(server.client)] == ["job full"]
