"""Log lines that anybody can cause: one a minute, with how often it happened."""

import asyncio
from typing import Any

import structlog

TELL_EVERY = 60.0
"""Seconds between two lines."""

_log = structlog.get_logger(__name__)


class Seldom:
    """One warning that is told seldom. Belongs to one event loop."""

    def __init__(self, event: str, count: str) -> None:
        """`event`: its name. `count`: the field that says how often it happened since the last line."""
        self._event, self._count = event, count
        self._number, self._told = 0, -TELL_EVERY

    def tell(self, **fields: Any) -> None:
        """It happened: say so, or count it."""
        self._number += 1
        now = asyncio.get_running_loop().time()
        if now - self._told >= TELL_EVERY:
            _log.warning(self._event, **fields, **{self._count: self._number})
            self._number, self._told = 0, now
