"""Events of one job, read as any consumer reads them: plain nats-py, nothing of ours."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

EVENTS = "FOLLOWERS_EVENTS"
TERMINAL = ("completed", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One message of the event stream, decoded by its `Content-Type` and by nothing else."""

    sequence: int
    subject: str
    headers: dict[str, str]
    data: bytes
    body: dict[str, Any]

    @property
    def is_page(self) -> bool:
        """Whether it came on a page subject."""
        return self.subject.startswith("followers.page.")

    @property
    def is_terminal(self) -> bool:
        """Whether it ends its job."""
        return not self.is_page and self.body.get("type") in TERMINAL


@dataclass
class Run:
    """What one job has published so far, in the order of the stream."""

    job_id: str
    events: list[Event] = field(default_factory=list)

    @property
    def pages(self) -> list[Event]:
        """The page events, each part on its own."""
        return [event for event in self.events if event.is_page]

    @property
    def job_events(self) -> list[Event]:
        """The job events, terminal ones included."""
        return [event for event in self.events if not event.is_page]

    @property
    def user_ids(self) -> list[str]:
        """The followers' ids, in the order in which they were published."""
        return [follower["user_id"] for page in self.pages for follower in page.body["followers"]]

    @property
    def followers(self) -> list[dict[str, Any]]:
        """The followers, in the order in which they were published."""
        return [follower for page in self.pages for follower in page.body["followers"]]

    @property
    def end(self) -> dict[str, Any]:
        """The body of the one terminal event."""
        (event,) = [event for event in self.events if event.is_terminal]
        return event.body

    def of_type(self, type: str) -> list[dict[str, Any]]:
        """The bodies of the job events of this type."""
        return [event.body for event in self.job_events if event.body["type"] == type]


class Reader:
    """Follows one job from its first event on; each wait ends as soon as the event is there."""

    def __init__(self, js: JetStreamContext, job_id: str) -> None:
        self.run = Run(job_id)
        self._js = js
        self._subscription: JetStreamContext.PushSubscription | None = None

    async def page(self, number: int, timeout: float = 30.0) -> Event:
        """Wait for the last part of page `number`."""
        return await self._until(
            lambda e: e.is_page and e.body["page"] >= number and e.body["part"] == e.body["parts"],
            f"page {number}",
            timeout,
        )

    async def part(self, number: int, part: int, timeout: float = 30.0) -> Event:
        """Wait for one part of page `number`."""
        return await self._until(
            lambda e: e.is_page and (e.body["page"], e.body["part"]) >= (number, part), f"part {number}.{part}", timeout
        )

    async def job_event(self, type: str, timeout: float = 30.0) -> Event:
        """Wait for a job event of this type."""
        return await self._until(lambda e: not e.is_page and e.body["type"] == type, f"a {type} event", timeout)

    async def to_end(self, timeout: float = 60.0) -> Run:
        """Wait for the terminal event, then take in whatever stands in the stream behind it."""
        await self._until(lambda e: e.is_terminal, "a terminal event", timeout)
        return await self.everything()

    async def everything(self) -> Run:
        """Take in all events of the job that are in the stream now."""
        info = await self._js.stream_info(EVENTS, subjects_filter=self._filter)
        count = sum((info.state.subjects or {}).values())
        while len(self.run.events) < count:
            await self._next(10.0)
        return self.run

    async def close(self) -> None:
        """Let go of the subscription."""
        if self._subscription is not None and not self._js._nc.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    @property
    def _filter(self) -> str:
        return f"followers.*.*.*.{self.run.job_id}"

    async def _until(self, wanted: Callable[[Event], bool], what: str, timeout: float) -> Event:
        for event in self.run.events:
            if wanted(event):
                return event
        try:
            async with asyncio.timeout(timeout):
                while True:
                    event = await self._next(timeout)
                    if wanted(event):
                        return event
        except (TimeoutError, nats.errors.TimeoutError):
            raise AssertionError(
                f"job {self.run.job_id}: {what} did not come within {timeout:g} s; it has {self._so_far()}"
            ) from None

    async def _next(self, timeout: float) -> Event:
        if self._subscription is None:
            self._subscription = await self._js.subscribe(self._filter, stream=EVENTS, ordered_consumer=True)
        event = event_of(await self._subscription.next_msg(timeout=timeout))
        self.run.events.append(event)
        return event

    def _so_far(self) -> str:
        return (
            ", ".join(
                f"page {e.body['page']}.{e.body['part']}" if e.is_page else json.dumps(e.body)[:300]
                for e in self.run.events
            )
            or "no event at all"
        )


def event_of(message: Msg) -> Event:
    """Decode one message of the event stream."""
    headers = dict(message.headers or {})
    body = decode(message.data, headers.get("Content-Type"))
    assert isinstance(body, dict), f"{message.subject} holds no object: {message.data[:100]!r}"
    return Event(
        sequence=message.metadata.sequence.stream,
        subject=message.subject,
        headers=headers,
        data=message.data,
        body=body,
    )


def decode(data: bytes, content_type: str | None) -> Any:
    """Return `data` as plain Python values, as a consumer without our schemas would."""
    if content_type == "application/json":
        return json.loads(data)
    assert content_type == "application/msgpack", f"unexpected Content-Type {content_type!r}"
    return msgspec.msgpack.decode(data)
