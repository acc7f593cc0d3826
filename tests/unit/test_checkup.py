"""What `followers doctor` says of a server, from the answers that servers give."""

from typing import Any
from urllib.parse import urlsplit

import nats.errors
import pytest
from nats.aio.msg import Msg

from schemas.subjects import COMMANDS_STREAM
from worker.core.diagnostics import Finding
from worker.jetstream.topology import doctor as checkup
from worker.jetstream.topology.permissions import USER_INFO, Permissions, User, permissions
from worker.jetstream.topology.trial import try_to_write

HOUR = 3_600_000_000_000


def needed(**options: Any) -> Permissions:
    found = permissions(User(role="worker", login={}, **options))
    assert found is not None
    return found


def answer(**changed: Any) -> dict[str, Any]:
    """What the server says of a worker's user."""
    all_ = needed()
    lists = {"publish": {"allow": [*all_.publish]}, "subscribe": {"allow": [*all_.subscribe]}}
    return {"data": {"user": "w", "account": "F", "permissions": lists} | changed}


def finding(check: str, subject: str, state: str, detail: str, advice: str = "") -> Finding:
    return Finding(check=check, subject=subject, state=state, detail=detail, advice=advice)  # type: ignore[arg-type]


def test_a_user_with_exactly_what_a_worker_needs_is_well() -> None:
    assert checkup.rights(answer(), "_INBOX_worker") == [
        finding("nats.permissions", "user w", "ok", "all that a worker needs")
    ]


@pytest.mark.parametrize("said", [None, {}, {"data": None}, {"data": {}}, {"error": {"code": 403}}])
def test_rights_that_cannot_be_read_are_unknown(said: dict[str, Any] | None) -> None:
    assert checkup.rights(said, "_INBOX_worker") == [
        finding(
            "nats.permissions", "this user", "unknown",
            f"can't be read: this user may not ask {USER_INFO}", "grant it, to have the rights checked",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("user", ["", None, "U" * 65])
def test_a_user_without_a_short_name_is_not_named(user: str | None) -> None:
    assert checkup.rights(answer(user=user), "_INBOX_worker")[0].subject == "this user"
    assert checkup.rights(answer(user="U" * 64), "_INBOX_worker")[0].subject == f"user {'U' * 64}"


def test_a_user_that_may_do_everything_is_advised_against() -> None:
    text = "give a worker a user of its own that may only do what it must"
    expected = finding("nats.permissions", "user w", "warn", "may do everything in account F", text)

    assert checkup.rights(answer(permissions=None), "_INBOX") == [expected]
    assert checkup.rights({"data": {"user": "w"}}, "_INBOX")[0].detail == "may do everything in account ?"


@pytest.mark.parametrize(
    ("hours", "state", "advice"), [(71, "warn", "renew the credentials"), (72, "ok", ""), (5_000, "ok", "")]
)
def test_a_login_that_ends_within_three_days_is_told(hours: int, state: str, advice: str) -> None:
    first, second = checkup.rights(answer(expires=hours * HOUR), "_INBOX_worker")

    assert first == finding("nats.login", "user w", state, f"expires in {hours:,} h", advice)
    assert second.state == "ok"


def test_what_is_lacking_is_listed_also_beside_a_login_that_ends() -> None:
    said = answer(expires=HOUR)
    said["data"]["permissions"]["publish"]["allow"].remove("followers.page.>")
    said["data"]["permissions"]["subscribe"] = {"allow": ["nothing"]}

    login, lacks = checkup.rights(said, "_INBOX_worker")

    assert login.check == "nats.login"
    assert (lacks.state, lacks.advice) == ("fail", "grant these, if this is the worker's user")
    start = "lacks what a worker needs: publish followers.page.>; subscribe _INBOX_worker.>; subscribe followers.cancel"
    assert lacks.detail.startswith(start)


def test_the_rights_for_schedules_are_asked_for_only_where_there_are_some() -> None:
    lacks = checkup.rights(answer(), "_INBOX_worker", schedules=True)[0]

    assert lacks.state == "fail"
    assert "publish $KV.FOLLOWERS_SCHEDULES.*" in lacks.detail
    assert "$KV.FOLLOWERS_JOBS" not in lacks.detail


@pytest.mark.parametrize(
    ("rules", "line", "allowed"),
    [
        (None, "a.b", True),
        ({}, "a.b", True),
        ({"allow": []}, "a.b", True),
        ({"allow": ["a.*"]}, "a.b", True),
        ({"allow": ["a.*"]}, "a.b.c", False),
        ({"allow": ["x", "a.>"]}, "a.b.c", True),
        ({"allow": ["a.>"], "deny": ["a.b"]}, "a.b", False),
        ({"allow": ["a.>"], "deny": ["a.c"]}, "a.b", True),
        ({"deny": ["a.c"]}, "a.b", True),
        ({"deny": ["a.b queue"]}, "a.b", False),
        ({"allow": ["a.b"]}, "a.b queue", True),
        ({"allow": ["a.b queue"]}, "a.b queue", True),
        ({"allow": ["a.b other"]}, "a.b queue", False),
        ({"allow": ["a.b queue"]}, "a.b", False),
    ],
)
def test_a_line_is_allowed_by_a_wide_rule_in_its_group_unless_denied(
    rules: dict[str, Any] | None, line: str, allowed: bool
) -> None:
    assert checkup._allowed(rules, line) is allowed


@pytest.mark.parametrize(
    ("server", "received", "state", "text"),
    [
        (100.125, 100.25, "ok", "0.00 s behind"),
        (102.25, 100.25, "ok", "2.12 s ahead of"),
        (102.3125, 100.25, "warn", "2.19 s ahead of"),
        (98.0, 100.25, "ok", "2.12 s behind"),
        (97.9375, 100.25, "warn", "2.19 s behind"),
        (102.0, 100.0, "ok", "2.00 s ahead of"),
        (102.0625, 100.0, "warn", "2.06 s ahead of"),
    ],
)
def test_a_clock_is_wrong_beyond_two_seconds_and_half_the_way_there_and_back(
    server: float, received: float, state: str, text: str
) -> None:
    advice = "let both follow NTP" if state == "warn" else ""
    detail = f"the server's clock is {text} this machine's"

    assert checkup.clock(server, 100.0, received) == finding("clock", "server", state, detail, advice)


LOOK = "set `sync_interval: always` in the server's jetstream block"


def test_a_server_that_syncs_each_message_loses_none() -> None:
    config = {"sync_interval": 120_000_000_000, "sync_always": True}
    expected = finding("nats.sync_interval", "server", "ok", "every message is on disk before it is acknowledged")

    assert checkup.durability({"server_id": "S", "jetstream": {"config": config}}, "S") == expected


def test_what_an_interval_would_lose_is_told_in_seconds() -> None:
    varz = {"server_id": "S", "jetstream": {"config": {"sync_interval": 2_500_000_000}}}
    text = "2.5 s: a crash of the operating system loses what was acknowledged in the last 2.5 s"

    assert checkup.durability(varz, "S") == finding("nats.sync_interval", "server", "warn", text, LOOK)


@pytest.mark.parametrize(
    "varz",
    [
        None,
        {"server_id": "S"},
        {"server_id": "S", "jetstream": {"config": {}}},
        {"server_id": "T", "jetstream": {"config": {"sync_interval": 1, "sync_always": True}}},
    ],
)
def test_another_servers_page_or_none_says_nothing(varz: dict[str, Any] | None) -> None:
    assert checkup.durability(varz, "S") == finding(
        "nats.sync_interval", "server", "unknown", "can't be read: no monitoring page of this server",
        f"name it with --monitor http://HOST:8222, or look yourself: {LOOK}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (
            {"config": {}},
            ("warn", "1 replica: while its server is away nothing goes on, and its disk is the only copy"),
        ),
        ({"config": {"num_replicas": 3}, "cluster": {"replicas": [{"name": "a", "current": True}]}},
         ("ok", "3 replicas, all current")),
        ({"config": {"num_replicas": 3}, "cluster": {"replicas": [{"name": "a"}, {"name": "b", "current": True}]}},
         ("warn", "1 of 3 replicas is offline or behind: a")),
        ({"config": {"num_replicas": 1}, "cluster": {"replicas": [{"name": "a", "current": True, "offline": True}]}},
         ("warn", "1 of 1 replicas is offline or behind: a")),
        ({"config": {"num_replicas": 2}, "cluster": None}, ("ok", "2 replicas, all current")),
    ],
)  # fmt: skip
def test_replicas_are_counted(info: dict[str, Any], expected: tuple[str, str]) -> None:
    (found,) = checkup.replicas("FOLLOWERS_EVENTS", info)

    assert (found.check, found.subject) == ("nats.replicas", "FOLLOWERS_EVENTS")
    assert (found.state, found.detail) == expected
    advice = {"offline": "look at these servers", "only copy": "on a cluster, set nats.replicas = 3 and run setup"}
    assert found.advice == next((text for word, text in advice.items() if word in found.detail), "")


class Server:
    """A connection whose server gives these answers, as JSON, to these requests."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def request(self, subject: str, payload: bytes, timeout: float) -> Any:
        assert (payload, timeout) == (b"", 3.0)
        kind = "_".join([subject.split(".")[2], subject.rpartition(".")[2]]).replace("-", "_").lower()
        if kind not in self.answers:
            raise TimeoutError
        return Msg(_client=None, subject="", data=self.answers[kind])  # type: ignore[arg-type]


QUEUE = b'{"num_pending": %d, "num_ack_pending": %d, "num_waiting": %d}'


@pytest.mark.parametrize(
    ("numbers", "state", "detail", "advice"),
    [
        ((1_500, 2, 3), "ok", "1,500 commands wait, 2 are in hand, 3 slots ask for more", ""),
        ((4, 0, 0), "warn", "4 commands wait, 0 are in hand, 0 slots ask for more", "start one: `followers worker`"),
        ((4, 1, 0), "warn", "4 commands wait, 1 is in hand, 0 slots ask for more",
         "all are busy, or none runs; start one: `followers worker`"),
    ],
)  # fmt: skip
async def test_who_takes_commands_is_told(numbers: tuple[int, int, int], state: str, detail: str, advice: str) -> None:
    server: Any = Server(consumer_worker_esms=QUEUE % numbers)

    assert await checkup._queue(server, "worker-esms") == [finding("workers", "worker-esms", state, detail, advice)]


@pytest.mark.parametrize("said", [{}, {"consumer_worker_esms": b"{}"}, {"consumer_worker_esms": b"<html>"}])
async def test_a_queue_that_cannot_be_looked_at_is_nothing_new(said: dict[str, bytes]) -> None:
    server: Any = Server(**said)

    assert await checkup._queue(server, "worker-esms") == []


STREAM = b'{"config": {"num_replicas": 3, "max_bytes": %d}, "state": {"bytes": %d}}'


@pytest.mark.parametrize(
    ("most", "used", "full"), [(-1, 10**12, False), (0, 1, False), (1, 1, True), (1000, 800, False), (1000, 801, True)]
)
async def test_a_stream_is_too_full_beyond_four_fifths(most: int, used: int, full: bool) -> None:
    server: Any = Server(stream_followers_events=STREAM % (most, used))

    found = await checkup._stream(server, "FOLLOWERS_EVENTS")

    assert [one.check for one in found] == ["nats.replicas", *(["nats.space"] if full else [])]
    if full:
        text = f"{used / most:.0%} full: {used:,} of {most:,} bytes"
        advice = "make room in FOLLOWERS_EVENTS, or raise streams.events_max_bytes and run `followers setup`"
        assert found[1] == finding("nats.space", "FOLLOWERS_EVENTS", "warn", text, advice)


@pytest.mark.parametrize("said", [{}, {"stream_followers_events": b'{"error": {"code": 404}}'}])
async def test_a_stream_that_cannot_be_looked_at_is_unknown(said: dict[str, bytes]) -> None:
    server: Any = Server(**said)

    assert await checkup._stream(server, "FOLLOWERS_EVENTS") == [
        finding("nats.stream", "FOLLOWERS_EVENTS", "unknown", "can't be looked at", "may this user ask STREAM.INFO?")
    ]


async def test_the_servers_clock_is_read_from_the_command_stream_alone() -> None:
    info = b'{"config": {}, "state": {"bytes": 0}, "ts": "2001-01-01T00:00:00Z"}'
    server: Any = Server(stream_followers_commands=info, stream_followers_events=info)

    assert [one.check for one in await checkup._stream(server, COMMANDS_STREAM)] == ["nats.replicas", "clock"]
    assert [one.check for one in await checkup._stream(server, "FOLLOWERS_EVENTS")] == ["nats.replicas"]


async def test_rights_that_a_feature_lacks_are_listed() -> None:
    said = b'{"data": {"permissions": {"publish": {"allow": ["a.>"]}, "subscribe": {"allow": ["b"]}}}}'
    server: Any = Server(user_info=said)

    assert await checkup.lacking(server, ["a.b", "c"], ["b", "d"]) == ["publish c", "subscribe d"]
    assert await checkup.lacking(server, ["a.b"]) == []


async def test_where_the_server_does_not_tell_nothing_is_lacking() -> None:
    server: Any = Server()

    assert await checkup.lacking(server, ["a"], ["b"]) == []


class Line:
    """A connection as its server greeted it."""

    def __init__(self, host: str | None, version: str = "2.12.5", max_payload: int = 1_048_576) -> None:
        self.connected_server_version = version
        self.connected_url = urlsplit(f"nats://{host}:4222") if host else None
        self.max_payload = max_payload


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_this_machine_no_tls_is_well(host: str) -> None:
    line: Any = Line(host)

    assert checkup.server(line) == [
        finding("nats.version", host, "ok", "nats-server 2.12.5"),
        finding("nats.transport", host, "ok", "no TLS, on this machine"),
        finding("nats.max_payload", host, "ok", "1,048,576 bytes"),
    ]


@pytest.mark.parametrize("host", ["nats.example", None])
def test_elsewhere_no_tls_is_warned_of(host: str | None) -> None:
    line: Any = Line(host)

    assert checkup.server(line)[1] == finding(
        "nats.transport", host or "", "warn", "no TLS: credentials and people's data travel readable",
        "turn TLS on at the server, and set nats.tls_ca or a tls:// address",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "state", "detail", "advice"),
    [
        ("2.12.4", "warn", "nats-server 2.12.4",
         "run 2.12.5 or newer: older ones lack fixes that keep acknowledged messages"),
        ("2.12.5-beta.1", "ok", "nats-server 2.12.5", ""),
        ("2.13.0", "ok", "nats-server 2.13.0", ""),
    ],
)  # fmt: skip
def test_a_version_that_lacks_fixes_is_warned_of(version: str, state: str, detail: str, advice: str) -> None:
    line: Any = Line("localhost", version)

    assert checkup.server(line)[0] == finding("nats.version", "localhost", state, detail, advice)


def test_a_version_that_loses_commands_is_refused() -> None:
    line: Any = Line("localhost", "2.10.24")

    found = checkup.server(line)[0]

    assert (found.check, found.state, found.advice) == ("nats.version", "fail", "upgrade the server")
    assert "2.10.24" in found.detail


@pytest.mark.parametrize(("size", "state"), [(262_144, "ok"), (262_143, "warn")])
def test_a_server_that_takes_small_messages_only_is_warned_of(size: int, state: str) -> None:
    line: Any = Line("localhost", max_payload=size)
    advice = "raise max_payload on the server: pages come in many parts" if state == "warn" else ""

    assert checkup.server(line)[2] == finding("nats.max_payload", "localhost", state, f"{size:,} bytes", advice)


@pytest.mark.parametrize(
    ("most", "used", "payload", "discard", "state"),
    [
        (1000, 900, 100, "new", "warn"), (1000, 901, 100, "new", "fail"), (1000, 999, 100, "old", "warn"),
        (1000, 1000, 1, "new", "fail"),
    ],
)  # fmt: skip
async def test_a_stream_without_room_for_the_largest_message_takes_no_page(
    most: int, used: int, payload: int, discard: str, state: str
) -> None:
    said = b'{"config": {"num_replicas": 3, "max_bytes": %d, "discard": "%s"}, "state": {"bytes": %d}}'
    server: Any = Server(stream_followers_events=said % (most, discard.encode(), used))
    server.max_payload = payload

    assert (await checkup._stream(server, "FOLLOWERS_EVENTS"))[1].state == state


ROOM = "make room, or give the server or its account more JetStream storage"
LARGE = 10 * checkup.SMALL_PAYLOAD


@pytest.mark.parametrize(
    ("used", "state", "advice"),
    [
        (8 * checkup.SMALL_PAYLOAD, "ok", ""), (8 * checkup.SMALL_PAYLOAD + 1, "warn", ROOM),
        (9 * checkup.SMALL_PAYLOAD, "warn", ROOM), (9 * checkup.SMALL_PAYLOAD + 1, "fail", ROOM),
    ],
)  # fmt: skip
def test_an_account_is_too_full_beyond_four_fifths_and_takes_nothing_below_a_page(
    used: int, state: str, advice: str
) -> None:
    text = f"{used / LARGE:.0%} of its storage used: {used:,} of {LARGE:,} bytes"
    tier = {"storage": used, "limits": {"max_storage": LARGE}}

    assert checkup.storage(tier) == [finding("nats.storage", "account", state, text, advice)]
    assert checkup.storage({"storage": 0, "tiers": {"R3": tier}}) == [
        finding("nats.storage", "account R3", state, text, advice)
    ]
    varz = {"server_id": "S", "jetstream": {"config": {"max_storage": LARGE}, "stats": {"storage": used}}}
    found = [finding("nats.storage", "server", state, text, advice)] if state != "ok" else []
    assert checkup.server_storage(varz, "S") == found
    assert checkup.server_storage(varz, "another") == []


def test_an_account_without_a_limit_is_well_and_one_that_cannot_be_read_is_unknown() -> None:
    assert checkup.storage({"storage": 5, "limits": {"max_storage": -1}}) == [
        finding("nats.storage", "account", "ok", "5 bytes stored; the account has no limit of its own")
    ]
    answers: list[dict[str, Any] | None] = [None, {"error": {}}]
    for answer in answers:
        assert [one.state for one in checkup.storage(answer)] == ["unknown"]
    assert checkup.server_storage(None, "S") == []
    assert checkup.server_storage({"server_id": "S"}, "S") == []


async def test_a_consumer_that_is_paused_takes_nobody_commands() -> None:
    said = (
        b'{"num_pending": 1, "num_ack_pending": 0, "paused": true, "config": {"pause_until": "2026-03-01T01:00:00Z"}}'
    )
    server: Any = Server(consumer_worker_esms=said)

    assert await checkup._queue(server, "worker-esms") == [
        finding(
            "workers", "worker-esms", "fail", "the consumer worker-esms is paused until 2026-03-01T01:00:00Z",
            "resume it by `nats consumer resume FOLLOWERS_COMMANDS worker-esms`",
        )
    ]  # fmt: skip


class Answers:
    """A connection on which each write is answered in the same way."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []

    async def request(self, subject: str, body: bytes, timeout: float, headers: dict[str, str]) -> Any:
        self.asked.append((subject, body, headers))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Msg(_client=None, subject="", data=self.answer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (b'{"error": {"code": 400, "err_code": 10071, "description": "wrong last sequence: 0"}}', None),
        (b'{"error": {"code": 400, "err_code": 10164, "description": "wrong last sequence"}}', None),
        (b'{"error": {"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}}',
         "a trial that stores nothing fails: maximum bytes exceeded (error 10077)"),
        (nats.errors.TimeoutError(), "a trial that stores nothing fails: no answer"),
        (nats.errors.NoRespondersError(), "a trial that stores nothing fails: no stream takes it"),
    ],
)  # fmt: skip
async def test_a_write_that_cannot_succeed_is_refused_by_a_healthy_stream(
    answer: bytes | Exception, detail: str | None
) -> None:
    server: Any = Answers(answer)

    found = await try_to_write(server, "FOLLOWERS_EVENTS")

    expected_headers = {"Nats-Expected-Last-Subject-Sequence": str(2**62)}
    assert server.asked == [("followers.job.doctor.doctor.doctor", b"", expected_headers)]
    assert [(one.check, one.subject, one.state, one.detail) for one in found] == (
        [("nats.write", "FOLLOWERS_EVENTS", "fail", detail)] if detail else []
    )
    assert all(one.advice for one in found)


@pytest.mark.parametrize(
    ("config", "stats", "told"),
    [
        ({}, {"storage": 10**12}, []),
        ({"max_storage": -1}, {"storage": 10**12}, []),
        ({"max_storage": 0}, {"storage": 10**12}, []),
        ({"max_storage": 1}, {}, []),
        ({"max_storage": 1}, None, []),
        ({"max_storage": 1}, {"storage": 1}, ["100% of its storage used: 1 of 1 bytes"]),
    ],
)
def test_a_server_without_a_limit_or_without_anything_stored_is_not_full(
    config: dict[str, Any], stats: dict[str, Any] | None, told: list[str]
) -> None:
    varz = {"server_id": "S", "jetstream": {"config": config} | ({} if stats is None else {"stats": stats})}

    assert [one.detail for one in checkup.server_storage(varz, "S")] == told


@pytest.mark.parametrize(
    ("tier", "state", "text"),
    [
        ({}, "ok", "0 bytes stored; the account has no limit of its own"),
        ({"storage": 1_500}, "ok", "1,500 bytes stored; the account has no limit of its own"),
        ({"storage": 5, "limits": None}, "ok", "5 bytes stored; the account has no limit of its own"),
        ({"storage": 5, "limits": {"max_storage": 0}}, "ok", "5 bytes stored; the account has no limit of its own"),
        ({"storage": 1, "limits": {"max_storage": 1}}, "fail", "100% of its storage used: 1 of 1 bytes"),
        ({"limits": {"max_storage": 10**9}}, "ok", "0% of its storage used: 0 of 1,000,000,000 bytes"),
    ],
)
def test_each_tier_of_an_account_is_looked_at(tier: dict[str, Any], state: str, text: str) -> None:
    found = checkup.storage({"storage": 0, "tiers": {"R1": tier}})

    assert [(one.subject, one.state, one.detail) for one in found] == [("account R1", state, text)]
    assert bool(found[0].advice) == (state != "ok")


def test_an_account_that_may_not_be_looked_at_says_what_to_grant() -> None:
    assert checkup.storage(None) == [
        finding(
            "nats.storage", "account", "unknown", "can't be read: this user may not ask $JS.API.INFO",
            "grant it, to have the account's limits checked",
        )
    ]  # fmt: skip
