"""Whose turn it is: jobs in rotation, the requests of one job in order, so that a big job doesn't starve others."""

import asyncio
from collections import deque


class Place:
    """A request in line."""

    __slots__ = ("claimed", "granted", "job", "start")

    def __init__(self, job: str) -> None:
        """Stand in line for `job`."""
        self.job = job
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it is this request's turn."""
        self.start = 0.0
        """The start that was granted, in seconds of the event loop's clock."""
        self.claimed = False


class Turns:
    """The line. Nothing here waits."""

    def __init__(self) -> None:
        """Begin empty."""
        self.waiting = 0
        """Requests in line."""
        self._jobs: dict[str, deque[Place]] = {}

    def join(self, job: str) -> Place:
        """Add a request of `job` at the end of its own requests."""
        place = Place(job)
        self._jobs.setdefault(job, deque()).append(place)
        self.waiting += 1
        return place

    def grant(self, start: float) -> None:
        """Give `start` to the next in line; its job is the last in the rotation then. There must be one."""
        job, places = next(iter(self._jobs.items()))
        del self._jobs[job]
        place = places.popleft()
        if places:
            self._jobs[job] = places
        self.waiting -= 1
        place.start = start
        place.granted.set_result(None)

    def back(self, place: Place) -> None:
        """Put a place whose grant lapsed at the very front."""
        place.granted = asyncio.get_running_loop().create_future()
        places = self._jobs.pop(place.job, deque())
        places.appendleft(place)
        self._jobs = {place.job: places, **self._jobs}
        self.waiting += 1

    def remove(self, place: Place) -> None:
        """Take out a request that nobody waits for any more."""
        places = self._jobs[place.job]
        places.remove(place)
        if not places:
            del self._jobs[place.job]
        self.waiting -= 1

    def ahead(self, place: Place) -> int:
        """Return about how many requests come before `place`."""
        places = self._jobs.get(place.job)
        if places is None or place not in places:
            return 0
        turn = next(number for number, job in enumerate(self._jobs) if job == place.job)
        return min(self.waiting - 1, turn + places.index(place) * len(self._jobs))
