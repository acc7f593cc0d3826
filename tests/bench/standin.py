"""Both providers as one small process that answers from memory: precomputed pages, no decoding, no framework.

python -m tests.bench.standin [--seed N]

Prints its port, then serves until its standard input ends. What a list is like stands in the OA's name, so that one
process serves every measurement: `p200-l100` has 200 pages of whatever size is asked for and answers after 100 ms;
with `-j` behind it the requests are counted by cursor, for `GET /counts`. The last page of an eTelecom list is followed
by an empty one, as with the real provider (PROVIDERS 1.4).
"""

import argparse
import asyncio
import json
import random
import re
import sys
import unicodedata
from collections import Counter
from typing import Any

import uvloop

PAGES = 16
"""Different pages of each size; the numbers in them are set for each answer."""
NUMBER = b"@@@@@@@@@@"
"""Stands in a template where ten digits say which page it is."""
ESMS_PAGE = 50

_OA = re.compile(rb'"(?:oa_id|OAID)":\s*"p(\d+)-l(\d+)(-j)?')
_AFTER = re.compile(rb'"after":\s*"c(\d+)"')
_LIMIT = re.compile(rb'"limit":\s*(\d+)')
_OFFSET = re.compile(rb'"Offset":\s*(\d+)')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


class Lists:
    """The pages, made once."""

    def __init__(self, seed: int) -> None:
        """Make them; the same `seed` gives the same bytes."""
        dice = random.Random(seed)
        self._etelecom = {size: [_etelecom_page(dice, size) for _ in range(PAGES)] for size in (50, 100)}
        rows = [f'{{"User_Id":"7{NUMBER.decode()}{number:08d}"}}'.encode() for number in range(ESMS_PAGE)]
        self._heads = [b",".join(rows[:number]) for number in range(ESMS_PAGE)]
        self._tails = [b",".join(rows[number:]) for number in range(ESMS_PAGE)]
        self.counts: dict[str, Counter[bytes]] = {}

    def answer(self, body: bytes) -> tuple[bytes, float]:
        """Return the answer to a request's body, and the seconds to wait before it is sent."""
        oa = _OA.search(body)
        if oa is None:
            return b"{}", 0.0
        pages, latency = int(oa[1]), int(oa[2]) / 1000
        if offset := _OFFSET.search(body):
            cursor = offset[1]
            text = self._esms_answer(int(cursor), pages)
        else:
            after, limit = _AFTER.search(body), _LIMIT.search(body)
            page, cursor = int(after[1]) if after else 0, after[1] if after else b"0"
            templates = self._etelecom[int(limit[1]) if limit else 100]
            text = templates[page % PAGES].replace(NUMBER, b"%010d" % (page + 1))
            if page >= pages:
                text = b'{"followers":[],"paging":{"next":"","prev":""}}'
        if oa[3]:
            self.counts.setdefault(body[oa.start() : oa.end()].decode(), Counter())[cursor] += 1
        return text, latency

    def _esms_answer(self, offset: int, pages: int) -> bytes:
        """The rows from any offset on: the tail of one page and the head of the next."""
        page, row = divmod(offset, ESMS_PAGE)
        parts = []
        if page < pages:
            parts.append(self._tails[row].replace(NUMBER, b"%010d" % page))
        if row and page + 1 < pages:
            parts.append(self._heads[row].replace(NUMBER, b"%010d" % (page + 1)))
        return b'{"CodeResult":"100","Followers":[%b],"Total":%d}' % (b",".join(parts), pages * ESMS_PAGE)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that is kept open."""

    def __init__(self, lists: Lists) -> None:
        """`lists`: what is served."""
        self._lists = lists
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._held, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._held) < whole:
                return
            head, body, self._held = self._held[:end], self._held[end + 4 : whole], self._held[whole:]
            if head.startswith(b"GET /counts"):
                text, latency = json.dumps(_summary(self._lists.counts)).encode(), 0.0
            else:
                text, latency = self._lists.answer(body)
            if latency:
                asyncio.get_running_loop().call_later(latency, self._send, text)
            else:
                self._send(text)

    def _send(self, text: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
            )


def _summary(counts: dict[str, Counter[bytes]]) -> dict[str, list[int]]:
    return {oa.rpartition('"')[2]: [counted.total(), len(counted)] for oa, counted in counts.items()}


def _etelecom_page(dice: random.Random, size: int) -> bytes:
    rows = ",".join(json.dumps(_row(dice, number), ensure_ascii=False) for number in range(size))
    text = f'{{"followers":[{rows}],"paging":{{"next":"c{NUMBER.decode()}","prev":"c0","limit":{size}}}}}'
    return text.encode()


def _row(dice: random.Random, number: int) -> dict[str, object]:
    """A rich row: everything that eTelecom documents is filled in for most people (PROVIDERS 1.3)."""
    name = " ".join(dice.choice(words) for words in (_FAMILY, _MIDDLE, _GIVEN))
    mobile = f"09{dice.randrange(10)}000{dice.randrange(10_000):04d}"
    picture = "".join(dice.choices("0123456789abcdef", k=40))
    shared: dict[str, object] | None = {
        "address": f"{dice.randrange(200) + 1} Đường Ví Dụ",
        "city": "Hà Nội",
        "district": "Quận Thử",
        "ward": "Phường Mẫu",
        "name": name,
        "phone": mobile,
    }
    return {
        "id": f"115{dice.randrange(10**16):016d}",
        "shop_id": "1149000000000000011",
        "oa_id": "579745863508352884",
        "zl_user_id": f"{7 + number % 2}{NUMBER.decode()}{number:08d}",
        "zl_user_id_by_app": f"4{dice.randrange(10**18):018d}",
        "assigned_user_id": "0" if number % 3 else "1149000000000000027",
        "full_name": unicodedata.normalize("NFD", name) if number % 7 == 3 else name,
        "avatar": f"https://avatar.example/{picture}.jpg",
        "avatars": {size: f"https://avatar.example/{size}/{picture}.jpg" for size in ("120", "240")},
        "gender": dice.choice(("male", "female", "unknown")),
        "phone": mobile if number % 2 else "84" + mobile[1:],
        "state": "follow" if number % 19 else "unfollow",
        "has_conversation": number % 2 == 0,
        "shared_info": shared if number % 10 > 3 else None,
        "tags_and_notes_info": {"notes": ["gọi lại sau 17 giờ"], "tag_names": ["VIP"]} if number % 4 == 1 else None,
        "last_conversation": {"message": "", "direction": "in", "type": "text"},
        "created_at": f"2026-0{dice.randrange(9) + 1}-11T0{dice.randrange(10)}:11:12.123456Z",
        "updated_at": f"2026-0{dice.randrange(9) + 1}-12T0{dice.randrange(10)}:11:12Z",
    }


_FAMILY = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Võ", "Đặng")
_MIDDLE = ("Văn", "Thị", "Ngọc", "Đức", "Minh", "Quốc")
_GIVEN = ("Ánh", "Bảo", "Châu", "Dũng", "Giang", "Hạnh", "Quỳnh")


async def serve(seed: int) -> None:
    """Serve until the standard input ends."""
    lists = Lists(seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(lists), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().seed))
