"""The users of the NATS servers, written out for the chart: `python -m k8s.checks.accounts`."""

import re

from k8s.checks.shipped import ROOT
from worker.jetstream.permissions import Role, User, accounts_block

FILE = "k8s/nats/accounts.conf"
ACCOUNT = "FOLLOWERS"
ROLES: tuple[Role, ...] = ("worker", "publisher", "consumer", "setup", "admin")
READERS = ("crm",)
"""The durable pull consumers that `setup` may make (`followers setup --consumer NAME`) and `consumer` may read."""
SCHEDULES = False
"""True where worker.toml has schedules: then the worker may publish commands."""
_HEAD = """\
# Who may do what on the NATS servers. By `python -m k8s.checks.accounts`, from worker/jetstream/permissions.py.
# A login is a public nkey in a variable of the server's environment (values.yaml); there is no secret in here.
"""


def variable(role: Role) -> str:
    """Return the variable that holds a user's public key."""
    return f"{role.upper()}_NKEY"


def users() -> list[User]:
    """Return one user for each role."""
    return [
        User(
            role=role,
            login={"nkey": f"${variable(role)}"},
            durables=READERS if role in ("consumer", "setup") else (),
            schedules=SCHEDULES and role == "worker",
        )
        for role in ROLES
    ]


def accounts_file() -> str:
    """Return the text of the file."""
    block = accounts_block(users(), account=ACCOUNT)
    # In quotes it would be a text that starts with a dollar.
    return _HEAD + re.sub(r'"(\$[A-Z]+_NKEY)"', r"\1", block)


if __name__ == "__main__":
    (ROOT / FILE).write_text(accounts_file(), "utf-8")
