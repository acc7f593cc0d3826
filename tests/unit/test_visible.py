"""Text of others on a terminal: what would steer it is shown, everything else is as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.visible import visible, visible_json

STEERING = (
    "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202e\u2066\u2069\ufeff\U000e0041"
)
PLAIN = "Lê Thị Ổi [red] :smile: \\x1b\u00a0\u3000\U0001f469\u200d\U0001f467 क्\u200cष e\u0301 \ue000"

TEXT = st.characters(codec="utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        (PLAIN, PLAIN),
        ("a\x1b]0;title\x07", r"a\x1b]0;title\x07"),
        ("one\ntwo\tthree\r", r"one\ntwo\tthree\r"),
        ("\x9b2J \x85", r"\x9b2J \x85"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("a\U000e0041", r"a\U000e0041"),
        ("a\udc80", r"a\udc80"),
        ("é\x00", "é\\x00"),
    ],
)
def test_what_steers_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_each_steering_character_is_shown_and_only_those() -> None:
    assert all(visible(character).startswith("\\") for character in STEERING)
    assert visible(PLAIN + "\x1b") == PLAIN + r"\x1b"


def test_what_is_to_be_kept_stays() -> None:
    assert visible("a\r\nb\x1b\t", keep="\r\n") == "a\r\nb\\x1b\\t"


@given(st.text())
def test_nothing_that_is_shown_steers_and_showing_it_again_changes_nothing(text: str) -> None:
    shown = visible(text)
    assert not set(shown) & set(STEERING)
    assert visible(shown) == shown


@given(st.dictionaries(st.text(TEXT), st.text(TEXT)))
def test_json_on_a_terminal_means_the_same(document: dict[str, str]) -> None:
    for indent in (None, 2):
        written = json.dumps(document, ensure_ascii=False, indent=indent).encode()

        shown = visible_json(written)

        assert json.loads(shown) == document
        assert not set(shown.decode()) & (set(STEERING) - {"\n"})


def test_json_is_escaped_as_json_is_and_else_untouched() -> None:
    assert visible_json('{"a":"\x7f\u202e\U000e0041é"}'.encode()) == r'{"a":"\u007f\u202e\udb40\udc41é"}'.encode()
    plain = '{"a":"Lê \\u001b\u00a0"}\n'.encode()
    assert visible_json(plain) == plain
