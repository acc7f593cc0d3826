"""Consumers that somebody has paused (nats-server 2.11 and newer): nothing but their own info tells."""

from datetime import datetime

import nats.errors
from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from schemas.subjects import COMMANDS_STREAM, PROVIDERS, consumer_name
from schemas.types import Provider


def paused_until(info: ConsumerInfo) -> datetime | None:
    """Return until when the consumer is paused, None when it isn't."""
    until = info.config.pause_until if info.paused else None
    return datetime.fromisoformat(until) if until else None


async def look_for_paused(client: Client, *, timeout: float) -> dict[Provider, datetime]:
    """Return which providers' commands aren't delivered, and until when; none where the server doesn't say."""
    found, js = {}, client.jetstream(timeout=timeout)
    for provider in PROVIDERS:
        try:
            until = paused_until(await js.consumer_info(COMMANDS_STREAM, consumer_name(provider)))
        except (nats.errors.Error, OSError):
            continue
        if until is not None:
            found[provider] = until
    return found
