"""How we connect to NATS, to the letter, and what people are told when that fails."""

import asyncio
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import nkeys
import pytest
import structlog
import trustme
from nats.errors import AuthorizationError, NoServersError
from structlog.testing import capture_logs

from worker.jetstream.client import connect as connection
from worker.jetstream.client.connect import ConnectError, NatsOptions, credentials, options, public_url
from worker.jetstream.client.secure import CredentialsError, CredentialsFile, GuardedClient, check_creds, check_seed

HERE = NatsOptions(servers=("nats://127.0.0.1:4222",))
SEED = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
CREDS = (
    b"""-----BEGIN NATS USER JWT-----
 eyJ0eXAi.jwt.sig
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
%s
------END USER NKEY SEED------
"""
    % SEED
)


@pytest.fixture
def creds(tmp_path: Path) -> Path:
    path = tmp_path / "user.creds"
    path.write_bytes(CREDS)
    return path


def test_a_connection_never_gives_up_and_keeps_little_while_the_server_is_away() -> None:
    found = options(NatsOptions(servers=("nats://a:4222", "nats://b:4222"), inbox_prefix="_INBOX_worker"))

    callbacks = {name for name in found if name.endswith("_cb")}
    assert callbacks == {"error_cb", "disconnected_cb", "reconnected_cb"}
    assert {name: value for name, value in found.items() if name not in callbacks} == {
        "servers": ["nats://a:4222", "nats://b:4222"],
        "name": "followers",
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.5,
        "connect_timeout": 2,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "pending_size": 2_097_152,
        "inbox_prefix": "_INBOX_worker",
    }
    assert options(HERE)["inbox_prefix"] == "_INBOX"


async def test_coming_and_going_is_logged_without_what_an_error_quotes() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    found = options(HERE)

    with capture_logs() as lines:
        await found["error_cb"](ValueError("nats://user:secret@host"))
        await found["disconnected_cb"]()
        await found["reconnected_cb"]()

    assert lines == [
        {"event": "nats.error", "error": "ValueError", "log_level": "warning"},
        {"event": "nats.disconnected", "log_level": "warning"},
        {"event": "nats.reconnected", "log_level": "info"},
    ]


def test_without_credentials_none_are_given() -> None:
    assert credentials(HERE) == {}


def test_a_password_and_a_token_are_given_as_they_are() -> None:
    given = NatsOptions(servers=(), user="u", password="p", token="t")

    assert credentials(given) == {"user": "u", "password": "p", "token": "t"}
    assert "'p'" not in repr(given)
    assert "'t'" not in repr(given)


def test_a_creds_file_is_read_at_each_login(creds: Path) -> None:
    given = credentials(NatsOptions(servers=(), creds_file=str(creds)))

    assert set(given) == {"user_jwt_cb", "signature_cb"}
    assert given["user_jwt_cb"]() == b"eyJ0eXAi.jwt.sig"
    creds.write_bytes(CREDS.replace(b"eyJ0eXAi", b"rotated"))
    assert given["user_jwt_cb"]() == b"rotated.jwt.sig"
    assert len(given["signature_cb"]("nonce")) == 88


def test_a_seed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "user.nk"
    path.write_bytes(b"\n" + SEED + b"\n")

    assert credentials(NatsOptions(servers=(), nkey_seed_file=str(path))) == {"nkeys_seed": str(path)}


@pytest.mark.parametrize("kind", ["creds_file", "nkey_seed_file"])
def test_a_file_that_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    with pytest.raises(ConnectError) as raised:
        credentials(NatsOptions(servers=(), **{kind: missing}))

    assert str(raised.value) == f"{missing} can't be read: No such file or directory"


@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        (b"", "jwt"),
        (CREDS.replace(b"NATS USER JWT", b"SOMETHING ELSE"), "jwt"),
        (CREDS.replace(b" eyJ0eXAi.jwt.sig\n", b""), "jwt"),
        (CREDS.replace(b" eyJ0eXAi.jwt.sig\n", b"\n"), "jwt"),
        (CREDS.replace(b"USER NKEY SEED", b"SOMETHING ELSE"), "seed"),
        (CREDS.replace(SEED + b"\n", b""), "seed"),
        (CREDS.split(SEED)[0], "seed"),
    ],
)
def test_a_creds_file_that_lacks_a_part_says_which(content: bytes, lacks: str, creds: Path) -> None:
    creds.write_bytes(content)

    with pytest.raises(CredentialsError) as raised:
        check_creds(str(creds))

    text = f"{creds} has no user {lacks}: it must be a .creds file as `nsc generate creds` writes it"
    assert str(raised.value) == text


def test_a_seed_that_is_none_is_not_quoted(tmp_path: Path, creds: Path) -> None:
    path = tmp_path / "user.nk"
    path.write_bytes(b"SUSECRET")
    creds.write_bytes(CREDS.replace(SEED, b"SUSECRET"))

    for check, file in ((check_seed, path), (check_creds, creds)):
        with pytest.raises(CredentialsError) as raised:
            check(str(file))
        assert str(raised.value) == f"{file} holds no usable nkey seed: it must start with SU"
        assert raised.value.__suppress_context__


def test_a_signature_is_that_of_the_seed_in_base64(creds: Path) -> None:
    import base64

    signature = CredentialsFile(str(creds)).sign("nonce")

    pair = nkeys.from_seed(bytearray(SEED))
    assert signature == base64.b64encode(pair.sign(b"nonce"))


def test_tls_is_asked_for_by_a_file_of_ours_or_of_the_servers(tmp_path: Path) -> None:
    authority = trustme.CA()
    ours = authority.issue_cert("client")
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    ours.cert_chain_pems[0].write_to_path(cert)
    ours.private_key_pem.write_to_path(key)

    assert connection.tls_context(HERE) is None
    checked = connection.tls_context(NatsOptions(servers=(), tls_ca=ca))
    assert checked is not None
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(checked.get_ca_certs()) == 1
    assert isinstance(connection.tls_context(NatsOptions(servers=(), tls_cert=cert, tls_key=key)), ssl.SSLContext)
    assert set(credentials(NatsOptions(servers=(), tls_ca=ca))) == {"tls"}


@pytest.mark.parametrize("kind", ["tls_ca", "tls_cert"])
def test_tls_files_that_cannot_be_used_are_named_by_their_settings(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"^the TLS files of NATS can't be used \(.*\): check nats\.tls_ca"):
        connection.tls_context(NatsOptions(servers=(), **{kind: str(tmp_path / "missing")}))


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        ("nats://user:secret@host:4222", "nats://host:4222"),
        ("user:s@cret@host", "nats://host"),
        ("host:4222", "nats://host:4222"),
        ("tls://token@host", "tls://host"),
        ("wss://host/path", "wss://host"),
    ],
)
def test_a_servers_address_is_shown_without_what_may_be_a_password(server: str, shown: str) -> None:
    assert public_url(server) == shown


TWO = NatsOptions(servers=("nats://u:p@a:1", "b:2"))
WHAT_TO_DO = "start a nats-server there, or set nats.servers (FOLLOWERS_NATS__SERVERS)"


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (None, ""),
        (NoServersError(), " (NoServersError)"),
        (ConnectionRefusedError(111, "Connection refused"), " (Connection refused)"),
        (OSError("nats://u:p@a:1"), " (OSError)"),
    ],
)
def test_a_server_that_is_not_there_is_told_with_the_kind_of_trouble(problem: Exception | None, kind: str) -> None:
    text = connection._explain(TWO, problem, 2.5)

    assert text == f"NATS at nats://a:1, nats://b:2 can't be reached within 2.5 s{kind}: {WHAT_TO_DO}"


def test_a_server_that_does_not_let_us_in_is_told_with_the_reason() -> None:
    text = connection._explain(TWO, AuthorizationError(), 2.5)

    assert text.startswith("nats://a:1, nats://b:2: NATS refuses the credentials: check creds_file")


@pytest.mark.parametrize(
    ("tls", "server", "wanted"),
    [
        (None, None, False),
        (None, "nats://a", False),
        (None, "tls://a", True),
        (ssl.create_default_context(), None, True),
        (ssl.create_default_context(), "nats://a", True),
    ],
)
async def test_tls_is_wanted_once_the_options_or_the_address_ask_for_it(
    tls: ssl.SSLContext | None, server: str | None, wanted: bool
) -> None:
    from urllib.parse import urlparse

    from nats.aio.client import Srv

    client = GuardedClient()
    client.options = {"tls": tls}
    client._current_server = Srv(uri=urlparse(server)) if server else None

    assert client._wants_tls() is wanted
    assert client._has_tls() is False


async def test_an_attempt_that_is_given_up_ends_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[GuardedClient] = []

    async def hang(client: GuardedClient, **arguments: Any) -> None:
        await asyncio.Event().wait()

    async def close(client: GuardedClient) -> None:
        closed.append(client)

    monkeypatch.setattr(GuardedClient, "connect", hang)
    monkeypatch.setattr(GuardedClient, "close", close)
    attempt = asyncio.ensure_future(connection._connect({}))
    await asyncio.sleep(0)
    attempt.cancel()

    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert len(closed) == 1


async def test_a_refusal_is_told_at_once_and_any_other_trouble_after_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def troubled(error: Exception, wait: float) -> float:
        async def attempt(arguments: Any) -> GuardedClient:
            await arguments["error_cb"](error)
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(connection, "_connect", attempt)
        began = time.monotonic()
        with pytest.raises(ConnectError):
            await connection.connect(HERE, wait=wait)
        return time.monotonic() - began

    assert await troubled(AuthorizationError(), wait=60) < 30
    assert await troubled(NoServersError(), wait=0.2) >= 0.2
