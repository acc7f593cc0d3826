"""One replica over fakes, and commands for it."""

import asyncio
from typing import Any

import msgspec

from schemas import FollowerPage, JobEvent, decode
from schemas.subjects import job_subject, page_subject
from tests.fakes import (
    Clock,
    FakeCancellations,
    FakeClient,
    FakeDeadLetters,
    FakeDelivery,
    FakeLog,
    FakeMeter,
    FakeStatusBoard,
    make_world,
)
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.status.control import Control

PAGES = page_subject("etelecom", "1", "j1")
EVENTS = job_subject("etelecom", "1", "j1")


class Replica:
    """A handler over fakes, with what a test wants to look at."""

    def __init__(self, client: FakeClient | None = None, **world: Any) -> None:
        self.clock = Clock()
        self.client = client or FakeClient(12)
        self.log: FakeLog = world.setdefault("log", FakeLog(clock=self.clock))
        self.board: FakeStatusBoard = world.setdefault("status", FakeStatusBoard())
        self.letters: FakeDeadLetters = world.setdefault("dead_letters", FakeDeadLetters())
        self.meter: FakeMeter = world.setdefault("meter", FakeMeter())
        self.cancellations: FakeCancellations = world.setdefault("cancellations", FakeCancellations(self.clock))
        self.world = make_world(clock=self.clock, **world)
        self.draining = asyncio.Event()
        accounts = {"shop": OpenAccount("shop", "etelecom", self.client)}
        self.handler = CommandHandler(accounts, self.world, self.draining)
        self.control = Control(self.world)

    async def handle(self, delivery: FakeDelivery) -> FakeDelivery:
        await self.handler.handle(delivery)
        return delivery

    async def handle_exhausted(self, delivery: FakeDelivery) -> FakeDelivery:
        await self.handler.handle_exhausted(delivery)
        return delivery

    @property
    def pages(self) -> list[FollowerPage]:
        return [decode(entry.data, FollowerPage) for entry in self.log.on(PAGES)]

    @property
    def events(self) -> list[JobEvent]:
        return [decode(entry.data, JobEvent) for entry in self.log.on(EVENTS)]

    @property
    def ids(self) -> list[str]:
        return [follower.user_id for page in self.pages for follower in page.followers]


def command(**fields: Any) -> FakeDelivery:
    delivery = {
        name: fields.pop(name) for name in ("sequence", "headers", "deliveries", "timestamp_us") if name in fields
    }
    body = {"provider": "etelecom", "oa_id": "1", "id": "j1", "page_size": 5} | fields
    return FakeDelivery(data=msgspec.json.encode(body), **delivery)


def kinds(events: list[JobEvent]) -> list[str]:
    return [event.__struct_config__.tag for event in events]  # type: ignore[misc]
