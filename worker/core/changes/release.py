"""Answers to requests to release a list that is held back, and publishing its changes after the answer."""

import asyncio
import random
from collections.abc import Collection

import structlog

from schemas.changes import Feed
from schemas.events import FetchError
from schemas.jobs import ControlError
from schemas.subjects import is_token
from schemas.types import ErrorCode
from worker.core.backoff import Pause
from worker.core.cancellation import DrainingError
from worker.core.changes.feeds import ChangeFeeds
from worker.core.changes.pointer import feed_key
from worker.core.changes.ports import FeedsAwayError, FeedsMissingError, FeedsUnavailableError
from worker.core.tasks import begin

RESUME_EVERY = 60.0
"""Seconds between two looks for what a worker that died has left: a set is mostly published in one of them."""
RELEASE_TRIES = 5
"""Times that a feed is looked at again when it changes under our hands."""

_log = structlog.get_logger(__name__)


class Releases:
    """Answers for all replicas; what it begins goes on in this one, and if that dies in the next one that is asked."""

    def __init__(self, changes: ChangeFeeds, draining: asyncio.Event) -> None:
        """Take the feeds, and the event that says that this replica is to stop."""
        self._changes = changes
        self._draining = draining
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def answer(self, job_id: str) -> Feed | ControlError:
        """Begin to publish the held changes of `job_id`; return its feed, whose `current` is the job once all are out.

        Safe to ask again: what was released before is told, and goes on where it stopped.
        """
        if not is_token(job_id):
            return _refusal(job_id[:64], "invalid_command", "this can't be a job's id: correct the subject")
        try:
            return await self._answer(job_id)
        except FeedsMissingError:
            message = "the buckets of the change feed are missing: run `followers setup`"
            return _refusal(job_id, "not_found", message)
        except (FeedsUnavailableError, FeedsAwayError, DrainingError):
            message = f"nothing is certain about job {job_id}, its feed doesn't answer: ask again"
            return _refusal(job_id, "internal", message, retryable=True)

    async def watch(self) -> None:
        """Go on with what was released and not finished: at once by a worker that died before, later by any other."""
        seen = await self.resume()
        while not self._draining.is_set():
            # Not all replicas at the same moment: what one goes on with is over before the next one looks.
            await asyncio.sleep(RESUME_EVERY * random.uniform(0.8, 1.2))
            seen = await self.resume(among=seen)

    async def resume(self, among: Collection[tuple[str, str]] | None = None) -> set[tuple[str, str]]:
        """Go on with what is released and not finished; of feeds and jobs, `among` those only. Return all there are."""
        pause = Pause()
        while True:
            try:
                feeds = await self._changes.feeds.all()
                break
            except FeedsMissingError as error:
                _log.warning("changes.not_resumed", missing=str(error), advice="run `followers setup`")
                return set()
            except FeedsUnavailableError as error:
                _log.warning("changes.not_resumed", error=type(error).__name__, advice="nothing to do: tried again")
            if self._draining.is_set():
                return set()
            await pause()
        claims = [(key, feed.next.job.job_id) for key, feed in feeds if feed.next is not None and feed.next.released]
        for claim in claims:
            if among is None or claim in among:
                self._begin(claim[0])
        return set(claims)

    async def settled(self) -> None:
        """Return once nothing of what was begun goes on."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def close(self) -> None:
        """Stop; what is unfinished goes on where somebody asks again, or with the feed's next list."""
        for task in self._tasks.values():
            task.cancel()

    async def _answer(self, job_id: str) -> Feed | ControlError:
        store = self._changes.store(self._check)
        for _ in range(RELEASE_TRIES):
            named = [key for key, feed in await self._changes.feeds.all() if job_id in _jobs(feed)]
            if not named:
                message = f"no list of job {job_id} is held back: see `followers changes list`"
                return _refusal(job_id, "not_found", message)
            feed, revision = await store.read(named[0])
            if feed is None:
                continue
            if feed.next is not None and feed.next.job.job_id != job_id:
                message = f"changes of job {feed.next.job.job_id} are being published in the same feed: ask again"
                return _refusal(job_id, "internal", message, retryable=True)
            if feed.next is not None:
                self._begin(named[0])
                return feed
            if feed.current is not None and feed.current.job_id == job_id:
                return feed
            if feed.held is not None and feed.held.job.job_id == job_id:
                claimed = await self._changes.release(store, feed, revision)
                if claimed is not None:
                    _log.info("changes.released", job_id=job_id, feed=feed_key(feed).rpartition(".")[2])
                    self._begin(named[0])
                    return claimed
        return _refusal(job_id, "internal", f"the feed of job {job_id} keeps changing: ask again", retryable=True)

    def _begin(self, key: str) -> None:
        if key in self._tasks:
            return
        task = self._tasks[key] = begin(self._finish(key), "changes.release")
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _finish(self, key: str) -> None:
        store = self._changes.store(self._check)
        try:
            while True:
                feed, revision = await store.read(key)
                if feed is None or feed.next is None:
                    return
                await self._changes.finish(store, feed, revision)
        except DrainingError:
            return
        except (FeedsMissingError, FeedsAwayError) as error:
            advice = "run `followers setup`, look whether NATS is full, and release it again"
            _log.error("changes.not_released", error=type(error).__name__, advice=advice)
        except Exception:
            _log.exception("changes.fault", feed=key.rpartition(".")[2])

    def _check(self) -> None:
        if self._draining.is_set():
            raise DrainingError


def _jobs(feed: Feed) -> set[str]:
    jobs = (feed.current, feed.next.job if feed.next else None, feed.held.job if feed.held else None)
    return {job.job_id for job in jobs if job is not None}


def _refusal(job_id: str, code: ErrorCode, message: str, *, retryable: bool = False) -> ControlError:
    return ControlError(job_id=job_id, error=FetchError(code=code, message=message, retryable=retryable))
