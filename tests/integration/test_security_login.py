"""Getting into a real nats-server: every kind of credentials and TLS, the right and the wrong ones."""

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.integration import stage
from tests.integration.logins import Certificates, KeyPair, Operator
from worker.app import StartError, Worker
from worker.jetstream.client.connect import ConnectError, NatsOptions, connect

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
REFUSED = ("refuses the credentials", "cuts the connection at the login")


@pytest.fixture(autouse=True)
def _sweep() -> Iterator[None]:
    """nats-py drops the sockets of failed attempts without closing them: let none warn in another test."""
    yield
    gc.collect()


@contextlib.asynccontextmanager
async def starting(url: str, nats: Mapping[str, Any]) -> AsyncIterator[Worker]:
    """A worker that starts, or tries to, for as long as the block lasts."""
    worker = Worker(stage.settings(url, {}, nats={"auto_setup": True, **nats}))

    async def run() -> None:
        async with worker:
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(text: str | None, *reasons: str) -> bool:
    """Whether `text` gives one of the reasons."""
    return any(reason in (text or "") for reason in reasons)


async def assert_gets_in(url: str, nats: Mapping[str, Any]) -> None:
    async with starting(url, nats) as worker:
        await stage.until(lambda: worker.readiness.ready, 10, lambda: str(worker.readiness.why))


async def assert_stays_out(url: str, nats: Mapping[str, Any], *reasons: str) -> None:
    """It says why in one line, is not ready for that reason, and goes on trying."""

    with capture_logs() as logs:
        async with starting(url, nats) as worker:
            await stage.until(
                lambda: told(worker.readiness.why, *reasons), 10, lambda: f"{worker.readiness.why} {logs}"
            )
            assert not worker.readiness.ready
    lines = [line for line in logs if told(line.get("reason"), *reasons)]

    assert lines
    assert len(lines) <= 3, "one line of each kind, not one for each attempt"


def server_of(config: str) -> Any:
    return stage.server(config)


# Credentials.


async def test_user_and_password_let_in_and_a_wrong_password_does_not() -> None:
    async with server_of('authorization: {user: "w", password: "right"}') as server:
        await assert_gets_in(server.url, {"user": "w", "password": "right"})
        await assert_stays_out(server.url, {"user": "w", "password": "wrong"}, *REFUSED)
        await assert_stays_out(server.url, {}, *REFUSED)


async def test_a_token_lets_in_and_a_wrong_one_does_not() -> None:
    async with server_of('authorization: {token: "right"}') as server:
        await assert_gets_in(server.url, {"token": "right"})
        await assert_stays_out(server.url, {"token": "wrong"}, *REFUSED)


async def test_an_nkey_lets_in_and_a_foreign_one_does_not(tmp_path: Path) -> None:
    known, foreign = KeyPair("user"), KeyPair("user")
    (tmp_path / "known").write_bytes(known.seed + b"\n")
    (tmp_path / "foreign").write_bytes(foreign.seed)

    async with server_of(f"authorization: {{users: [{{nkey: {known.public}}}]}}") as server:
        await assert_gets_in(server.url, {"nkey_seed_file": str(tmp_path / "known")})
        await assert_stays_out(server.url, {"nkey_seed_file": str(tmp_path / "foreign")}, *REFUSED)


async def test_credentials_of_the_operator_let_in_and_those_of_another_do_not(tmp_path: Path) -> None:
    operator = Operator()
    (tmp_path / "known.creds").write_text(operator.creds())
    (tmp_path / "foreign.creds").write_text(Operator().creds())

    async with server_of(operator.config) as server:
        await assert_gets_in(server.url, {"creds_file": str(tmp_path / "known.creds")})
        await assert_stays_out(server.url, {"creds_file": str(tmp_path / "foreign.creds")}, *REFUSED)


async def test_a_rotated_credentials_file_is_used_at_the_next_reconnect(tmp_path: Path) -> None:
    operator, old, new = Operator(), KeyPair("user"), KeyPair("user")
    creds = tmp_path / "worker.creds"
    creds.write_text(operator.creds(old))

    async def who(monitor: str) -> list[str]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{monitor}/connz", params={"auth": "1"})
        return [
            connection.get("nkey") or connection.get("authorized_user", "")
            for connection in answer.json()["connections"]
        ]

    async with server_of(operator.config) as server, starting(server.url, {"creds_file": str(creds)}) as worker:
        await stage.until(lambda: worker.readiness.ready, 10)
        before = await who(server.monitor_url)
        (tmp_path / "next").write_text(operator.creds(new))
        os.replace(tmp_path / "next", creds)
        await server.restart()

        async def back_as_new() -> bool:
            return any(new.public in name for name in await who(server.monitor_url))

        await stage.until(back_as_new, 10)
        await stage.until(lambda: worker.readiness.ready, 10)

    assert any(old.public in name for name in before)


@stage.in_the_long_run
async def test_a_credentials_file_that_is_half_written_keeps_out_until_it_is_whole(tmp_path: Path) -> None:
    """nats-py's own reader would never return here, and freeze the worker with it."""
    operator = Operator()
    creds = tmp_path / "worker.creds"
    creds.write_text(operator.creds())

    async with server_of(operator.config) as server, starting(server.url, {"creds_file": str(creds)}) as worker:
        await stage.until(lambda: worker.readiness.ready, 10)
        whole = creds.read_text()
        creds.write_text("")
        await server.restart()
        await stage.until(lambda: "has no user seed" in (worker.readiness.why or ""), 10)
        creds.write_text(whole)
        await stage.until(lambda: worker.readiness.ready, 10)


async def test_credentials_that_expire_are_read_again_without_a_restart(tmp_path: Path) -> None:
    operator = Operator()
    creds = tmp_path / "worker.creds"
    creds.write_text(operator.creds(valid_for=2))

    async with server_of(operator.config) as server, starting(server.url, {"creds_file": str(creds)}) as worker:
        await stage.until(lambda: worker.readiness.ready, 10)
        await stage.until(lambda: told(worker.readiness.why, *REFUSED), 10, lambda: str(worker.readiness.why))
        creds.write_text(operator.creds())
        await stage.until(lambda: worker.readiness.ready, 10)


async def test_a_worker_that_is_refused_at_its_start_waits_until_it_is_let_in() -> None:
    config = 'authorization: {users: [{user: "worker", password: "another"}]}'
    async with server_of(config) as server, starting(server.url, {"user": "worker", "password": "right"}) as worker:
        await stage.until(lambda: told(worker.readiness.why, *REFUSED), 10, lambda: str(worker.readiness.why))
        file = server.folder / "nats-server.conf"
        file.write_text(file.read_text("utf-8").replace('"another"', '"right"'), "utf-8")
        os.kill(server.pid, signal.SIGHUP)

        await stage.until(lambda: worker.readiness.ready, 10, lambda: str(worker.readiness.why))


@stage.in_the_long_run
async def test_a_user_taken_off_the_server_turns_readiness_off_until_it_is_back() -> None:
    config = 'authorization: {users: [{user: "worker", password: "right"}, {user: "other", password: "right"}]}'
    async with (
        server_of(config) as server,
        starting(server.url, {"user": "worker", "password": "right"}) as worker,
    ):
        await stage.until(lambda: worker.readiness.ready, 10)
        file = server.folder / "nats-server.conf"
        rendered = file.read_text("utf-8")
        file.write_text(rendered.replace('"worker"', '"nobody"'), "utf-8")
        os.kill(server.pid, signal.SIGHUP)
        await stage.until(lambda: told(worker.readiness.why, *REFUSED), 10, lambda: str(worker.readiness.why))
        file.write_text(rendered, "utf-8")
        os.kill(server.pid, signal.SIGHUP)
        await stage.until(lambda: worker.readiness.ready, 10)


@pytest.mark.parametrize(
    ("key", "content", "complaint"),
    [
        ("creds_file", "nothing of the sort", "has no user jwt"),
        ("creds_file", "-----BEGIN NATS USER JWT-----\nabc\n-----END", "has no user seed"),
        ("nkey_seed_file", "SUNOTASEED", "holds no usable nkey seed"),
        ("tls_ca", "nothing of the sort", "TLS files of NATS can't be used"),
    ],
)
async def test_a_file_that_can_never_work_ends_the_start(
    tmp_path: Path, key: str, content: str, complaint: str
) -> None:
    (tmp_path / "file").write_text(content)

    with pytest.raises(StartError, match=complaint) as caught:
        Worker(stage.settings("nats://127.0.0.1:1", {}, nats={key: str(tmp_path / "file")}))

    assert content not in str(caught.value)


async def test_an_unusable_file_is_exit_code_2_of_the_worker(tmp_path: Path) -> None:
    (tmp_path / "empty.creds").write_text("x")
    sections = stage.sections_for("nats://127.0.0.1:1", {}, nats={"creds_file": str(tmp_path / "empty.creds")})

    async with stage.replica(sections, tmp_path, ready=False) as replica:
        assert await replica.ended() == 2
        assert "has no user jwt" in (await replica.says("worker.not_started"))["reason"]


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.new(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.new(tmp_path_factory.mktemp("tls") / "others")


async def test_tls_is_checked_against_the_authority_of_the_settings(
    certificates: Certificates, others: Certificates
) -> None:
    async with server_of(certificates.server_config()) as server:
        await assert_gets_in(server.url, {"tls_ca": certificates.ca})
        await assert_stays_out(server.url, {"tls_ca": others.ca}, "certificate is refused (")
        await assert_stays_out(server.url, {}, "certificate is refused (")


async def test_a_certificate_for_another_host_is_refused(certificates: Certificates) -> None:
    async with server_of(certificates.server_config("nats.example")) as server:
        await assert_stays_out(server.url, {"tls_ca": certificates.ca}, "certificate is not valid for '127.0.0.1'")


async def test_a_client_certificate_is_shown_where_the_server_wants_one(
    certificates: Certificates, others: Certificates
) -> None:
    ours, theirs = certificates.issue("worker.example"), others.issue("worker.example")
    trusted = {"tls_ca": certificates.ca}

    async with server_of(certificates.server_config(clients_of=certificates)) as server:
        await assert_gets_in(server.url, trusted | {"tls_cert": ours[0], "tls_key": ours[1]})
        await assert_stays_out(server.url, trusted, "TLS with NATS fails", "cuts the connection")
        foreign = trusted | {"tls_cert": theirs[0], "tls_key": theirs[1]}
        await assert_stays_out(server.url, foreign, "TLS with NATS fails", "cuts the connection")


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_no_password_is_sent_to_a_server_that_offers_no_tls(certificates: Certificates, scheme: str) -> None:
    """Whoever stands in between can leave TLS out of the greeting, and nats-py would send the password in the clear."""
    heard = bytearray()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "X", "version": "2.15.1", "max_payload": 1048576, "auth_required": True, "headers": True}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        heard.extend(await reader.read())
        writer.close()

    thief = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{thief.sockets[0].getsockname()[1]}"
    login = {"user": "w", "password": "invented-password"}
    tls = {"tls_ca": certificates.ca} if scheme == "nats" else {}
    async with thief:
        await assert_stays_out(url, login | tls, "offers no TLS")
        with pytest.raises(ConnectError, match="offers no TLS"):
            await connect(NatsOptions(servers=(url,), tls_ca=tls.get("tls_ca"), **login))

    assert heard == b""


async def test_a_command_of_people_says_why_it_is_not_let_in(certificates: Certificates, others: Certificates) -> None:
    async with server_of(certificates.server_config()) as server:
        with pytest.raises(ConnectError, match="certificate is refused"):
            await connect(NatsOptions(servers=(server.url,), tls_ca=others.ca))
        client = await connect(NatsOptions(servers=(server.url,), tls_ca=certificates.ca))
        await client.close()
