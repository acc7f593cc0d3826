"""Answers to direct gets: a stored message, none, or nothing that can be relied on."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from worker.core.ports.event_log import Entry
from worker.jetstream.client.direct_get import Nothing, UnreadableAnswerError, read_answer, stored_at

STORED = {"Nats-Stream": "S", "Nats-Subject": "a.b", "Nats-Sequence": "7", "Nats-Time-Stamp": "2026-03-01T00:00:01.25Z"}


def answer(headers: dict[str, str] | None, data: bytes = b"") -> Msg:
    return Msg(_client=cast(Any, None), data=data, headers=headers)


@pytest.mark.parametrize("own", [{}, {"Status": "404"}, {"Status": "503", "Description": "x"}])
def test_a_stored_message_is_one_whatever_its_own_headers_are_called(own: dict[str, str]):
    found = read_answer(answer(own | STORED, b"data"))

    assert found == Entry(7, b"data", own | STORED, "a.b")
    assert isinstance(found, Entry)
    assert stored_at(found) == datetime(2026, 3, 1, 0, 0, 1, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "pending"),
    [
        ({"Status": "404", "Description": "Message Not Found"}, 0),
        ({"Status": "204", "Nats-Num-Pending": "0"}, 0),
        ({"Status": "204", "Nats-Num-Pending": "3"}, 3),
        ({"Status": "204", "Nats-Num-Pending": "x"}, 0),
        ({"Status": "204"}, 0),
        ({"Status": "204", "Nats-Num-Pending": ""}, 0),
    ],
)
def test_the_end_says_how_many_are_left(headers: dict[str, str], pending: int):
    assert read_answer(answer(headers)) == Nothing(pending)


def test_nobody_answering_is_told_apart():
    with pytest.raises(NoRespondersError):
        read_answer(answer({"Status": "503"}))


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"Status": "408"},
        {"Status": "413"},
        {"Nats-Subject": "a.b"},
        {"Nats-Sequence": "7"},
        {"Nats-Subject": "a.b", "Nats-Sequence": "seven"},
        {"Nats-Subject": "a.b", "Nats-Sequence": "-7"},
    ],
)
def test_all_else_is_as_good_as_no_answer(headers: dict[str, str] | None):
    with pytest.raises(UnreadableAnswerError) as caught:
        read_answer(answer(headers, b'{"error":{}}'))

    status = (headers or {}).get("Status", "none")
    assert str(caught.value) == f"nats: a direct get was answered with status {status}"


@pytest.mark.parametrize("time", [{}, {"Nats-Time-Stamp": "yesterday"}])
def test_an_answer_without_a_time_has_none(time: dict[str, str]):
    assert stored_at(Entry(7, b"", time)) is None
