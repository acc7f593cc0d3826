"""How many commands are in the queue: what KEDA scales on, and what an operator wants to see."""

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.subjects import COMMANDS_STREAM, consumer_name
from schemas.types import Provider


async def queued(client: Client, provider: Provider, *, timeout: float) -> tuple[int, int] | None:
    """Return how many of `provider`'s commands no worker has taken, and how many some worker has in hand.

    None when the server doesn't say within `timeout` seconds.
    """
    try:
        info = await client.jetstream(timeout=timeout).consumer_info(COMMANDS_STREAM, consumer_name(provider))
    except (nats.errors.Error, OSError):
        return None
    return info.num_pending or 0, info.num_ack_pending or 0
