"""Configured provider accounts, as the adapters see them."""

from dataclasses import dataclass
from typing import Literal, Protocol

EsmsEndpoint = Literal["auto", "GetFollowers", "QueryListUID"]


class Secret(Protocol):
    """A credential that never prints itself; ``str()`` and ``repr()`` are masked."""

    def reveal(self) -> str:
        """Return the current value. Raises nothing: it was readable at start."""
        ...

    def reload(self) -> bool:
        """Read the file again, if the secret is one; True when the value has changed."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EtelecomAccount:
    """A Shop or a Partner key: which of the two is decided by ``base_url``."""

    name: str
    base_url: str
    api_key: Secret
    rate_limit: float
    """Requests a second, shared by all replicas; 0 means no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EsmsAccount:
    """An eSMS key pair."""

    name: str
    base_url: str
    api_key: Secret
    secret_key: Secret
    endpoint: EsmsEndpoint
    rate_limit: float
    """Requests a second, shared by all replicas; 0 means no limit."""


Account = EtelecomAccount | EsmsAccount
