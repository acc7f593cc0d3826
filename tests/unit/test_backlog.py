"""The newest dead letters, found by windows that widen over gaps."""

import base64
from types import SimpleNamespace
from typing import Any

import nats.errors
import nats.js.errors
import pytest

from tests.jetstream_kit import STORED_AT, FakeStream
from worker.jetstream.dead_letters.backlog import Backlog, BacklogError


class Letters(FakeStream):
    """The stream of dead letters; a letter's job has its number."""

    def __init__(self, *sequences: int) -> None:
        super().__init__()
        self.first = 1
        for sequence in sequences:
            self.bury(sequence)

    def bury(self, sequence: int, job: str = "") -> None:
        self.put(sequence, "followers.dead.esms", b"{}", encoded(job or f"j{sequence}"))

    async def stream_info(self, stream: str) -> Any:
        assert stream == "FOLLOWERS_DEAD"
        if self.errors:
            raise self.errors.pop(0)
        return SimpleNamespace(
            state=SimpleNamespace(messages=len(self.messages), last_seq=self._newest, first_seq=self.first)
        )

    async def get_msg(self, stream: str, *arguments: Any, **options: Any) -> Any:
        # A filter with a star, as the server reads it.
        return await super().get_msg(stream, *arguments, **(options | {"subject": "followers.dead.esms"}))

    def backlog(self) -> Backlog:
        return Backlog(self.client, timeout=2)


def encoded(job: str) -> bytes:

    return base64.b64encode(f"NATS/1.0\r\nFollowers-Job-Id: {job}\r\n\r\n".encode())


async def newest(letters: Letters) -> tuple[int, list[int]]:
    count, found = await letters.backlog().letters()
    assert [letter.job_id for letter in found] == [f"j{letter.sequence}" for letter in found]
    return count, [letter.sequence for letter in found]


@pytest.mark.parametrize("count", [1, 19, 20, 21, 45])
async def test_the_newest_twenty_are_told_the_newest_first(count: int) -> None:
    letters = Letters(*range(1, count + 1))

    assert await newest(letters) == (count, list(range(count, max(0, count - 20), -1)))
    assert len(letters.asked) == min(count, 20)


@pytest.mark.parametrize("sequences", [(1,), (1, 2, 400), (5, 6, 7, 1000), tuple(range(1, 1000, 30))])
async def test_letters_far_apart_are_found_too(sequences: tuple[int, ...]) -> None:
    letters = Letters(*sequences)
    letters.first = sequences[0]

    assert await newest(letters) == (len(sequences), list(reversed(sequences))[:20])


async def test_an_empty_stream_is_not_looked_through() -> None:
    letters = Letters()
    letters._newest = 5
    letters.first = 6

    assert await letters.backlog().letters() == (0, [])
    letters.first = 0
    assert await letters.backlog().letters() == (0, [])
    assert await letters.backlog().letter_of("j") is None
    assert letters.asked == []


async def test_what_is_known_is_not_asked_for_again() -> None:
    letters = Letters(*range(1, 41))
    backlog = letters.backlog()
    await backlog.letters()
    letters.bury(41)
    before = len(letters.asked)

    _, found = await backlog.letters()

    assert [letter.sequence for letter in found] == list(range(41, 21, -1))
    assert [one["seq"] for one in letters.asked[before:]] == [41]


async def test_a_letter_has_no_body_here_and_says_when_it_was_stored() -> None:
    letters = Letters(3)
    letters.put(4, "followers.dead.esms", b"{}")

    _, (bare, full) = await letters.backlog().letters()

    assert (full.sequence, full.provider, full.body, full.stored_at) == (3, "esms", b"", STORED_AT)
    assert full.headers == {"Followers-Job-Id": "j3"}
    assert bare.headers == {}


@pytest.mark.parametrize(("place", "found"), [(1, False), (100, False), (101, True), (2000, True), (2100, True)])
async def test_a_jobs_letter_is_looked_for_among_the_newest_2000(place: int, found: bool) -> None:
    letters = Letters(*range(1, 2101))

    if found:
        letter = await letters.backlog().letter_of(f"j{place}")
        assert letter is not None
        assert letter.sequence == place
    else:
        with pytest.raises(BacklogError, match=r"^no letter among the newest: use `followers dead retry --job j\d+`$"):
            await letters.backlog().letter_of(f"j{place}")


async def test_the_newest_of_a_jobs_letters_counts() -> None:
    letters = Letters(*range(1, 300))
    for sequence in (50, 120, 121):
        letters.bury(sequence, "twice")

    letter = await letters.backlog().letter_of("twice")

    assert letter is not None
    assert letter.sequence == 121
    assert await letters.backlog().letter_of("nobody") is None


@pytest.mark.parametrize("trouble", [nats.errors.TimeoutError(), OSError(), nats.errors.ConnectionClosedError()])
async def test_silence_is_said_to_be_one(trouble: Exception) -> None:
    letters = Letters(1)

    for call in (letters.backlog().letters, lambda: letters.backlog().letter_of("j1")):
        letters.errors = [trouble]
        with pytest.raises(BacklogError, match=rf"^NATS didn't answer \({type(trouble).__name__}\): try again$"):
            await call()


async def test_a_stream_that_is_gone_in_the_middle_is_no_empty_one() -> None:
    letters = Letters(1)
    gone = nats.js.errors.NotFoundError(code=404, err_code=10059, description="stream not found")

    async def get_msg(*_: Any, **__: Any) -> Any:
        raise gone

    letters.get_msg = get_msg  # type: ignore[method-assign]
    with pytest.raises(BacklogError, match=r"^NATS didn't answer \(NotFoundError\): try again$"):
        await letters.backlog().letters()
