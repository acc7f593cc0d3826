"""Seeded followers show every oddity of PROVIDERS 1.3 and 5, and nothing of real people."""

import json
import tracemalloc
import unicodedata
from datetime import datetime

from worker.simulators.data import CANARY, People

OA = "2801000000000000001"


def rows(count: int = 1000, seed: int = 1) -> list[dict[str, object]]:
    people = People(seed, OA, count, unfollowed_every=19, unknown_state_every=101)
    return [people.row(index, people.state(index), None) for index in range(count)]


def test_the_same_seed_gives_the_same_people_and_another_seed_others() -> None:
    assert rows(50) == rows(50)
    assert {row["zl_user_id"] for row in rows(50)}.isdisjoint(row["zl_user_id"] for row in rows(50, seed=2))


def test_user_ids_are_unique_have_17_to_19_digits_and_survive_no_double() -> None:
    """PROVIDERS 5: ids exceed 2^53 and fit a signed int64."""
    people = People(7, OA, 50_000)
    ids = [people.user_id(index) for index in range(50_000)]

    assert len(set(ids)) == len(ids)
    assert {len(str(user_id)) for user_id in ids} == {17, 18, 19}
    assert all(2**53 < user_id < 2**63 for user_id in ids)
    assert any(int(float(user_id)) != user_id for user_id in ids)


def test_a_user_id_leads_back_to_its_index() -> None:
    people = People(7, OA, 1_000_000)

    assert [people.index_of(people.user_id(index)) for index in (0, 1, 2, 999_999)] == [0, 1, 2, 999_999]
    assert people.index_of(42) is None


def test_ids_and_creation_times_rise_with_the_index() -> None:
    people = People(3, OA, 5000)

    assert all(people.id(index) < people.id(index + 1) for index in range(5000))
    assert all(people.created(index) < people.created(index + 1) for index in range(5000))


def test_the_order_of_updates_is_another_one_and_never_before_creation() -> None:
    people = People(3, OA, 640)
    ranks = [people.rank(index) for index in range(640)]

    assert sorted(ranks) == list(range(640))
    assert ranks != list(range(640))
    assert [people.by_rank(rank) for rank in ranks] == list(range(640))
    assert all(people.updated(index) >= people.created(index) for index in range(640))


def test_phones_come_in_every_shape() -> None:
    """PROVIDERS 5: 0…, 84…, +84…, nine digits, 01xx, the 084 trap, separators, landlines, junk and none."""
    phones = [str(row["phone"]) for row in rows(200)]

    def some(prefix: str, length: int) -> bool:
        return any(phone.startswith(prefix) and len(phone) == length for phone in phones)

    assert some("0", 10)
    assert some("84", 11)
    assert some("+84", 12)
    assert any(len(phone) == 9 and phone[0] in "3579" for phone in phones)
    assert some("01", 11)
    assert some("84", 9)
    assert some("084", 10)
    assert some("028", 11)
    assert some("+84 ", 15)
    assert some("", 0)
    assert some("12345", 5)


def test_shared_phones_are_texts_numbers_or_nothing() -> None:
    """PROVIDERS 3: `shared_info.phone` is a JSON number in some clients, a string in others."""
    shared = [row["shared_info"] for row in rows(200)]
    phones = [info.get("phone") for info in shared if isinstance(info, dict)]

    assert None in shared
    assert {} in shared
    assert {type(phone) for phone in phones if phone is not None} == {str, int}
    assert "" in phones


def test_names_are_vietnamese_sometimes_decomposed_sometimes_with_emoji_sometimes_empty() -> None:
    """PROVIDERS 5: normalise to NFC; may hold emoji."""
    names = [str(row["full_name"]) for row in rows(200)]

    assert any(not unicodedata.is_normalized("NFC", name) for name in names)
    assert any(unicodedata.is_normalized("NFC", name) and "ễ" in name for name in names)
    assert any(unicodedata.category(letter) == "So" for name in names for letter in name)
    assert "" in names


def test_enums_hold_a_surprise_now_and_then() -> None:
    """PROVIDERS 1.3: tolerate what the tables do not list."""
    assert {"unknown", "male", "female", "other", ""} < {row["gender"] for row in rows()}
    assert "prefer_not_to_say" in {row["gender"] for row in rows()}
    assert {row["state"] for row in rows()} == {"follow", "unfollow", "unknown"}


def test_times_are_zero_null_or_carry_an_offset() -> None:
    """PROVIDERS 1.3: `Z` mostly, `+07:00` too, seconds or finer; a zero time is null or the year 1."""
    for field in ("created_at", "updated_at"):
        times = [row[field] for row in rows()]
        assert None in times
        assert "0001-01-01T00:00:00Z" in times
        texts = [text for text in times if isinstance(text, str)]
        assert any(text.endswith("+07:00") for text in texts)
        assert any("." in text for text in texts)
        assert all(datetime.fromisoformat(text).tzinfo is not None for text in texts)
    assert any("." not in str(row["created_at"]) for row in rows() if row["created_at"])


def test_sub_objects_are_null_empty_or_filled() -> None:
    """PROVIDERS 1.3: absent sub-objects are null, empty lists are []."""
    assert {None, "empty", "filled"} == {
        None if row["avatars"] is None else "filled" if row["avatars"] else "empty" for row in rows()
    }
    infos = [row["tags_and_notes_info"] for row in rows()]
    assert None in infos
    assert {"notes": [], "tag_names": []} in infos
    assert any(isinstance(info, dict) and info["notes"] and info["tag_names"] for info in infos)
    assert {row["assigned_user_id"] for row in rows()} > {"0"}
    assert "0" in {row["zl_user_id_by_app"] for row in rows()}


def test_every_id_is_a_json_string() -> None:
    """PROVIDERS 1.3: the server writes int64 quoted."""
    keys = ("id", "shop_id", "oa_id", "zl_user_id", "zl_user_id_by_app", "assigned_user_id")

    assert all(isinstance(row[key], str) and str(row[key]).isdecimal() for row in rows() for key in keys)


def test_chat_text_stands_on_some_rows_under_a_recognisable_phrase() -> None:
    """PROVIDERS 1.3: newer builds add `last_conversation`."""
    chats = [row["last_conversation"] for row in rows() if "last_conversation" in row]

    assert 0 < len(chats) < 1000
    assert all(isinstance(chat, dict) and chat["message"] == CANARY for chat in chats)


def test_notes_can_be_padded_to_a_size() -> None:
    people = People(1, OA, 10, notes_padding=20_000)

    sizes = [len(json.dumps(people.row(index, "follow", None), ensure_ascii=False).encode()) for index in range(10)]

    assert all(20_000 <= size < 23_000 for size in sizes)


def test_a_million_followers_cost_no_memory_until_they_are_asked_for() -> None:
    tracemalloc.start()
    try:
        people = People(1, OA, 1_000_000)
        people.row(999_999, "follow", None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 200_000
