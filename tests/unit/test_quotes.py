"""What an error repeats of a provider's own words, and what it never does."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from worker.providers.quotes import kind_of, mask, plain_code, quoted, words

HIDDEN = ("1150:TheKey", "TheKey", "Trần Thị Mẫu", "")
SAYING = ("msg", "message", "ErrorMessage", "error", "error_description", "detail", "reason", "Title")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "an empty body"),
        (b" \r\n\t", "an empty body"),
        (b"\xef\xbb\xbf", "an empty body"),
        (b"<!DOCTYPE html>", "an HTML page"),
        (b"\xef\xbb\xbf \n<p>", "an HTML page"),
        (b"{}", "JSON that is not the API's"),
        (b"null", "JSON that is not the API's"),
        (b"\xef\xbb\xbf[1]", "JSON that is not the API's"),
        (b"[" + b"1," * 40_000 + b"1]", "text that is not the API's"),
        (b"[" * 100_000, "text that is not the API's"),
        (b'{"followers":[', "text that is not the API's"),
        (b"busy", "text that is not the API's"),
        (b" " * 4095 + b"<p>", "an HTML page"),
        (b" " * 4096 + b"<p>", "an empty body"),
        (b"[" + b" " * 65_534 + b"]", "JSON that is not the API's"),
        (b"[" + b" " * 65_535 + b"]", "text that is not the API's"),
        ('{"a":1}'.encode("utf-16"), "text that is not the API's"),
    ],
)
def test_what_a_body_looks_like(body: bytes, kind: str) -> None:
    assert kind_of(body) == kind


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", ""),
        (b"back at noon", " (“back at noon”)"),
        (b"X", " (“X”)"),
        (b" " * 4095 + b"ab", " (“a”)"),
        (b"<p>" + b" " * 4092 + b"ab", " (“a”)"),
        (b" " * 100 + b"<p>busy", " (“busy”)"),
        (b"busy \xff", " (“busy \ufffd”)"),
        (b"<p>busy \xff", " (“busy \ufffd”)"),
        *((f'{{"{name}":"later"}}'.encode(), " (“later”)") for name in SAYING),
        (b"failed: {row}", " (“failed:…”)"),
        (b'{"followers":[{"full_name":"A"', ""),
        (b'["A","B"]', ""),
        (b'{"full_name":"A"}', ""),
        (b'{"msg":"","message":"later"}', " (“later”)"),
        (b'{"Error_Message":"later"}', " (“later”)"),
        (b'{"error":{"detail":"later","name":"A"}}', " (“later”)"),
        (b'{"error":{"name":"A"},"data":{"message":"A"}}', ""),
        (b'{"message":{"message":"A"}}', ""),
        (b'{"message":5}', ""),
        (b"<title> </title><p>Be&nbsp;back &lt;soon&gt;", " (“Be back…”)"),
        (b"<TITLE lang=vi>Portal</TITLE><p>A", " (“Portal”)"),
        (b"<title>Portal", " (“Portal”)"),
        (b"<style>p{}</style><script>let a='A'</script >Login<!-- A --><br", " (“Login”)"),
        (b"<script>let a='A'", ""),
        (b"<p>" + b" " * 5_000 + b"far", ""),
        (b"key thekey of 1150:THEKEY", " (“key *** of ***”)"),
        ("trần thị mẫu, 0912 000 111".encode(), " (“***, ***”)"),
        (b"call 0912\x00000\x1b111", " (“call ***”)"),
    ],
)
def test_only_what_is_meant_for_people_is_repeated(body: bytes, said: str) -> None:
    assert quoted(body, HIDDEN) == said


def test_what_is_repeated_is_one_line_of_two_hundred_characters() -> None:
    assert mask("a\n b\tc\x1b\u202e") == "a b c"
    assert mask("a" * 200) == "a" * 200
    assert mask("a" * 201) == "a" * 199 + "…"
    assert (mask(None), mask(7), mask(b"a")) == ("", "", "")


SECRET = "Kx7Qm2Wv9Tz4Rb6Ny8Lc3Hd5Gf1Js0Pa"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (SECRET[:20], "***"),
        (SECRET[-20:], "***"),
        (SECRET[9:24], "***"),
        (SECRET[:8], "***"),
        (SECRET[12:20], "***"),
        (SECRET[-8:], "***"),
        (SECRET[:7], SECRET[:7]),
        (SECRET[-7:], SECRET[-7:]),
        (SECRET.lower()[3:15], "***"),
        (f"x{SECRET[:20]}y", "x***y"),
        (f"key {SECRET[:9]}... or {SECRET[-9:]}", "key ***... or ***"),
        (f"{SECRET[:4]}\u200b{SECRET[4:9]}", "***"),
        (f"{SECRET} {SECRET[:10]}", "*** ***"),
        (f"İ{SECRET[:10]}İ", "İ***İ"),
        ("Mẫu Thị Trần", "*** *** ***"),
        ("tran thi mau", "***"),
        ("Tran Mau", "*** ***"),
        ("Trần's list", "***'s list"),
        ("Trầntest", "Trầntest"),
        (f"{SECRET[:5]} {SECRET[5:12]}", "***"),
        ("-".join(SECRET), "***"),
    ],
)
def test_a_part_of_a_secret_is_repeated_up_to_seven_characters(said: str, shown: str) -> None:
    assert mask(said, [SECRET, "Trần Thị Mẫu"]) == shown


def test_the_whole_of_a_long_secret_goes_before_its_parts_and_leaves_no_edge() -> None:
    assert mask("ab12cd34ef", ["ab12cd34ef", "12cd"]) == "***"
    assert mask(f"{'a ' * 3000}{SECRET[:10]}", [SECRET]) == f"{'a ' * 99}a…"


def test_digits_are_repeated_up_to_eight_in_a_row() -> None:
    assert mask("12345678") == "12345678"
    assert mask("123456789") == "***"
    assert mask("+84 (912)") == "+84 (912)"
    assert mask("8 4-9.1 2 0 0 0 1") == "***"
    assert mask("call (091) 200-0111 now") == "call (*** now"
    assert mask("2026-11-30T23:44") == "2026-11-30T23:44"


def test_addresses_of_e_mail_are_never_repeated() -> None:
    assert mask("no such user thi.mau+oa@mail.example.vn: none") == "no such user ***: none"
    assert mask("user=thi%40mail.vn") == "user=***"
    assert mask("a @ b, x@y") == "a @ b, x@y"


KEY = "1150000000000000001:pL8vK2mXq/Rt+Zw5Yb9NcJ4hTg7DsFe3"
NAME = "Nguyễn Thị Đào"
WRITTEN: dict[str, Callable[[str], str]] = {
    "percent": lambda text: quote(text, safe=""),
    "percent, lower": lambda text: quote(text, safe="").lower(),
    "plus": quote_plus,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "HTML": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "hexadecimal": lambda text: text.encode().hex(),
    "Base64": lambda text: base64.b64encode(text.encode()).decode(),
    "Base64 of more": lambda text: base64.b64encode(b"u:" + text.encode() + b":p").decode(),
    "Base64 of one more": lambda text: base64.b64encode(b"u" + text.encode() + b":p").decode(),
    "Base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "upper": str.upper,
    "lower": str.lower,
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("value", [KEY, NAME, "0912000111"])
def test_no_writing_of_a_hidden_value_is_repeated(value: str, written: str) -> None:
    said = WRITTEN[written](value)

    shown = mask(f"refused: {said}!", [KEY, NAME, "0912000111"])

    assert "***" in shown
    assert not [said[at : at + 8] for at in range(len(said) - 7) if said[at : at + 8] in shown]


@pytest.mark.parametrize("cut", [slice(0, 12), slice(20, 32), slice(-12, None)], ids=["beginning", "middle", "end"])
@pytest.mark.parametrize("written", WRITTEN)
def test_no_writing_of_a_part_of_a_key_is_repeated(written: str, cut: slice) -> None:
    shown = mask(f"key {WRITTEN[written](KEY[cut])}", [KEY])

    # In Base64, what was beside the key, and the ends of its own, stay.
    assert "***" in shown
    assert len(shown.removeprefix("key ").replace("***", "").rstrip("=")) < 8


def test_what_is_short_is_hidden_as_a_word_and_not_within_others() -> None:
    assert mask("An error: An is no band", ["An"]) == "*** error: *** is no band"
    assert mask("banana e", ["e", "na"]) == "banana ***"


def test_words_end_where_data_begins() -> None:
    assert words("refused") == "refused"
    assert words("refused [A] {B}") == "refused…"
    assert [words(f"refused {sign}A") for sign in "{[<"] == ["refused…"] * 3


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("777", "777"), ("not-a.code_1", "not-a.code_1"), ("x" * 32, "x" * 32), ("x" * 33, "odd"), ("", "odd"),
        ("two words", "odd"), ("thekey", "odd"), ("0912000111", "odd"), ("mã", "odd"),
    ],
)  # fmt: skip
def test_a_code_is_repeated_where_it_is_one(code: str, shown: str) -> None:
    assert plain_code(code, HIDDEN) == shown
