"""What breaks a release, one rule at a time."""

from typing import Any

import pytest

from schemas.compat import breaks

TEXT, NUMBER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def tagged(tag: str, name: str = "type") -> dict[str, Any]:
    return fields((name,), **{name: {"enum": [tag]}})


@pytest.mark.parametrize("word", ["minimum", "minLength", "minItems", "minProperties"])
def test_a_lower_bound_may_fall_but_not_rise(word: str) -> None:
    one, two = {"type": "integer", word: 1}, {"type": "integer", word: 2}

    assert breaks("M", two, one) == breaks("M", one, one) == breaks("M", one, NUMBER) == []
    assert breaks("M", one, two) == [f"M: {word} is now 2, was 1"]
    assert breaks("M", NUMBER, one) == [f"M: {word} is now 1, was free"]


@pytest.mark.parametrize("word", ["maximum", "maxLength", "maxItems", "maxProperties"])
def test_an_upper_bound_may_rise_but_not_fall(word: str) -> None:
    one, two = {"type": "integer", word: 1}, {"type": "integer", word: 2}

    assert breaks("M", one, two) == breaks("M", one, one) == breaks("M", one, NUMBER) == []
    assert breaks("M", two, one) == [f"M: {word} is now 1, was 2"]
    assert breaks("M", NUMBER, one) == [f"M: {word} is now 1, was free"]


@pytest.mark.parametrize("word", ["pattern", "format"])
def test_a_shape_may_go_but_not_come_or_change(word: str) -> None:
    a, b = {"type": "string", word: "a"}, {"type": "string", word: "b"}

    assert breaks("M", a, a) == breaks("M", a, TEXT) == []
    assert breaks("M", a, b) == [f"M: {word} is now 'b', was 'a'"]
    assert breaks("M", TEXT, a) == [f"M: {word} is now 'a', was 'free'"]


def test_a_default_may_come_or_go_but_not_change() -> None:
    one, two = {"type": "integer", "default": 1}, {"type": "integer", "default": 2}

    assert breaks("M", one, one) == breaks("M", one, NUMBER) == breaks("M", NUMBER, one) == []
    assert breaks("M", one, two) == ["M: what a left out field means is now 2, was 1"]


def test_words_may_come_but_not_go() -> None:
    a, ab = {"enum": ["a"]}, {"enum": ["a", "b"]}

    assert breaks("M", a, ab) == breaks("M", ab, ab) == breaks("M", a, TEXT) == breaks("M", {"const": "a"}, a) == []
    assert breaks("M", ab, a) == ["M: no longer b"]
    assert breaks("M", ab, {"const": "b"}) == ["M: no longer a"]
    assert breaks("M", TEXT, ab) == ["M: only a, b are allowed now"]
    assert breaks("M", {"enum": [1]}, {"enum": [1, 2]}) == []


@pytest.mark.parametrize("one", [{"const": "a"}, {"enum": ["a"]}])
@pytest.mark.parametrize("two", [{"const": "b"}, {"enum": ["b"]}])
def test_a_word_alone_is_a_list_of_one(one: dict[str, Any], two: dict[str, Any]) -> None:
    one, two = TEXT | one, TEXT | two

    assert breaks("M", one, two) == ["M: no longer a"]
    assert breaks("M", TEXT, one) == ["M: only a are allowed now"]
    assert breaks("M", one, TEXT) == breaks("M", one, one) == []


def test_another_type_breaks_both_sides() -> None:
    assert breaks("M", TEXT, NUMBER) == [
        "M: string is gone: its type changed",
        "M: may now be integer, which readers of the release don't expect",
    ]
    assert breaks("FetchFollowers", TEXT, NUMBER) == ["FetchFollowers: string is gone: its type changed"]


def test_one_type_of_several_that_goes_is_named() -> None:
    both = {"anyOf": [TEXT, NULL]}

    assert breaks("M", both, TEXT) == ["M: null is gone"]
    assert breaks("M", TEXT, both) == ["M: may now be null, which readers of the release don't expect"]
    assert breaks("FetchFollowers", TEXT, both) == []
    assert breaks("M", both, {"anyOf": [TEXT | {"maxLength": 1}, NULL]}) == ["M<string>: maxLength is now 1, was free"]


@pytest.mark.parametrize("name", ["type", "provider"])
def test_kinds_of_a_union_are_known_by_their_tag(name: str) -> None:
    old, new = {"anyOf": [tagged("a", name), tagged("b", name)]}, {"anyOf": [tagged("b", name), tagged("c", name)]}

    assert breaks("M", old, new) == [
        f"M: {name} 'a' is gone",
        f"M: may now be {name} 'c', which readers of the release don't expect",
    ]


def test_a_tag_that_may_be_left_out_or_has_two_values_is_none() -> None:
    for properties in (fields(type={"enum": ["a"]}), fields(("type",), type={"enum": ["a", "b"]})):
        assert breaks("M", properties, TEXT)[0] == "M: object is gone: its type changed"


def test_fields_may_come_but_not_go_nor_be_asked_for() -> None:
    old = fields(("a",), a=TEXT, b=TEXT)

    assert breaks("M", old, fields(("a",), a=TEXT, b=TEXT, c=TEXT)) == []
    assert breaks("M", old, fields((), b=TEXT)) == ["M.a: is removed"]
    assert breaks("M", old, fields(("a", "b"), a=TEXT, b=TEXT)) == [
        "M.b: is now required, so older messages can't be read"
    ]
    assert breaks("M", old, fields((), a=TEXT, b=TEXT)) == [
        "M.a: may now be missing, which readers of the release don't expect"
    ]
    assert breaks("FetchFollowers", old, fields((), a=TEXT, b=TEXT)) == []
    assert breaks("M", old, fields(("a",), a=NUMBER, b=TEXT))[0] == "M.a: string is gone: its type changed"


def test_what_lists_and_maps_hold_is_compared() -> None:
    def of(inner: dict[str, Any]) -> dict[str, Any]:
        return fields(l={"type": "array", "items": inner}, m={"type": "object", "additionalProperties": inner})

    assert breaks("M", of(TEXT), of(TEXT)) == []
    assert [line for line in breaks("M", of(TEXT), of(NUMBER)) if "gone" in line] == [
        "M.l[]: string is gone: its type changed",
        "M.m.*: string is gone: its type changed",
    ]


def test_unknown_fields_that_were_ignored_may_not_be_refused() -> None:
    open_, closed = {"type": "object"}, {"type": "object", "additionalProperties": False}

    assert breaks("M", closed, open_) == breaks("M", closed, closed) == []
    assert breaks("M", open_, closed) == ["M: unknown fields are now refused"]


def test_parts_that_are_named_elsewhere_are_followed_with_their_own_default() -> None:
    def named(part: dict[str, Any], **beside: Any) -> dict[str, Any]:
        return fields(a={"$ref": "#/$defs/Part", **beside}) | {"$defs": {"Part": part}}

    assert breaks("M", named(TEXT), named(TEXT)) == []
    assert breaks("M", named(TEXT), named({"type": "string", "maxLength": 3})) == ["M.a: maxLength is now 3, was free"]
    assert breaks("M", named(TEXT, default="x"), named(TEXT, default="y")) == [
        "M.a: what a left out field means is now 'y', was 'x'"
    ]


def test_what_says_nothing_may_be_anything() -> None:
    assert breaks("M", {}, {}) == []
    assert breaks("M", {}, TEXT)[0] == "M: anything is gone: its type changed"
