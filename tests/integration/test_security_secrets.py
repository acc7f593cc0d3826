"""Secrets rotate without a restart, and neither they nor people's data come out where they don't belong."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from schemas.events import JobCompleted
from schemas.subjects import DEAD_STREAM, EVENTS_STREAM, JOBS_BUCKET, LIMITS_BUCKET, PROVIDERS
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.hostile import hostile, saying
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY, SHOP_KEY, Fault

PASSWORD = "CanaryNatsPassword"
LOGIN = f'authorization: {{user: "worker", password: "{PASSWORD}"}}'


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server(LOGIN) as server:
        yield server


@pytest.fixture(scope="module")
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,), user="worker", password=PASSWORD))
    await reconcile(client, TopologyConfig(ack_wait=2))
    yield client
    await client.close()


class MountedSecret:
    """A Secret as the kubelet mounts it: files are links through `..data`, which is swapped as a whole."""

    def __init__(self, folder: Path, **values: str) -> None:
        self._folder, self._version = folder, 0
        folder.mkdir()
        self.swap(**values)
        for name in values:
            (folder / name).symlink_to(Path("..data") / name)

    def swap(self, **values: str) -> None:
        """Put new values in place, all at once."""
        self._version += 1
        version = self._folder / f"..v{self._version}"
        version.mkdir()
        for name, value in values.items():
            (version / name).write_text(value + "\n", encoding="utf-8")
        (self._folder / "..new").symlink_to(version.name)
        os.replace(self._folder / "..new", self._folder / "..data")


async def test_a_rotated_secret_is_taken_up_in_the_middle_of_a_job(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    old = {"shop": SHOP_KEY, "api": API_KEY, "secret": SECRET_KEY}
    new = {"shop": SHOP_KEY[:-4] + "NEW1", "api": API_KEY[:-4] + "NEW2", "secret": SECRET_KEY[:-4] + "NEW3"}
    mounted = MountedSecret(tmp_path / "secrets", **old)
    async with stage.providers(followers=1230) as providers:
        accounts = {
            "shop": {
                "provider": "etelecom",
                "base_url": providers.etelecom.shop_url,
                "api_key_file": str(tmp_path / "secrets" / "shop"),
            },
            "esms": {
                "provider": "esms",
                "base_url": providers.esms.url,
                "api_key_file": str(tmp_path / "secrets" / "api"),
                "secret_key_file": str(tmp_path / "secrets" / "secret"),
                "endpoint": "GetFollowers",
            },
        }
        sections = stage.sections_for(
            server.url,
            {name: {**account, "rate_limit": 1000.0} for name, account in accounts.items()},
            nats={"user": "worker", "password": PASSWORD},
        )
        for simulator in (providers.etelecom, providers.esms):
            simulator.inject(Fault(kind="latency", seconds=0.1, times=0))
        async with stage.replica(sections, tmp_path) as replica:
            acks = [
                await client.jetstream().publish(
                    f"followers.fetch.{provider}",
                    encode({"provider": provider, "oa_id": OA_ID, "id": f"rotate-{provider}"}),
                )
                for provider in PROVIDERS
            ]
            await stage.until(lambda: min(len(providers.etelecom.requests), len(providers.esms.requests)) >= 3, 20)
            mounted.swap(**new)
            providers.etelecom.config = msgspec.structs.replace(providers.etelecom.config, shop_keys=(new["shop"],))
            providers.esms.config = msgspec.structs.replace(
                providers.esms.config, api_key=new["api"], secret_key=new["secret"]
            )
            for ack in acks:
                await stage.command_settled(client, ack.seq)
            log = replica.log
        refused = [entry for entry in providers.etelecom.requests + providers.esms.requests if entry.auth != "ok"]

    for provider in PROVIDERS:
        event = await client.jetstream().get_last_msg(
            EVENTS_STREAM, f"followers.job.{provider}.{OA_ID}.rotate-{provider}"
        )
        assert decode(event.data or b"", JobCompleted).followers == 1230
    assert refused, "the old secrets were refused at least once"
    assert log.count('"event": "provider.secret_reloaded"') >= 2
    assert not any(secret.rpartition(":")[2] in log for secret in (*old.values(), *new.values()))


# Canaries.

KEYS = {
    "shop": "1150000000000000001:CanaryShopKeyCanaryShopKeyCanary",
    "api": "CANARYAPIKEYCANARYAPIKEYCANARY1",
    "secret": "CANARYSECRETKEYCANARYSECRET",
}
PERSON = {"name": "Canary Thị Kín", "phone": "84900000321", "address": "321 Đường Canary", "chat": "canary chat text"}
# What a careless provider quotes of a request: the key that it was sent, and whom it was asked about.
EVERYTHING = json.dumps({"shop": KEYS["shop"], **PERSON}, ensure_ascii=False)
EVERYTHING_OF_ESMS = json.dumps({"api": KEYS["api"], "secret": KEYS["secret"], **PERSON}, ensure_ascii=False)
ROW = {
    "zl_user_id": "7800378501923859642",
    "full_name": PERSON["name"],
    "phone": PERSON["phone"],
    "shared_info": {"name": PERSON["name"], "phone": PERSON["phone"], "address": PERSON["address"]},
    "last_conversation": {"message": PERSON["chat"]},
    "unheard_of": PERSON["chat"],
}
TWIRP = json.dumps({"code": "invalid_argument", "msg": EVERYTHING, "meta": {"echo": EVERYTHING}}, ensure_ascii=False)
ANSWERS = {
    "page": saying(json.dumps({"followers": [ROW], "paging": {"next": ""}})),
    "loop": saying(json.dumps({"followers": [ROW], "paging": {"next": PERSON["phone"]}})),
    "odd-row": saying(json.dumps({"followers": [{**ROW, "zl_user_id": {"x": EVERYTHING}}], "paging": {}})),
    "odd-list": saying(json.dumps({"followers": EVERYTHING, "paging": {}})),
    "no-list": saying(EVERYTHING),
    "bad-json": saying(EVERYTHING[:-10]),
    "html": saying(f"<html>{EVERYTHING}</html>", content_type="text/html"),
    "type": saying(EVERYTHING, content_type=KEYS["shop"]),
    "encoding": saying(b"x", Content_Encoding=KEYS["shop"]),
    "wait": saying(EVERYTHING, 429, Retry_After=KEYS["shop"]),
    "redirect": saying("", 302, Location=f"http://{KEYS['shop'][20:]}.invalid/{PERSON['phone']}"),
    **{str(status): saying(TWIRP, status) for status in (400, 401, 403, 404, 409, 418, 500, 503)},
    "code": saying(json.dumps({"code": EVERYTHING, "msg": "x"}), 400),
    **{
        f"esms-{code}": saying(json.dumps({"CodeResult": code, "ErrorMessage": EVERYTHING_OF_ESMS}))
        for code in ("101", "104", "160", "799")
    },
    "esms-odd-code": saying(json.dumps({"CodeResult": EVERYTHING_OF_ESMS, "ErrorMessage": "x"})),
    "esms-page": saying(
        json.dumps({"CodeResult": "100", "Total": 1, "Followers": [{"User_Id": "1", "Name": PERSON["name"]}]})
    ),
}
WRONG_COMMANDS: list[dict[str, Any]] = [
    {"filter": {"phone": [PERSON["phone"]], "name": PERSON["name"]}},
    {"filter": {"gender": PERSON["name"]}},
    {"filter": {"state": PERSON["phone"]}},
    {"sort": PERSON["name"]},
    {"labels": {"x": [PERSON["name"]]}},
    {"oa_id": PERSON["name"]},
    {"page_size": PERSON["phone"]},
    {"not_after": PERSON["phone"]},
]


async def test_canaries_come_out_nowhere_but_in_pages(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    js = client.jetstream()
    async with hostile(dict(ANSWERS)) as provider:
        sections = canary_sections(server, provider.url)
        async with stage.replica(sections, tmp_path) as replica:
            acks = [await js.publish(*order(name, number)) for number, name in enumerate(ANSWERS)]
            for number, wrong in enumerate(WRONG_COMMANDS):
                body: dict[str, object] = {"provider": "etelecom", "oa_id": "1", "id": f"wrong-{number}", **wrong}
                acks.append(await js.publish("followers.fetch.etelecom", encode(body)))
            acks.append(await js.publish("followers.fetch.esms", EVERYTHING.encode()))
            acks.append(await js.publish("followers.fetch.etelecom", EVERYTHING.encode()[:-20]))
            for ack in acks:
                await stage.command_settled(client, ack.seq, timeout=40)
            places = {
                "the log": replica.log,
                "/metrics": (await replica.get("/metrics"))[1],
                "/readyz": (await replica.get("/readyz"))[1],
                "the server's list of connections": await connections(server),
                "the status bucket": await stored(client, f"KV_{JOBS_BUCKET}"),
                "the limits bucket": await stored(client, f"KV_{LIMITS_BUCKET}"),
                "job events": await stored(client, EVENTS_STREAM, "followers.job."),
                "headers of events": await stored(client, EVENTS_STREAM, bodies=False),
                "headers of dead letters": await stored(client, DEAD_STREAM, bodies=False),
            }
            assert await replica.stop() == 0
        places["the log to its end"] = replica.log
        keys_arrived = "\n".join(provider.heard)
    pages = await stored(client, EVENTS_STREAM, "followers.page.")

    canaries = [key.rpartition(":")[2] for key in KEYS.values()] + [*PERSON.values(), PASSWORD]
    leaks = [
        f"{where}: {canary}: …{shown[max(0, shown.index(found) - 200) : shown.index(found) + 60]}…"
        for where, shown in places.items()
        for canary in canaries
        for found in {canary, json.dumps(canary)[1:-1]}
        if found in shown
    ]
    assert not leaks, "\n".join(leaks)
    assert PERSON["name"] in pages, "there was somebody to leak"
    assert PERSON["chat"] not in pages
    assert not any(key.rpartition(":")[2] in pages for key in KEYS.values())
    assert all(key.rpartition(":")[2] in keys_arrived for key in KEYS.values())
    assert replica.log.count('"event": "job.failed"') >= len(ANSWERS) - 4, "there were failures to tell of"
    assert replica.log.count('"event": "command.rejected"') == len(WRONG_COMMANDS) + 2


def canary_sections(server: EmbeddedServer, url: str) -> dict[str, Any]:
    accounts: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(ANSWERS):
        if name.startswith("esms"):
            secrets = {
                "provider": "esms",
                "api_key": KEYS["api"],
                "secret_key": KEYS["secret"],
                "endpoint": "GetFollowers",
            }
            accounts[f"a{number}"] = {**secrets, "base_url": f"{url}/{name}"}
        else:
            accounts[f"a{number}"] = {
                "provider": "etelecom",
                "api_key": KEYS["shop"],
                "base_url": f"{url}/{name}/v1/shop",
            }
    return stage.sections_for(
        server.url,
        accounts,
        nats={"user": "worker", "password": PASSWORD},
        worker={"retry_for": 0.3, "rate_limited_for": 0.3},
    )


def order(name: str, number: int) -> tuple[str, bytes]:
    provider = "esms" if name.startswith("esms") else "etelecom"
    body: dict[str, Any] = {"provider": provider, "oa_id": "1", "account": f"a{number}", "id": f"canary-{number}"}
    if provider == "etelecom":
        body["filter"] = {"phone": PERSON["phone"], "name": PERSON["name"]}
    return f"followers.fetch.{provider}", encode(body)


async def stored(client: Client, stream: str, prefix: str = "", *, bodies: bool = True) -> str:
    """All that a stream holds under a prefix: subjects, headers and, where wanted, bodies."""
    state = (await client.jetstream().stream_info(stream)).state
    texts = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            message = await client.jetstream().get_msg(stream, sequence)
        except NotFoundError:
            continue
        if (message.subject or "").startswith(prefix):
            body = (message.data or b"").decode() if bodies else ""
            texts.append(f"{message.subject} {message.headers} {body}")
    return "\n".join(texts)


async def connections(server: EmbeddedServer) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{server.monitor_url}/connz")).text
