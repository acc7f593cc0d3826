"""Opening the change feed; on a server, or for a user, of the previous version it stays off."""

import structlog
from nats.aio.client import Client

from worker.core.changes.feeds import ChangeFeeds
from worker.core.services import World
from worker.jetstream.changes.feeds import JetStreamFeeds
from worker.jetstream.changes.snapshots import JetStreamSnapshots
from worker.jetstream.events.bulk_reader import BulkReader
from worker.jetstream.topology.doctor import lacking
from worker.jetstream.topology.permissions import CHANGES, CHANGES_HEARD
from worker.jetstream.topology.reconcile import missing_for_changes

_log = structlog.get_logger(__name__)


async def open_changes(
    client: Client, world: World, *, threshold: float, drifted: bool = False, timeout: float
) -> ChangeFeeds | None:
    """Return the change feed, None where the server has no place for it or this user may not; the log says why.

    Raises TopologyError when JetStream can't be asked.
    """
    # Rights first: asking for what isn't allowed would be a complaint of the server's about this worker.
    rights = await lacking(client, CHANGES, CHANGES_HEARD)
    if rights:
        advice = "grant it, and restart; or set changes.enabled = false"
        _log.warning("changes.off", reason=f"this user lacks: {'; '.join(rights)}", advice=advice)
        return None
    reason = await missing_for_changes(client)
    if reason is not None:
        _log.warning("changes.off", reason=reason, advice="then restart; or set changes.enabled = false")
        return None
    return ChangeFeeds(
        world,
        JetStreamFeeds(client, timeout=timeout),
        JetStreamSnapshots(client, timeout=timeout),
        BulkReader(client, timeout=timeout),
        threshold=threshold,
        drifted=drifted,
    )
