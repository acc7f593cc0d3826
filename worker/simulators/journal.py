"""What reached the provider: the last requests and counters over all of them."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec

from worker.simulators.exchange import Call

_SECRETS = frozenset({"apikey", "secretkey"})


class Entry(msgspec.Struct, kw_only=True):
    """One request as remembered. Filter and paging objects stand as they came; keys and secrets do not."""

    number: int
    at: float
    """Seconds since 1970."""
    method: str
    path: str
    endpoint: str
    oa_id: str
    body: object
    auth: str = "unchecked"
    cookie: bool = False
    status: int | None = None
    """None while unanswered, and for ever when the connection broke before the answer."""
    code: str = ""
    rows: int = 0
    faults: list[str] = []
    seconds: float = 0.0


class Journal:
    """Bounded memory of requests; counters never forget until `clear`."""

    def __init__(self, size: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=size)
        self.counters: Counter[str] = Counter()
        """By `requests`, `endpoint:<name>`, `oa:<id>`, `status:<number|none>`, `fault:<kind>`, `in_flight`,
        `in_flight_max`."""
        self._changed = asyncio.Event()

    def opened(self, call: Call) -> Entry:
        """Remember a request as it arrives."""
        entry = Entry(
            number=call.number,
            at=time.time(),
            method=call.method,
            path=call.path,
            endpoint=call.endpoint,
            oa_id=call.oa_id,
            body=_without_secrets(call.body),
            cookie=call.cookie,
        )
        self.entries.append(entry)
        for counter in ("requests", f"endpoint:{call.endpoint}", f"oa:{call.oa_id}", "in_flight"):
            self.counters[counter] += 1
        self.counters["in_flight_max"] = max(self.counters["in_flight_max"], self.counters["in_flight"])
        self._tell()
        return entry

    def closed(self, entry: Entry) -> None:
        """The request is over, answered or not."""
        entry.seconds = time.time() - entry.at
        self.counters["in_flight"] -= 1
        self.counters[f"status:{entry.status or 'none'}"] += 1
        for fault in entry.faults:
            self.counters[f"fault:{fault}"] += 1
        self._tell()

    async def until(self, holds: Callable[[Mapping[str, int]], bool]) -> None:
        """Wait until the counters are as wanted: `until(lambda seen: seen["requests"] >= 3)`."""
        while not holds(self.counters):
            await self._changed.wait()

    def select(self, query: Mapping[str, str]) -> list[Entry]:
        """Entries with the query's `endpoint` and `oa_id`, numbered above its `after`. Raises ValueError."""
        after = int(query.get("after", "0"))
        return [
            entry
            for entry in self.entries
            if entry.number > after
            and query.get("endpoint", entry.endpoint) == entry.endpoint
            and query.get("oa_id", entry.oa_id) == entry.oa_id
        ]

    def clear(self) -> None:
        """Forget everything but the requests still in flight."""
        in_flight = self.counters["in_flight"]
        self.entries.clear()
        self.counters.clear()
        self.counters["in_flight"] = in_flight
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _without_secrets(body: object) -> object:
    if not isinstance(body, dict):
        return None if isinstance(body, (str, bytes)) else body
    return {key: "***" if key.lower() in _SECRETS else value for key, value in body.items()}
