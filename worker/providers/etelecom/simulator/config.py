"""What eTelecom's simulator is told at its start."""

from typing import Literal

from worker.simulators.config import Config

SHOP_KEY = "1150000000000000001:" + "simulatedshopkey" * 4
"""A Shop's api_key, by shape only (PROVIDERS 1.1)."""
PARTNER_KEY = "shop1150000000000000001:" + "simulatedpartner" * 4
"""A partner's key for one shop, by shape only (PROVIDERS 1.1)."""


class EtelecomConfig(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """eTelecom: Shop and Partner `Zalo/ListFollowers`."""

    shop_keys: tuple[str, ...] = (SHOP_KEY,)
    """Accepted under `/v1/shop`; shape `<id>:<secret>`."""
    partner_keys: tuple[str, ...] = (PARTNER_KEY,)
    """Accepted under `/v1/partner`; shape `shop<id>:<secret>`."""
    notes_padding: int = 0
    """Bytes of one more note on every follower, for pages that exceed a message's size."""
    unfollowed_every: int = 19
    """Each k-th row has unfollowed; 0: none."""
    unknown_state_every: int = 101
    """Each k-th row has the state `unknown`; 0: none."""
    sorts: tuple[str, ...] = ("created_at", "updated_at")
    """Sort fields allowed. The real list is unknown (PROVIDERS 6)."""
    require_both_dates: bool = False
    """Refuse one date without the other, as the ancestor does for call logs (PROVIDERS 1.3)."""
    custom_codes: Literal["plain", "xcode"] = "plain"
    """How `bad_route`, `malformed` show: by name, or in `meta.xcode` of a standard code (PROVIDERS 1.2)."""
    cursor_nonce: bool = False
    """Put the request's number into each cursor, so that a mixed chain shows. Not the provider's format."""
