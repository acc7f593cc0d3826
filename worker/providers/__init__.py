"""Provider adapters: HTTP in, normalised pages out. A new one is a file here and a line in `_CLIENTS`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from schemas.types import Provider
from worker.core.account import Account, EsmsAccount, EtelecomAccount
from worker.core.ports.provider import ProviderClient
from worker.providers.esms import client as esms
from worker.providers.etelecom import client as etelecom
from worker.providers.http.client import HttpClient

__all__ = ["DEFAULT_BASE_URLS", "open_client"]

DEFAULT_BASE_URLS: dict[Provider, str] = {
    "etelecom": etelecom.DEFAULT_BASE_URL,
    "esms": esms.DEFAULT_BASE_URL,
}

_CLIENTS: dict[type, Callable[[Any, HttpClient, Callable[[], datetime]], ProviderClient]] = {
    EtelecomAccount: lambda account, http, now: etelecom.EtelecomClient(account, http),
    EsmsAccount: esms.EsmsClient,
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def open_client(
    account: Account,
    *,
    request_timeout: float,
    max_response_bytes: int,
    max_connections: int = 128,
    now: Callable[[], datetime] = _utc_now,
) -> ProviderClient:
    """Return the client for `account`; nothing connects before its first fetch.

    `request_timeout`: seconds for a whole request. `max_response_bytes`: bound on an answer's body, as sent
    and decompressed. `max_connections`: sockets at most. `now`: the time, aware.
    """
    http = HttpClient(
        request_timeout=request_timeout,
        max_response_bytes=max_response_bytes,
        max_connections=max_connections,
        now=now,
    )
    return _CLIENTS[type(account)](account, http, now)
