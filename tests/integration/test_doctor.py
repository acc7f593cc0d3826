"""`followers doctor`: what it says of a server and of accounts, well and unwell."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from typer.testing import CliRunner, Result

from tests.integration import stage
from tests.integration.hostile import hostile, saying
from tests.integration.parties import block, followers, parties
from worker.cli import app
from worker.embedded import EmbeddedServer, find_server
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology import doctor as checkup
from worker.jetstream.topology.assets import expected
from worker.jetstream.topology.permissions import (
    USER_INFO,
    Layout,
    Role,
    User,
    accounts_block,
    inbox_prefix,
    permissions,
)
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY, SHOP_KEY, Fault

ALL = len(expected(TopologyConfig()))
Run = Callable[..., Awaitable[Result]]
Found = dict[tuple[str, str], dict[str, str]]


async def doctor(*arguments: str, url: str, accounts: dict[str, Any] | None = None, **env: str) -> Result:
    settings = {
        f"FOLLOWERS_ACCOUNTS__{name.upper()}__{key.upper()}": str(value)
        for name, account in (accounts or {}).items()
        for key, value in account.items()
    }
    environment = {"FOLLOWERS_NATS__SERVERS": json.dumps([url])} | settings | env
    return await asyncio.to_thread(CliRunner().invoke, app, ["doctor", *arguments], env=environment)


def found_by(result: Result) -> Found:
    return {(item["check"], item["subject"]): item for item in json.loads(result.stdout)}


def states(found: Found) -> dict[str, set[str]]:
    grouped: dict[str, set[str]] = {}
    for (check, _), item in found.items():
        grouped.setdefault(check, set()).add(item["state"])
    return grouped


@pytest.fixture
async def providers() -> AsyncIterator[stage.Providers]:
    async with stage.providers(followers=3) as started:
        yield started


@pytest.fixture
async def url(nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext) -> str:
    """A server where `followers setup` has run."""
    await reconcile(nats_client, TopologyConfig())
    return nats_server.url


async def test_a_server_and_accounts_that_are_well(
    url: str, nats_server: EmbeddedServer, providers: stage.Providers
) -> None:
    result = await doctor("--json", "--monitor", nats_server.monitor_url, url=url, accounts=providers.accounts)

    found = found_by(result)
    assert result.exit_code == 0, result.stdout
    assert found["account.key", "shop"]["detail"] == f"the key is good and may read 1 OAs: {OA_ID} (OA 0001)"
    assert found["account.key", "esms"]["detail"] == f"the key is good and may read 1 OAs: {OA_ID} (OA 0001)"
    assert found["nats.sync_interval", "server"]["detail"].startswith("every message is on disk")
    assert found["nats.assets", f"{ALL} of {ALL}"]["state"] == "ok"
    assert states(found) | {"nats.version": {"ok"}} == {
        "nats.version": {"ok"},
        "nats.transport": {"ok"},
        "nats.max_payload": {"ok"},
        "nats.permissions": {"warn"},
        "nats.accounts": {"warn"},
        "nats.assets": {"ok"},
        "nats.storage": {"ok"},
        "nats.replicas": {"warn"},
        "clock": {"ok"},
        "workers": {"warn"},
        "nats.sync_interval": {"ok"},
        "account.key": {"ok"},
        "demo.server": {"ok"},
    }
    assert [entry.endpoint for entry in providers.etelecom.requests] == ["ListOA"]
    assert [entry.endpoint for entry in providers.esms.requests] == ["GetListZOA"]


async def test_people_read_a_line_a_check_and_what_to_do(url: str) -> None:
    result = await doctor("--no-accounts", url=url)

    text = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert "warn workers worker-esms: 0 commands wait, 0 are in hand, 0 slots ask for more" in text
    assert "→ start one: `followers worker`" in text
    assert re.fullmatch(r"\d+ checks: \d+ warnings\n", result.stderr)


async def test_the_nats_server_that_is_run_here_is_named(url: str, tmp_path: Path) -> None:
    program = find_server()
    named = shutil.copy(program.path, tmp_path / "another-server")

    found = found_by(await doctor("--json", "--no-accounts", url=url))
    other = found_by(await doctor("--json", "--no-accounts", url=url, FOLLOWERS_EMBEDDED__SERVER=str(named)))

    where = "demo.server", "followers demo"
    assert found[where]["detail"] == f"would run {program.described()}"
    assert re.search(rf"v[0-9.]+ at {re.escape(str(program.path))}, from ", found[where]["detail"])
    assert other[where]["detail"].endswith(f"at {named}, from embedded.server")


async def test_no_secret_is_printed(url: str, providers: stage.Providers) -> None:
    providers.esms.inject(Fault(kind="error", code="101", message=f"bad {SECRET_KEY}"))
    broken = providers.accounts
    broken["shop"]["api_key"] = "1150000000000000001:" + "wrongwrong" * 6

    for arguments in ((), ("--json",)):
        result = await doctor(*arguments, url=url, accounts=broken)
        assert not any(secret in result.output for secret in (API_KEY, SECRET_KEY, "wrongwrong"))


async def test_keys_that_are_refused_fail_with_what_to_do(url: str, providers: stage.Providers) -> None:
    broken = providers.accounts
    broken["shop"]["api_key"] = "1150000000000000001:" + "wrongwrong" * 6
    broken["esms"]["secret_key"] = "wrong"

    result = await doctor("--json", url=url, accounts=broken)

    found = found_by(result)
    assert result.exit_code == 1
    for name in ("shop", "esms"):
        assert found["account.key", name]["state"] == "fail"
        assert found["account.key", name]["detail"].startswith("unauthorized: ")
        assert f"check accounts.{name}.api_key" in found["account.key", name]["detail"]


async def test_a_provider_that_is_away_is_told(url: str) -> None:
    nowhere = {"provider": "etelecom", "base_url": f"http://127.0.0.1:{stage.free_port()}/v1", "api_key": SHOP_KEY}

    result = await doctor("--json", url=url, accounts={"shop": nowhere})

    assert result.exit_code == 1
    assert found_by(result)["account.key", "shop"]["detail"].startswith("provider_unavailable: 127.0.0.1 can't be")


async def test_an_error_or_a_page_that_comes_with_200_is_no_good_key(url: str) -> None:
    refusal = json.dumps({"code": "unauthenticated", "msg": f"who is {SHOP_KEY}"})
    page = "<html><title>Sign in to WiFi</title></html>"
    other = json.dumps({"message": f"who is {API_KEY} with {SECRET_KEY}"})
    answers = {"refusing": saying(refusal), "portal": saying(page, content_type="text/html"), "other": saying(other)}
    async with hostile(answers) as provider:
        accounts = {
            kind: {"provider": "etelecom", "base_url": f"{provider.url}/{kind}/v1/shop", "api_key": SHOP_KEY}
            for kind in ("refusing", "portal")
        }
        accounts["json"] = {
            "provider": "esms", "base_url": f"{provider.url}/other", "api_key": API_KEY, "secret_key": SECRET_KEY,
        }  # fmt: skip
        result = await doctor("--json", url=url, accounts=accounts)

    found = {name: found_by(result)["account.key", name] for name in accounts}

    assert {item["state"] for item in found.values()} == {"fail"}
    assert "refused with unauthenticated: “who is ***”" in found["refusing"]["detail"]
    assert found["portal"]["detail"].startswith("provider_unavailable: ")
    assert "(“Sign in to WiFi”)" in found["portal"]["detail"]
    assert found["json"]["detail"].startswith("provider_unavailable: ")
    assert "JSON without CodeResult (“who is *** with ***”)" in found["json"]["detail"]
    assert not any(secret in result.output for secret in (SHOP_KEY.split(":")[1], API_KEY, SECRET_KEY))


async def test_an_address_without_its_path_is_named_before_a_key_is_sent(url: str) -> None:
    bare = {"provider": "etelecom", "base_url": "http://127.0.0.1:9", "api_key": SHOP_KEY}

    result = await doctor("--json", url=url, accounts={"shop": bare})

    assert found_by(result)["account.key", "shop"]["detail"].startswith("not_found: accounts.shop.base_url has no path")


async def test_without_a_list_of_accounts_the_key_is_tried_another_way(url: str, providers: stage.Providers) -> None:
    providers.etelecom.inject(Fault(kind="error", endpoint="ListOA", code="bad_route", times=1))

    result = await doctor("--json", url=url, accounts={"shop": providers.accounts["shop"]})

    assert found_by(result)["account.key", "shop"]["detail"].startswith("the key is good; the provider has no list")
    assert [entry.endpoint for entry in providers.etelecom.requests] == ["ListOA", "CurrentAccount"]


async def test_what_setup_would_make_or_change_fails(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext
) -> None:
    nothing = await doctor("--json", "--no-accounts", url=nats_server.url)
    await reconcile(nats_client, TopologyConfig())
    await js.delete_consumer("FOLLOWERS_COMMANDS", "worker-esms")
    shorter = await doctor("--json", "--no-accounts", url=nats_server.url, FOLLOWERS_STREAMS__DEAD_MAX_AGE="3600")

    assert (nothing.exit_code, shorter.exit_code) == (1, 1)
    assert found_by(nothing)["nats.assets", "stream FOLLOWERS_EVENTS"]["advice"] == "run `followers setup`"
    found = found_by(shorter)
    assert found["nats.assets", "consumer worker-esms"]["detail"] == "is missing"
    assert found["nats.assets", "stream FOLLOWERS_DEAD"]["advice"].startswith("change it by hand")


async def test_without_nats_the_accounts_are_still_tried(providers: stage.Providers) -> None:
    result = await doctor("--json", url="nats://127.0.0.1:1", accounts=providers.accounts)

    found = found_by(result)
    assert result.exit_code == 1
    assert found["nats.connect", "server"]["detail"].startswith("NATS at nats://127.0.0.1:1 can't be reached")
    assert found["account.key", "esms"]["state"] == "ok"


async def test_the_workers_user_is_seen_to_have_its_rights_and_no_more(providers: stage.Providers) -> None:
    users = [User(role=role, login={"user": role, "password": "x"}) for role in ("admin", "worker")]
    async with stage.server(accounts_block(users)) as server:
        admin = await connect(NatsOptions(servers=(server.url,), user="admin", password="x"))
        await reconcile(admin, TopologyConfig())
        await admin.close()
        login: dict[str, Any] = {
            "FOLLOWERS_NATS__USER": "worker",
            "FOLLOWERS_NATS__PASSWORD": "x",
            "FOLLOWERS_NATS__INBOX_PREFIX": inbox_prefix("worker"),
        }
        result = await doctor("--json", "--no-accounts", url=server.url, **login)

    found = found_by(result)
    assert result.exit_code == 0, result.stdout
    assert found["nats.permissions", "user worker"]["detail"] == "all that a worker needs"
    assert found["clock", "server"]["state"] == "ok"
    assert {item["state"] for (check, _), item in found.items() if check == "nats.assets"} == {"ok"}


@pytest.mark.parametrize(
    ("layout", "role", "state", "text"),
    [
        ("one", "worker", "warn", "publishers, readers and workers share account FOLLOWERS"),
        ("accounts", "worker", "ok", "in account FOLLOWERS this user answers requests of other accounts"),
        ("accounts", "viewer", "ok", "account FOLLOWERS_VIEWERS is apart from that of the streams"),
        ("one", "admin", "unknown", "can't be seen by a user that may do everything"),
        ("accounts", "publisher", "unknown", "can't be seen: this user may not ask who it is"),
    ],
)
async def test_who_shares_an_account_is_told_as_far_as_it_can_be_seen(
    layout: Layout, role: Role, state: str, text: str
) -> None:
    async with stage.server(block(layout)) as server:
        async with parties(server.url) as here:
            await reconcile(await here.enter("admin"), TopologyConfig())
        result = await followers(server.url, role, "doctor", "--json", "--no-accounts")

    found = found_by(result)["nats.accounts", "who shares an account"]
    assert found["state"] == state, found
    assert found["detail"].startswith(text)


async def test_a_worker_with_schedules_is_seen_to_lack_the_bucket_and_the_rights_for_them() -> None:
    users = [User(role=role, login={"user": role, "password": "x"}) for role in ("admin", "worker")]
    users.append(User(role="worker", login={"user": "scheduling", "password": "x"}, schedules=True))
    sections: dict[str, Any] = {
        "FOLLOWERS_NATS__PASSWORD": "x",
        "FOLLOWERS_NATS__INBOX_PREFIX": inbox_prefix("worker"),
        "FOLLOWERS_ACCOUNTS__SHOP__PROVIDER": "etelecom",
        "FOLLOWERS_ACCOUNTS__SHOP__API_KEY": "1:invented",
        "FOLLOWERS_SCHEDULES__NIGHTLY__CRON": "0 3 * * *",
        "FOLLOWERS_SCHEDULES__NIGHTLY__PROVIDER": "etelecom",
        "FOLLOWERS_SCHEDULES__NIGHTLY__OA_ID": OA_ID,
    }
    async with stage.server(accounts_block(users)) as server:
        admin = await connect(NatsOptions(servers=(server.url,), user="admin", password="x"))
        await reconcile(admin, TopologyConfig())
        await admin.jetstream().delete_stream("KV_FOLLOWERS_SCHEDULES")
        await admin.close()
        results = {
            name: await doctor("--json", "--no-accounts", url=server.url, **sections, FOLLOWERS_NATS__USER=name)
            for name in ("worker", "scheduling")
        }

    found = {name: found_by(result) for name, result in results.items()}
    assert [result.exit_code for result in results.values()] == [1, 1]
    assert "publish followers.fetch.esms" in found["worker"]["nats.permissions", "user worker"]["detail"]
    assert found["scheduling"]["nats.permissions", "user scheduling"]["state"] == "ok"
    assert found["scheduling"]["nats.assets", "bucket FOLLOWERS_SCHEDULES"] == {
        "check": "nats.assets",
        "subject": "bucket FOLLOWERS_SCHEDULES",
        "state": "fail",
        "detail": "is missing",
        "advice": "run `followers setup`",
    }


def test_rights_that_a_worker_lacks_are_named() -> None:
    needed = permissions(User(role="worker", login={}))
    assert needed is not None
    lists = {"publish": {"allow": [*needed.publish]}, "subscribe": {"allow": [*needed.subscribe]}}
    lists["publish"]["allow"].remove("followers.page.>")
    lists["subscribe"]["deny"] = ["followers.cancel.>"]

    (finding,) = checkup.rights({"data": {"user": "w", "permissions": lists}}, "_INBOX_worker")

    assert finding.state == "fail"
    assert finding.detail == "lacks what a worker needs: publish followers.page.>; subscribe followers.cancel.*"


def test_a_login_that_ends_soon_and_one_that_cannot_be_read() -> None:
    hour = 3_600_000_000_000
    soon, _ = checkup.rights({"data": {"user": "w", "expires": 5 * hour}}, "_INBOX")
    (unread,) = checkup.rights(None, "_INBOX")

    assert (soon.state, soon.detail) == ("warn", "expires in 5 h")
    assert unread.state == "unknown"
    assert USER_INFO in unread.detail


@pytest.mark.parametrize(
    ("varz", "state"),
    [
        ({"server_id": "S", "jetstream": {"config": {"sync_interval": 1, "sync_always": True}}}, "ok"),
        ({"server_id": "S", "jetstream": {"config": {"sync_interval": 120_000_000_000}}}, "warn"),
        ({"server_id": "OTHER", "jetstream": {"config": {"sync_interval": 1, "sync_always": True}}}, "unknown"),
        ({"server_id": "S"}, "unknown"),
        (None, "unknown"),
    ],
)
def test_what_a_power_cut_would_lose(varz: dict[str, Any] | None, state: str) -> None:
    finding = checkup.durability(varz, "S")

    assert finding.state == state
    assert "120 s" in finding.detail or state != "warn"


@pytest.mark.parametrize(("server", "state"), [(100.4, "ok"), (97.0, "warn"), (104.0, "warn")])
def test_clocks_that_differ_are_noticed(server: float, state: str) -> None:
    assert checkup.clock(server, 100.0, 100.2).state == state


async def test_an_old_or_small_server_is_noticed(nats_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for version in ("2.9.10", "2.11.0", "2.12.5"):
        monkeypatch.setattr(type(nats_client), "connected_server_version", version)
        states.append(checkup.server(nats_client)[0].state)
    monkeypatch.setattr(nats_client, "_max_payload", 65_536)

    assert states == ["fail", "warn", "ok"]
    assert checkup.server(nats_client)[2].state == "warn"


def test_replicas_that_lag_and_streams_that_fill_up_are_named() -> None:
    config = {"num_replicas": 3}
    lag = {
        "config": config,
        "cluster": {"replicas": [{"name": "n2", "current": True}, {"name": "n3", "offline": True}]},
    }
    well = {"config": config, "cluster": {"replicas": [{"name": "n2", "current": True}]}}

    assert [finding.detail for finding in checkup.replicas("S", lag)] == ["1 of 3 replicas is offline or behind: n3"]
    assert [finding.state for finding in checkup.replicas("S", well)] == ["ok"]
