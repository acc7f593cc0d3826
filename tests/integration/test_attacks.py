"""No user of a role can harm what isn't its own, and each can do its work, where every party has an account.

What is attacked, and how an effect is seen: `attack_run.py`. Each group by itself, on older servers and three nodes:
`make attack`. NATS_SERVER_BIN names another nats-server for this.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from schemas.jobs import JobStatus
from schemas.subjects import status_subject
from schemas.wire import decode
from tests.integration import stage
from tests.integration.attack_calls import calls
from tests.integration.attack_layout import Login, users_of
from tests.integration.attack_run import attack
from tests.integration.attack_stage import FOLLOWERS, build
from tests.integration.attack_uses import DONE, USES, House, open_house

SUCCEED_IN_ONE_ACCOUNT = {
    "publisher: reply: etelecom command": "followers.page.",
    "publisher: reply: esms command refused by Nats-Expected-Stream": "followers.page.",
    "consumer: reply: CONSUMER.INFO.crm": "followers.page.",
    "consumer: reply: pull that expires": "stream FOLLOWERS_EVENTS is gone",
    "consumer: reply: pull without waiting": "stream FOLLOWERS_EVENTS is gone",
    "consumer: reply: ack +ACK": "stream FOLLOWERS_EVENTS is gone",
    "consumer: reply: direct get of KV_FOLLOWERS_JOBS by subject that misses": "stream FOLLOWERS_EVENTS is gone",
    "viewer: reply: direct get of FOLLOWERS_EVENTS in an empty batch": "stream FOLLOWERS_EVENTS is gone",
    "publisher: reply: status of a job": "heard on _INBOX",
}
"""Groups that did harm before there were accounts, and what they did."""


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    """The accounts, and a worker that has done two jobs."""
    async with (
        build(users_of("accounts")) as built,
        stage.providers(followers=FOLLOWERS) as providers,
        built.worker(providers.accounts),
    ):
        yield await open_house(built, providers)


@pytest.mark.timeout(400)
async def test_no_attack_on_the_accounts_does_anything() -> None:
    result = await attack("accounts", at_once=True)

    assert [f"{outcome.group}: {outcome.effects}" for outcome in result.successes] == []
    assert result.groups >= 60
    assert result.injections >= 500


@pytest.mark.timeout(400)
async def test_the_same_attacks_succeed_in_one_account() -> None:
    result = await attack("one", wanted=lambda group: str(group) in SUCCEED_IN_ONE_ACCOUNT)

    done = {str(outcome.group): outcome.effects for outcome in result.outcomes}
    assert done.keys() == SUCCEED_IN_ONE_ACCOUNT.keys()
    assert {name: effects for name, effects in done.items() if not _says(effects, SUCCEED_IN_ONE_ACCOUNT[name])} == {}


def _says(effects: tuple[str, ...], what: str) -> bool:
    return any(what in line for line in effects)


@pytest.mark.parametrize("name", USES)
async def test_each_role_does_its_work(house: House, name: str) -> None:
    await USES[name](house)


async def test_users_of_one_account_can_still_write_into_each_others_inboxes(house: House) -> None:
    """What stays open: a reply subject is the asker's choice within its account."""
    publisher, victim = await house.guest("publisher"), await house.guest("victim-publisher")
    inbox = f"{house.built.users.logins['victim-publisher'].inbox}.meant-for-another"
    subscription = await victim.client.subscribe(inbox)
    await victim.client.flush()

    await publisher.client.publish(status_subject(DONE), b"", reply=inbox)
    async with asyncio.timeout(10):
        told = await subscription.next_msg(10)

    assert decode(told.data, JobStatus).job_id == DONE


def test_a_grant_of_a_kind_without_attacks_is_told() -> None:
    login = Login(name="viewer", account="X", inbox="_INBOX_viewer", publish=("$JS.API.STREAM.NAMES",))

    with pytest.raises(ValueError, match="has no attacks"):
        calls(login)
