"""Neither a key nor a person's data comes out anywhere but in the pages."""

import json
from collections.abc import Iterator
from typing import Any

from tests.acceptance.broker import DEAD, JOBS
from tests.acceptance.product import Worker
from tests.acceptance.providers import wrong_key
from tests.acceptance.reading import EVENTS
from tests.acceptance.world import World
from worker.providers.simulators import API_KEY, CANARY, PARTNER_KEY, SECRET_KEY, SHOP_KEY, Fault

CANARY_NAME = "Canary Thị Kín"
CANARY_PHONE = "84900000321"


async def test_no_secret_and_no_persons_data_leaves_by_a_side_door(world: World, shared_worker: Worker) -> None:
    oa, other = world.providers.oa(300), world.providers.oa(25)
    world.providers.etelecom.inject(Fault(kind="bad_json", oa_id=other))
    jobs = [
        await world.publish("shop", oa),
        await world.publish("shop", other, filter={"name": CANARY_NAME, "phone": CANARY_PHONE}),
        await world.publish("esms-get", other),
        await world.publish("shop-wrong-key", other),
        await world.publish("partner-wrong-key", other),
        await world.publish("esms-wrong-key", other),
        await world.publish("shop", other, filter={"name": CANARY_NAME, "phone": CANARY_PHONE, "state": "gone"}),
        await world.publish("shop", other, filter={"phone": [CANARY_PHONE], "name": 7, "tags": CANARY_NAME}),
    ]
    runs = [await job.end() for job in jobs]
    await world.broker.publish("etelecom", f'{{"phone": "{CANARY_PHONE}", "name": "{CANARY_NAME}'.encode())
    await world.broker.settled((await world.broker.publish("etelecom", b"")).seq)

    secrets = [key.rpartition(":")[2] for key in (SHOP_KEY, PARTNER_KEY, API_KEY, SECRET_KEY)]
    secrets += [wrong_key(key).rpartition(":")[2] for key in (SHOP_KEY, PARTNER_KEY, SECRET_KEY)]
    people = {CANARY, CANARY_NAME, CANARY_PHONE, *_personal(world.providers.etelecom.rows(oa))}
    places = {
        "the log": shared_worker.err + shared_worker.out,
        "/metrics": await shared_worker.answers("/metrics", 200),
        "the status bucket": await _bucket(world),
        "the dead letters' headers": await _dead_headers(world),
        "the job events": "\n".join(json.dumps(e.body, ensure_ascii=False) for run in runs for e in run.job_events),
        "the events' headers": await _event_headers(world),
    }
    pages = "\n".join(page.data.decode() for run in runs for page in run.pages)
    leaks = [
        f"{where} shows {text!r}"
        for where, shown in places.items()
        for text in (*secrets, *people)
        for spelling in _spellings(text)
        if spelling in shown
    ] + [f"a page shows {text!r}" for text in (*secrets, CANARY) if text in pages]

    assert not leaks, leaks[:5]
    assert len(people) > 100, "there is somebody to leak"
    assert shared_worker.err, "there is a log to look into"


def _personal(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        shared = row["shared_info"] or {}
        for text in (row["full_name"], row["phone"], *(shared.get(key) for key in ("name", "phone", "address"))):
            if text and len(str(text)) >= 9:
                yield str(text)


def _spellings(text: str) -> set[str]:
    return {text, json.dumps(text)[1:-1], repr(text)[1:-1], text.removeprefix("0") if text.isdecimal() else text}


async def _bucket(world: World) -> str:
    bucket = await world.broker.js.key_value(JOBS)
    return "\n".join([((await bucket.get(key)).value or b"").decode() for key in await bucket.keys()])


async def _dead_headers(world: World) -> str:
    return await _headers(world, DEAD, "followers.dead.>")


async def _event_headers(world: World) -> str:
    return await _headers(world, EVENTS, "followers.>")


async def _headers(world: World, stream: str, subject: str) -> str:
    count = (await world.broker.js.stream_info(stream)).state.messages
    subscription = await world.broker.js.subscribe(subject, stream=stream, ordered_consumer=True, headers_only=True)
    try:
        messages = [await subscription.next_msg(timeout=10) for _ in range(count)]
    finally:
        await subscription.unsubscribe()
    return "\n".join(str(message.headers) for message in messages)
