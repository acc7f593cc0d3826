"""What nats-py only whispers to its callbacks: why we can't get in, and what the server refuses.

nats-py tries again for ever and FastStream says nothing, so a worker that may not read its commands would look
well. Here each kind of trouble becomes one log line and a reason for readiness.
"""

import re
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog
from nats.errors import AuthorizationError

from worker.jetstream.client.secure import CredentialsError, LoginCutError, PlaintextError

AGAIN_AFTER = 10.0
"""Seconds between two log lines about the same kind of trouble."""
DENIED_FOR = 60.0
"""Seconds for which a refused publish counts after the last one. A refused subscription counts until a reconnect."""

_DENIED = re.compile(r"permissions violation for (publish|subscription) to \"?([^\"\s]+)", re.IGNORECASE)
_REFUSED = re.compile(r"authoriz|authentic|revoked|expired", re.IGNORECASE)
_PRINTABLE = re.compile(r"[^ -~]")

_log = structlog.get_logger(__name__)


class Refusal(NamedTuple):
    """What the server does not let this user do."""

    act: str
    """`publish` or `subscription`."""
    subject: str

    @property
    def text(self) -> str:
        """What happened and what to do."""
        verb = "publish to" if self.act == "publish" else "subscribe to"
        return f"NATS does not let this user {verb} {self.subject}: grant it on the server"


def refusal(error: Exception) -> Refusal | None:
    """Return what the server refuses, where nats-py's `error_cb` was told of that; None for any other error.

    It is told behind everybody's back: whoever asked waits for an answer that doesn't come.
    """
    denied = _DENIED.search(str(error))
    return Refusal(denied[1].lower(), _PRINTABLE.sub("?", denied[2])[:200]) if denied else None


class Complaints:
    """The error and reconnect callbacks of one connection, and what they add up to."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock in seconds."""
        self._clock = clock
        self._said: dict[str, float] = {}
        self._outside: str | None = None
        self._outside_until = 0.0
        self._denied: str | None = None
        self._denied_until = 0.0

    @property
    def outside(self) -> str | None:
        """Why we are not let in, None when we are or the server is just away."""
        return self._outside if self._clock() < self._outside_until else None

    @property
    def denied(self) -> str | None:
        """What the server refused us lately, None when nothing."""
        return self._denied if self._clock() < self._denied_until else None

    async def on_error(self, error: Exception) -> None:
        """Take what nats-py hands to `error_cb`."""
        denied = refusal(error)
        if denied is None:
            reason = because(error)
            if reason is not None:
                # The broken socket's own error comes right behind the reason, and explains nothing.
                self._outside, self._outside_until = reason, self._clock() + AGAIN_AFTER
            self._say("nats.error", type(error).__name__, **({"reason": reason} if reason else {}))
            return
        self._denied = denied.text
        self._denied_until = self._clock() + DENIED_FOR if denied.act == "publish" else float("inf")
        self._say("nats.permission_denied", denied.act, level="error", act=denied.act, subject=denied.subject)

    async def on_reconnected(self) -> None:
        """Take nats-py's `reconnected_cb`: all subscriptions are made anew, and tell again what is refused."""
        self.connected()
        self._denied_until = min(self._denied_until, self._clock())
        _log.info("nats.reconnected")

    def connected(self) -> None:
        """Forget why we were outside."""
        self._outside_until = 0.0

    def _say(self, event: str, kind: str, *, level: str = "warning", **fields: str) -> None:
        now = self._clock()
        if now - self._said.get(f"{event} {kind}", -AGAIN_AFTER) < AGAIN_AFTER:
            return
        self._said[f"{event} {kind}"] = now
        getattr(_log, level)(event, error=kind, **fields)


def because(error: Exception) -> str | None:
    """Return why we are not let in and what to do, None for an ordinary outage.

    Quotes nothing that may hold a URL with a password.
    """
    if isinstance(error, CredentialsError):
        return str(error)
    if isinstance(error, LoginCutError):
        return (
            "NATS cuts the connection at the login, as it does when it refuses the credentials: check creds_file,"
            " nkey_seed_file, user, password, token or tls_cert in [nats], and the users of the server"
        )
    if isinstance(error, PlaintextError):
        return (
            "the NATS server offers no TLS, and nothing is sent without it: turn TLS on at the server,"
            " or leave out nats.tls_ca, nats.tls_cert and tls:// in nats.servers"
        )
    if isinstance(error, AuthorizationError) or _REFUSED.search(str(error)):
        return (
            "NATS refuses the credentials: check creds_file, nkey_seed_file, user, password or token in [nats],"
            " and the users of the server"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the NATS server's certificate is refused ({error.verify_message}): check nats.tls_ca,"
            " and that the certificate names the host of nats.servers"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS with NATS fails ({error.reason or type(error).__name__}): check nats.tls_ca, tls_cert and tls_key,"
            " and that the server asks for TLS"
        )
    return None
