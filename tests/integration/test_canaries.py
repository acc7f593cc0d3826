"""What a careless provider repeats of a request, in any writing, comes out nowhere that people look."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest
from nats.aio.client import Client
from typer.testing import CliRunner

from schemas.subjects import DEAD_STREAM, EVENTS_STREAM, JOBS_BUCKET, LIMITS_BUCKET
from schemas.wire import encode
from tests.integration import stage
from tests.integration.collector import collector
from tests.integration.hostile import hostile, saying
from tests.integration.page_kit import Stream
from tests.integration.test_security_secrets import PASSWORD, client, server, stored
from worker.cli import app
from worker.embedded import EmbeddedServer

__all__ = ["client", "server"]

KEYS = ("1157392846153274649:Qx7LmVw2Rt9ZbKc4NyHd", "ESMSKEY8Q2W4E6R8T1Y3U5I7", "EsmsSecret5J7K9L2M4N6")
NAME, PHONE, MAIL, TAG = "Nguyễn Thị Canary", "0987000321", "canary.nguyen@mail.example", "Nhóm Bí Mật Canary"
WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "lower": str.lower,
    "percent": lambda text: quote(text, safe=""),
    "plus": quote_plus,
    "json": lambda text: json.dumps(text)[1:-1],
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "basic": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "url64": lambda text: base64.urlsafe_b64encode(b"x" + text.encode()).decode(),
    "spaced": " ".join,
    "beginning": lambda text: text[:10],
    "middle": lambda text: text[4:14],
    "end": lambda text: text[-10:],
    "no marks": lambda text: (
        text.replace("ễ", "e").replace("ị", "i").replace("ó", "o").replace("í", "i").replace("ậ", "a")
    ),
    "by words": lambda text: ", ".join(reversed(text.split())),
}
STATUSES = {"etelecom": (400, 401, 404, 429, 503), "esms": (200, 429, 503)}


def echo(provider: str, written: Callable[[str], str]) -> str:
    """An error that repeats all of the request."""
    request = (KEYS[0], NAME, PHONE, MAIL) if provider == "etelecom" else (*KEYS[1:], TAG)
    text = "; ".join(f"no {written(value)}" for value in request)
    code = {"code": "invalid_argument", "msg": text, "meta": {"x": text}}
    return json.dumps(code if provider == "etelecom" else {"CodeResult": "799", "ErrorMessage": text})


def windows(text: str, size: int = 8) -> Iterator[str]:
    """Each run of so many characters, in lower case."""
    low = text.lower()
    return (low[at : at + size] for at in range(len(low) - size + 1))


async def test_no_writing_of_a_canary_comes_out(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    cases = [(provider, name, status) for provider, all_ in STATUSES.items() for name in WRITINGS for status in all_]
    answers = {
        f"a{number}": saying(echo(provider, WRITINGS[name]), status)
        for number, (provider, name, status) in enumerate(cases)
    }
    async with hostile(answers) as provider, collector() as traces:
        worker = {"retry_for": 0.3, "rate_limited_for": 0.3, "otlp_endpoint": f"{traces.url}/v1/traces"}
        sections = stage.sections_for(
            server.url, accounts(cases, provider.url), nats={"user": "worker", "password": PASSWORD}, worker=worker
        )
        async with stage.replica(sections, tmp_path) as replica:
            acks = [await client.jetstream().publish(*order(cases, number)) for number in range(len(cases))]
            for ack in acks:
                await stage.command_settled(client, ack.seq, timeout=40)
            places = {
                "/metrics": (await replica.get("/metrics"))[1],
                "job events": await stored(client, EVENTS_STREAM, "followers.job."),
                "the status bucket": await stored(client, f"KV_{JOBS_BUCKET}"),
                "the limits bucket": await stored(client, f"KV_{LIMITS_BUCKET}"),
                "headers of dead letters": await stored(client, DEAD_STREAM, bodies=False),
                "the live page": await shown(replica.port, len(cases)),
            }
            for words in (("jobs",), ("jobs", "--json"), ("dead", "list"), ("status", "job-0"), ("status", "job-9")):
                places[f"followers {' '.join(words)}"] = await said(server, *words)
            assert await replica.stop() == 0
        places["the log"] = replica.log
        places["traces"] = b"".join(traces.bodies).decode("utf-8", "replace")

    sizes = {name: len(text) for name, text in places.items()}
    assert min(sizes.values()) > 100, sizes
    failures, waits = (places["job events"].count(f'"type":"{kind}"') for kind in ("failed", "waiting"))
    assert failures == len(cases)
    assert waits > 0
    found = {name: sorted(leaks(text))[:5] for name, text in places.items()}
    assert not any(found.values()), found


def leaks(text: str) -> set[str]:
    """What of the canaries stands in `text`."""
    low = text.lower()
    sought = {run for value in (*KEYS, NAME, PHONE, MAIL, TAG) for run in windows(value)}
    for value in (*KEYS, NAME, PHONE, TAG):
        for name in ("percent", "json", "hex", "base64", "basic", "spaced", "no marks"):
            # Of Base64 behind other bytes, the first characters are of those.
            sought |= set(windows(WRITINGS[name](value)[8 if name == "basic" else 0 :]))
    return {run for run in sought if run in low}


def accounts(cases: list[tuple[str, str, int]], url: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for number, (provider, _, _) in enumerate(cases):
        keys = {"api_key": KEYS[0], "base_url": f"{url}/a{number}/v1/shop"}
        if provider == "esms":
            keys = {
                "api_key": KEYS[1],
                "secret_key": KEYS[2],
                "base_url": f"{url}/a{number}",
                "endpoint": "QueryListUID",
            }
        found[f"a{number}"] = {"provider": provider, **keys}
    return found


def order(cases: list[tuple[str, str, int]], number: int) -> tuple[str, bytes]:
    provider = cases[number][0]
    people = {"name": NAME, "phone": PHONE, "tags": [MAIL]} if provider == "etelecom" else {"tag": TAG}
    body: dict[str, object] = {"provider": provider, "oa_id": "1", "account": f"a{number}", "id": f"job-{number}"}
    return f"followers.fetch.{provider}", encode(body | {"filter": people})


async def shown(port: int, jobs: int) -> str:
    """What the live page says of all jobs, and of every third: who left has a place until the next picture."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        async with http.get("/stream") as response:
            pictures = [await Stream(response).until("overview", lambda data: data["counts"]["failed"] == jobs)]
        for number in range(0, jobs, 3):
            async with http.get(f"/stream/jobs/job-{number}") as response:
                pictures.append(await Stream(response).until("job", lambda data: data["job"]))
    return json.dumps(pictures, ensure_ascii=False)


async def said(server: EmbeddedServer, *words: str) -> str:
    """What a command prints, to both of its outputs."""
    environment = {
        "FOLLOWERS_NATS__SERVERS": json.dumps([server.url]),
        "FOLLOWERS_NATS__USER": "worker",
        "FOLLOWERS_NATS__PASSWORD": PASSWORD,
    }
    result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=environment)
    return f"{result.stdout}{result.stderr}"


@pytest.mark.parametrize("name", WRITINGS)
def test_the_search_for_leaks_would_find_each_writing(name: str) -> None:
    if name in ("by words", "url64", "plus"):
        pytest.skip("its parts are those of other writings, or shorter than what is looked for")
    assert leaks(echo("etelecom", WRITINGS[name]))
    assert leaks(echo("esms", WRITINGS[name]))
