"""What a role may ask for, in every way that makes the server answer with something else."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, page_subject
from tests.integration.attack_layout import API, BULK, CRM, IDLE, MAPPED, Login
from tests.integration.attack_targets import JOB
from worker.providers.simulators import OA_ID

EXPIRES = 0.05
"""Seconds until an empty pull ends with a status."""
_BEATING = 0.5
HELD = "1.1.1.1.1"
"""Stands for the rest of an acknowledgement's subject: what the attacker has really been given goes there."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, of which the attacker chooses the reply subject."""

    name: str
    subject: str
    data: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    """Seconds until the server has said all that it says."""
    needs: str = ""
    """`pages`: the durable must hold some. `worker`: one must run, and nothing is answered without."""
    adds: bool = False
    """It stores commands, which the attacker may."""


def calls(login: Login) -> list[Call]:
    """Return every call that the user's grants allow, and none twice. Raises ValueError for a grant of a new kind."""
    made: dict[str, Call] = {}
    for line in login.publish:
        for call in _of(line):
            made[f"{call.subject} {call.name}"] = call
    return list(made.values())


def forms(call: Call) -> list[str]:
    """Return the subjects under which it reaches JetStream: as clients write it, and as a party's account calls it."""
    if call.subject.startswith(MAPPED):
        return [API + call.subject.removeprefix(MAPPED), call.subject]
    return [call.subject]


def _of(line: str) -> Iterator[Call]:
    plain = API + line.removeprefix(MAPPED) if line.startswith(MAPPED) else line
    kind, _, rest = plain.removeprefix(API).rpartition(f".{_stream(plain)}")
    if plain.startswith("followers.fetch."):
        yield from _commands(line)
    elif plain.startswith(("followers.status.", "followers.cancel.", "followers.release.")):
        act = plain.split(".")[1]
        yield Call(name=f"{act} of a job", subject=line.replace("*", JOB), needs="worker")
        yield Call(name=f"{act} with junk", subject=line.replace("*", JOB), data=b"{" * 99, needs="worker")
        if act == "status":
            yield Call(name=f"{act} of nobody", subject=line.replace("*", "nobody"), needs="worker")
    elif plain == "$SYS.REQ.USER.INFO":
        yield Call(name="who am I", subject=line)
    elif plain.startswith("$JS.ACK."):
        yield from _acks(line)
    elif kind in ("STREAM.INFO", "CONSUMER.INFO"):
        yield Call(name=f"{kind}{rest}", subject=line)
        yield Call(name=f"{kind}{rest} with junk", subject=line, data=b"{")
    elif kind == "CONSUMER.MSG.NEXT":
        yield from _pulls(line, rest.removeprefix("."))
    elif kind == "STREAM.MSG.GET":
        stream = _stream(plain)
        yield Call(name=f"get of {stream}", subject=line, data=b'{"seq": 5}')
        yield Call(name=f"get of {stream} that misses", subject=line, data=b'{"seq": 999999}')
        yield Call(name=f"get of {stream} with junk", subject=line, data=b"{")
    elif kind == "DIRECT.GET":
        yield from _direct(line, _stream(plain), rest)
    else:
        raise ValueError(f"{line!r} is a grant of a kind that has no attacks: add some")


def _stream(subject: str) -> str:
    """Name the stream in a subject of the API."""
    tokens = subject.split(".")
    named = [token for token in tokens if token.startswith(("FOLLOWERS_", "KV_", "OBJ_"))]
    return named[0] if named else "?"


def _body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def _commands(line: str) -> Iterator[Call]:
    provider = line.rpartition(".")[2]
    command = _body(provider=provider, oa_id=OA_ID, id="attackers-job")
    queued = {"Nats-Msg-Id": f"queued-{provider}-0"}
    yield Call(name=f"{provider} command", subject=line, data=command, adds=True)
    yield Call(name=f"{provider} command twice", subject=line, data=command, headers=queued)
    for name, value in (
        ("Nats-Expected-Last-Sequence", "999999"),
        ("Nats-Expected-Stream", EVENTS_STREAM),
    ):
        yield Call(name=f"{provider} command refused by {name}", subject=line, data=command, headers={name: value})


def _acks(line: str) -> Iterator[Call]:
    if f".{BULK}." not in line:
        return
    for word in (b"+ACK", b"-NAK", b"+WPI", b"+TERM", b'+NXT {"batch": 3}', b"+NXT", b"junk"):
        subject = line.replace(">", HELD)
        yield Call(name=f"ack {word.decode()}", subject=subject, data=word, needs="pages")


def _pulls(line: str, durable: str) -> Iterator[Call]:
    soon = int(EXPIRES * 1e9)
    if durable == BULK:
        yield Call(name="pull of a page", subject=line, needs="pages")
        yield Call(name="pull of pages", subject=line, data=_body(batch=3, no_wait=True), needs="pages")
        yield Call(name="pull of too much", subject=line, data=_body(batch=1, max_bytes=1, expires=soon), after=EXPIRES)
    elif durable == IDLE:
        yield Call(name="pull that expires", subject=line, data=_body(batch=1, expires=soon), after=EXPIRES)
        yield Call(name="pull without waiting", subject=line, data=_body(batch=1, no_wait=True))
        beating = _body(batch=1, expires=int(_BEATING * 0.8e9), idle_heartbeat=int(_BEATING * 0.2e9))
        yield Call(name="pull with heartbeats", subject=line, data=beating, after=_BEATING)
        yield Call(name="pull by junk", subject=line, data=b"{")
    elif durable != CRM:
        raise ValueError(f"{line!r}: the durable is nobody's here")


def _direct(line: str, stream: str, rest: str) -> Iterator[Call]:
    if rest:
        found = {EVENTS_STREAM: page_subject("etelecom", OA_ID, JOB), COMMANDS_STREAM: "followers.fetch.esms"}
        key = found.get(stream, f"$KV.{stream.removeprefix('KV_')}.{JOB}")
        yield Call(name=f"direct get of {stream} by subject", subject=line.replace(">", key))
        yield Call(name=f"direct get of {stream} by subject that misses", subject=line.replace(">", "nobody"))
        yield Call(name=f"direct get of {stream} by subject with junk", subject=line.replace(">", key), data=b"{")
        return
    for name, body in (
        ("", _body(seq=5)),
        (" that misses", _body(seq=999_999)),
        (" in a batch", _body(seq=1, batch=3)),
        (" in an empty batch", _body(seq=1, batch=3, next_by_subj="nobody")),
        (" of many subjects", _body(multi_last=["$KV.>", "followers.>"], batch=3)),
        (" with junk", b"{"),
        (" with nothing", b""),
    ):
        yield Call(name=f"direct get of {stream}{name}", subject=line, data=body)
