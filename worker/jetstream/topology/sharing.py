"""Whether those who don't trust each other share an account of the NATS server, as far as a user can see.

The server tells each user its account and its own rights, and nothing of others. The generated rights of a worker
differ: only where all share an account may it answer the inboxes of publishers and readers.
"""

from collections.abc import Mapping
from typing import Any

from worker.core.diagnostics import Finding, State
from worker.jetstream.topology.accounts import REPLIES, local_subject
from worker.jetstream.topology.permissions import Role, inbox_prefix

DEFAULT_ACCOUNT = "$G"
"""The account of everybody, where the server's configuration has none."""
CURE = "give each party an account of its own: k8s/nats/MIGRATION.md"
_LEAK = (
    "whatever their rights say, a reader can delete streams and consumers and cancel jobs there, and a publisher can"
    " write into pages, job status and limits"
)
_GUESTS: tuple[Role, ...] = ("publisher", "consumer", "viewer")
_ROLES = {f"{inbox_prefix(role)}.>" for role in _GUESTS}
_SUBJECT = "who shares an account"


def sharing(answer: Mapping[str, Any] | None, inbox: str) -> Finding:
    """Return what can be seen of it. `answer`: of the server to USER_INFO, None when there was none."""
    user = (answer or {}).get("data")
    if not user:
        return _finding("unknown", "can't be seen: this user may not ask who it is", "ask as the worker's user")
    account = user.get("account_name") or user.get("account") or "?"
    if account == DEFAULT_ACCOUNT:
        text = f"this server has no accounts: everybody who may connect shares {account}; {_LEAK}"
        return _finding("warn", text, CURE)
    limits = user.get("permissions")
    if not limits:
        text = f"can't be seen by a user that may do everything in account {account}"
        return _finding("unknown", text, "ask as the worker's user")
    rules = [rule.partition(" ")[0] for rule in (limits.get("publish") or {}).get("allow") or ()]
    others = [rule for rule in rules if rule.startswith("_INBOX_") and rule != f"{inbox}.>"]
    if others and not _ROLES.intersection(others):
        return _finding("unknown", f"{', '.join(others)} may be answered: whose that is can't be seen")
    if others:
        text = f"publishers, readers and workers share account {account} ({', '.join(others)} may be answered); {_LEAK}"
        return _finding("warn", text, CURE)
    if any(rule.startswith(local_subject("$JS.API.")) for rule in rules):
        return _finding("ok", f"account {account} is apart from that of the streams")
    if REPLIES in rules:
        text = f"in account {account} this user answers requests of other accounts, and no publisher's or reader's"
        return _finding("ok", text)
    return _finding("unknown", "this user's rights don't tell", "ask as the worker's user")


def _finding(state: State, detail: str, advice: str = "") -> Finding:
    return Finding(check="nats.accounts", subject=_SUBJECT, state=state, detail=detail, advice=advice)
