"""Pauses between tries at NATS."""

import asyncio


class Pause:
    """A growing pause between tries at the log: 50 ms, doubling up to 2 s."""

    def __init__(self) -> None:
        """Start at 50 ms."""
        self._next = 0.05

    async def __call__(self) -> None:
        """Sleep, longer each time."""
        await asyncio.sleep(self._next)
        self._next = min(self._next * 2, 2.0)
