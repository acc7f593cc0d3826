"""JSON that is meant to hurt whoever decodes it, and answers that aren't the API's own."""

import tracemalloc
from typing import Any

import msgspec
import pytest

from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
)
from worker.providers.http.client import Answer
from worker.providers.http.responses import away, decode, is_object, status_failure, wrong_shape

ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
MEGABYTES = 8 * 2**20


@pytest.mark.parametrize(
    "piece", [b"[],", b"{},", b"1,", b'{"a":{}},', b"[" * 400 + b"]" * 400 + b","], ids=["[]", "{}", "1", "a", "deep"]
)
def test_megabytes_of_tiny_values_are_refused_before_they_are_made(piece: bytes) -> None:
    body = b"[" + (piece * (MEGABYTES // len(piece)))[:-1] + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(BadResponseError, match="more than 100000 values"):
            decode(ANYTHING, body, "provider")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_megabytes_of_half_surrogates_are_not_mended() -> None:
    body = b'"' + b"\\ud83d" * (MEGABYTES // 6) + b'"'
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailableError):
            decode(ANYTHING, body, "provider")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * MEGABYTES


def test_megabytes_of_text_are_no_crowd() -> None:
    text = "ghi chú, " * 90_000

    assert decode(ANYTHING, msgspec.json.encode([text]), "provider") == [text]


LARGE = 512 * 1024
AWAY = (
    "that is no answer of the API, so it counts as away and is tried again later; check the account's base_url, and "
    "what stands between, if it goes on"
)
REDIRECT = "a redirect, refused so that no key travels to another address"
DOWN = "the provider or a proxy before it is down; it is tried again later"
GONE = "the API is not at this address: check the account's base_url"
ODD = "nothing here answers so: check the account's base_url"


def crowd(values: int, size: int) -> bytes:
    """A list of so many numbers and bytes: blanks fill it up."""
    body = b"[" + b"1," * (values - 1) + b"1]"
    return body + b" " * (size - len(body))


def test_a_crowd_is_more_than_100000_values_in_more_than_half_a_megabyte() -> None:
    assert len(decode(ANYTHING, crowd(100_000, LARGE + 1), "here")) == 100_000
    assert len(decode(ANYTHING, crowd(100_001, LARGE), "here")) == 100_001
    with pytest.raises(BadResponseError) as caught:
        decode(ANYTHING, crowd(100_001, LARGE + 1), "here")

    assert str(caught.value) == (
        "here answered JSON of more than 100000 values, which no page has; nothing was taken from it. "
        "Ask for fewer rows with page_size, and report it to the provider"
    )


@pytest.mark.parametrize("value", [b"[]", b"{}"])
def test_lists_and_objects_count_as_the_commas_between_them_do(value: bytes) -> None:
    # So many commas, and so many of them.
    body = b"[" + b",".join([value] * 60_000) + b"]"

    with pytest.raises(BadResponseError, match="more than 100000 values"):
        decode(ANYTHING, body + b" " * LARGE, "here")


@pytest.mark.parametrize("size", [0, LARGE + 1])
def test_half_a_surrogate_pair_is_mended_and_all_else_kept(size: int) -> None:
    text = rb"\ud83d \udc00 \ud83c\udf38 \\ud83d \uD83C\uDF38 \n" + b"a" * size

    assert decode(ANYTHING, b'"' + text + b'"', "here") == "\ufffd \ufffd 🌸 \\ud83d 🌸 \n" + "a" * size


@pytest.mark.parametrize(("escapes", "mended"), [(100_000, True), (100_001, False)])
def test_a_large_body_is_mended_up_to_100000_escapes(escapes: int, mended: bool) -> None:
    body = b'"' + b"\\n" * (escapes - 1) + b"\\ud83d" + b"a" * LARGE + b'"'

    if mended:
        assert decode(ANYTHING, body, "here") == "\n" * (escapes - 1) + "\ufffd" + "a" * LARGE
    else:
        with pytest.raises(ProviderUnavailableError):
            decode(ANYTHING, body, "here")


def test_a_small_body_is_mended_however_many_escapes_it_has() -> None:
    body = b'"' + b"\\n" * 100_001 + b"\\ud83d" + b'"'

    assert decode(ANYTHING, body, "here") == "\n" * 100_001 + "\ufffd"
    assert decode(ANYTHING, body + b" " * (LARGE - len(body)), "here") == "\n" * 100_001 + "\ufffd"


def test_json_of_another_shape_is_for_the_caller() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.Decoder(list[str]), b'{"a": "\\ud83d"}', "here")


def test_json_is_read_behind_a_byte_order_mark() -> None:
    assert decode(ANYTHING, b"\xef\xbb\xbf[1]", "here") == [1]
    assert [is_object(body) for body in (b"\xef\xbb\xbf \t\r\n{}", b"{}", b"[{}]", b"", b"\x0b{}", b"X{}")] == [
        *(True, True, False, False, False, False)
    ]


def test_what_is_nested_too_deeply_or_is_no_utf_8_is_wrong_at_once() -> None:
    with pytest.raises(BadResponseError) as deep:
        decode(ANYTHING, b"[" * 5_000 + b"]" * 5_000, "here")
    with pytest.raises(BadResponseError) as garbled:
        decode(ANYTHING, b'{"a":"\xea"}', "here")

    assert str(deep.value) == "here answered JSON that is nested too deeply; report it to the provider"
    assert (str(garbled.value), garbled.value.http_status) == (
        "here answered JSON with text that isn't UTF-8; the job stops rather than guess names or ids. "
        "Report it to the provider",
        200,
    )


@pytest.mark.parametrize(("hidden", "said"), [(None, ""), ((), " (“busy secret”)"), (("secret",), " (“busy ***”)")])
def test_what_is_no_json_counts_as_away_and_is_quoted_where_that_is_safe(hidden: Any, said: str) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        decode(ANYTHING, b"busy secret", "here", hidden)

    assert str(caught.value) == f"here answered HTTP 200 with text that is not the API's{said}: {AWAY}"
    assert (caught.value.http_status, caught.value.retry_after) == (200, None)


def test_an_answer_that_is_away_says_why_and_when_to_come_back() -> None:
    error = away(Answer(204, b"", 7.0), "here", (), why="nothing")

    assert (str(error), error.http_status, error.retry_after) == (
        f"here answered HTTP 204 with nothing: {AWAY}",
        204,
        7.0,
    )


def test_json_of_an_unknown_shape_is_told_without_its_values() -> None:
    error = wrong_shape(msgspec.ValidationError("Expected `str`, got `int` - at `$.a`"), "here")

    assert str(error) == (
        "here answered JSON of an unknown shape (Expected `str`, got `int` - at `$.a`); nothing was taken from it. "
        "Report it to the provider, or look for a newer version of this software"
    )


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (199, BadResponseError, ODD),
        (300, BadResponseError, f"{REDIRECT}: check the account's base_url"),
        (301, BadResponseError, f"{REDIRECT}: check the account's base_url"),
        (308, BadResponseError, f"{REDIRECT}: check the account's base_url"),
        (399, BadResponseError, f"{REDIRECT}: check the account's base_url"),
        (400, BadResponseError, ODD),
        (401, UnauthorizedError, "the key isn't accepted: check the account's key"),
        (402, BadResponseError, ODD),
        (
            403,
            ForbiddenError,
            "a firewall or the provider refuses this client: ask for this machine's address to be allowed",
        ),
        (404, NotFoundError, GONE),
        (405, NotFoundError, GONE),
        (406, BadResponseError, ODD),
        (407, ForbiddenError, "a proxy asks for credentials: let this machine reach the provider directly"),
        (408, ProviderUnavailableError, DOWN),
        (409, BadResponseError, ODD),
        (410, NotFoundError, GONE),
        (411, BadResponseError, ODD),
        (413, InvalidCommandError, "the request is too large: shorten the filter"),
        (414, BadResponseError, ODD),
        (425, ProviderUnavailableError, DOWN),
        (426, BadResponseError, ODD),
        (429, RateLimitedError, "too many requests; lower the account's rate_limit if it goes on"),
        (430, BadResponseError, ODD),
        (499, BadResponseError, ODD),
        (500, ProviderUnavailableError, DOWN),
        (501, NotFoundError, GONE),
        (502, ProviderUnavailableError, DOWN),
        (599, ProviderUnavailableError, DOWN),
    ],
)
@pytest.mark.parametrize(("hidden", "said"), [(None, ""), (("secret",), " (“busy ***”)")])
def test_a_status_that_is_not_the_apis_says_what_to_do(
    status: int, kind: type[FetchFailure], advice: str, hidden: Any, said: str
) -> None:
    error = status_failure(Answer(status, b"busy secret", 7.0), "here", hidden)

    assert type(error) is kind
    assert str(error) == f"here answered HTTP {status} with text that is not the API's{said}: {advice}"
    assert error.http_status == status
    if isinstance(error, RateLimitedError | ProviderUnavailableError):
        assert error.retry_after == 7.0


@pytest.mark.parametrize("status", [200, 201, 299, 302, 303, 307])
@pytest.mark.parametrize(("hidden", "said"), [(None, ""), (("secret",), " (“busy ***”)")])
def test_a_good_status_without_an_answer_or_a_portals_redirect_is_away(status: int, hidden: Any, said: str) -> None:
    error = status_failure(Answer(status, b"busy secret", 7.0), "here", hidden)

    what = REDIRECT if status >= 300 else "text that is not the API's"
    assert type(error) is ProviderUnavailableError
    assert str(error) == f"here answered HTTP {status} with {what}{said}: {AWAY}"
    assert (error.http_status, error.retry_after) == (status, 7.0)
