"""Pulling that never spins: what FastStream's loop does again at once, waits a moment first. And in greater numbers."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from nats.aio.client import Client

Messages = TypeVar("Messages")

_SHORTEST = 1.0
"""Seconds that a pull without a message takes at least."""
SHORT = 0.1
"""Seconds that a pull for many stays open: what came first must not wait for the last."""


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
