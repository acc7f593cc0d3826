"""What people hear of the dead letters where NATS is silent, refuses or has none."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import nats.errors
import nats.js.errors
import pytest
from nats.js.api import RawStreamMsg

from worker.core.dead_letters import Letter
from worker.jetstream.dead_letters import store as module
from worker.jetstream.dead_letters.store import LetterBox, LettersError

HANOI = timezone(timedelta(hours=7))
AT = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
REFUSED = nats.js.errors.ServiceUnavailableError(code=503, err_code=10077, description="maximum bytes exceeded")
TROUBLES = [
    (nats.js.errors.NoStreamResponseError(), "stream FOLLOWERS_COMMANDS is missing: run `followers setup`"),
    (
        REFUSED,
        "NATS refuses: maximum bytes exceeded; make room in FOLLOWERS_COMMANDS, or raise streams.commands_max_bytes "
        "and run `followers setup`",
    ),
    (nats.errors.TimeoutError(), "NATS didn't answer (TimeoutError): try again, nothing is done twice"),
    (ConnectionResetError(), "NATS didn't answer (ConnectionResetError): try again, nothing is done twice"),
]


class Server:
    """A client and its context, with so many letters by subject; `fails` comes instead of each answer."""

    def __init__(self, subjects: dict[str, int] | None = None, fails: Exception | None = None) -> None:
        self.subjects, self.fails = subjects, fails
        self.filters: list[tuple[str, str]] = []
        self.published: list[tuple[str, bytes, str, dict[str, str]]] = []
        self.deleted: list[tuple[str, int]] = []
        self.letters: dict[int, RawStreamMsg] = {}

    def jetstream(self) -> "Server":
        return self

    def _answer(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def stream_info(self, stream: str, subjects_filter: str) -> Any:
        self.filters.append((stream, subjects_filter))
        self._answer()
        return SimpleNamespace(state=SimpleNamespace(subjects=self.subjects))

    async def get_msg(self, stream: str, seq: int) -> Any:
        self._answer()
        assert stream == "FOLLOWERS_DEAD"
        if seq not in self.letters:
            raise nats.js.errors.NotFoundError(code=404, err_code=10037)
        return self.letters[seq]

    async def publish(self, subject: str, body: bytes, *, stream: str, headers: dict[str, str]) -> Any:
        self._answer()
        self.published.append((subject, body, stream, headers))
        return SimpleNamespace(seq=77)

    async def delete_msg(self, stream: str, sequence: int) -> bool:
        self.deleted.append((stream, sequence))
        self._answer()
        return True


class Reader:
    """Gives messages, and then nothing; writes down what it was asked for."""

    def __init__(self, *pending: int) -> None:
        self.pending = [*pending]
        self.asked: list[Any] = []

    def __call__(self, client: Any, subject: str, *, stream: str) -> "Reader":
        self.asked.append((subject, stream))
        return self

    async def __aenter__(self) -> "Reader":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.asked.append("left")

    async def next(self, timeout: float) -> Any:
        self.asked.append(timeout)
        if not self.pending:
            return None
        place = SimpleNamespace(stream=40 + len(self.asked))
        metadata = SimpleNamespace(sequence=place, timestamp=AT.astimezone(HANOI), num_pending=self.pending.pop(0))
        return SimpleNamespace(metadata=metadata, subject="followers.dead.esms", headers=None, data=b"body")


def box(server: Any) -> LetterBox:
    return LetterBox(server)


async def read(server: Server, provider: Any = None) -> list[Letter]:
    return [letter async for letter in box(server).read(provider)]


async def test_letters_are_read_until_none_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(1, 0, 5)
    monkeypatch.setattr(module, "EventReader", reader)
    server = Server({"followers.dead.esms": 2})

    found = await read(server, "esms")

    assert [(one.sequence, one.provider, one.headers, one.body) for one in found] == [
        (42, "esms", {}, b"body"),
        (43, "esms", {}, b"body"),
    ]
    assert [(one.stored_at, one.stored_at.tzinfo) for one in found] == [(AT, UTC)] * 2
    assert reader.asked == [("followers.dead.esms", "FOLLOWERS_DEAD"), 15.0, 15.0, "left"]
    assert server.filters == [("FOLLOWERS_DEAD", "followers.dead.esms")]


async def test_silence_in_the_middle_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(3)
    monkeypatch.setattr(module, "EventReader", reader)

    with pytest.raises(LettersError, match=r"^NATS has fallen silent in the middle of the dead letters: try again$"):
        await read(Server({"followers.dead.esms": 2, "followers.dead.etelecom": 1}))
    assert reader.asked[0] == ("followers.dead.*", "FOLLOWERS_DEAD")


@pytest.mark.parametrize("subjects", [None, {}])
async def test_where_there_is_no_letter_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, subjects: dict[str, int] | None
) -> None:
    reader = Reader()
    monkeypatch.setattr(module, "EventReader", reader)

    assert await read(Server(subjects)) == []
    assert reader.asked == []


async def test_a_letter_that_is_not_there_is_none_and_a_stream_that_is_not_there_is_told() -> None:
    server = Server({})
    assert await box(server).get(3) is None
    assert server.filters == [("FOLLOWERS_DEAD", "followers.dead.*")]

    server.fails = nats.js.errors.NotFoundError(code=404, err_code=10059)
    for act in (box(server).get(3), read(server)):
        with pytest.raises(LettersError, match=r"^stream FOLLOWERS_DEAD is missing: run `followers setup`$"):
            await act


@pytest.mark.parametrize(("data", "body"), [(b"{}", b"{}"), (None, b"")])
@pytest.mark.parametrize(
    ("lines", "headers"), [(b"NATS/1.0\r\nFollowers-Attempts: 2\r\n\r\n", {"Followers-Attempts": "2"}), (None, {})]
)
async def test_a_letter_is_given_as_it_is_stored(
    data: bytes | None, body: bytes, lines: bytes | None, headers: dict[str, str]
) -> None:
    server = Server()
    server.letters[9] = RawStreamMsg(
        subject="followers.dead.etelecom",
        seq=9,
        data=data,
        hdrs=lines and base64.b64encode(lines),
        time=AT.astimezone(HANOI),
    )

    letter = await box(server).get(9)

    assert letter == Letter(sequence=9, provider="etelecom", stored_at=AT, headers=headers, body=body)
    assert letter.stored_at.tzinfo is UTC


LETTER = Letter(
    sequence=9,
    provider="esms",
    stored_at=AT,
    headers={"Followers-Stream-Sequence": "3", "Content-Type": "application/json", "a:b": "no name"},
    body=b"{}",
)


async def test_a_retry_publishes_the_command_and_then_deletes_its_letter() -> None:
    server = Server()

    assert await box(server).retry(LETTER) == 77
    ((subject, body, stream, headers),) = server.published
    assert (subject, body, stream) == ("followers.fetch.esms", b"{}", "FOLLOWERS_COMMANDS")
    assert (headers["Followers-Retry"], headers["Content-Type"]) == ("3", "application/json")
    assert "a:b" not in headers, "such a name can't be published"
    assert server.deleted == [("FOLLOWERS_DEAD", 9)]


@pytest.mark.parametrize(("trouble", "told"), TROUBLES)
@pytest.mark.parametrize(
    "act",
    [
        lambda letters: letters.retry(LETTER),
        lambda letters: letters.delete(9),
        lambda letters: letters.get(9),
        lambda letters: anext(letters.read()),
    ],
)
async def test_what_nats_does_not_do_is_told_with_what_to_do(
    trouble: Exception, told: str, act: Callable[[LetterBox], Any]
) -> None:
    server = Server(fails=trouble)

    with pytest.raises(LettersError) as caught:
        await act(box(server))

    assert str(caught.value) == told
    assert server.published == []
