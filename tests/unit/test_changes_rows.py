"""What of a follower is compared, to the bit: snapshots that are kept must mean the same to the next version."""

from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
import pytest

from schemas.follower import Follower, SharedInfo
from worker.core.changes.fingerprint import COMPARED, Row, different, digests, marks, numbers_of, value_of

FULL: dict[str, Any] = {
    "user_id_by_app": "a",
    "provider_id": "b",
    "shop_id": "c",
    "display_name": "Mận",
    "gender": "female",
    "phone": "+84900000000",
    "shared_info": SharedInfo(city="Huế"),
    "tags": ["VIP", "cũ"],
    "notes": ["n"],
    "assigned_user_id": "9",
    "has_conversation": False,
}
TEXTS = COMPARED[:6] + COMPARED[9:10]


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def test_what_is_compared_and_in_which_order() -> None:
    assert tuple(FULL) == COMPARED


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [
        (["0"], [0]),
        (["7", "18446744073709551615"], [7, 2**64 - 1]),
        (["7", "18446744073709551616"], None),
        (["18446744073709551616", "7"], None),
        (["7", "07"], None),
        (["-7"], None),
        (["+7"], None),
        (["1_0"], None),
        (["٣"], None),
        (["7", ""], None),
        (["", "7"], None),
        (["7", "a"], None),
        ([""], None),
        ([], None),
    ],
)
def test_ids_are_numbers_where_all_of_them_are_written_as_one(ids: list[str], numbers: list[int] | None) -> None:
    assert numbers_of(ids) == numbers


def test_a_rows_digest_is_an_odd_hash_of_all_compared_fields() -> None:
    nothing = packed([None] * 7 + [[], [], None, None])
    everything = packed(list(FULL.values()))

    found = digests([Row(user_id="1"), Row(user_id="2", state="follow", **FULL)])

    hashes = [blake2b(one, digest_size=8).digest() for one in (nothing, everything)]
    assert found == [int.from_bytes(one, "little") | 1 for one in hashes]
    assert found == [15579374570237280127, 4436242508053114427], "kept snapshots have these"


@pytest.mark.parametrize("names", ["tags", "notes"])
def test_the_order_of_tags_and_notes_is_no_part_of_the_digest(names: str) -> None:
    values: list[dict[str, Any]] = [{names: list(value)} for value in ("ab", "ba", "ac")]
    one, two, other = (Row(user_id="1", **value) for value in values)

    assert len(set(digests([one, two]))) == 1
    assert len(set(digests([one, other]))) == 2


def test_who_does_not_follow_has_no_digest() -> None:
    assert digests([Row(user_id="1", state="unfollow", **FULL)]) == [0]


def test_marks_are_16_bits_of_each_fields_value_column_by_column() -> None:
    empty, full = Row(user_id="1"), Row(user_id="2", **FULL)

    found = dict(zip(COMPARED, marks([empty, full, empty]), strict=True))

    for name, value in FULL.items():
        bits = crc32(value.encode() if name in TEXTS else packed(value)) & 0xFFFF
        assert found[name] == [0, bits, 0], name


def test_a_chat_that_is_not_there_is_another_mark_than_one_that_nobody_knows_of() -> None:
    no, unknown = marks([Row(user_id="1", has_conversation=False), Row(user_id="2")])[-1]

    assert (no, unknown) == (crc32(b"\xc2") & 0xFFFF, 0)


def test_fields_that_differ_are_named_in_their_order() -> None:
    nobody, somebody = Follower(user_id="1"), Follower(user_id="1", **FULL)

    assert different(nobody, somebody) == list(COMPARED)
    assert different(somebody, somebody) == []
    for name, value in FULL.items():
        assert different(nobody, Follower(user_id="1", **{name: value})) == [name]


@pytest.mark.parametrize("name", ["tags", "notes"])
def test_lists_in_another_order_do_not_differ(name: str) -> None:
    one: dict[str, Any] = {name: ["a", "b"]}
    two: dict[str, Any] = {name: ["b", "a"]}

    assert different(Follower(user_id="1", **one), Follower(user_id="1", **two)) == []


def test_a_value_is_told_as_an_event_has_it() -> None:
    full = Follower(user_id="1", **FULL)

    assert [value_of(full, name) for name in COMPARED] == list((FULL | {"shared_info": {"city": "Huế"}}).values())
    assert value_of(Follower(user_id="1", shared_info=SharedInfo()), "shared_info") is None
    assert value_of(Follower(user_id="1"), "shared_info") is None
    assert value_of(Follower(user_id="1"), "tags") == []
