"""What `followers setup` and a worker's start make of the answers of a server, as a real one seldom gives them."""

import json
from typing import Any

import nats.errors
import pytest

from tests.jetstream_kit import answer
from worker.jetstream.topology.assets import DAY, TopologyConfig, expected, nanoseconds
from worker.jetstream.topology.reconcile import (
    Change,
    Difference,
    TopologyError,
    UnansweredError,
    check,
    missing,
    missing_for_changes,
    reconcile,
)

CONFIG = TopologyConfig()
ASSETS = {str(asset): asset for asset in expected(CONFIG)}
EVENTS, FEEDS = "stream FOLLOWERS_EVENTS", "bucket FOLLOWERS_FEEDS"
Said = dict[str, Any] | Exception


def place(name: str) -> str:
    """Where an asset is asked for."""
    asset = ASSETS[name]
    return f"CONSUMER.INFO.{asset.stream}.{asset.name}" if asset.kind == "consumer" else f"STREAM.INFO.{asset.stream}"


def error(code: int, description: str = "no luck") -> dict[str, Any]:
    return {"error": {"code": 500, "err_code": code, "description": description}}


class Server:
    """A connection to a server that has all that it should, but answers `said` to some requests, one after another."""

    def __init__(self, said: dict[str, list[Said]] | None = None) -> None:
        self.said = {subject: [*answers] for subject, answers in (said or {}).items()}
        self.asked: list[str] = []
        self.sent: dict[str, Any] = {}
        self.has = {place(name): {"config": asset.wanted} for name, asset in ASSETS.items()}

    async def request(self, subject: str, body: bytes, timeout: float) -> Any:
        assert timeout == 5.0
        what = subject.removeprefix("$JS.API.")
        self.asked.append(what)
        if body:
            self.sent[what] = json.loads(body)
        answers = self.said.get(what)
        said = answers.pop(0) if answers else self.has.get(what, {})
        if isinstance(said, Exception):
            raise said
        return answer(None, json.dumps(said).encode())


def client(said: dict[str, list[Said]] | None = None) -> Any:
    return Server(said)


def of(changes: list[Change], name: str) -> list[tuple[str, str]]:
    """What was done about one thing."""
    return [(one.outcome, one.detail) for one in changes if f"{one.kind} {one.name}" == name]


async def test_a_server_that_has_it_all_is_asked_and_left_alone() -> None:
    server = client()

    assert {one.outcome for one in await reconcile(server, CONFIG)} == {"unchanged"}
    assert await check(server, CONFIG) == []
    assert await missing(server) is None
    assert await missing_for_changes(server) is None
    assert set(server.asked) == {place(name) for name in ASSETS}
    assert server.sent == {}


@pytest.mark.parametrize("code", [10014, 10059])
async def test_what_is_not_there_is_named_with_what_to_run(code: int) -> None:
    one, two = error(code), error(code)

    said: dict[str, list[Said]] = {place(EVENTS): [one, one], place("consumer worker-esms"): [two], place(FEEDS): [one]}
    assert await missing(client(said)) == f"{EVENTS}, consumer worker-esms are missing: run `followers setup`"
    assert await missing(client({place(EVENTS): [one]})) == f"{EVENTS} is missing: run `followers setup`"
    assert await missing_for_changes(client(said)) == f"{FEEDS} is missing: run `followers setup`"
    assert await check(client({place(FEEDS): [one]}), CONFIG) == [
        Difference(kind="bucket", name="FOLLOWERS_FEEDS", state="missing", detail="is missing")
    ]


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (error(10008, "temporarily away"), UnansweredError,
         f"{EVENTS} can't be looked up: temporarily away (JetStream error 10008): see the server log"),
        (error(10009), UnansweredError,
         f"{EVENTS} can't be looked up: no luck (JetStream error 10009): see the server log"),
        (error(10039), TopologyError,
         f"{EVENTS} can't be looked up: no luck (JetStream error 10039): JetStream is not enabled for this account"),
        ({"error": {}}, TopologyError,
         f"{EVENTS} can't be looked up: unknown error (JetStream error 0): see the server log"),
        (nats.errors.NoRespondersError(), TopologyError,
         "JetStream is not enabled on this NATS server: start it with -js"),
        *(
            (trouble, UnansweredError,
             f"JetStream doesn't answer STREAM.INFO ({type(trouble).__name__}): is the server up, and may this user use"
             " $JS.API.>?")
            for trouble in (nats.errors.TimeoutError(), TimeoutError(), OSError())
        ),
    ],
)  # fmt: skip
async def test_a_server_that_cannot_be_asked_is_told_by_whether_asking_again_may_help(
    said: Said, kind: type[TopologyError], text: str
) -> None:
    for ask in (missing, lambda one: check(one, CONFIG), lambda one: reconcile(one, CONFIG)):
        with pytest.raises(TopologyError) as caught:
            await ask(client({place(EVENTS): [said]}))

        assert type(caught.value) is kind
        assert str(caught.value) == text


async def test_what_is_optional_and_not_answered_for_holds_up_nothing_else() -> None:
    said: dict[str, list[Said]] = {place(FEEDS): [nats.errors.TimeoutError()]}
    text = (
        "JetStream doesn't answer STREAM.INFO.KV_FOLLOWERS_FEEDS (TimeoutError): is the server up, and may this user"
        " use $JS.API.>?"
    )

    assert await check(client(said), CONFIG) == [
        Difference(kind="bucket", name="FOLLOWERS_FEEDS", state="refused", detail=text)
    ]
    changes = await reconcile(client(said), CONFIG)
    assert of(changes, FEEDS) == [("failed", text)]
    assert {one.outcome for one in changes if one.name != "FOLLOWERS_FEEDS"} == {"unchanged"}


async def test_streams_that_are_not_to_be_looked_at_are_not() -> None:
    server = client()

    await check(server, CONFIG, without={"KV_FOLLOWERS_FEEDS"})

    assert set(server.asked) == {place(name) for name in ASSETS} - {place(FEEDS)}


async def test_what_is_missing_is_made_without_what_must_not_be_set() -> None:
    server = client({place(EVENTS): [error(10059)], place("consumer worker-esms"): [error(10014)]})

    changes = await reconcile(server, CONFIG)

    assert of(changes, EVENTS) == of(changes, "consumer worker-esms") == [("created", "")]
    consumer = {key: value for key, value in ASSETS["consumer worker-esms"].wanted.items() if value is not None}
    assert server.sent == {
        "STREAM.CREATE.FOLLOWERS_EVENTS": ASSETS[EVENTS].wanted,
        "CONSUMER.CREATE.FOLLOWERS_COMMANDS.worker-esms": {
            "stream_name": "FOLLOWERS_COMMANDS", "config": consumer, "action": "create",
        },
    }  # fmt: skip


@pytest.mark.parametrize("code", [10058, 10148])
async def test_what_somebody_else_has_made_meanwhile_is_put_right(code: int) -> None:
    other = {"config": ASSETS[EVENTS].wanted | {"max_age": nanoseconds(DAY), "theirs": 1, "nothing": None}}
    server = client({place(EVENTS): [error(10059), other], "STREAM.CREATE.FOLLOWERS_EVENTS": [error(code)]})

    assert of(await reconcile(server, CONFIG), EVENTS) == [("updated", "max_age 1 d → 7 d")]
    assert server.sent["STREAM.UPDATE.FOLLOWERS_EVENTS"] == ASSETS[EVENTS].wanted | {"theirs": 1}


async def test_a_consumer_that_differs_is_updated_by_a_request_that_says_so() -> None:
    name = "consumer worker-esms"
    differs = {"config": ASSETS[name].wanted | {"backoff": [1], "max_ack_pending": 5}}
    server = client({place(name): [differs]})

    assert of(await reconcile(server, CONFIG), name) == [("updated", "max_ack_pending 5 → 10000; backoff [1] → unset")]
    request = server.sent["CONSUMER.CREATE.FOLLOWERS_COMMANDS.worker-esms"]
    assert (request["action"], request["config"]["max_ack_pending"], "backoff" in request["config"]) == (
        "update", 10_000, False,
    )  # fmt: skip


async def test_what_is_refused_is_told_beside_what_is_changed() -> None:
    differs = {"config": ASSETS[EVENTS].wanted | {"storage": "memory", "allow_direct": False}}
    anew = "storage is memory, wanted file: can't be changed without making it anew, which is left to you"
    changed = client({place(EVENTS): [differs]})
    refused = client({place(EVENTS): [{"config": ASSETS[EVENTS].wanted | {"storage": "memory"}}]})

    assert of(await reconcile(changed, CONFIG), EVENTS) == [
        ("updated", "allow_direct false → true"), ("refused", anew)
    ]  # fmt: skip
    assert changed.sent["STREAM.UPDATE.FOLLOWERS_EVENTS"]["storage"] == "memory"
    assert of(await reconcile(refused, CONFIG), EVENTS) == [("refused", anew)]
    assert refused.sent == {}
    found = await check(client({place(EVENTS): [differs]}), CONFIG)
    assert {(one.kind, one.name, one.state, one.detail) for one in found} == {
        ("stream", "FOLLOWERS_EVENTS", "refused", anew),
        ("stream", "FOLLOWERS_EVENTS", "different", "allow_direct false → true"),
    }


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (10005, ": the cluster has too few servers for it: lower nats.replicas"),
        (10023, ": the server is out of JetStream resources: give it more disk or memory"),
        (10028, ": the account is out of JetStream resources: raise its limits"),
        (10039, ": JetStream is not enabled for this account"),
        (10047, ": the server is out of JetStream storage: give it more, or set streams.*_max_bytes"),
        (10065, ": another stream takes these subjects: remove them there"),
        (10074, ": this server is not a cluster: set nats.replicas = 1"),
        (10076, ": JetStream is not enabled: start the server with -js"),
        (10000, ""),
    ],
)
async def test_what_cannot_be_made_is_told_with_what_to_do(code: int, hint: str) -> None:
    server = client({place(FEEDS): [error(10059)], "STREAM.CREATE.KV_FOLLOWERS_FEEDS": [error(code)]})

    assert of(await reconcile(server, CONFIG), FEEDS) == [("failed", f"no luck (JetStream error {code}){hint}")]


async def test_events_that_would_age_out_before_the_commands_are_refused() -> None:
    longer = {"config": ASSETS["stream FOLLOWERS_COMMANDS"].wanted | {"max_age": nanoseconds(8 * DAY)}}
    said: dict[str, list[Said]] = {place("stream FOLLOWERS_COMMANDS"): [longer, longer]}
    start = "events live 7 d, commands 8 d: a command that outlives its events"

    changes = of(await reconcile(client(said), CONFIG), EVENTS)
    differences = await check(client(said), CONFIG)

    assert [outcome for outcome, _ in changes] == ["unchanged", "refused"]
    assert changes[1][1].startswith(start)
    (conflict,) = [one for one in differences if one.name == "FOLLOWERS_EVENTS"]
    assert (conflict.kind, conflict.state, conflict.detail.startswith(start)) == ("stream", "refused", True)
