"""Random and mutated commands, the same ones for the same seed."""

import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from schemas.types import Provider
from worker.providers.simulators import EMPTY_OA_ID, OA_ID

GOOD: list[dict[str, Any]] = [
    {"provider": "etelecom", "oa_id": OA_ID, "account": "shop"},
    {
        "provider": "etelecom",
        "oa_id": OA_ID,
        "page_size": 7,
        "max_pages": 2,
        "labels": {"a": "b"},
        "sort": "-created_at",
    },
    {
        "provider": "etelecom",
        "oa_id": EMPTY_OA_ID,
        "filter": {"state": "follow", "tags": ["vip"], "has_conversation": True},
    },
    {"provider": "etelecom", "oa_id": "1", "filter": {"zl_user_ids": ["1", "2"], "date_from": "2026-01-31T00:00:00Z"}},
    {"provider": "esms", "oa_id": OA_ID, "account": "esms"},
    {"provider": "esms", "oa_id": OA_ID, "page_size": 10, "max_followers": 5, "not_after": "2036-01-01T00:00:00Z"},
    {"provider": "esms", "oa_id": EMPTY_OA_ID, "not_after": "2020-01-01T00:00:00+07:00"},
]
FIELDS = [
    *("provider", "oa_id", "id", "account", "page_size", "max_pages", "max_followers", "not_after", "labels", "filter"),
    *("sort", "cursor", "base_url", ""),
]
CONTENT_TYPES = [
    None,
    "application/json",
    "application/msgpack",
    "application/json; charset=utf-8",
    "text/plain",
    "\u00e9",
]

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@dataclass(frozen=True, kw_only=True)
class Order:
    """One message for the command stream."""

    provider: Provider
    body: bytes
    headers: dict[str, str]
    message_id: str


def orders(count: int, seed_number: int) -> Iterator[Order]:
    """So many of them: noise, JSON of any shape, and good commands with something done to them."""
    drawn: list[tuple[int, Any, dict[str, Any]]] = []
    material = st.tuples(
        st.integers(0, 2**62),
        values,
        st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values, max_size=3),
    )

    # Hypothesis draws better values than a dice alone; a few hundred of them are combined by the dice.
    @seed(seed_number)
    @settings(
        max_examples=min(count, 400),
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(material)
    def draw(found: tuple[int, Any, dict[str, Any]]) -> None:
        drawn.append(found)

    draw()
    dice = random.Random(seed_number)
    for number in range(count):
        yield _order(number, dice, drawn)


def _order(number: int, dice: random.Random, drawn: list[tuple[int, Any, dict[str, Any]]]) -> Order:
    good = json.loads(json.dumps(dice.choice(GOOD)))
    _, value, fields = dice.choice(drawn)
    kind = dice.randrange(10)
    command: Any = good
    if kind == 0:
        command = value
    elif kind == 1:
        command = {**good, **fields}
    elif kind <= 3:
        command = {**good, dice.choice(FIELDS): dice.choice(drawn)[1]}
    elif kind == 4:
        good.pop(dice.choice(list(good)))
    elif kind == 5:
        good["filter"] = {**(good.get("filter") or {}), dice.choice(["phone", "name", "gender", "tag", "x"]): value}
    if isinstance(command, dict) and dice.random() < 0.3:
        # Few ids: many commands that are the same job, or claim to be.
        command = {**command, "id": f"fuzz-{dice.randrange(50)}"}
    headers = {}
    chosen = dice.choice(CONTENT_TYPES) if dice.random() < 0.3 else None
    if chosen is not None:
        headers["Content-Type"] = chosen
    if dice.random() < 0.1:
        headers["traceparent"] = dice.choice(["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x" * 300])
    packed = chosen == "application/msgpack" or dice.random() < 0.05
    body = _encode(command, packed)
    if kind >= 8:
        body = dice.choice(_MUTATIONS)(bytearray(body), dice)
    provider: Provider = "esms" if isinstance(command, dict) and command.get("provider") == "esms" else "etelecom"
    if dice.random() < 0.03:
        provider = dice.choice(["etelecom", "esms"])
    return Order(provider=provider, body=body, headers=headers, message_id=f"fuzz-message-{number}")


def _encode(command: Any, packed: bool) -> bytes:
    if packed:
        try:
            return msgspec.msgpack.encode(command)
        except (OverflowError, UnicodeEncodeError):
            pass
    # Python's own writer: NaN, lone surrogates and huge numbers come through.
    return json.dumps(command).encode()


def _flip(body: bytearray, dice: random.Random) -> bytes:
    for _ in range(dice.randint(1, 4)):
        if body:
            body[dice.randrange(len(body))] = dice.randrange(256)
    return bytes(body)


def _cut(body: bytearray, dice: random.Random) -> bytes:
    return bytes(body[: dice.randrange(len(body) + 1)])


def _repeat(body: bytearray, dice: random.Random) -> bytes:
    return bytes(body) * dice.randint(2, 5)


def _nest(body: bytearray, dice: random.Random) -> bytes:
    depth = dice.choice([10, 500, 20_000])
    return b"[" * depth + bytes(body) + b"]" * depth


def _noise(body: bytearray, dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(200))


def _insert(body: bytearray, dice: random.Random) -> bytes:
    place = dice.randrange(len(body) + 1)
    return bytes(body[:place]) + dice.choice(string.punctuation).encode() * dice.randint(1, 3) + bytes(body[place:])


def _swell(body: bytearray, dice: random.Random) -> bytes:
    return bytes(body) + b" " * dice.choice([1, 60_000, 70_000])


_MUTATIONS: list[Callable[[bytearray, random.Random], bytes]] = [_flip, _cut, _repeat, _nest, _noise, _insert, _swell]
