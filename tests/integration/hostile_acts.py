"""What hostile providers do with a request, one function each."""

import asyncio
import email.utils
import gzip
import json
import struct
import time
import zlib
from typing import Any

from tests.integration.hostile_server import FIRST_ID, PAGES, SIZE, Act, Exchange, refuse_key

MEGABYTE = 2**20
HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><body>try again</body></html>"
_LIST = {"etelecom": "followers", "esms": "Followers"}
_ID = {"etelecom": "zl_user_id", "esms": "User_Id"}


# Statuses.


def html(status: int) -> Act:
    async def act(x: Exchange) -> None:
        await x.reply(HTML, status, {"Content-Type": "text/html"})

    return act


def limited(retry_after: str) -> Act:
    async def act(x: Exchange) -> None:
        await x.reply(HTML, 429, {"Content-Type": "text/html", "Retry-After": _retry_after(retry_after)})

    return act


def unavailable(retry_after: str) -> Act:
    async def act(x: Exchange) -> None:
        await x.reply(HTML, 503, {"Content-Type": "text/html", "Retry-After": _retry_after(retry_after)})

    return act


async def own_rate_limit(x: Exchange) -> None:
    if x.provider == "etelecom":
        await x.reply({"code": "resource_exhausted", "msg": "slow down"}, 429)
    else:
        await x.reply({"CodeResult": "160", "ErrorMessage": "TPS limit"})


async def redirect(x: Exchange) -> None:
    await x.reply(b"", 307, {"Location": f"{x.trial.memory['elsewhere']}/collect"})


async def moved(x: Exchange) -> None:
    await x.reply(b"", 308, {"Location": f"{x.trial.memory['elsewhere']}/collect"})


async def redirect_loop(x: Exchange) -> None:
    await x.reply(b"", 302, {"Location": x.trial.memory["here"]})


def _retry_after(text: str) -> str:
    if text.startswith("date+"):
        return email.utils.formatdate(time.time() + float(text.removeprefix("date+")), usegmt=True)
    if text.startswith("epoch+"):
        return f"{time.time() + float(text.removeprefix('epoch+')):.0f}"
    if text.startswith("epoch-ms+"):
        return f"{1000 * (time.time() + float(text.removeprefix('epoch-ms+'))):.0f}"
    return text


# Time and connections.


async def hang(x: Exchange) -> None:
    await x.gone()


async def drip_headers(x: Exchange) -> None:
    await x.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await x.write(b"z")
        await asyncio.sleep(0.05)


async def drip_body(x: Exchange) -> None:
    data = json.dumps(x.good()).encode()
    await x.reply(b"", length=1_000_000)
    for byte in data + b" " * 1_000_000:
        await x.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def reset(x: Exchange) -> None:
    await x.reset()


async def close(x: Exchange) -> None:
    """Nothing: the connection is closed."""


async def reset_middle(x: Exchange) -> None:
    data = json.dumps(x.good()).encode()
    await x.reply(data[: len(data) // 2], length=len(data))
    await x.reset()


async def cut_by_length(x: Exchange) -> None:
    data = json.dumps(x.good()).encode()
    await x.reply(data[: len(data) // 2], length=len(data))


async def cut_by_chunk(x: Exchange) -> None:
    data = json.dumps(x.good()).encode()
    head = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    await x.reply(b"%x\r\n" % len(data) + data[: len(data) // 2], headers=head)


async def cut_by_close(x: Exchange) -> None:
    data = json.dumps(x.good()).encode()
    await x.reply(data[: len(data) // 2], headers={"Content-Length": "", "Connection": "close"})


async def dropped(x: Exchange) -> None:
    await x.reply(x.good(), headers={"Connection": "keep-alive", "Keep-Alive": "timeout=60"})


# Bodies that are not what they say.


def saying(body: bytes) -> Act:
    async def act(x: Exchange) -> None:
        x.keep()
        await x.reply(body)

    return act


html_as_json = saying(HTML)


async def json_as_text(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(), headers={"Content-Type": "text/plain; charset=utf-8"})


async def null_list(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(rows=None))


async def text_list(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(rows="none"))


def error_in_200(code: str) -> Act:
    async def act(x: Exchange) -> None:
        x.keep()
        await x.reply({"code": code, "msg": "as the provider puts it"})

    return act


async def array(x: Exchange) -> None:
    x.keep()
    await x.reply(json.dumps(x.good()[_LIST[x.provider]]).encode())


async def missing_list(x: Exchange) -> None:
    x.keep()
    answer = x.good()
    del answer[_LIST[x.provider]]
    await x.reply(answer)


async def gzipped(x: Exchange) -> None:
    x.keep()
    await x.reply(gzip.compress(json.dumps(x.good()).encode()), headers={"Content-Encoding": "gzip"})


async def broken_gzip(x: Exchange) -> None:
    x.keep()
    packed = bytearray(gzip.compress(json.dumps(x.good()).encode()))
    packed[len(packed) // 2] ^= 0xFF
    await x.reply(bytes(packed), headers={"Content-Encoding": "gzip"})


async def long_header(x: Exchange) -> None:
    await x.reply(x.good(), headers={"X-Long": "y" * 100_000})


async def deep(x: Exchange) -> None:
    x.keep()
    await x.reply(_with(x.good(), "extra", b"[" * 10_000 + b"]" * 10_000))


async def long_integer(x: Exchange) -> None:
    x.keep()
    await x.reply(_first_id(x, b"9" * 10_000))


async def long_extra(x: Exchange) -> None:
    x.keep()
    await x.reply(_with(x.good(), "extra", b"9" * 10_000))


async def nan(x: Exchange) -> None:
    x.keep()
    await x.reply(_first_id(x, b"NaN"))


async def duplicate_keys(x: Exchange) -> None:
    x.keep()
    strangers = [{_ID[x.provider]: "9999999999999999999"}]
    await x.reply(_with(x.good(), _LIST[x.provider], json.dumps(strangers).encode()))


async def bom(x: Exchange) -> None:
    x.keep()
    await x.reply(b"\xef\xbb\xbf" + json.dumps(x.good()).encode())


async def utf_16(x: Exchange) -> None:
    x.keep()
    await x.reply(json.dumps(x.good()).encode("utf-16"))


async def invalid_utf_8(x: Exchange) -> None:
    x.keep()
    await x.reply(_first_id(x, b'"78\xff\xfe00"'))


async def ids_as_numbers(x: Exchange) -> None:
    x.keep()
    name, answer = _ID[x.provider], x.good()
    answer[_LIST[x.provider]] = [{name: int(row[name])} for row in answer[_LIST[x.provider]]]
    await x.reply(answer)


async def combining(x: Exchange) -> None:
    """A name of 400 KB that would take minutes to compose in one go."""
    x.keep()
    name = "a" + "\u0301\u0327" * 100_000
    await x.reply(
        x.good(rows=[row | {"full_name": name} for row in x.good()["followers"][:1]] + x.good()["followers"][1:])
    )


def _with(answer: dict[str, Any], key: str, value: bytes) -> bytes:
    """The answer with a field more at its start."""
    return b'{"%s":%s,' % (key.encode(), value) + json.dumps(answer).encode()[1:]


def _first_id(x: Exchange, value: bytes) -> bytes:
    """The answer with other bytes for the first id on the page."""
    id = str(FIRST_ID + x.rows()[0])
    data = json.dumps(x.good()).encode()
    assert f'"{id}"'.encode() in data
    return data.replace(f'"{id}"'.encode(), value)


# Size.


async def huge_body(x: Exchange) -> None:
    """300 MB, nearly all of it blanks: valid JSON for whoever holds it."""
    data = json.dumps(x.good()).encode()
    blanks = 300 * MEGABYTE
    await x.reply(data[:1], length=len(data) + blanks)
    for _ in range(0, blanks, MEGABYTE):
        await x.write(b" " * MEGABYTE)
    await x.write(data[1:])


async def tiny_values(x: Exchange) -> None:
    """15 MB of values of two bytes, where the list should be."""
    key = _LIST[x.provider]
    await x.reply(_with(x.good(rows=[]), key, b"[" + b"{}," * (5 * MEGABYTE) + b"{}]"))


async def gzip_bomb(x: Exchange) -> None:
    """The same with 400 MB, in 0.4 MB on the wire."""
    data = json.dumps(x.good()).encode()
    packed = await asyncio.to_thread(_inflatable, data[:1], 400, data[1:])
    assert len(packed) < MEGABYTE
    await x.reply(packed, headers={"Content-Encoding": "gzip"})


def _inflatable(start: bytes, megabytes: int, end: bytes) -> bytes:
    """Gzip of `start`, that many megabytes of blanks, and `end`; one compressed megabyte, repeated."""
    blanks = b" " * MEGABYTE
    check = zlib.crc32(start)
    for _ in range(megabytes):
        check = zlib.crc32(blanks, check)
    check = zlib.crc32(end, check)
    size = len(start) + megabytes * MEGABYTE + len(end)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return head + _block(start) + _block(blanks) * megabytes + _block(end, last=True) + struct.pack("<II", check, size)


def _block(data: bytes, *, last: bool = False) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # A full flush ends on a byte and forgets what came before, so blocks can stand in any order.
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


# Paging.


def next_is(cursor: str) -> Act:
    async def act(x: Exchange) -> None:
        x.keep()
        await x.reply(x.good(next=cursor))

    return act


def long_cursor(length: int) -> Act:
    async def act(x: Exchange) -> None:
        x.keep()
        await x.reply(x.good(next=f"c{x.page}".ljust(length, "~") if x.page < PAGES else ""))

    return act


async def first_page_again(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(1))


async def first_rows_again(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(1, next=f"c{x.page}"))


new_cursors = first_rows_again


async def fifty_for_ever(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(rows=[{"User_Id": str(FIRST_ID + n)} for n in range(50)], total=None))


def total(said: int) -> Act:
    """The total is another one now; if it's a multiple of a page, the rows beyond it are gone."""

    async def act(x: Exchange) -> None:
        x.keep()
        rows = x.rows(said) if said % SIZE == 0 else x.rows()
        await x.reply(x.good(total=said, rows=[{"User_Id": str(FIRST_ID + n)} for n in rows]))

    return act


async def growing(x: Exchange) -> None:
    x.keep()
    more = (PAGES + 1) * SIZE
    rows = [{"User_Id": str(FIRST_ID + n)} for n in x.rows(more)]
    await x.reply(x.good(rows=rows, total=more))


async def empty_page(x: Exchange) -> None:
    x.keep()
    await x.reply(x.good(rows=[]))


# Keys.


async def expired_key(x: Exchange) -> None:
    x.keep()
    await refuse_key(x)


async def rotated_key(x: Exchange) -> None:
    """The old key is refused; the new one is in its file already, as after a rotation."""
    x.keep()
    x.trial.memory["rotate"]()
    await refuse_key(x)
