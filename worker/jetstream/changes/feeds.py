"""Where each feed of changes stands: the bucket `FOLLOWERS_FEEDS` behind the port `Feeds`."""

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from schemas.changes import Feed
from schemas.subjects import FEEDS_BUCKET
from schemas.wire import decode, encode, why_unreadable
from worker.core.changes.ports import FeedsMissingError, FeedsUnavailableError
from worker.core.ports.event_log import LogUnavailableError, WrongSequenceError
from worker.jetstream.events.bulk_reader import BulkReader
from worker.jetstream.events.log import EXPECTED_SEQUENCE, NO_MESSAGE, WRONG_SEQUENCE_CODES

STREAM = f"KV_{FEEDS_BUCKET}"
NO_STREAM = 10059
_NEWEST = 2**63

_log = structlog.get_logger(__name__)


class JetStreamFeeds:
    """`Feeds` on a key-value bucket."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call counts as unavailable."""
        self._js = client.jetstream(timeout=timeout)
        self._bulk = BulkReader(client, timeout=timeout, stream=STREAM)

    async def get(self, key: str) -> tuple[Feed | None, int]:
        """Ask the stream's leader: a direct get may be answered by a replica that lags."""
        try:
            message = await self._js.get_msg(STREAM, subject=_subject(key))
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None, 0
            raise _mapped(error) from error
        except (nats.errors.Error, OSError) as error:
            raise _mapped(error) from error
        return _feed(key, message.data), message.seq or 0

    async def put(self, key: str, feed: Feed, revision: int) -> int:
        """Publish on condition that `revision` is still the key's."""
        try:
            ack = await self._js.publish(_subject(key), encode(feed), headers={EXPECTED_SEQUENCE: str(revision)})
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE_CODES:
                raise WrongSequenceError from error
            raise _mapped(error) from error
        except (nats.errors.Error, OSError) as error:
            raise _mapped(error) from error
        return ack.seq

    async def all(self) -> list[tuple[str, Feed]]:
        """Read the bucket; one message a key."""
        await self.get("any")  # says whether the bucket is there
        found: list[tuple[str, Feed]] = []
        try:
            async for entries in self._bulk.read(_subject(">"), _NEWEST):
                for entry in entries:
                    feed = _feed(entry.subject.removeprefix(_subject("")), entry.data)
                    if feed is not None:
                        found.append((entry.subject.removeprefix(_subject("")), feed))
        except LogUnavailableError as error:
            raise FeedsUnavailableError(str(error)) from error
        return found


def _mapped(error: Exception) -> Exception:
    if getattr(error, "err_code", None) == NO_STREAM:
        return FeedsMissingError(FEEDS_BUCKET)
    _log.warning("feeds.unavailable", error=type(error).__name__, err_code=getattr(error, "err_code", None))
    return FeedsUnavailableError(type(error).__name__)


def _feed(key: str, data: bytes | None) -> Feed | None:
    if not data:
        return None  # somebody deleted it
    try:
        return decode(data, Feed)
    except ValueError as error:
        _log.error(
            "feeds.undecodable", feed=key, error=why_unreadable(error), advice="the feed begins anew with a baseline"
        )
        return None


def _subject(key: str) -> str:
    return f"$KV.{FEEDS_BUCKET}.{key}"
