"""The command line gets into a nats-server with the credentials of its settings, and says so when it doesn't."""

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from tests.integration import stage
from tests.integration.logins import Certificates, KeyPair, Operator
from worker.cli import app
from worker.embedded import EmbeddedServer

REFUSED = (
    "refuses the credentials",
    "cuts the connection at the login",
    "TLS with NATS fails",
    "certificate is refused",
)


async def followers(url: str, *arguments: str, **nats: str) -> Result:
    """Run a command with these settings of `[nats]`."""
    given = {"SERVERS": json.dumps([url])} | {name.upper(): value for name, value in nats.items()}
    env = {f"FOLLOWERS_NATS__{name}": value for name, value in given.items()}
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=env)


async def check(url: str, right: dict[str, str], *wrong: dict[str, str]) -> None:
    """With `right` it gets in and does its work, with anything else it ends with one line and code 2."""
    for nats in wrong:
        result = await followers(url, "jobs", "--json", **nats)
        assert (result.exit_code, result.stdout) == (2, "")
        assert any(reason in result.stderr for reason in REFUSED), result.stderr
    assert (await followers(url, "setup", **right)).exit_code == 0
    listed = await followers(url, "jobs", "--json", **right)
    assert (listed.exit_code, listed.stdout) == (0, "[]\n")


async def test_with_an_nkey(tmp_path: Path) -> None:
    known, foreign = KeyPair("user"), KeyPair("user")
    for name, pair in (("known", known), ("foreign", foreign)):
        (tmp_path / name).write_bytes(pair.seed + b"\n")

    async with stage.server(f"authorization: {{users: [{{nkey: {known.public}}}]}}") as server:
        await check(
            server.url, {"nkey_seed_file": str(tmp_path / "known")}, {"nkey_seed_file": str(tmp_path / "foreign")}, {}
        )


async def test_an_nkey_file_that_holds_none_is_named(tmp_path: Path, nats_server: EmbeddedServer) -> None:
    (tmp_path / "seed").write_text("no seed")

    result = await followers(nats_server.url, "jobs", nkey_seed_file=str(tmp_path / "seed"))

    assert result.exit_code == 2
    assert str(tmp_path / "seed") in result.stderr.replace("\n", "")


async def test_with_user_and_password() -> None:
    async with stage.server('authorization: {user: "w", password: "right"}') as server:
        await check(server.url, {"user": "w", "password": "right"}, {"user": "w", "password": "wrong"}, {})


async def test_with_a_token() -> None:
    async with stage.server('authorization: {token: "right"}') as server:
        await check(server.url, {"token": "right"}, {"token": "wrong"}, {})


async def test_with_a_credentials_file(tmp_path: Path) -> None:
    operator = Operator()
    (tmp_path / "known.creds").write_text(operator.creds())
    (tmp_path / "foreign.creds").write_text(Operator().creds())

    async with stage.server(operator.config) as server:
        await check(
            server.url, {"creds_file": str(tmp_path / "known.creds")}, {"creds_file": str(tmp_path / "foreign.creds")}
        )


async def test_with_a_certificate(tmp_path: Path) -> None:
    ours, theirs = Certificates.new(tmp_path / "ours"), Certificates.new(tmp_path / "theirs")
    known, foreign = ours.issue("worker"), theirs.issue("worker")

    async with stage.server(ours.server_config(clients_of=ours)) as server:
        url = server.url.replace("nats:", "tls:")
        await check(
            url,
            {"tls_ca": ours.ca, "tls_cert": known[0], "tls_key": known[1]},
            {"tls_ca": ours.ca, "tls_cert": foreign[0], "tls_key": foreign[1]},
            {"tls_ca": theirs.ca, "tls_cert": known[0], "tls_key": known[1]},
        )


async def test_with_an_inbox_of_its_own() -> None:
    prefix = "_INBOX_reader"
    rights = f'permissions: {{subscribe: ["{prefix}.>"], publish: [">"]}}'

    async with stage.server(f'authorization: {{users: [{{user: "w", password: "x", {rights}}}]}}') as server:
        assert (await followers(server.url, "setup", user="w", password="x", inbox_prefix=prefix)).exit_code == 0
