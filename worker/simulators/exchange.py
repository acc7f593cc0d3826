"""One request and its answer, as a simulator thinks of them before a byte is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Call:
    """A request to the provider."""

    number: int
    """1, 2, 3… over the simulator's life."""
    method: str
    path: str
    content_type: str
    authorization: str
    raw: bytes
    cookie: bool = False
    """Whether the client sent a cookie."""
    endpoint: str = ""
    """The last name in the path, such as `ListFollowers`."""
    body: object = None
    """The decoded body; None when it is not JSON."""
    oa_id: str = ""
    auth: str = "unchecked"
    """What the check of the credentials found: `ok`, `missing`, `malformed`, `unknown`, `wrong_type`."""


@dataclass(kw_only=True)
class Answer:
    """A response of the provider."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    """The provider's own code, where there is one."""
    rows: int = 0
    """Followers in the body."""
