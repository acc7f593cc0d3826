"""The ids that a job has met: exact, and small."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids as module
from schemas.ids import Ids

odd_ids = st.sampled_from(["0", "00", "01", "-1", "+1", "1_0", " 1", "٣", "", "a", str(2**64), str(2**64 - 1), "1.0"])
any_id = st.one_of(st.integers(0, 60).map(str), odd_ids, st.text(max_size=3))


@given(batches=st.lists(st.lists(any_id, max_size=12), max_size=12), small=st.sampled_from([0, 3, 1000]))
def test_it_holds_what_a_plain_set_holds(batches: list[list[str]], small: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SMALL", small)
        ids, expected = Ids(), set[str]()

        for number, batch in enumerate(batches):
            if number % 2:
                ids.add(batch)
                expected.update(batch)
            else:
                new = len(set(batch)) == len(batch) and expected.isdisjoint(batch)
                assert ids.add_new(batch) is new
                expected.update(batch if new else [])

            assert len(ids) == len(expected)
            assert all((id in ids) is (id in expected) for id in {*expected, *batch, "0", "00", "7"})


def test_many_ids_take_less_than_16_bytes_each_and_none_is_confused_with_another() -> None:
    rng = random.Random(1)
    numbers = array_of_ids(rng, 200_000)
    tracemalloc.start()
    try:
        ids = Ids()
        for start in range(0, len(numbers), 50):
            ids.add([str(number) for number in numbers[start : start + 50]])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(ids) == 200_000
    assert held / 200_000 < 16
    assert all(str(number) in ids for number in numbers[::1_000])
    assert not any(str(number + 1) in ids for number in numbers[::1_000])


def array_of_ids(rng: random.Random, count: int) -> list[int]:
    """Different ids of 19 digits, even ones, in no order."""
    numbers = list(range(10**18, 10**18 + 2 * count, 2))
    rng.shuffle(numbers)
    return numbers


@pytest.mark.parametrize("other", ["07", "+7", " 7", "7 ", "-7", "0_7", "٧", "7.0", "", str(2**64), str(2**64 + 7)])
def test_what_is_no_plain_number_is_never_taken_for_one(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    ids = Ids(["7"])

    assert "7" in ids
    assert other not in ids
    assert ids.add_new([other])
    assert (len(ids), other in ids, ids.add_new([other]), ids.add_new(["7"])) == (2, True, False, False)
    assert ids.add_new(["8", other + "x"])
    assert not ids.add_new(["9", "8"])
    assert not ids.add_new(["9", "9"])
    assert "9" not in ids


def test_the_largest_number_and_nought_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    ids = Ids(["0", str(2**64 - 1), str(2**64)])

    assert len(ids) == 3
    assert [id in ids for id in ("0", "00", "-0", str(2**64 - 1), str(2**64))] == [True, False, False, True, True]
    assert ids._texts == {str(2**64)}


def test_a_few_are_a_plain_set_and_one_more_is_not() -> None:
    few = Ids(map(str, range(module.SMALL)))
    assert (few._shards, len(few)) == ([], 4096)

    few.add(["x"])

    assert len(few._shards) == 1021
    assert len(few) == 4097


def few_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plain set early, for little: these run for each mutant of what they look at."""
    monkeypatch.setattr(module, "SMALL", 2)
    monkeypatch.setattr(module, "_SHARDS", 3)


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Ids:
    """Ids that have left the plain set: two numbers and a text."""
    few_shards(monkeypatch)
    return Ids(["1", "2", "x"])


def test_ids_that_come_again_after_the_spread_are_counted_once(spread: Ids) -> None:
    shards = spread._shards
    spread.add(["1", "1022", "1023", "y", "x", "1022"])
    spread.add([])
    spread.add([f"text {number}" for number in range(10)])

    assert len(spread) == 16
    assert all(id in spread for id in ("1", "2", "1022", "1023", "x", "y", "text 9"))
    assert not any(id in spread for id in ("0", "3", "1021", "2043", "z"))
    assert spread._shards is shards


def test_new_ids_are_told_from_known_ones_after_the_spread(spread: Ids) -> None:
    assert spread.add_new(["3", "1024", "y"])
    assert not spread.add_new(["4", "3"])
    assert not spread.add_new(["4", "y"])
    assert not spread.add_new(["4", "4"])
    assert spread.add_new([])

    assert (len(spread), "4" in spread, "1024" in spread, "y" in spread) == (6, False, True, True)


@pytest.mark.parametrize("count", [2, 3])
def test_more_than_the_set_may_hold_are_spread_however_they_come(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    few_shards(monkeypatch)
    numbers = [str(number) for number in range(count)]
    added, new = Ids(), Ids()
    added.add(numbers)

    assert new.add_new(numbers)
    assert [bool(ids._shards) for ids in (Ids(numbers), added, new)] == [count > 2] * 3
    assert [len(ids) for ids in (Ids(numbers), added, new)] == [count] * 3
