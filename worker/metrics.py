"""What a replica has done, counted for Prometheus; k8s/components/monitoring/README.md has the table of all of it.

Labels are bounded: no job, OA or account is one. Every series is there from the start, at zero: Prometheus can't see
the first event of one that appears with it.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from schemas.changes import ChangeEvent
from schemas.subjects import PROVIDERS
from schemas.types import ErrorCode, JobState, Provider, WaitReason
from worker.core.ports.metrics import Circuit, Outcome
from worker.core.schedules.decision import Outcome as ScheduleOutcome

LATENCIES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds: the bounds of the histogram of requests; the last is the default of `worker.request_timeout`."""
UNKNOWN = float("nan")
"""What a gauge says of what can't be known now: no rule fires on it, and a graph has a gap."""

M = TypeVar("M", Counter, Gauge)
M_co = TypeVar("M_co", Counter, Gauge, covariant=True)

_ENDS: tuple[JobState, ...] = ("completed", "failed", "cancelled", "queued")
_CHANGES = tuple(str(event.__struct_config__.tag) for event in get_args(ChangeEvent))
_NOT_CLOSED: tuple[Circuit, ...] = ("open", "half_open")


class PrometheusMeter:
    """The core's `Meter`, and the gauges of the replica itself."""

    def __init__(self, registry: CollectorRegistry, schedules: Sequence[str] = ()) -> None:
        """Register the metrics in `registry`, with series for the schedules of these names."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
        ProcessCollector(registry=registry)
        counter, gauge = _maker(Counter, registry), _maker(Gauge, registry)
        codes = get_args(ErrorCode)

        self._pages = counter("followers_pages", "Follower pages published.")
        self._followers = counter("followers_followers", "Followers published.")
        self._requests = counter(
            "followers_requests", "Requests for a page, by outcome: ok, or an error's code.", outcome=("ok", *codes)
        )
        self._latency = Histogram(
            "followers_request_duration_seconds",
            "Seconds from the start of a request for a page to its outcome.",
            ["provider"],
            buckets=LATENCIES,
            registry=registry,
        )
        self._waits = counter(
            "followers_request_wait_seconds",
            "Seconds that requests waited before they could start.",
            reason=get_args(WaitReason),
        )
        self._jobs = counter("followers_jobs", "Jobs by how they ended here.", state=_ENDS)
        self._letters = counter("followers_dead_letters", "Commands that were dead-lettered.", code=codes)
        self._changes = counter("followers_changes", "Change events published, by type.", type=_CHANGES)
        self._redeliveries = counter("followers_redeliveries", "Commands that came another time.")
        self._faults = counter("followers_faults", "Unexpected errors while working on a command.")
        self._circuits = gauge("followers_circuits", "Accounts whose circuit isn't closed.", state=_NOT_CLOSED)
        self._alone = gauge(
            "followers_limits_not_shared", "Accounts whose limit can't be shared with other replicas now."
        )
        self.in_flight = gauge("followers_jobs_in_flight", "Commands in hand, those that wait included.")
        self._waiting = gauge("followers_jobs_waiting", "Commands in hand that stand still: see CONTRACT, waiting.")
        self._pending = gauge("followers_commands_pending", "Commands in the queue that no worker has taken.")
        self._unsettled = gauge("followers_commands_unsettled", "Commands that some worker has in hand.")
        self._ready = Gauge("followers_ready", "1 while this replica can take commands.", registry=registry)
        tasks = Gauge("followers_tasks", "Tasks of the event loop; a steady rise is a leak.", registry=registry)
        tasks.set_function(_tasks)
        build = Gauge("followers_build_info", "Always 1; the version is a label.", ["version"], registry=registry)
        build.labels(product_version()).set(1)
        self._schedules = Counter(
            "followers_schedules",
            "Due times of schedules, by what this worker made of them.",
            ["schedule", "outcome"],
            registry=registry,
        )
        self._next = Gauge(
            "followers_schedule_next_timestamp_seconds",
            "When this worker next has something to do for a schedule, in seconds since 1970; 0 until it has looked.",
            ["schedule"],
            registry=registry,
        )
        for name in schedules:
            self.schedule_next(name, 0)
            for outcome in get_args(ScheduleOutcome):
                self._schedules.labels(name, outcome)
        # Looked up once: finding a label's counter takes longer than counting.
        self._of_a_page = {
            provider: (
                self._pages.labels(provider),
                self._followers.labels(provider),
                self._requests.labels(provider, "ok"),
                self._latency.labels(provider),
            )
            for provider in PROVIDERS
        }
        self._circuit_of: dict[tuple[Provider, str], Circuit] = {}
        for provider in PROVIDERS:
            self.commands(provider, None)

    def page_published(self, provider: Provider, followers: int) -> None:
        """Count a page, with its number of followers."""
        pages, people, _, _ = self._of_a_page[provider]
        pages.inc()
        people.inc(followers)

    def request_ended(self, provider: Provider, outcome: Outcome, seconds: float) -> None:
        """Count a request that gave a page or an error, and the seconds that it took."""
        _, _, answered, latency = self._of_a_page[provider]
        (answered if outcome == "ok" else self._requests.labels(provider, outcome)).inc()
        latency.observe(seconds)

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """Count a job that came to `state` in this replica."""
        self._jobs.labels(provider, state).inc()

    def dead_lettered(self, provider: Provider, code: str) -> None:
        """Count a command that was stored among the dead letters, for the contract's `code`."""
        self._letters.labels(provider, code).inc()

    def change_published(self, provider: Provider, kind: str) -> None:
        """Count a change event that this replica appended."""
        self._changes.labels(provider, kind).inc()

    def redelivered(self, provider: Provider) -> None:
        """Count a command that had been delivered before."""
        self._redeliveries.labels(provider).inc()

    def faulted(self, provider: Provider) -> None:
        """Count an unexpected error."""
        self._faults.labels(provider).inc()

    def request_waited(self, provider: Provider, reason: WaitReason, seconds: float) -> None:
        """Add up the seconds that a request waited before it could start."""
        self._waits.labels(provider, reason).inc(seconds)

    def circuit_changed(self, provider: Provider, account: str, state: Circuit) -> None:
        """Count the account under its new state."""
        before = self._circuit_of.get((provider, account), "closed")
        self._circuit_of[provider, account] = state
        for circuit, change in ((before, -1), (state, 1)):
            if circuit != "closed":
                self._circuits.labels(provider, circuit).inc(change)

    def limit_shared(self, provider: Provider, account: str, *, shared: bool) -> None:
        """Count the accounts that are on their own."""
        self._alone.labels(provider).inc(-1 if shared else 1)

    def commands(self, provider: Provider, counts: tuple[int, int] | None) -> None:
        """Show how many commands wait in the queue and how many are in hand, in all replicas; None: not known."""
        pending, unsettled = counts if counts is not None else (UNKNOWN, UNKNOWN)
        self._pending.labels(provider).set(pending)
        self._unsettled.labels(provider).set(unsettled)

    def schedule_decided(self, schedule: str, outcome: ScheduleOutcome) -> None:
        """Count a due time of a schedule by what this replica made of it."""
        self._schedules.labels(schedule, outcome).inc()

    def schedule_next(self, schedule: str, due: float) -> None:
        """Show when something is to be done next; no number: never."""
        self._next.labels(schedule).set(due)

    def watch(self, *, ready: Callable[[], bool], waiting: Callable[[Provider], int]) -> None:
        """Ask these two each time somebody reads: whether the replica is ready, how many jobs stand still."""
        self._ready.set_function(ready)
        for provider in PROVIDERS:
            self._waiting.labels(provider).set_function(partial(waiting, provider))


class _Make(Protocol[M_co]):
    def __call__(self, name: str, documentation: str, **more: Sequence[str]) -> M_co: ...


def _maker(kind: type[M], registry: CollectorRegistry) -> _Make[M]:
    """Return what makes metrics by provider and at most one more label, whose values are all known."""

    def make(name: str, documentation: str, **more: Sequence[str]) -> M:
        metric = kind(name, documentation, ["provider", *more], registry=registry)
        for values in itertools.product(PROVIDERS, *more.values()):
            metric.labels(*values)
        return metric

    return make


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # read outside of the loop
        return 0


def product_version() -> str:
    """Return the version that is installed, `unknown` where it runs from its source alone."""
    try:
        return version("followers-worker")
    except PackageNotFoundError:
        return "unknown"
