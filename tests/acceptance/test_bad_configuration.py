"""A wrong configuration stops the start with one line that names it; an unreachable NATS is waited for."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import product
from tests.acceptance.broker import Broker, NatsServer, broker
from tests.acceptance.checking import check_run
from tests.acceptance.product import Config, Result, Worker, free_port, until, write_config, write_secret
from tests.acceptance.providers import Providers
from tests.acceptance.world import World

Change = Callable[[Config], Any]


def good_config(folder: Path, url: str = "nats://127.0.0.1:1") -> Config:
    """A configuration with nothing wrong, for a NATS at `url`."""
    key = write_secret(folder, "shop", "1150000000000000001:" + "k" * 32)
    return {
        "nats": {"servers": [url]},
        "worker": {"http_port": 0},
        "accounts": {"shop": {"provider": "etelecom", "base_url": "http://127.0.0.1:1/v1/shop", "api_key_file": key}},
    }


async def start(config: Config | str, folder: Path, **environment: str) -> Result:
    """Run `followers worker` with a configuration that should stop it."""
    path = write_config({} if isinstance(config, str) else config, folder)
    if isinstance(config, str):
        path.write_text(config, encoding="utf-8")
    return await product.run("worker", "--config", str(path), folder=folder, environment=environment, timeout=20)


def check_refused(result: Result, *names: str) -> None:
    """Assert exit code 2 and one line on standard error with all of `names`."""
    lines = [line for line in result.err.splitlines() if line.strip()]
    assert result.code == 2, f"exit code {result.code}\n{result.err[-3000:]}"
    assert len(lines) == 1, result.err
    for name in names:
        assert name in lines[0], lines[0]
    assert "Traceback" not in result.err + result.out


CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "unknown-key": (lambda c: c["worker"].update(max_job=3), ("worker.max_job",)),
    "unknown-table": (lambda c: c.update(workers={"max_jobs": 3}), ("workers",)),
    "unknown-account-key": (lambda c: c["accounts"]["shop"].update(apikey="x"), ("accounts.shop", "apikey")),
    "wrong-type": (lambda c: c["worker"].update(max_jobs="many"), ("worker.max_jobs",)),
    "true-for-a-number": (lambda c: c["worker"].update(ack_wait=True), ("worker.ack_wait",)),
    "out-of-range": (lambda c: c["worker"].update(http_port=70_000), ("worker.http_port",)),
    "unknown-encoding": (lambda c: c["worker"].update(encoding="xml"), ("worker.encoding", "msgpack")),
    "unknown-provider": (lambda c: c["accounts"]["shop"].update(provider="zalo"), ("accounts.shop",)),
    "missing-secret-file": (
        lambda c: c["accounts"]["shop"].update(api_key_file="/nowhere/shop-key"),
        ("accounts.shop.api_key_file", "/nowhere/shop-key"),
    ),
    "no-secret": (lambda c: c["accounts"]["shop"].pop("api_key_file"), ("accounts.shop", "api_key")),
    "two-secrets": (lambda c: c["accounts"]["shop"].update(api_key="x" * 40), ("accounts.shop", "api_key")),
    "account-name": (
        lambda c: c["accounts"].update({'"my shop"': c["accounts"].pop("shop")}),
        ("accounts", "my shop"),
    ),
    "base-url": (lambda c: c["accounts"]["shop"].update(base_url="not a url"), ("accounts.shop.base_url",)),
    "servers": (lambda c: c["nats"].update(servers=["http://127.0.0.1:4222"]), ("nats.servers",)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_wrong_key_or_value_is_named_and_stops_the_start(tmp_path: Path, name: str) -> None:
    config = good_config(tmp_path)
    change, names = CHANGES[name]
    change(config)

    result = await start(config, tmp_path)

    check_refused(result, *names)


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("FOLLOWERS_WORKER__MAX_JOBS", "many", "MAX_JOBS"),
        ("FOLLOWERS_WORKER__MAX_JOB", "3", "MAX_JOB"),
        ("FOLLOWERS_NATS__REPLICAS", "2.5", "REPLICAS"),
    ],
)
async def test_a_wrong_environment_variable_is_named_and_stops_the_start(
    tmp_path: Path, variable: str, value: str, key: str
) -> None:
    result = await start(good_config(tmp_path), tmp_path, **{variable: value})

    check_refused(result)
    assert key.lower() in result.err.lower()


async def test_a_file_that_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    result = await start("[worker]\nmax_jobs = = 3\n", tmp_path)

    check_refused(result, "followers.toml", "line 2")


async def test_a_configuration_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = await product.run("worker", "--config", "/nowhere/followers.toml", folder=tmp_path)

    check_refused(result, "/nowhere/followers.toml")


async def test_a_secret_in_a_wrong_place_is_not_printed(tmp_path: Path) -> None:
    config = good_config(tmp_path)
    secret = "canarysecret" * 4
    config["accounts"]["shop"].update(api_key=secret)

    result = await start(config, tmp_path, FOLLOWERS_ACCOUNTS__SHOP__RATE_LIMIT=secret)

    assert result.code == 2
    assert "canarysecret" not in result.err + result.out


@pytest.fixture
async def bare_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A nats-server without any stream."""
    async with broker(tmp_path / "nats") as opened:
        yield opened


async def test_missing_streams_stop_the_start_and_say_what_to_run(bare_broker: Broker, tmp_path: Path) -> None:
    config = good_config(tmp_path, bare_broker.url)

    result = await start(config, tmp_path)

    check_refused(result, "FOLLOWERS_", "followers setup")


async def test_setup_check_tells_what_is_missing_and_changes_nothing(bare_broker: Broker, tmp_path: Path) -> None:
    path = write_config(good_config(tmp_path, bare_broker.url), tmp_path)

    result = await product.run("setup", "--check", "--config", str(path), folder=tmp_path)

    assert result.code == 1
    assert "FOLLOWERS_COMMANDS" in result.out + result.err
    assert await bare_broker.js.streams_info() == []


async def test_auto_setup_makes_what_is_missing(bare_broker: Broker, providers: Providers, tmp_path: Path) -> None:
    made = World(tmp_path, providers, bare_broker, {})
    made.config["nats"]["auto_setup"] = True
    oa = providers.oa(25)

    async with made.worker():
        run = await (await made.publish("shop", oa)).end()

    check_run(run, ids=providers.etelecom.ids(oa))
    streams = {info.config.name for info in await bare_broker.js.streams_info()}
    assert streams >= {"FOLLOWERS_COMMANDS", "FOLLOWERS_EVENTS", "FOLLOWERS_DEAD", "KV_FOLLOWERS_JOBS"}


async def test_an_unreachable_nats_is_waited_for_and_said(tmp_path: Path) -> None:
    port = free_port()
    config = good_config(tmp_path, f"nats://127.0.0.1:{port}")
    config["nats"]["auto_setup"] = True
    del config["worker"]
    worker = Worker(config, tmp_path / "worker")
    server = NatsServer(tmp_path / "nats", port)

    try:
        await worker.answers("/healthz", 200)
        await worker.answers("/readyz", 503)

        async def said() -> bool:
            return str(port) in worker.err

        assert await until(said, 5), "the log names the address that doesn't answer"
        await server.start()
        await worker.answers("/readyz", 200)
        stopped = await worker.stop()
    finally:
        await worker.destroy()
        await server.kill()

    assert stopped.code == 0
    assert "Traceback" not in worker.err
