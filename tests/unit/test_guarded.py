"""What our client does where nats-py's would send a password, or never end."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error

from worker.jetstream.client.fast import SwiftClient
from worker.jetstream.client.secure import GuardedClient, LoginCutError, PlaintextError


@pytest.fixture
def client() -> GuardedClient:
    made = GuardedClient()
    made.options = {"tls": None}
    return made


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, outcome: Any = None) -> list[tuple[Any, ...]]:
    """Let nats-py's method do nothing but be seen, or fail."""
    seen: list[tuple[Any, ...]] = []

    async def instead(self: Client, *arguments: Any) -> None:
        seen.append(arguments)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(SwiftClient, name, instead)
    return seen


@pytest.mark.parametrize(
    ("greeting", "cut"),
    [({"auth_required": True}, True), ({"tls_verify": True}, True), ({}, False), ({"auth_required": False}, False)],
)
async def test_a_cut_while_we_log_in_is_told_apart_from_an_outage(
    client: GuardedClient, monkeypatch: pytest.MonkeyPatch, greeting: dict[str, bool], cut: bool
) -> None:
    replaced(monkeypatch, "_process_connect_init", ConnectionResetError("reset"))
    client._server_info = greeting

    with pytest.raises(LoginCutError if cut else ConnectionResetError):
        await client._process_connect_init()


async def test_once_closed_it_connects_no_more(client: GuardedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, closes = replaced(monkeypatch, "_connect_to_server"), replaced(monkeypatch, "_close")
    server: Any = object()
    await client._connect_to_server(server)
    await client._close(Client.CLOSED)

    with pytest.raises(asyncio.CancelledError):
        await client._connect_to_server(server)

    assert attempts == [(server,)]
    assert closes == [(Client.CLOSED, True)]


async def test_after_a_failed_login_it_goes_on_connecting(
    client: GuardedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = replaced(monkeypatch, "_connect_to_server")
    replaced(monkeypatch, "_close")
    server: Any = object()

    await client._close(Client.DISCONNECTED, False)
    await client._connect_to_server(server)

    assert client._status == Client.DISCONNECTED
    assert attempts == [(server,)]


async def test_closed_for_good_stays_so(client: GuardedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, "_close")
    await client._close(Client.CLOSED)
    await client._close(Client.DISCONNECTED)

    with pytest.raises(asyncio.CancelledError):
        await client._connect_to_server(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "connected", "again"),
    [
        ("'Authorization Violation'", True, True),
        ("'User Authentication Expired'", True, True),
        ("'user authentication revoked'", True, True),
        ("'Authorization Violation'", False, False),
        ("'Stale Connection'", True, False),
    ],
)
async def test_a_login_that_ends_in_mid_flight_is_followed_by_another(
    client: GuardedClient, monkeypatch: pytest.MonkeyPatch, said: str, connected: bool, again: bool
) -> None:
    told: list[Exception] = []

    async def tell(error: Exception) -> None:
        told.append(error)

    client._error_cb = tell
    client._status = Client.CONNECTED if connected else Client.CONNECTING
    reconnects, ends = replaced(monkeypatch, "_process_op_err"), replaced(monkeypatch, "_process_err")

    await client._process_err(said)

    assert (len(reconnects), len(ends)) == ((1, 0) if again else (0, 1))
    assert [str(error) for error in told] == ([f"nats: {said.strip(chr(39))}"] if again else [])
    assert all(isinstance(error, Error) for error in told)


def test_nothing_is_sent_to_a_server_without_the_tls_that_was_asked_for(client: GuardedClient) -> None:
    client.options["tls"] = object()

    with pytest.raises(PlaintextError, match="offers no TLS"):
        client._connect_command()
