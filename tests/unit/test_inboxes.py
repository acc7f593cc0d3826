"""Which reply subjects a worker answers."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.client import Client

from worker.jetstream.client import inboxes
from worker.jetstream.client.inboxes import Inboxes


class Server:
    """Tells a user its rights, and counts how often it is asked."""

    def __init__(self, *allowed: str) -> None:
        self.asked = 0
        self.allowed = list(allowed)

    async def request(self, subject: str, *_: Any, **__: Any) -> SimpleNamespace:
        self.asked += 1
        told = {"data": {"account": "FOLLOWERS", "permissions": {"publish": {"allow": self.allowed}}}}
        return SimpleNamespace(data=json.dumps(told))


def answering(server: Server) -> Inboxes:
    return Inboxes(cast(Client, server))


@pytest.mark.parametrize(
    ("reply", "answered"),
    [
        ("_R_.abc.def", True),
        ("_INBOX.abc", True),
        ("_INBOX_publisher.abc", False),
        ("_INBOX", False),
        ("_INBOX_publisher", False),
        ("_R_", False),
        ("_R_X.abc", False),
        ("_INBOXES.abc", False),
        ("followers.page.esms.oa.job", False),
        ("$JS.API.STREAM.DELETE.FOLLOWERS_EVENTS", False),
    ],
)
async def test_on_accounts_only_other_accounts_and_people_are_answered(reply: str, answered: bool) -> None:
    assert await answering(Server("_R_.>", "_INBOX.>")).may_answer(reply) is answered


async def test_where_all_share_an_account_a_role_is_answered_in_the_inbox_that_may_be_written_to() -> None:
    server = Server("_R_.>", "_INBOX.>", "_INBOX_publisher.>")
    found = answering(server)

    assert [await found.may_answer(f"_INBOX_{role}.x") for role in ("publisher", "worker", "publisher")] == [
        True, False, True,
    ]  # fmt: skip
    assert server.asked == 2


async def test_rights_that_change_are_seen_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server("_INBOX_publisher.>")
    found = answering(server)
    assert await found.may_answer("_INBOX_publisher.x")

    server.allowed = ["_R_.>"]
    assert await found.may_answer("_INBOX_publisher.x")
    monkeypatch.setattr(inboxes, "_KNOWN_FOR", 0.0)

    assert not await found.may_answer("_INBOX_publisher.x")


async def test_inboxes_that_nobody_has_take_no_memory() -> None:
    found = answering(Server("_R_.>"))

    for number in range(100):
        assert not await found.may_answer(f"_INBOX_{number}.x")

    assert len(found._known) <= 16
