"""Where a worker answers a request: whoever may ask could else have it write for them, with its own rights."""

import time

from nats.aio.client import Client

from worker.jetstream.topology.doctor import lacking

REQUEST_INFO = "Nats-Request-Info"
"""Who asks from another account, in JSON, by the server: what a client says under this name it replaces."""
FROM_ANOTHER_ACCOUNT = "_R_."
"""The server's own reply subjects, for requests that came from another account."""
_PLAIN = "_INBOX."
_NAMED = "_INBOX_"
_KNOWN_FOR = 30.0
"""Seconds: rights change when a server reads its configuration anew."""


class Inboxes:
    """The reply subjects that a connection's user answers."""

    def __init__(self, client: Client) -> None:
        """Take the connection that answers."""
        self._client = client
        self._known: dict[str, tuple[float, bool]] = {}

    async def may_answer(self, reply: str) -> bool:
        """Say whether an answer may go to `reply`.

        One to a role's inbox, such as `_INBOX_publisher.…`, only where all roles share an account and the server lets
        this user answer there: tried without the right, it would make the worker unready.
        """
        if reply.startswith((FROM_ANOTHER_ACCOUNT, _PLAIN)):
            return True
        prefix, dot, _ = reply.partition(".")
        return bool(dot) and prefix.startswith(_NAMED) and await self._may(f"{prefix}.>")

    async def _may(self, inbox: str) -> bool:
        at, known = self._known.get(inbox, (float("-inf"), False))
        if time.monotonic() - at < _KNOWN_FOR:
            return known
        may = not await lacking(self._client, (inbox,))
        if len(self._known) >= 16:
            self._known.clear()  # nobody has so many roles
        self._known[inbox] = time.monotonic(), may
        return may
