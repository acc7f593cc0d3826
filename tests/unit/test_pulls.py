"""What the words of a server about a pull mean, and what is no word of its."""

from types import SimpleNamespace
from typing import cast

import pytest

from schemas.pulls import Arrival, Said, said

REPLY = "$JS.ACK.FOLLOWERS_EVENTS.read-1.1.1.1.1700000000000000000.0"


def arrival(headers: dict[str, str] | None, reply: str = "") -> Arrival:
    return cast(Arrival, SimpleNamespace(headers=headers, reply=reply))


@pytest.mark.parametrize(
    ("status", "description", "meaning"),
    [
        ("100", "Idle Heartbeat", Said.ALIVE),
        ("404", "No Messages", Said.OVER),
        ("408", "Request Timeout", Said.OVER),
        ("408", "Interest Expired", Said.OVER),
        ("409", "Batch Completed", Said.OVER),
        ("409", "Leadership Change", Said.OVER),
        ("409", "Message Size Exceeds MaxBytes", Said.TOO_LARGE),
        ("409", "Consumer Deleted", Said.GONE),
        ("409", "Consumer is push based", Said.GONE),
        ("409", "Server Shutdown", Said.GONE),
        ("503", "", Said.GONE),
        ("409", "Exceeded MaxWaiting", Said.REFUSED),
        ("409", "", Said.REFUSED),
        ("400", "Bad Request", Said.REFUSED),
        ("423", "Nats-Pin-Id mismatch", Said.REFUSED),
    ],
)
def test_each_word_of_the_server_has_its_meaning(status: str, description: str, meaning: Said) -> None:
    assert said(arrival({"Status": status, "Description": description})) is meaning


@pytest.mark.parametrize("status", ["100", "404", "408", "409", "503"])
def test_a_delivery_is_one_whatever_its_headers_are_called(status: str) -> None:
    headers = {"Status": status, "Description": "Consumer Deleted"}

    assert said(arrival(headers, REPLY)) is Said.MESSAGE
    assert said(arrival(None, REPLY)) is Said.MESSAGE


@pytest.mark.parametrize("reply", ["", "$JS.ACKNOWLEDGE.x", "x.$JS.ACK.y", "$JS.ACK"])
def test_only_a_delivery_can_be_acknowledged(reply: str) -> None:
    assert said(arrival(None, reply)) is Said.REFUSED
    assert said(arrival({"Status": "408"}, reply)) is Said.OVER
