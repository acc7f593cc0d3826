"""A nats-server's users in either layout: a trust domain an account, and all in one account."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from worker.jetstream.topology.permissions import ACCOUNT, Layout, User, accounts_block

Attacker = Literal["publisher", "consumer", "viewer"]
ATTACKERS: tuple[Attacker, ...] = ("publisher", "consumer", "viewer")
PASSWORD = "invented"
CRM, IDLE, BULK = "crm", "idle", "bulk"
"""The attacking reader's durables: as `followers setup` makes it, one that is always empty, one with pages on hand."""
DURABLES = (CRM, IDLE, BULK)
BI = "bi"
"""Another reader team's durable."""
API, MAPPED = "$JS.API.", f"$JS.{ACCOUNT}.API."
"""JetStream's API, and what it is called in an account that imports it."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """How a user comes in, and what it is granted."""

    name: str
    account: str
    inbox: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Users:
    """A server's users: the roles, `victim-…` for others of the same roles, and a `spy-…` an account without limits."""

    layout: Layout
    config: str
    logins: Mapping[str, Login] = field(default_factory=dict)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(login.account for login in self.logins.values()))

    @property
    def main(self) -> str:
        """The spy in the account with the streams."""
        return f"spy-{ACCOUNT}"


def users_of(layout: Layout) -> Users:
    """Return the users of one of the two layouts, as the product writes them, and the spies."""
    users = [
        *(User(role=role, login=_login(role)) for role in ("worker", "admin", "publisher", "viewer")),
        User(role="setup", login=_login("setup"), durables=(*DURABLES, BI)),
        User(role="consumer", login=_login("consumer"), durables=DURABLES),
        User(role="publisher", login=_login("victim-publisher"), inbox=_inbox("victim-publisher")),
        User(role="consumer", login=_login("victim-consumer"), inbox=_inbox("victim-consumer"), durables=(BI,)),
    ]
    block = json.loads(accounts_block(users, layout=layout).removeprefix("accounts: "))
    for account, content in block.items():
        content["users"].append(_login(f"spy-{account}"))
    logins = {}
    for account, content in block.items():
        for user in content["users"]:
            name, allowed = user["user"], user.get("permissions", {})
            lists = {act: tuple(allowed.get(act, {}).get("allow", ())) for act in ("publish", "subscribe")}
            logins[name] = Login(name=name, account=account, inbox=_inbox(name), **lists)
    return Users(layout=layout, config=f"accounts: {json.dumps(block)}\n", logins=logins)


def _login(name: str) -> dict[str, str]:
    return {"user": name, "password": PASSWORD}


def _inbox(name: str) -> str:
    return "_INBOX" if name == "admin" else f"_INBOX_{name}"
