"""What may come of a job with a hostile provider, and the words in which the table says it."""

from dataclasses import dataclass
from typing import Literal

from schemas.types import ErrorCode, Provider, TruncatedReason, Verdict, WaitReason
from tests.integration.hostile_server import PAGES, Act

RETRY_FOR = 3.0
"""Seconds: the worker's `retry_for` in these tests."""
REQUEST_TIMEOUT = 2.0
"""Seconds: the worker's `request_timeout` in these tests."""
BOTH: tuple[Provider, ...] = ("etelecom", "esms")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What comes of a job of four pages."""

    end: Verdict | ErrorCode
    """A verdict: the job completed; a code: it failed."""
    asked: tuple[int, int]
    """The least and the most requests for the page in question."""
    seconds: float
    """From the command to the terminal event, at most; a busy machine is allowed for."""
    after: float = 0.0
    """Seconds that pass at least between the first two requests for the page."""
    pages: int = PAGES
    """Pages published."""
    followers: int | None = None
    """Followers published; None: all of those pages."""
    dropped: int = 0
    """Rows left out because they came twice."""
    reason: TruncatedReason | None = None
    waits: WaitReason | None = None
    """What a `waiting` event gives for a reason."""
    until: float = 0.0
    """Seconds from the command to that event's `until`, at least."""
    not_after: float | None = None
    """Seconds from the command to its `not_after`."""
    max_pages: int | None = None
    http_status: int | None = None

    @property
    def completes(self) -> bool:
        return self.end in ("complete", "drifted", "truncated")

    @property
    def text(self) -> str:
        """As the table says it."""
        end = f"`{self.end}`" if self.completes else f"failed `{self.end}`"
        end += f" (`{self.reason}`)" if self.reason else ""
        end += f", `not_after` {self.not_after:g} s" if self.not_after else ""
        waits = f"`waiting` `{self.waits}`, then " if self.waits else "asked again, then " if self.asked[1] > 1 else ""
        parts = [f"{self.pages} pages" if self.pages != 1 else "1 page"]
        parts += [f"{self.dropped} rows dropped"] if self.dropped else []
        return f"{waits}{end}; {', '.join(parts)}"

    @property
    def bound(self) -> str:
        """As the table says it."""
        least, most = self.asked
        requests = f"{most} request{'s' * (most > 1)}" if least == most else f"{least}–{most} requests"
        waited = f", {self.after:g} s apart" if self.after else ""
        return f"{requests}{waited}, {self.seconds:g} s"


def read(end: Verdict = "complete", **changes: object) -> Outcome:
    """The answer is taken as it is."""
    return Outcome(**{"end": end, "asked": (1, 1), "seconds": 10.0} | changes)  # type: ignore[arg-type]


def again(times: int = 2, **changes: object) -> Outcome:
    """The page is asked for again until it comes, and nothing is missing."""
    return Outcome(**{"end": "complete", "asked": (times + 1, times + 1), "seconds": 15.0} | changes)  # type: ignore[arg-type]


def refused(code: ErrorCode = "bad_response", **changes: object) -> Outcome:
    """The job fails at the first such answer."""
    return Outcome(**{"end": code, "asked": (1, 1), "seconds": 10.0, "pages": 1} | changes)  # type: ignore[arg-type]


def given_up(code: ErrorCode, asked: tuple[int, int], **changes: object) -> Outcome:
    """The job fails after some tries."""
    return Outcome(**{"end": code, "asked": asked, "seconds": 25.0, "pages": 1} | changes)  # type: ignore[arg-type]


DOWN = given_up("provider_unavailable", (4, 12))
SLOW = given_up("provider_unavailable", (2, 3), seconds=15.0)
IMPATIENT = Outcome(end="deadline_exceeded", asked=(1, 10), seconds=12.0, pages=1, not_after=4.0)
UNREADABLE = given_up("provider_unavailable", (4, 12), http_status=200)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One behaviour."""

    key: str
    behaviour: str
    act: Act
    passing: Outcome | None = None
    """When it does so `times` times and then comes to its senses."""
    lasting: Outcome | None = None
    """When it goes on for ever."""
    times: int = 2
    pages: frozenset[int] = frozenset({2})
    """On which pages."""
    providers: tuple[Provider, ...] = BOTH
    page_size: int | None = None
    next_job: Literal["same", "other"] = "same"
    """Whose account the job after it uses: a provider that asked for a year's patience is left alone."""


@dataclass(frozen=True, kw_only=True)
class ProcessRow:
    """A behaviour that is shown with a worker of its own in another process."""

    key: str
    behaviour: str
    outcome: str
    bound: str
