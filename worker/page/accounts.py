"""An account as the page shows it: what this worker knows of it, and what jobs in other workers say they wait for.

A circuit is each worker's own. One that is open anywhere is shown as open, with where; `closed` means that the provider
has answered this worker, and that no job tells otherwise. Else it isn't known.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from schemas.jobs import JobStatus
from schemas.wait import Wait
from worker.page.ports import AccountView
from worker.page.view import account_row

HEARD_WITHIN = timedelta(seconds=15)
"""What a worker said, or said that it waits for, counts for so long after that."""


def account_rows(
    accounts: Iterable[AccountView], waiting: Iterable[JobStatus], worker: str, now: datetime
) -> list[dict[str, Any]]:
    """Return `accounts` as the page shows them. `waiting`: jobs that wait, in all workers. `worker`: this one."""
    waits = [(job.account, job.wait) for job in waiting if job.wait is not None and _is_others(job, worker, now)]
    return [_row(account, [wait for name, wait in waits if name == account.name]) for account in accounts]


def _is_others(job: JobStatus, worker: str, now: datetime) -> bool:
    if job.worker == worker or job.wait is None:
        return False
    ends = job.wait.until
    return max(job.updated_at, ends or job.updated_at) > now - HEARD_WITHIN


def _row(account: AccountView, waits: list[Wait]) -> dict[str, Any]:
    circuit: str = account.circuit
    where, until = "here", account.circuit_until
    if circuit == "closed":
        broken = [wait for wait in waits if wait.owner == "breaker"]
        if broken:
            circuit, where = "open", "elsewhere"
            until = max((wait.until for wait in broken if wait.until is not None), default=None)
        elif not account.heard:
            circuit = "unknown"
    blocked = [moment for wait in waits if (moment := wait.blocked_until) is not None]
    blocked += [account.blocked_until] if account.blocked_until else []
    return account_row(
        account, circuit=circuit, where=where, circuit_until=until, blocked_until=max(blocked, default=None)
    )
