"""What a simulator is told at its start."""

from typing import Literal

import msgspec

SHOP_KEY = "1150000000000000001:" + "simulatedshopkey" * 4
"""A Shop's api_key, by shape only (PROVIDERS 1.1)."""
PARTNER_KEY = "shop1150000000000000001:" + "simulatedpartner" * 4
"""A partner's key for one shop, by shape only (PROVIDERS 1.1)."""
API_KEY = "SIMULATEDAPIKEY0000000000000000"
SECRET_KEY = "SIMULATEDSECRET000000000000"
OA_ID = "2801000000000000001"
EMPTY_OA_ID = "2801000000000000002"


class _Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    followers: dict[str, int] = msgspec.field(default_factory=lambda: {OA_ID: 1234, EMPTY_OA_ID: 0})
    """How many followers each Official Account has at the start."""
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    latency: float | tuple[float, float] = 0.0
    """Seconds before each answer, or a range from which each request draws."""
    log_size: int = 10_000
    """How many requests the log remembers."""


class EtelecomConfig(_Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class EsmsConfig(_Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """eSMS: `ZNS/GetFollowers` and `QueryListUID`."""

    api_key: str = API_KEY
    secret_key: str = SECRET_KEY
    order: Literal["newest", "oldest"] = "newest"
    """Which followers come first. The real order is unknown (PROVIDERS 2.6)."""
    unfollowed_every: int = 0
    """Each k-th user interacted without following, so only QueryListUID lists them; 0: none."""
    get_followers_gone: bool = False
    """GetFollowers answers 404, as a withdrawn endpoint would (PROVIDERS 2.1)."""
    ceiling: int = 10_000
    """Users beyond this place in a list can't be reached (PROVIDERS 2.2)."""
    per_day: dict[str, list[int]] = {}
    """How many of an Official Account's people came on each day from 2023-03-01 on, unfollowed ones included."""
    unknown_oa_code: Literal["799", "204"] = "799"
    code_key: Literal["CodeResult", "CodeResponse"] = "CodeResult"
    user_key: Literal["User_Id", "User_id", "ZaloUid"] = "User_Id"
    code_as_number: bool = False
    total_as_text: bool = False
    total_drift: int = 0
    """`Total` wanders up to this far around the truth, from request to request."""
