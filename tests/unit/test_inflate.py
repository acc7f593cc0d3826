import gzip
import itertools
import zlib

import pytest

from worker.core.errors import BadResponseError, ProviderUnavailableError
from worker.providers.http.inflate import Inflater


def fed(encoding: str, limit: int, *chunks: bytes) -> bytes:
    inflater = Inflater(encoding, limit, "host")
    for chunk in chunks:
        for piece in inflater.pieces(chunk):
            inflater.feed(piece)
    return inflater.finish()


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_plain_body_is_what_was_sent(encoding: str) -> None:
    assert fed(encoding, 6, b"ab", b"cdef") == b"abcdef"
    assert fed(encoding, 6) == b""


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZIP "])
def test_gzip_is_inflated_also_of_several_members_and_byte_by_byte(encoding: str) -> None:
    body = gzip.compress(b"one") + gzip.compress(b"two")

    assert fed(encoding, 1000, body) == b"onetwo"
    assert fed(encoding, 1000, *(body[at : at + 1] for at in range(len(body)))) == b"onetwo"
    assert fed(encoding, 1000) == b""


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_another_encoding_was_not_asked_for(encoding: str) -> None:
    with pytest.raises(
        ProviderUnavailableError, match=r"^host answered with a Content-Encoding that was not asked for"
    ):
        Inflater(encoding, 10, "host")


def test_a_limit_is_what_may_be_sent_and_what_may_be_inflated() -> None:
    assert fed("", 4, b"abcd") == b"abcd"
    with pytest.raises(BadResponseError, match=r"^the answer of host is larger than 4 bytes: ask for fewer rows with"):
        fed("", 4, b"abc", b"de")

    packed = gzip.compress(b"a" * 1000)
    assert len(fed("gzip", 1000, packed)) == 1000
    with pytest.raises(BadResponseError, match="larger than 999 bytes"):
        fed("gzip", 999, packed)


def test_what_is_too_large_is_let_go() -> None:
    inflater = Inflater("", 4, "host")
    inflater.feed(b"abc")

    with pytest.raises(BadResponseError):
        inflater.feed(b"de")

    assert inflater._parts == []


def test_no_more_than_64_kilobytes_beyond_the_limit_are_inflated() -> None:
    inflater = Inflater("gzip", 2_000, "host")

    with pytest.raises(BadResponseError):
        inflater.feed(gzip.compress(b"a" * 1_000_000))

    assert inflater.held == 64 * 1024


def test_a_large_body_is_inflated_in_steps() -> None:
    packed = gzip.compress(b"a" * 10_000_000)
    inflater = Inflater("gzip", 20_000_000, "host")
    held = [0]

    pieces = list(inflater.pieces(packed))
    for piece in pieces:
        inflater.feed(piece)
        held.append(inflater.held)

    assert max(len(piece) for piece in pieces) == 1024
    assert b"".join(pieces) == packed
    assert held[-1] == 10_000_000
    assert max(after - before for before, after in itertools.pairwise(held)) <= 2**20 + 2**16


def test_a_plain_body_or_a_small_chunk_is_one_piece() -> None:
    assert list(Inflater("", 10**6, "host").pieces(b"x" * 5000)) == [b"x" * 5000]
    assert [len(piece) for piece in Inflater("gzip", 10**6, "host").pieces(b"x" * 1024)] == [1024]
    assert [len(piece) for piece in Inflater("gzip", 10**6, "host").pieces(b"x" * 1025)] == [1024, 1]


def test_what_is_held_is_what_was_sent_where_nothing_is_inflated() -> None:
    inflater = Inflater("", 10, "host")

    inflater.feed(b"abc")

    assert inflater.held == 3


def test_broken_and_cut_gzip_are_tried_again_later() -> None:
    with pytest.raises(ProviderUnavailableError, match=r"^host answered with broken gzip; it is tried again later$"):
        fed("gzip", 1000, b"no gzip at all")
    with pytest.raises(ProviderUnavailableError, match="broken gzip"):
        fed("gzip", 1000, zlib.compress(b"deflated, which is another encoding"))
    with pytest.raises(
        ProviderUnavailableError, match=r"^host answered with gzip that was cut short; it is tried again later$"
    ):
        fed("gzip", 1000, gzip.compress(b"one")[:-1])
