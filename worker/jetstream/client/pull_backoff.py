"""Pulling that never spins and loses nothing as it ends: what FastStream's loop does with commands, done with care."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

Messages = TypeVar("Messages")
SendBack = Callable[[Msg], Awaitable[bool]]

_SHORTEST = 1.0
"""Seconds that a pull without a message takes at least."""
SHORT = 0.1
"""Seconds that a pull for many stays open: what came first must not wait for the last."""
LOOK_AGAIN = 0.1
"""Seconds between two looks whether the server still has something for a request that it has not answered."""
_HANDED_ON = 50
"""Turns of the event loop within which a message that was fetched is in the hands of whom it was fetched for."""


def paced(
    fetch: Callable[..., Awaitable[Messages]],
    client: Client,
    *,
    shortest: float = _SHORTEST,
    at_once: Callable[[], int] = lambda: 1,
) -> Callable[..., Awaitable[Messages]]:
    """Return `fetch` of a pull subscription, so that failing takes time.

    A deleted consumer or stream answers each pull at once, and the loop above would ask again at once: a whole
    core for nothing. While the server is away nothing is asked: such requests would be kept and all answered
    after the reconnect, with more messages than there are slots. `at_once`: how many to ask for; FastStream is told the
    number but once.
    """

    async def fetch_paced(*arguments: Any, **options: Any) -> Messages:
        while not client.is_connected and not client.is_closed:  # noqa: ASYNC110 - nats-py tells by a callback only
            await asyncio.sleep(shortest / 10)
        if (many := at_once()) > 1:
            with contextlib.suppress(TimeoutError):
                return await fetch(**options | {"batch": many, "timeout": SHORT})
        began = time.monotonic()
        try:
            return await fetch(*arguments, **options)
        except Exception:
            await asyncio.sleep(max(0.0, began + shortest - time.monotonic()))
            raise

    return fetch_paced


class CommandPull:
    """A pull subscription as FastStream's loop uses it, which can be told to end."""

    def __init__(
        self,
        client: Client,
        subscription: Subscription,
        pull: JetStreamContext.PullSubscription,
        at_once: Callable[[], int],
        send_back: SendBack,
    ) -> None:
        """`at_once`: see `paced`. `send_back`: see `open`."""
        self._client, self._subscription, self._pull = client, subscription, pull
        self._fetch = paced(pull.fetch, client, at_once=at_once)
        self._send_back = send_back
        self._is_ended = False
        self._answered = asyncio.Event()
        """No request is on its way to the server, or waits there."""
        self._answered.set()
        self._letting_go: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        js: JetStreamContext,
        client: Client,
        at_once: Callable[[], int],
        send_back: SendBack,
        *,
        stream: str,
        durable: str,
    ) -> Self:
        """Subscribe to what the consumer `durable` delivers when it is asked to.

        `send_back`: sends a message back and returns True, or takes it. Of many that come together, those that go back
        are sent from here: on FastStream's way they would take three times as long.
        """
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        pull = JetStreamContext.PullSubscription(
            js=js, sub=subscription, stream=stream, consumer=durable, deliver=inbox.encode()
        )
        return cls(client, subscription, pull, at_once, send_back)

    async def fetch(self, batch: int = 1, timeout: float | None = 5) -> list[Msg]:
        """Ask the server for messages; once ended, return only what has come already, and then nothing ever."""
        while self._is_ended:
            if not self._subscription.pending_msgs:
                await asyncio.Event().wait()  # until FastStream's loop is cancelled
            message = await self._subscription.next_msg()
            if not JetStreamContext.is_status_msg(message):
                return [message]
        self._answered.clear()
        try:
            messages = await self._fetch(batch, timeout)
            if len(messages) > 1:
                messages = [message for message in messages if not await self._send_back(message)]
            return messages
        finally:
            self._answered.set()

    async def end(self, *, within: float) -> None:
        """Have the server deliver nothing more; return when all that it has delivered was fetched and handed on.

        A command that comes after the last fetch would lie with nobody until `ack_wait`. `within`: seconds that the
        server may take; what it delivers later comes back after `ack_wait`.
        """
        if self._is_ended or self._client.is_closed:
            return
        self._is_ended = True
        if not self._client.is_connected:
            return
        with contextlib.suppress(nats.errors.Error, OSError):
            async with asyncio.timeout(within):
                # Whom the server has chosen for a message that is on its way has to listen until it has come.
                while not self._answered.is_set() and (await self._pull.consumer_info()).num_pending:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._answered.wait(), LOOK_AGAIN)
        self._letting_go = asyncio.create_task(self._let_go())
        with contextlib.suppress(nats.errors.Error, OSError):
            async with asyncio.timeout(within):
                await asyncio.sleep(0)
                await self._client.flush(timeout=max(1, math.ceil(within)))
                quiet = 0
                while quiet < _HANDED_ON:
                    quiet = 0 if self._subscription.pending_msgs else quiet + 1
                    await asyncio.sleep(0)

    async def _let_go(self) -> None:
        # It unsubscribes first, and keeps what comes until the server has heard that.
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._subscription.drain()  # type: ignore[no-untyped-call]

    async def unsubscribe(self) -> None:
        """Let go of the subscription; messages that were not fetched are dropped."""
        # Else it would be ended with the connection, which waits for ever where nats-py has miscounted what came.
        with contextlib.suppress(nats.errors.BadSubscriptionError):
            await self._subscription.unsubscribe()
        if self._letting_go is not None:
            self._letting_go.cancel()
