"""Faults on demand: what goes wrong, for which requests, how often."""

import time
from collections import deque
from typing import Literal

import msgspec

from worker.simulators.exchange import Call

Kind = Literal[
    "latency",
    "status",
    "error",
    "html",
    "empty",
    "bad_json",
    "content_type",
    "null_list",
    "missing_list",
    "cursor_loop",
    "duplicate_page",
    "hang",
    "drip",
    "reset",
    "reset_middle",
    "truncated",
    "gzip",
    "broken_gzip",
    "rate_limit",
]
"""What happens:

- `latency`: wait `seconds`, or a draw between `seconds` and `seconds_max`; other faults and the answer follow
- `status`: HTTP `status` with `body` (`html`, `json` or `empty`) and `retry_after`
- `error`: the provider's own error `code` and `message`: `resource_exhausted` (eTelecom), `160` (eSMS)
- `html`, `empty`: HTTP 200 with an HTML page or with nothing
- `bad_json`: the true answer, cut in the middle of its JSON, with a matching length
- `content_type`: the true answer as `text/html`
- `null_list`, `missing_list`: the list of followers is null, or its key is not there
- `cursor_loop`: eTelecom's `next` repeats the cursor asked for; eSMS serves offset 0 again
- `duplicate_page`: the last page served of this OA comes again, whatever was asked for
- `hang`: no byte for `seconds` (0: until the client gives up), then the connection closes
- `drip`: the true answer in `chunks` pieces over `seconds`
- `reset`, `reset_middle`: the connection is reset before the headers, or halfway through the body
- `truncated`: Content-Length promises more than comes before the connection closes
- `gzip`, `broken_gzip`: the true answer compressed, or bytes that only claim to be
- `rate_limit`: more than `per_second` requests in any one second get `status`, or `code` where one is given
"""
BEFORE_ANSWER = frozenset({"status", "error", "html", "empty", "hang", "reset", "rate_limit"})
"""Kinds that replace the provider's answer."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the plan. A request takes the first line that fires, besides any number of `latency`."""

    kind: Kind
    endpoint: str = ""
    """Only for this endpoint, such as `ListFollowers`; empty: all."""
    oa_id: str = ""
    """Only for this Official Account; empty: all."""
    skip: int = 0
    """Fitting requests to leave alone first."""
    every: int = 1
    """Then fires on each k-th fitting request."""
    times: int = 1
    """How often it fires; 0: until cleared. A `rate_limit` always stays."""
    seconds: float = 0.0
    seconds_max: float = 0.0
    status: int = 0
    """0: 503, or 429 for a `rate_limit`."""
    retry_after: str = ""
    """The header as it is (`"3"`, `"soon"`); `date+3`: the HTTP date three seconds from now; empty: none."""
    body: Literal["html", "json", "empty"] = "html"
    code: str = ""
    message: str = ""
    chunks: int = 10
    per_second: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no sense."""
        if self.every < 1 or self.skip < 0 or self.times < 0 or self.seconds < 0 or self.chunks < 1:
            raise ValueError(f"fault {self.kind}: every and chunks are 1 or more, skip, times, seconds not negative")
        if self.kind == "rate_limit" and self.per_second <= 0:
            raise ValueError("fault rate_limit: per_second says how many requests a second pass, so set it above 0")
        if self.kind == "error" and not self.code:
            raise ValueError("fault error: set code to the provider's error code")


class FaultPlan:
    """The faults still to come, in order. Lives in one event loop."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []

    def add(self, *faults: Fault) -> None:
        """Append to the plan."""
        self._lines += [_Line(fault) for fault in faults]

    def clear(self) -> None:
        """No more faults."""
        self._lines.clear()

    @property
    def pending(self) -> list[Fault]:
        """The lines that may still fire."""
        return [line.fault for line in self._lines]

    def take(self, call: Call) -> list[Fault]:
        """The faults for one request: any number of `latency`, then at most one other."""
        taken: list[Fault] = []
        for line in self._lines:
            if line.fires(call):
                taken.append(line.fault)
                if line.fault.kind != "latency":
                    break
        self._lines = [line for line in self._lines if not line.spent]
        return taken


class _Line:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._fitting = 0
        self._fired = 0
        self._passed: deque[float] = deque()

    @property
    def spent(self) -> bool:
        return self.fault.kind != "rate_limit" and 0 < self.fault.times <= self._fired

    def fires(self, call: Call) -> bool:
        fault = self.fault
        if fault.endpoint not in ("", call.endpoint) or fault.oa_id not in ("", call.oa_id):
            return False
        if fault.kind == "rate_limit":
            return self._over_rate(time.monotonic())
        self._fitting += 1
        if self._fitting <= fault.skip or (self._fitting - fault.skip) % fault.every:
            return False
        self._fired += 1
        return True

    def _over_rate(self, now: float) -> bool:
        while self._passed and self._passed[0] <= now - 1:
            self._passed.popleft()
        if len(self._passed) >= self.fault.per_second:
            return True
        self._passed.append(now)
        return False
