"""Whether the event stream has room for whose job an id is; on a server, or for a user, of an older version not."""

import asyncio

import nats.errors
import structlog
from nats.aio.client import Client

from schemas.subjects import EVENTS_STREAM, ID_SUBJECTS
from worker.jetstream.topology.diff import covers
from worker.jetstream.topology.doctor import lacking

AGAIN_AFTER = 1.0
"""Seconds until the server is asked again when it didn't answer."""
_log = structlog.get_logger(__name__)


async def keeps_ids(client: Client) -> bool:
    """Say whether ids can be taken there by this user; asks until there is an answer. The log says why not."""
    # Rights first: publishing what isn't allowed would be a complaint of the server's about this worker.
    if rights := await lacking(client, (ID_SUBJECTS,)):
        _log.warning("ids.unguarded", reason=f"this user lacks: {rights[0]}", advice="grant it, and restart")
        return False
    while True:
        try:
            subjects = (await client.jetstream().stream_info(EVENTS_STREAM)).config.subjects or []
        except (nats.errors.Error, OSError) as error:
            _log.warning("ids.unanswered", error=type(error).__name__)
            await asyncio.sleep(AGAIN_AFTER)
            continue
        if any(covers(subject, ID_SUBJECTS) for subject in subjects):
            return True
        reason = f"stream {EVENTS_STREAM} has no subject {ID_SUBJECTS}"
        _log.warning("ids.unguarded", reason=reason, advice="run `followers setup`, and restart")
        return False
