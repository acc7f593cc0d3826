"""Under which ids events are stored: they follow from the cause, so that what is published twice is one."""

from tests.fakes import FakeClient
from tests.replica import EVENTS, PAGES, Replica, command
from worker.core.errors import UnauthorizedError


def ids(replica: Replica, subject: str) -> list[str]:
    return [entry.headers["Nats-Msg-Id"] for entry in replica.log.on(subject)]


async def test_ids_say_the_job_the_page_its_part_and_the_attempt() -> None:
    replica = Replica(FakeClient(12))

    await replica.handle(command())

    assert ids(replica, PAGES) == [f"etelecom.1.j1:{page}.1" for page in (1, 2, 3)]
    assert ids(replica, EVENTS) == ["etelecom.1.j1:started.1", "etelecom.1.j1:end"]
    assert [entry.headers["ce-id"] for entry in replica.log.on(PAGES)] == ["j1:1.1", "j1:2.1", "j1:3.1"]


async def test_a_generation_after_a_failure_has_an_end_of_its_own() -> None:
    replica = Replica(FakeClient(12))
    replica.client.fail_next(UnauthorizedError("the key is wrong"))
    await replica.handle(command(sequence=3))

    headers = {"Followers-Retry": "3", "Followers-Generation": "1", "Nats-Msg-Id": "retry.3.1"}
    await replica.handle(command(sequence=4, headers=headers))

    assert [one for one in ids(replica, EVENTS) if ":end" in one] == ["etelecom.1.j1:end", "etelecom.1.j1:end.2"]
