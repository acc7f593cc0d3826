"""The users of the NATS servers, written out for the chart: `python -m k8s.checks.accounts`."""

import re
import sys

from k8s.checks.shipped import ROOT
from worker.jetstream.topology.permissions import Layout, Role, User, accounts_block

FILE = "k8s/nats/accounts.conf"
ACCOUNT = "FOLLOWERS"
ROLES: tuple[Role, ...] = ("worker", "publisher", "consumer", "viewer", "setup", "admin")
READERS = {"crm": "CONSUMER_NKEY"}
"""The durable pull consumers that `setup` may make (`followers setup --consumer NAME`), each with the variable that
holds the public key of the team that reads it: a team has an account of its own."""
SCHEDULES = False
"""True where worker.toml has schedules: then the worker may publish commands."""
_HEAD = """\
# Who may do what on the NATS servers. By `python -m k8s.checks.accounts`,
# from worker/jetstream/topology/permissions.py.
# A login is a public nkey in a variable of the server's environment (values.yaml); there is no secret in here.
"""


def variable(role: Role) -> str:
    """Return the variable that holds a user's public key."""
    return f"{role.upper()}_NKEY"


def users() -> list[User]:
    """Return one user for each role, of consumers one for each team."""
    found = []
    for role in ROLES:
        if role == "consumer":
            found += [
                User(role=role, login={"nkey": f"${name}"}, durables=(durable,)) for durable, name in READERS.items()
            ]
            continue
        durables, schedules = tuple(READERS) if role == "setup" else (), SCHEDULES and role == "worker"
        found.append(User(role=role, login={"nkey": f"${variable(role)}"}, durables=durables, schedules=schedules))
    return found


def accounts_file(layout: Layout = "accounts") -> str:
    """Return the text of the file."""
    block = accounts_block(users(), account=ACCOUNT, layout=layout)
    # In quotes it would be a text that starts with a dollar.
    return _HEAD + re.sub(r'"(\$[A-Z_]+_NKEY)"', r"\1", block)


if __name__ == "__main__":
    if sys.argv[1:] == ["--one"]:
        # What was there before, with what moving to the accounts needs: to begin with, and to go back to.
        sys.stdout.write(accounts_file("one"))
    else:
        (ROOT / FILE).write_text(accounts_file(), "utf-8")
