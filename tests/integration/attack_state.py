"""All that JetStream holds, so that two looks can be compared: streams, consumers, and every message."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.client import Client

_TIMEOUT = 10.0
_TRIES, _AGAIN_AFTER = 40, 0.25
_LISTED = 256
"""Streams, or consumers of one, in one answer of the server."""


@dataclass(frozen=True)
class State:
    """One look. A message never changes under its sequence, so what streams say of theirs is as good as reading all."""

    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    consumers: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One message."""

    stream: str
    sequence: int
    subject: str
    headers: bytes
    data: bytes


async def call(client: Client, subject: str, **body: Any) -> dict[str, Any]:
    """Ask JetStream, again while it has no leader. Raises RuntimeError with the server's words."""
    answer: dict[str, Any] = {}
    for _ in range(_TRIES):
        reply = await client.request(f"$JS.API.{subject}", json.dumps(body).encode(), timeout=_TIMEOUT)
        answer = json.loads(reply.data)
        if answer.get("error", {}).get("code") != 503:
            break
        await asyncio.sleep(_AGAIN_AFTER)
    if "error" in answer:
        raise RuntimeError(f"{subject}: {answer['error']}")
    return answer


async def look(client: Client, own: Collection[str] = ()) -> State:
    """Take a look. Of the consumers `own`, whose progress is their reader's business, only the configuration counts."""
    for _ in range(_TRIES):
        try:
            return await _look(client, own)
        except (RuntimeError, nats.errors.Error):
            # An attack is at work: something goes while it is looked at, or a leader is elected.
            await asyncio.sleep(_AGAIN_AFTER)
    return await _look(client, own)


async def _look(client: Client, own: Collection[str]) -> State:
    names = await stream_names(client)
    infos = await asyncio.gather(
        *(call(client, f"STREAM.INFO.{name}", subjects_filter=">", deleted_details=True) for name in names)
    )
    lists = await asyncio.gather(*(call(client, f"CONSUMER.LIST.{name}") for name in names))
    consumers = {
        f"{name} {info['name']}": _of_consumer(info, progress=info["name"] not in own)
        for name, listed in zip(names, lists, strict=True)
        for info in listed["consumers"] or ()
    }
    return State({name: _of_stream(info) for name, info in zip(names, infos, strict=True)}, consumers)


async def stream_names(client: Client) -> list[str]:
    """Every stream of the account."""
    names: list[str] = (await call(client, "STREAM.NAMES")).get("streams") or []
    assert len(names) < _LISTED
    return names


async def messages(client: Client) -> list[Stored]:
    """Read every message of every stream, in order."""
    found: list[Stored] = []
    for name in await stream_names(client):
        state = (await call(client, f"STREAM.INFO.{name}", deleted_details=True))["state"]
        there = set(range(state["first_seq"], state["last_seq"] + 1)) - set(state.get("deleted") or ())
        for sequence in sorted(there):
            message = (await call(client, f"STREAM.MSG.GET.{name}", seq=sequence))["message"]
            found.append(
                Stored(
                    stream=name,
                    sequence=sequence,
                    subject=message["subject"],
                    headers=base64.b64decode(message.get("hdrs", "")),
                    data=base64.b64decode(message.get("data", "")),
                )
            )
    return found


def digest(stored: Collection[Stored]) -> str:
    """One text for all messages with all that is in them."""
    whole = hashlib.sha256()
    for message in stored:
        whole.update(repr(message).encode())
    return whole.hexdigest()


def difference(before: State, after: State, *, commands: str = "", subjects: Collection[str] = ()) -> list[str]:
    """Return what has changed, a line each. On the stream `commands`, more messages on `subjects` are no change."""
    said = _compared("stream", before.streams, after.streams, commands, subjects)
    return said + _compared("consumer", before.consumers, after.consumers)


def _compared(
    kind: str,
    before: dict[str, dict[str, Any]],
    after: dict[str, dict[str, Any]],
    commands: str = "",
    subjects: Collection[str] = (),
) -> list[str]:
    said = [f"{kind} {name} is gone" for name in before.keys() - after.keys()]
    said += [f"{kind} {name} is new" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if name == commands:
            counts = [(old["subjects"].get(subject, 0), new["subjects"].get(subject, 0)) for subject in subjects]
            said += [f"{kind} {name}: commands are gone" for one, other in counts if other < one][:1]
            old, new = _without(old, subjects), _without(new, subjects)
        said += [f"{kind} {name}: {key} {_shown(old, new, key)}" for key in sorted(old) if old[key] != new.get(key)]
    return sorted(said)


def _shown(old: dict[str, Any], new: dict[str, Any], key: str) -> str:
    if key == "subjects":
        grown = {subject: new[key].get(subject, 0) - old[key].get(subject, 0) for subject in {**old[key], **new[key]}}
        return ", ".join(f"{count:+} on {subject}" for subject, count in sorted(grown.items()) if count)
    return f"{old[key]} → {new.get(key)}"[:200]


def _without(stream: dict[str, Any], subjects: Collection[str]) -> dict[str, Any]:
    others = {subject: count for subject, count in stream["subjects"].items() if subject not in subjects}
    kept = {key: stream[key] for key in ("config", "created", "deleted", "first_seq")}
    return kept | {"subjects": others}


def _of_stream(info: dict[str, Any]) -> dict[str, Any]:
    state = info["state"]
    kept = {key: state[key] for key in ("messages", "bytes", "first_seq", "last_seq", "last_ts")}
    more = {"deleted": state.get("deleted") or [], "subjects": state.get("subjects") or {}}
    return kept | more | {"config": info["config"], "created": info["created"]}


def _of_consumer(info: dict[str, Any], *, progress: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {"config": info["config"], "paused": info.get("paused", False)}
    if progress:
        kept |= {key: info[key]["stream_seq"] for key in ("delivered", "ack_floor")}
        kept |= {key: info[key] for key in ("num_ack_pending", "num_redelivered")}
    return kept
