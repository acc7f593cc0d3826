"""A command that can't be done ends as a failed event and a dead letter that says what to change; the worker lives."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.acceptance.broker import COMMANDS, new_id
from tests.acceptance.checking import check_run
from tests.acceptance.product import Worker
from tests.acceptance.reading import EVENTS
from tests.acceptance.world import World

HEADERS = {
    "Followers-Error-Code",
    "Followers-Error-Message",
    "Followers-Attempts",
    "Followers-Stream-Sequence",
    "Followers-Failed-At",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A wrong command: changes to a good one, where its provider, OA and id can still be read."""

    name: str
    changes: dict[str, Any]
    says: str
    code: str = "invalid_command"
    provider: str = "etelecom"
    account: str = "shop"
    requests: int = 0


READABLE = [
    Case(name="unknown field", changes={"page_sise": 10}, says="page_sise"),
    Case(name="unknown filter", changes={"filter": {"genderr": "male"}}, says="genderr"),
    Case(name="account", changes={"account": "nobody"}, says="nobody", code="unknown_account"),
    Case(
        name="account of the other provider", changes={"account": "esms-get"}, says="esms-get", code="unknown_account"
    ),
    Case(name="no account of several", changes={"account": None}, says="account", code="unknown_account"),
    Case(name="page_size 0", changes={"page_size": 0}, says="page_size"),
    Case(name="page_size 101", changes={"page_size": 101}, says="page_size"),
    Case(name="page_size 51", changes={"page_size": 51}, says="page_size", provider="esms", account="esms-get"),
    Case(name="page_size as text", changes={"page_size": "50"}, says="page_size"),
    Case(name="max_pages 0", changes={"max_pages": 0}, says="max_pages"),
    Case(name="17 labels", changes={"labels": {f"l{n}": "x" for n in range(17)}}, says="labels"),
    Case(name="not_after without offset", changes={"not_after": "2026-01-01T00:00:00"}, says="not_after"),
    Case(name="gender", changes={"filter": {"gender": "lady"}}, says="gender"),
    Case(
        name="wrong key", changes={}, says="shop-wrong-key", code="unauthorized", account="shop-wrong-key", requests=1
    ),
    Case(
        name="unknown partner key",
        changes={},
        says="partner-wrong-key",
        code="forbidden",
        account="partner-wrong-key",
        requests=1,
    ),
    Case(
        name="wrong esms key",
        changes={},
        says="esms-wrong-key",
        code="unauthorized",
        provider="esms",
        account="esms-wrong-key",
        requests=1,
    ),
]


@pytest.mark.parametrize("case", READABLE, ids=lambda case: case.name.replace(" ", "-"))
async def test_a_wrong_command_fails_with_an_event_a_status_and_a_dead_letter(
    world: World, shared_worker: Worker, case: Case
) -> None:
    oa, job_id = world.providers.oa(25), new_id()
    command = {"provider": case.provider, "id": job_id, "account": case.account, "oa_id": oa} | case.changes
    body = json.dumps({key: value for key, value in command.items() if value is not None}).encode()

    ack = await world.broker.publish(
        case.provider, body, headers={"X-Origin": "test", "Nats-Expected-Stream": COMMANDS}
    )
    run = await world.follow(case.provider, job_id, oa, ack.seq).end()
    letter = await world.broker.dead_letter(case.provider, ack.seq)
    status = await world.broker.status_in(job_id, "failed")

    end = check_run(run, labels=end_labels(run.end))
    assert (end["type"], end["error"]["code"], end["error"]["retryable"]) == ("failed", case.code, False)
    assert case.says in end["error"]["message"]
    assert run.pages == []
    check_letter(letter, body, job_id, case.code, case.says)
    assert (letter.headers or {})["X-Origin"] == "test"
    assert status["error"]["code"] == case.code
    assert len(world.providers.requests(oa)) == case.requests, "what can't succeed is not retried"
    await world.broker.settled(ack.seq)
    assert shared_worker.process.poll() is None


@pytest.mark.parametrize(("account", "provider"), [("shop", "etelecom"), ("esms-get", "esms")])
async def test_an_oa_that_the_provider_does_not_know_is_not_found(world: World, account: str, provider: str) -> None:
    oa = "2801999999999999999"

    before = len(world.providers.requests(oa))
    job = await world.publish(account, oa)
    run = await job.end()
    letter = await world.broker.dead_letter(provider, job.sequence)

    end = check_run(run)
    assert (end["type"], end["error"]["code"], end["error"]["retryable"]) == ("failed", "not_found", False)
    assert oa in end["error"]["message"] or "OA" in end["error"]["message"]
    assert (letter.headers or {})["Followers-Error-Code"] == "not_found"
    assert len(world.providers.requests(oa)) == before + 1


UNREADABLE = {
    "malformed-json": (b'{"provider": "etelecom", "oa_id": ', {}, "JSON"),
    "empty-body": (b"", {}, "empty"),
    "no-json-at-all": (b"\x00\xff\xfe followers please", {}, "JSON"),
    "a-list": (b"[1, 2]", {}, "object"),
    "message-pack-called-json": (b"\x81\xa8provider\xa8etelecom", {}, "JSON"),
    "json-called-message-pack": (b'{"provider": "etelecom"}', {"Content-Type": "application/msgpack"}, "MessagePack"),
    "text-of-another-type": (b"provider;oa_id", {"Content-Type": "text/csv"}, "JSON"),
    "an-envelope": (
        b'{"provider": "etelecom", "oa_id": "2801000000000000001"}',
        {"Content-Type": "application/cloudevents+json"},
        "application/cloudevents+json",
    ),
    "oa-with-a-dot": (b'{"provider": "etelecom", "oa_id": "a.b"}', {}, "oa_id"),
    "oa-with-a-wildcard": (b'{"provider": "etelecom", "oa_id": ">"}', {}, "oa_id"),
    "oa-as-number": (b'{"provider": "etelecom", "oa_id": 2801000000000000001}', {}, "oa_id"),
    "no-oa": (b'{"provider": "etelecom"}', {}, "oa_id"),
    "900-kb": (b'{"provider": "etelecom", "oa_id": "' + b"1" * 900_000 + b'"}', {}, "bytes"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_command_that_cannot_be_read_becomes_a_dead_letter_with_its_own_bytes(
    world: World, shared_worker: Worker, name: str
) -> None:
    body, headers, says = UNREADABLE[name]
    message_id = new_id("message")

    ack = await world.broker.publish("etelecom", body, message_id=message_id, headers=headers)
    letter = await world.broker.dead_letter("etelecom", ack.seq)
    await world.broker.settled(ack.seq)

    check_letter(letter, body, None, "invalid_command", says)
    assert headers.items() <= (letter.headers or {}).items()
    info = await world.broker.js.stream_info(EVENTS, subjects_filter=f"followers.*.*.*.{message_id}")
    assert not info.state.subjects, "without an OA there is no subject for an event"
    assert shared_worker.process.poll() is None


@pytest.mark.parametrize(
    "body",
    [b"", b'{"provider": "etelecom", "oa_id": ', b'{"provider": "etelecom", "oa_id": "a.b"}'],
    ids=["empty", "cut-short", "bad-oa"],
)
async def test_a_dead_letter_of_an_unreadable_command_still_has_its_job_id(world: World, body: bytes) -> None:
    message_id = new_id("message")  # the job id of a command that carries none (CONTRACT 2)

    ack = await world.broker.publish("etelecom", body, message_id=message_id)
    letter = await world.broker.dead_letter("etelecom", ack.seq)

    assert (letter.headers or {}).get("Followers-Job-Id") == message_id


async def test_a_dead_letter_of_a_command_with_a_bad_oa_has_the_id_that_it_carries(world: World) -> None:
    job_id = new_id()
    body = json.dumps({"provider": "etelecom", "id": job_id, "account": "shop", "oa_id": "a.b"}).encode()

    ack = await world.broker.publish("etelecom", body)
    letter = await world.broker.dead_letter("etelecom", ack.seq)

    assert (letter.headers or {}).get("Followers-Job-Id") == job_id


@pytest.mark.parametrize("provider", ["esms", "zalo"])
async def test_a_provider_that_is_not_the_subjects_is_refused(world: World, provider: str) -> None:
    oa, job_id = world.providers.oa(25), new_id()
    body = json.dumps({"provider": provider, "id": job_id, "oa_id": oa}).encode()

    ack = await world.broker.publish("etelecom", body)
    letter = await world.broker.dead_letter("etelecom", ack.seq)
    await world.broker.settled(ack.seq)

    check_letter(letter, body, job_id, "invalid_command", "provider")
    assert world.providers.requests(oa) == []


async def test_a_bad_id_is_refused_and_never_becomes_part_of_a_subject(world: World) -> None:
    oa = world.providers.oa(25)
    body = json.dumps({"provider": "etelecom", "id": "a.b.>", "account": "shop", "oa_id": oa}).encode()

    ack = await world.broker.publish("etelecom", body)
    letter = await world.broker.dead_letter("etelecom", ack.seq)
    await world.broker.settled(ack.seq)

    assert letter.data == body
    assert "id" in (letter.headers or {})["Followers-Error-Message"]
    info = await world.broker.js.stream_info(EVENTS, subjects_filter=f"followers.page.*.{oa}.>")
    assert not info.state.subjects


async def test_the_biggest_message_that_nats_takes_does_not_harm_the_worker(
    world: World, shared_worker: Worker
) -> None:
    body = b'{"provider": "etelecom", "oa_id": "' + b"1" * (1024 * 1024 - 40) + b'"}'

    ack = await world.broker.publish("etelecom", body)
    await world.broker.settled(ack.seq, timeout=20)

    oa = world.providers.oa(25)
    run = await (await world.publish("shop", oa)).end()
    check_run(run, ids=world.providers.etelecom.ids(oa))
    assert shared_worker.process.poll() is None


async def test_after_bad_commands_the_worker_does_the_next_good_one(world: World, shared_worker: Worker) -> None:
    oas = [world.providers.oa(25) for _ in range(2)]
    for body in (b"", b"{", b"[]", b'{"provider":"etelecom"}') * 5:
        await world.broker.publish("etelecom", body)
        await world.broker.publish("esms", body)

    shop = await (await world.publish("shop", oas[0])).end(timeout=20)
    esms = await (await world.publish("esms-get", oas[1])).end(timeout=20)

    check_run(shop, ids=world.providers.etelecom.ids(oas[0]))
    check_run(esms, ids=world.providers.esms.ids(oas[1]))
    assert shared_worker.process.poll() is None


def check_letter(letter: Msg, body: bytes, job_id: str | None, code: str, says: str) -> None:
    """Assert what CONTRACT 3 says of a dead letter; `job_id` None leaves that header to a test of its own."""
    headers = letter.headers or {}
    assert letter.data == body
    assert headers.keys() >= HEADERS
    assert headers["Followers-Error-Code"] == code
    assert says in headers["Followers-Error-Message"], headers["Followers-Error-Message"]
    assert job_id is None or headers["Followers-Job-Id"] == job_id
    assert int(headers["Followers-Attempts"]) >= 0
    assert headers["Followers-Failed-At"].endswith("Z")


def end_labels(end: dict[str, Any]) -> dict[str, str]:
    """The labels of a failed event: those of a wrong command may be what is wrong with it."""
    labels: dict[str, str] = end["labels"]
    return labels
