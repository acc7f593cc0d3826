"""What a user sees of who shares an account of the NATS server, by the server's answer about itself."""

import json
from typing import Any

import pytest

from tests.unit.test_accounts_file import users
from worker.jetstream.topology.permissions import Layout, Role, accounts_block, inbox_prefix
from worker.jetstream.topology.sharing import CURE, sharing


def answer(role: Role, layout: Layout, **changed: Any) -> dict[str, Any]:
    """What the server says of a role's user."""
    for account, listed in json.loads(accounts_block(users(), layout=layout).removeprefix("accounts: ")).items():
        for user in listed["users"]:
            if user["user"] == role:
                return {"data": {"user": role, "account": account, "permissions": user.get("permissions")} | changed}
    raise LookupError(role)


@pytest.mark.parametrize(
    ("role", "layout", "state", "text"),
    [
        ("worker", "one", "warn", "publishers, readers and workers share account FOLLOWERS"),
        ("worker", "accounts", "ok", "in account FOLLOWERS this user answers requests of other accounts"),
        ("viewer", "accounts", "ok", "account FOLLOWERS_VIEWERS is apart from that of the streams"),
        ("viewer", "one", "unknown", "this user's rights don't tell"),
        ("setup", "one", "unknown", "this user's rights don't tell"),
        ("setup", "accounts", "unknown", "this user's rights don't tell"),
        ("admin", "one", "unknown", "can't be seen by a user that may do everything in account FOLLOWERS"),
        ("admin", "accounts", "unknown", "can't be seen by a user that may do everything in account FOLLOWERS"),
    ],
)
def test_it_is_told_by_what_the_worker_may_answer(role: Role, layout: Layout, state: str, text: str) -> None:
    found = sharing(answer(role, layout), inbox_prefix(role))

    assert (found.check, found.state) == ("nats.accounts", state)
    assert found.detail.startswith(text)


def test_a_shared_account_is_told_with_what_one_could_do_there_and_the_cure() -> None:
    found = sharing(answer("worker", "one"), "_INBOX_worker")

    assert "a reader can delete streams" in found.detail
    assert "a publisher can write into pages" in found.detail
    assert found.advice == CURE


def test_the_rights_of_the_version_before_are_told_as_shared() -> None:
    said = answer("worker", "one")
    said["data"]["permissions"]["publish"]["allow"].remove("_R_.>")

    assert sharing(said, "_INBOX_worker").state == "warn"


@pytest.mark.parametrize("limits", [None, {"publish": {"allow": ["x"]}}])
def test_a_server_without_accounts_is_told(limits: dict[str, Any] | None) -> None:
    found = sharing({"data": {"user": "w", "account": "$G", "permissions": limits}}, "_INBOX")

    assert (found.state, found.advice) == ("warn", CURE)
    assert "this server has no accounts" in found.detail


@pytest.mark.parametrize("said", [None, {}, {"data": None}, {"error": {"code": 403}}])
def test_what_cannot_be_asked_is_unknown(said: dict[str, Any] | None) -> None:
    assert sharing(said, "_INBOX").state == "unknown"


@pytest.mark.parametrize(
    "limits", [{"publish": {"allow": [">"]}}, {"publish": {"deny": ["x"]}}, {"publish": None}, {"subscribe": {}}]
)
def test_rights_that_nobody_generated_are_unknown(limits: dict[str, Any]) -> None:
    assert sharing({"data": {"account": "OURS", "permissions": limits}}, "_INBOX").state == "unknown"


def test_an_inbox_of_no_known_role_may_be_the_peoples() -> None:
    said = answer("worker", "accounts")
    said["data"]["permissions"]["publish"]["allow"].append("_INBOX_ops.>")

    found = sharing(said, "_INBOX_worker")

    assert (found.state, found.detail) == ("unknown", "_INBOX_ops.> may be answered: whose that is can't be seen")
