"""The generated accounts of nats-server: who lets whom do what, and that a party has nothing beside."""

import json
from typing import Any

import pytest

from worker.jetstream.topology.accounts import REPLIES, local_subject
from worker.jetstream.topology.diff import covers
from worker.jetstream.topology.permissions import USER_INFO, Layout, Role, User, accounts_block, permissions

ROLES: tuple[Role, ...] = ("worker", "publisher", "consumer", "viewer", "setup", "admin")
TEAMS = (("crm",), ("bi",), ("bi", "crm"))
NEVER = [
    "$JS.API.CONSUMER.CREATE.FOLLOWERS_EVENTS.x",
    "$JS.API.CONSUMER.DURABLE.CREATE.FOLLOWERS_EVENTS.x",
    "$JS.API.CONSUMER.DELETE.FOLLOWERS_EVENTS.crm",
    "$JS.API.STREAM.CREATE.FOLLOWERS_EVENTS",
    "$JS.API.STREAM.DELETE.FOLLOWERS_EVENTS",
    "$JS.API.STREAM.PURGE.FOLLOWERS_EVENTS",
    "$JS.API.STREAM.UPDATE.FOLLOWERS_EVENTS",
    "$JS.API.STREAM.MSG.DELETE.FOLLOWERS_COMMANDS",
    "followers.page.esms.oa.job",
    "followers.job.esms.oa.job",
    "followers.id.job",
    "$KV.FOLLOWERS_JOBS.job",
]


def users() -> list[User]:
    made = [User(role=role, login={"user": role}) for role in ROLES if role != "consumer"]
    return made + [User(role="consumer", login={"user": "+".join(team)}, durables=team) for team in TEAMS]


def accounts(layout: Layout = "accounts", listed: list[User] | None = None) -> dict[str, Any]:
    text = accounts_block(listed or users(), layout=layout)
    made: dict[str, Any] = json.loads(text.removeprefix("accounts: "))
    return made


def parties() -> list[str]:
    return [name for name in accounts() if name != "FOLLOWERS"]


def names(entries: list[dict[str, Any]], kind: str) -> list[str]:
    return [entry[kind] for entry in entries if kind in entry]


def test_each_party_and_each_team_of_readers_has_an_account() -> None:
    made = accounts()

    assert list(made) == [
        "FOLLOWERS", "FOLLOWERS_PUBLISHERS", "FOLLOWERS_VIEWERS", "FOLLOWERS_READERS_crm", "FOLLOWERS_READERS_bi",
        "FOLLOWERS_READERS_bi+crm",
    ]  # fmt: skip
    assert [user["user"] for user in made["FOLLOWERS"]["users"]] == ["worker", "setup", "admin"]
    assert [name for name, account in made.items() if "jetstream" in account] == ["FOLLOWERS"]


def test_a_reader_without_a_durable_is_apart_too() -> None:
    assert list(accounts(listed=[User(role="consumer", login={})])) == ["FOLLOWERS", "FOLLOWERS_READERS"]


def test_two_users_of_a_team_share_its_account() -> None:
    team = [User(role="consumer", login={"user": name}, durables=("crm",)) for name in ("a", "b")]

    made = accounts(listed=team)["FOLLOWERS_READERS_crm"]

    assert [user["user"] for user in made["users"]] == ["a", "b"]
    assert len(made["imports"]) == len({json.dumps(one) for one in made["imports"]})


@pytest.mark.parametrize("party", parties())
def test_a_party_imports_what_its_users_may_ask_and_nothing_else(party: str) -> None:
    account = accounts()[party]
    allowed = {line for user in account["users"] for line in user["permissions"]["publish"]["allow"]}
    heard = {line for user in account["users"] for line in user["permissions"]["subscribe"]["allow"]}
    services = {one.get("to", one["service"]["subject"]) for one in account["imports"] if "service" in one}
    streams = {one["stream"]["subject"] for one in account["imports"] if "stream" in one}

    assert services == allowed - {USER_INFO}
    assert streams == {line for line in heard if not line.startswith("_INBOX_")}
    assert {one["service"]["account"] for one in account["imports"] if "service" in one} == {"FOLLOWERS"}


@pytest.mark.parametrize("party", parties())
def test_what_jetstream_is_asked_has_another_name_there_and_is_mapped(party: str) -> None:
    account = accounts()[party]
    asked = [one["service"]["subject"] for one in account["imports"] if "service" in one]

    assert account.get("mappings", {}) == {
        subject: local_subject(subject) for subject in asked if subject.startswith("$JS.API.")
    }
    assert not [one for one in account["imports"] if one.get("to", "").startswith("$JS.API.")]


def test_each_export_is_private_to_those_who_import_it() -> None:
    made = accounts()
    importers: dict[tuple[str, str], list[str]] = {}
    for party in parties():
        for one in made[party]["imports"]:
            ((kind, what),) = [(kind, what) for kind, what in one.items() if kind in ("service", "stream")]
            importers.setdefault((kind, what["subject"]), []).append(party)

    exported = {
        (kind, one[kind]): one["accounts"]
        for one in made["FOLLOWERS"]["exports"]
        for kind in ("service", "stream")
        if kind in one
    }
    assert exported == importers


@pytest.mark.parametrize("subject", NEVER)
def test_what_would_do_harm_is_exported_to_nobody(subject: str) -> None:
    exports = accounts()["FOLLOWERS"]["exports"]

    assert [name for name in names(exports, "service") if covers(name, subject)] == []


def test_requests_with_many_answers_say_so() -> None:
    exports = accounts()["FOLLOWERS"]["exports"]

    many = {one["service"] for one in exports if one.get("response_type") == "stream"}

    assert many == {
        name
        for name in names(exports, "service")
        if name.startswith(("$JS.API.DIRECT.GET.", "$JS.API.CONSUMER.MSG.NEXT.", "$JS.ACK."))
    }
    assert many


def test_a_worker_may_answer_other_accounts_and_people_but_no_inbox_of_a_role() -> None:
    def answered(layout: Layout) -> list[str]:
        worker = accounts(layout)["FOLLOWERS"]["users"][0]["permissions"]["publish"]["allow"]
        return [line for line in worker if line.startswith(("_INBOX", "_R_"))]

    assert answered("accounts") == [REPLIES, "_INBOX.>"]
    assert answered("one") == [REPLIES, "_INBOX.>", "_INBOX_consumer.>", "_INBOX_publisher.>", "_INBOX_viewer.>"]


def test_one_account_for_all_is_still_made() -> None:
    made = accounts("one")

    assert list(made) == ["FOLLOWERS"]
    assert set(made["FOLLOWERS"]) == {"jetstream", "users"}
    assert [user["user"] for user in made["FOLLOWERS"]["users"]] == [user.login["user"] for user in users()]
    assert "$JS.FOLLOWERS" not in json.dumps(made)


def test_nobody_has_a_general_leave_to_answer() -> None:
    for layout in ("accounts", "one"):
        assert "allow_responses" not in accounts_block(users(), layout=layout)


def test_the_accounts_are_named_after_the_first() -> None:
    made = json.loads(accounts_block(users(), account="ZALO").removeprefix("accounts: "))

    assert list(made)[:2] == ["ZALO", "ZALO_PUBLISHERS"]
    assert {one["service"]["account"] for one in made["ZALO_PUBLISHERS"]["imports"]} == {"ZALO"}


def test_what_a_user_may_do_is_named_as_in_its_account() -> None:
    viewer = User(role="viewer", login={})
    here, there = permissions(viewer, layout="one"), permissions(viewer)

    assert here is not None
    assert there is not None
    assert there.publish == tuple(map(local_subject, here.publish))
    assert there.subscribe == here.subscribe
