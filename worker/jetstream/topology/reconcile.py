"""Creating and reconciling streams, buckets and consumers; never shrinks, never deletes.

Speaks the JetStream API with the server's own configuration objects: a field that an operator set, or that
nats-py doesn't know, survives an update.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import msgspec
from nats.aio.client import Client
from nats.errors import Error, NoRespondersError

from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, FEEDS_BUCKET, SNAPSHOTS_BUCKET
from worker.jetstream.topology.assets import Asset, Kind, TopologyConfig, expected
from worker.jetstream.topology.diff import Drift, drifts, outlived, without_room

__all__ = [
    "OLDEST_SERVER",
    "Change",
    "Difference",
    "ServerTooOldError",
    "TopologyConfig",
    "TopologyError",
    "UnansweredError",
    "check",
    "check_server",
    "missing",
    "missing_for_changes",
    "reconcile",
]

OLDEST_SERVER = (2, 10, 25)
_API_TIMEOUT = 5.0
_NOT_FOUND = {10014, 10059}
_NO_LEADER = {10008, 10009}
"""JetStream is temporarily unavailable, this server isn't its leader: a cluster is electing one."""
_EXISTS = {10058, 10148}
_HINTS = {
    10005: "the cluster has too few servers for it: lower nats.replicas",
    10023: "the server is out of JetStream resources: give it more disk or memory",
    10028: "the account is out of JetStream resources: raise its limits",
    10039: "JetStream is not enabled for this account",
    10047: "the server is out of JetStream storage: give it more, or set streams.*_max_bytes",
    10065: "another stream takes these subjects: remove them there",
    10074: "this server is not a cluster: set nats.replicas = 1",
    10076: "JetStream is not enabled: start the server with -js",
}


class TopologyError(Exception):
    """JetStream can't be asked, or isn't there; the message says what to do."""


class UnansweredError(TopologyError):
    """JetStream gave no answer now: the same question may be answered later."""


class ServerTooOldError(TopologyError):
    """The server is too old to keep the promises of the contract."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something on the server that isn't as it should be."""

    kind: Kind
    name: str
    state: Literal["missing", "different", "refused"]
    """`different` is what `reconcile` would change, `refused` what it leaves to a person."""
    detail: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """What `reconcile` did about one thing."""

    kind: Kind
    name: str
    outcome: Literal["created", "updated", "unchanged", "refused", "failed"]
    detail: str = ""


class _ApiError(Exception):
    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} (JetStream error {code})")
        self.code = code


def check_server(version: str) -> None:
    """Raise ServerTooOldError when `version` (`2.10.25`, or as nats-py prints it) is below `OLDEST_SERVER`."""
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None or tuple(int(number) for number in numbers.groups()) < OLDEST_SERVER:
        oldest = ".".join(str(number) for number in OLDEST_SERVER)
        raise ServerTooOldError(
            f"nats-server {version or 'of unknown version'} is too old:"
            f" it may lose commands; upgrade to {oldest} or newer"
        )


async def missing(client: Client) -> str | None:
    """Return one line that names what isn't on the server and what to run, or None when all that must be is there.

    What is optional isn't asked for. Raises TopologyError when JetStream can't be asked, UnansweredError when asking
    again may help.
    """
    return await _absent(client, lambda asset: not asset.optional)


async def missing_for_changes(client: Client) -> str | None:
    """As `missing`, of what only the change feed needs."""
    return await _absent(client, lambda asset: asset.name in (FEEDS_BUCKET, SNAPSHOTS_BUCKET))


async def _absent(client: Client, wanted: Callable[[Asset], bool]) -> str | None:
    assets = [asset for asset in expected(TopologyConfig()) if wanted(asset)]
    absent = [str(asset) for asset in assets if await _find(client, asset) is None]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} missing: run `followers setup`"


async def check(client: Client, config: TopologyConfig, without: Collection[str] = ()) -> list[Difference]:
    """Return what `reconcile` would do or refuse; empty when all is as it should be. Changes nothing.

    `without`: streams that aren't looked at. Raises TopologyError when JetStream can't be asked.
    """
    looked_at = [asset for asset in expected(config) if asset.stream not in without]
    found, differences = [], []
    for asset in looked_at:
        try:
            live = await _find(client, asset)
        except UnansweredError as error:
            if not asset.optional:
                raise
            differences.append(Difference(kind=asset.kind, name=asset.name, state="refused", detail=str(error)))
        else:
            found.append((asset, live))
            differences += await _differences(client, asset, live)
    conflict = _conflict(found)
    if conflict is not None:
        differences.append(Difference(kind="stream", name=EVENTS_STREAM, state="refused", detail=conflict.detail))
    return differences


async def reconcile(client: Client, config: TopologyConfig) -> list[Change]:
    """Create what is missing, update what differs and may be changed; return at least one Change a thing.

    Never shrinks or deletes: that is `refused`, with the reason. Safe to run twice and by two at once. What is optional
    and not answered for is `failed`. Raises TopologyError when JetStream can't be asked.
    """
    changes = [change for asset in expected(config) for change in await _settle(client, asset)]
    streams = [asset for asset in expected(config) if asset.kind == "stream"]
    conflict = _conflict([(asset, await _find(client, asset)) for asset in streams])
    if conflict is not None:
        changes.append(Change(kind="stream", name=EVENTS_STREAM, outcome="refused", detail=conflict.detail))
    return changes


async def _settle(client: Client, asset: Asset) -> list[Change]:
    said = Change(kind=asset.kind, name=asset.name, outcome="unchanged")
    try:
        live = await _find(client, asset)
        if live is None and await _create(client, asset):
            return [replace(said, outcome="created")]
        # Somebody else may have made it, differently, between the look and the attempt.
        live = live or await _find(client, asset) or {}
        found = await _drifts(client, asset, live)
        changeable = [drift for drift in found if not drift.refused]
        refused = [replace(said, outcome="refused", detail=drift.detail) for drift in found if drift.refused]
        if not changeable:
            return refused or [said]
        await _update(client, asset, live, changeable)
    except _ApiError as error:
        hint = _HINTS.get(error.code)
        return [replace(said, outcome="failed", detail=f"{error}: {hint}" if hint else str(error))]
    except UnansweredError as error:
        # A user with the rights of the version before may not touch what is new; all else must not wait for that.
        if not asset.optional:
            raise
        return [replace(said, outcome="failed", detail=str(error))]
    return [
        replace(said, outcome="updated", detail="; ".join(drift.detail for drift in changeable)),
        *refused,
    ]


async def _drifts(client: Client, asset: Asset, live: dict[str, Any]) -> list[Drift]:
    """Return where `live` isn't what `asset` wants; what would drop messages as things stand is refused."""
    found = drifts(asset, live)
    if not any(drift.at_most is not None for drift in found):
        return found
    answer = await _ask(client, f"STREAM.INFO.{asset.stream}", {"subjects_filter": ">"})
    return without_room(found, max((answer["state"].get("subjects") or {}).values(), default=0))


async def _differences(client: Client, asset: Asset, live: dict[str, Any] | None) -> list[Difference]:
    if live is None:
        return [Difference(kind=asset.kind, name=asset.name, state="missing", detail="is missing")]
    return [
        Difference(
            kind=asset.kind,
            name=asset.name,
            state="refused" if drift.refused else "different",
            detail=drift.detail,
        )
        for drift in await _drifts(client, asset, live)
    ]


def _conflict(found: list[tuple[Asset, dict[str, Any] | None]]) -> Drift | None:
    """Look at the ages as they will be: what is refused stays as it is on the server."""
    future = {asset.name: _future(asset, live) for asset, live in found if asset.kind == "stream"}
    return outlived(future[COMMANDS_STREAM], future[EVENTS_STREAM])


def _future(asset: Asset, live: dict[str, Any] | None) -> dict[str, Any]:
    if live is None:
        return asset.wanted
    return live | {drift.field: drift.value for drift in drifts(asset, live) if not drift.refused}


async def _find(client: Client, asset: Asset) -> dict[str, Any] | None:
    kind, name = ("CONSUMER", f"{asset.stream}.{asset.name}") if asset.kind == "consumer" else ("STREAM", asset.stream)
    try:
        answer = await _ask(client, f"{kind}.INFO.{name}")
    except _ApiError as error:
        if error.code in _NOT_FOUND:
            return None
        kind_of_error = UnansweredError if error.code in _NO_LEADER else TopologyError
        raise kind_of_error(
            f"{asset} can't be looked up: {error}: {_HINTS.get(error.code, 'see the server log')}"
        ) from error
    return cast(dict[str, Any], answer["config"])


async def _create(client: Client, asset: Asset) -> bool:
    """Return False when somebody else has made it meanwhile, with other settings."""
    config = {field: value for field, value in asset.wanted.items() if value is not None}
    try:
        await _put(client, asset, config, "create")
    except _ApiError as error:
        if error.code in _EXISTS:
            return False
        raise
    return True


async def _update(client: Client, asset: Asset, live: dict[str, Any], changes: list[Drift]) -> None:
    config = live | {drift.field: drift.value for drift in changes}
    await _put(client, asset, {field: value for field, value in config.items() if value is not None}, "update")


async def _put(client: Client, asset: Asset, config: dict[str, Any], action: Literal["create", "update"]) -> None:
    if asset.kind == "consumer":
        request = {"stream_name": asset.stream, "config": config, "action": action}
        await _ask(client, f"CONSUMER.CREATE.{asset.stream}.{asset.name}", request)
    else:
        await _ask(client, f"STREAM.{action.upper()}.{asset.stream}", config)


async def _ask(client: Client, subject: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    body = b"" if request is None else msgspec.json.encode(request)
    try:
        reply = await client.request(f"$JS.API.{subject}", body, timeout=_API_TIMEOUT)
    except NoRespondersError as error:
        raise TopologyError("JetStream is not enabled on this NATS server: start it with -js") from error
    except (Error, OSError, TimeoutError) as error:
        raise UnansweredError(
            f"JetStream doesn't answer {subject.partition('.F')[0]} ({type(error).__name__}):"
            " is the server up, and may this user use $JS.API.>?"
        ) from error
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if "error" in answer:
        raise _ApiError(answer["error"].get("err_code", 0), answer["error"].get("description", "unknown error"))
    return answer
