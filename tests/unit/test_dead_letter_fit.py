"""What of a dead letter is stored when all of it can't be: never less than why it failed."""

import pytest

from schemas import deadletters
from worker.jetstream.client.headers import MAX_HEADER_BYTES, message_bytes
from worker.jetstream.dead_letters.writer import HEADER_ROOM, KEPT, _fit

LIMIT = 1_048_576
OURS = dict.fromkeys(sorted(KEPT), "1")


def test_what_fits_is_stored_as_it_is() -> None:
    headers = OURS | {"traceparent": "00-1-2-01"}

    assert _fit(b"body", headers, LIMIT) == (b"body", headers)


def test_a_body_may_be_as_long_as_the_message_leaves_room_for() -> None:
    room = LIMIT - 256 - message_bytes(b"", OURS)

    body, headers = _fit(b"x" * room, OURS, LIMIT)
    assert (len(body), headers) == (room, OURS)
    body, headers = _fit(b"x" * (room + 1), OURS, LIMIT)
    assert (len(body), headers) == (room, OURS | {deadletters.BODY_BYTES: str(room + 1)})


def test_a_header_that_cannot_be_published_is_dropped_and_counted() -> None:
    _, headers = _fit(b"", OURS | {"a b": "1", "ü": "2"}, LIMIT)

    assert headers == OURS | {deadletters.HEADERS_DROPPED: "2"}


def test_headers_may_be_as_large_as_the_server_takes() -> None:
    room = MAX_HEADER_BYTES - 256 - message_bytes(b"", OURS | {"big": ""})

    assert _fit(b"", OURS | {"big": "x" * room}, LIMIT)[1] == OURS | {"big": "x" * room}
    assert _fit(b"", OURS | {"big": "x" * (room + 1)}, LIMIT)[1] == OURS | {deadletters.HEADERS_DROPPED: "1"}


def test_the_largest_headers_go_first_and_no_more_than_must() -> None:
    others = {"small": "x" * 100, "middle": "x" * 5_000, "large": "x" * 70_000}

    _, headers = _fit(b"", OURS | others, LIMIT)

    assert set(headers) == {*OURS, "small", "middle", deadletters.HEADERS_DROPPED}
    assert headers[deadletters.HEADERS_DROPPED] == "1"


@pytest.mark.parametrize(("beyond", "dropped"), [(0, "1"), (1, "2")])
def test_headers_are_brought_down_to_a_bound(beyond: int, dropped: str) -> None:
    rest = HEADER_ROOM - message_bytes(b"", OURS | {"rest": ""})

    _, headers = _fit(b"", OURS | {"rest": "x" * (rest + beyond), "large": "x" * 70_000}, LIMIT)

    assert headers[deadletters.HEADERS_DROPPED] == dropped
    assert HEADER_ROOM == 8192


def test_our_own_headers_stay_however_large_they_are() -> None:
    ours = dict.fromkeys(KEPT, "x" * 2000)

    _, headers = _fit(b"x" * LIMIT, ours | {"theirs": "1"}, LIMIT)

    assert {name: headers[name] for name in ours} == ours
    assert "theirs" not in headers


def test_a_body_that_is_too_long_drops_large_headers_before_its_end() -> None:
    body, headers = _fit(b"x" * (LIMIT - 9_000), OURS | {"large": "x" * 9_000}, LIMIT)

    assert headers == OURS | {deadletters.HEADERS_DROPPED: "1"}
    assert len(body) == LIMIT - 9_000
