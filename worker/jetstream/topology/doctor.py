"""Looking a NATS server over: what would lose messages, hold up commands or surprise an operator. Changes nothing."""

import json
import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from nats.aio.client import Client
from nats.errors import Error

from schemas.counted import counted
from schemas.subjects import COMMANDS_STREAM, PROVIDERS, command_subject, consumer_name
from worker.core.cures import QUOTA, STORE_FAILED, cure, paused_text, resume
from worker.core.diagnostics import Finding, State
from worker.jetstream.client.secure import GuardedClient
from worker.jetstream.topology.accounts import local_subject
from worker.jetstream.topology.assets import TopologyConfig, expected
from worker.jetstream.topology.diff import covers
from worker.jetstream.topology.permissions import STREAMS, USER_INFO, User, permissions
from worker.jetstream.topology.reconcile import ServerTooOldError, TopologyError, check, check_server
from worker.jetstream.topology.sharing import sharing
from worker.jetstream.topology.trial import TRIALS, held_up, try_to_write

ADVISED_SERVER = (2, 12, 5)
SMALL_PAYLOAD = 256 * 1024
"""Bytes; a page of 100 rich followers takes about 75 KB, so smaller servers split many pages."""
SKEW = 2.0
"""Seconds by which clocks may differ before deadlines and waits look odd."""
FULL = 0.8
ACCOUNT_INFO = "$JS.API.INFO"
_TIMEOUT = 3.0


async def examine(client: Client, config: TopologyConfig, *, schedules: bool = False) -> list[Finding]:
    """Look at the server, this user's rights, streams and consumers, and clocks. Raises nothing of NATS.

    `schedules`: the settings have some, so the worker's user needs the rights for them.
    """
    user = await _ask(client, USER_INFO)
    inbox = str(client._inbox_prefix, "ascii")
    found = [*server(client), *rights(user, inbox, schedules=schedules), sharing(user, inbox)]
    # A worker's user may not look at what belongs to a feature that it has no part in.
    optional = {asset.stream: f"$JS.API.STREAM.INFO.{asset.stream}" for asset in expected(config) if asset.optional}
    limits = ((user or {}).get("data") or {}).get("permissions") or {}
    without = {stream for stream, line in optional.items() if not _allowed(limits.get("publish"), line)}
    try:
        differences = await check(client, config, without)
    except TopologyError as error:
        return [*found, _finding("nats.assets", "JetStream", "fail", str(error), "see the line above")]
    wrong = {(item.kind, item.name) for item in differences}
    for item in differences:
        refused = item.state == "refused"
        advice = "change it by hand, or the settings to match" if refused else "run `followers setup`"
        found.append(_finding("nats.assets", f"{item.kind} {item.name}", "fail", item.detail, advice))
    looked_at = [asset for asset in expected(config) if asset.stream not in without]
    right = [str(asset) for asset in looked_at if (asset.kind, asset.name) not in wrong]
    if right:
        found.append(_finding("nats.assets", f"{len(right)} of {len(looked_at)}", "ok", "as they should be"))
    found += storage(await _ask(client, ACCOUNT_INFO))
    missing = {item.name for item in differences if item.state == "missing"}
    for stream in STREAMS:
        if stream.removeprefix("KV_").removeprefix("OBJ_") not in missing:
            found += await _stream(client, stream)
    for stream, subject in TRIALS.items():
        # What this user may not write is said above.
        if stream.removeprefix("KV_") not in missing and _allowed(limits.get("publish"), subject):
            found += await try_to_write(client, stream)
    for provider in PROVIDERS:
        if consumer_name(provider) not in missing and COMMANDS_STREAM not in missing:
            found += await _queue(client, consumer_name(provider))
    return [*found, *await held_up(client)]


def server(client: Client) -> list[Finding]:
    """What the server's greeting says: version, transport, largest message."""
    version, where = str(client.connected_server_version), client.connected_url
    host = where.hostname if where else ""
    found = []
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", version)
    try:
        check_server(version)
        newer = numbers is not None and tuple(map(int, numbers.groups())) >= ADVISED_SERVER
        text = "" if newer else "run 2.12.5 or newer: older ones lack fixes that keep acknowledged messages"
        shown = numbers[0] if numbers else version
        found.append(_finding("nats.version", f"{host}", "ok" if newer else "warn", f"nats-server {shown}", text))
    except ServerTooOldError as error:
        found.append(_finding("nats.version", f"{host}", "fail", str(error), "upgrade the server"))
    local = host in ("127.0.0.1", "localhost", "::1")
    if isinstance(client, GuardedClient) and client._has_tls():
        found.append(_finding("nats.transport", f"{host}", "ok", "TLS"))
    else:
        advice = "" if local else "turn TLS on at the server, and set nats.tls_ca or a tls:// address"
        text = "no TLS, on this machine" if local else "no TLS: credentials and people's data travel readable"
        found.append(_finding("nats.transport", f"{host}", "ok" if local else "warn", text, advice))
    size = client.max_payload
    small = size < SMALL_PAYLOAD
    advice = "raise max_payload on the server: pages come in many parts" if small else ""
    found.append(_finding("nats.max_payload", f"{host}", "warn" if small else "ok", f"{size:,} bytes", advice))
    return found


def rights(answer: Mapping[str, Any] | None, inbox: str, *, schedules: bool = False) -> list[Finding]:
    """What this user may do, against what a worker needs. `answer`: to USER_INFO, None when there was none."""
    user = (answer or {}).get("data")
    if not user:
        text = f"can't be read: this user may not ask {USER_INFO}"
        return [_finding("nats.permissions", "this user", "unknown", text, "grant it, to have the rights checked")]
    name = f"user {user['user']}" if user.get("user") and len(user["user"]) <= 64 else "this user"
    found = []
    if expires := user.get("expires"):
        hours = expires / 3_600_000_000_000
        soon: State = "warn" if hours < 72 else "ok"
        advice = "renew the credentials" if soon == "warn" else ""
        found.append(_finding("nats.login", name, soon, f"expires in {hours:,.0f} h", advice))
    limits = user.get("permissions")
    if not limits:
        text = f"may do everything in account {user.get('account', '?')}"
        advice = "give a worker a user of its own that may only do what it must"
        return [*found, _finding("nats.permissions", name, "warn", text, advice)]
    needed = permissions(User(role="worker", login={}, inbox=inbox, schedules=schedules))
    assert needed is not None
    lacking = [
        *(f"publish {line}" for line in needed.publish if not _allowed(limits.get("publish"), line)),
        *(f"subscribe {line}" for line in needed.subscribe if not _allowed(limits.get("subscribe"), line)),
    ]
    if lacking:
        text = f"lacks what a worker needs: {'; '.join(lacking)}"
        advice = "grant these, if this is the worker's user"
        return [*found, _finding("nats.permissions", name, "fail", text, advice)]
    return [*found, _finding("nats.permissions", name, "ok", "all that a worker needs")]


async def lacking(client: Client, publish: Iterable[str], subscribe: Iterable[str] = ()) -> list[str]:
    """Return which of these rights this connection's user lacks; none where the server doesn't tell."""
    limits = ((await _ask(client, USER_INFO) or {}).get("data") or {}).get("permissions") or {}
    return [
        *(f"publish {line}" for line in publish if not _allowed(limits.get("publish"), line)),
        *(f"subscribe {line}" for line in subscribe if not _allowed(limits.get("subscribe"), line)),
    ]


def durability(varz: Mapping[str, Any] | None, server_id: str) -> Finding:
    """What a power cut would lose, by the server's own monitoring page; None: it couldn't be read."""
    advice = "set `sync_interval: always` in the server's jetstream block"
    settings = ((varz or {}).get("jetstream") or {}).get("config") or {}
    if varz is None or varz.get("server_id") != server_id or "sync_interval" not in settings:
        return _finding(
            "nats.sync_interval", "server", "unknown", "can't be read: no monitoring page of this server",
            f"name it with --monitor http://HOST:8222, or look yourself: {advice}",
        )  # fmt: skip
    if settings.get("sync_always"):
        return _finding("nats.sync_interval", "server", "ok", "every message is on disk before it is acknowledged")
    seconds = settings["sync_interval"] / 1e9
    text = f"{seconds:g} s: a crash of the operating system loses what was acknowledged in the last {seconds:g} s"
    return _finding("nats.sync_interval", "server", "warn", text, advice)


def storage(answer: Mapping[str, Any] | None) -> list[Finding]:
    """What the account has stored against what it may store. `answer`: to ACCOUNT_INFO."""
    if answer is None or "storage" not in answer:
        text = "can't be read: this user may not ask $JS.API.INFO"
        return [_finding("nats.storage", "account", "unknown", text, "grant it, to have the account's limits checked")]
    tiers = answer.get("tiers") or {"": answer}
    found = []
    for name, tier in tiers.items():
        most, used = (tier.get("limits") or {}).get("max_storage", -1), tier.get("storage", 0)
        where = f"account {name}".strip()
        if most <= 0:
            text = f"{used:,} bytes stored; the account has no limit of its own"
            found.append(_finding("nats.storage", where, "ok", text))
            continue
        state: State = "fail" if most - used < SMALL_PAYLOAD else "warn" if used > FULL * most else "ok"
        text = f"{used / most:.0%} of its storage used: {used:,} of {most:,} bytes"
        found.append(_finding("nats.storage", where, state, text, cure(10023, "", "") if state != "ok" else ""))
    return found


def server_storage(varz: Mapping[str, Any] | None, server_id: str) -> list[Finding]:
    """What the server has stored against what it may store, by its own monitoring page; None: it couldn't be read."""
    page = (varz or {}).get("jetstream") or {}
    if varz is None or varz.get("server_id") != server_id or "config" not in page:
        return []
    most, used = page["config"].get("max_storage", -1), (page.get("stats") or {}).get("storage", 0)
    if most <= 0 or used <= FULL * most:
        return []
    state: State = "fail" if most - used < SMALL_PAYLOAD else "warn"
    text = f"{used / most:.0%} of its storage used: {used:,} of {most:,} bytes"
    return [_finding("nats.storage", "server", state, text, cure(10023, "", ""))]


async def _stream(client: Client, name: str) -> list[Finding]:
    sent = time.time()
    info = await _ask(client, f"$JS.API.STREAM.INFO.{name}")
    if info is None or "config" not in info:
        return [_finding("nats.stream", name, "unknown", "can't be looked at", "may this user ask STREAM.INFO?")]
    found = list(replicas(name, info))
    most, used = info["config"].get("max_bytes", -1), info["state"]["bytes"]
    if most > 0 and used > FULL * most:
        # A page may take as much as the server's max_payload; a stream that drops its oldest messages is never full.
        full = info["config"].get("discard") == "new" and most - used < client.max_payload
        text = f"{used / most:.0%} full: {used:,} of {most:,} bytes"
        advice = cure(STORE_FAILED, "maximum bytes exceeded", name)
        found.append(_finding("nats.space", name, "fail" if full else "warn", text, advice))
    if name == COMMANDS_STREAM and info["config"].get("discard_new_per_subject"):
        found += quota(info["config"], await _ask(client, f"$JS.API.STREAM.INFO.{name}", subjects_filter=">"))
    if name == COMMANDS_STREAM and info.get("ts"):
        found.append(clock(datetime.fromisoformat(info["ts"]).timestamp(), sent, time.time()))
    return found


def quota(config: Mapping[str, Any], answer: Mapping[str, Any] | None) -> Iterable[Finding]:
    """How many commands each provider has queued against how many may be. `answer`: with the counts by subject."""
    most = config.get("max_msgs_per_subject", -1)
    for provider in PROVIDERS:
        used = (((answer or {}).get("state") or {}).get("subjects") or {}).get(command_subject(provider), 0)
        text = f"{counted(used, 'command is', 'commands are')} queued of {most:,} that may be"
        state: State = "fail" if used >= most else "warn" if used > FULL * most else "ok"
        advice = "" if state == "ok" else cure(STORE_FAILED, QUOTA, COMMANDS_STREAM)
        yield _finding("nats.quota", provider, state, text, advice)


def clock(server_time: float, sent: float, received: float) -> Finding:
    """How far the server's clock is from ours: `server_time` was read between `sent` and `received`, in seconds."""
    skew = server_time - (sent + received) / 2
    wrong = abs(skew) > SKEW + (received - sent) / 2
    text = f"the server's clock is {abs(skew):.2f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    return _finding("clock", "server", "warn" if wrong else "ok", text, "let both follow NTP" if wrong else "")


def replicas(name: str, info: Mapping[str, Any]) -> Iterable[Finding]:
    count = info["config"].get("num_replicas", 1)
    others = (info.get("cluster") or {}).get("replicas") or []
    behind = [other["name"] for other in others if other.get("offline") or not other.get("current")]
    if behind:
        verb = "is" if len(behind) == 1 else "are"
        text = f"{len(behind)} of {count} replicas {verb} offline or behind: {', '.join(behind)}"
        yield _finding("nats.replicas", name, "warn", text, "look at these servers")
    elif count == 1:
        text = "1 replica: while its server is away nothing goes on, and its disk is the only copy"
        yield _finding("nats.replicas", name, "warn", text, "on a cluster, set nats.replicas = 3 and run setup")
    else:
        yield _finding("nats.replicas", name, "ok", f"{count} replicas, all current")


async def _queue(client: Client, name: str) -> list[Finding]:
    info = await _ask(client, f"$JS.API.CONSUMER.INFO.{COMMANDS_STREAM}.{name}")
    if info is None or "num_pending" not in info:
        return []
    if info.get("paused"):
        provider = name.removeprefix("worker-")
        until = datetime.fromisoformat(info["config"]["pause_until"])
        return [_finding("workers", name, "fail", paused_text(provider, until), resume(provider))]
    waiting, held, asking = info["num_pending"], info["num_ack_pending"], info.get("num_waiting", 0)
    waits = counted(waiting, "command waits", "commands wait")
    slots = counted(asking, "slot asks", "slots ask")
    text = f"{waits}, {counted(held, 'is', 'are')} in hand, {slots} for more"
    # At work with every slot full, a worker asks for nothing either.
    if asking:
        return [_finding("workers", name, "ok", text)]
    advice = "start one: `followers worker`"
    return [_finding("workers", name, "warn", text, f"all are busy, or none runs; {advice}" if held else advice)]


async def _ask(client: Client, subject: str, **query: Any) -> dict[str, Any] | None:
    body = json.dumps(query).encode() if query else b""
    try:
        answer: dict[str, Any] = json.loads((await client.request(subject, body, timeout=_TIMEOUT)).data)
    except (Error, OSError, TimeoutError, ValueError):
        return None
    return answer


def _allowed(rules: Mapping[str, Any] | None, line: str) -> bool:
    """Whether `line`, a subject and perhaps a queue group, is in the rules as the server tells them."""
    subject, _, queue = line.partition(" ")
    listed = [rule.partition(" ") for rule in (rules or {}).get("allow") or [">"]]
    denied = [rule.partition(" ")[0] for rule in (rules or {}).get("deny") or []]
    # In an account without JetStream of its own, what is asked of ours has another name there.
    names = {subject, local_subject(subject)}
    allowed = any(covers(rule, name) and group in ("", queue) for rule, _, group in listed for name in names)
    return allowed and not any(covers(rule, name) for rule in denied for name in names)


def _finding(check: str, subject: str, state: State, detail: str, advice: str = "") -> Finding:
    return Finding(check=check, subject=subject, state=state, detail=detail, advice=advice)
