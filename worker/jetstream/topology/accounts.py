"""The accounts of a nats-server, as its configuration has them.

Within one account the server sends JetStream's answers to any reply subject, with its own rights, whoever asked: what
a user may publish is no bound there. Between accounts it is: a request that crosses over gets a reply subject of the
server's own (`_R_.…`), which the asker can't choose. So there is one account for each party, and each has just the
imports that its users need.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.subjects import CANCEL_SUBJECTS, RELEASE_SUBJECTS, STATUS_SUBJECTS

REPLIES = "_R_.>"
"""Where a request from another account is answered: the server makes these subjects."""
TOLD_WHO = (CANCEL_SUBJECTS, STATUS_SUBJECTS, RELEASE_SUBJECTS)
"""Requests with which the server says whose connection asks: each gets its turn, however much another one asks."""
_API = "$JS.API."
_LOCAL_API = "$JS.FOLLOWERS.API."
_MANY_ANSWERS = ("$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.DIRECT.GET.", "$JS.ACK.")
"""Requests that are answered more than once, or long after they were made."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A user, and where it belongs."""

    account: str
    user: Mapping[str, Any]
    """As nats-server writes it: how it logs in, and its permissions."""
    services: Sequence[str] = ()
    """Outside of the first account: what it may ask there."""
    streams: Sequence[str] = ()
    """Outside of the first account: what it may hear there."""


def local_subject(subject: str) -> str:
    """Return what a party calls a service of the first account.

    Each account answers `$JS.API.>` itself, were it only to say that JetStream is off: imported under that name, a
    request would have two answers. Clients still ask `$JS.API.…`, which the party's account maps.
    """
    return f"{_LOCAL_API}{subject.removeprefix(_API)}" if subject.startswith(_API) else subject


def limited(login: Mapping[str, str], publish: Sequence[str], subscribe: Sequence[str]) -> dict[str, Any]:
    """Return a user who may do just that, as nats-server writes it."""
    allowed = {"publish": {"allow": list(publish)}, "subscribe": {"allow": list(subscribe)}}
    return {**login, "permissions": allowed}


def render_accounts(account: str, members: Sequence[Member]) -> str:
    """Return the block: `account` with JetStream, and the others with what their members use of it."""
    guests = [member for member in members if member.account != account]
    home: dict[str, Any] = {
        "jetstream": "enabled",
        "users": [member.user for member in members if member.account == account],
    }
    if guests:
        home["exports"] = _exports(guests)
    parties = dict.fromkeys(member.account for member in guests)
    accounts = {account: home} | {
        name: _party(account, [member for member in guests if member.account == name]) for name in parties
    }
    return f"accounts: {json.dumps(accounts, indent=2)}\n"


def _exports(guests: Sequence[Member]) -> list[dict[str, Any]]:
    """Each to those who import it, and to nobody else."""
    exports: dict[tuple[str, str], dict[str, Any]] = {}
    for guest in guests:
        for kind, subjects in (("service", guest.services), ("stream", guest.streams)):
            for subject in subjects:
                export = exports.setdefault((kind, subject), {kind: subject, "accounts": []})
                if guest.account not in export["accounts"]:
                    export["accounts"].append(guest.account)
                if kind == "service" and subject.startswith(_MANY_ANSWERS):
                    export["response_type"] = "stream"
    return list(exports.values())


def _party(account: str, members: Sequence[Member]) -> dict[str, Any]:
    imports: list[dict[str, Any]] = []
    mappings: dict[str, str] = {}
    for subject in dict.fromkeys(line for member in members for line in member.services):
        imported: dict[str, Any] = {"service": {"account": account, "subject": subject}}
        if (local := local_subject(subject)) != subject:
            imported["to"] = mappings[subject] = local
        elif subject in TOLD_WHO:
            imported["share"] = True
        imports.append(imported)
    heard = dict.fromkeys(line for member in members for line in member.streams)
    imports += [{"stream": {"account": account, "subject": subject}} for subject in heard]
    party: dict[str, Any] = {"users": [member.user for member in members], "imports": imports}
    return party | ({"mappings": mappings} if mappings else {})
