"""What eSMS's simulator is told at its start."""

from typing import Literal

import msgspec

from worker.simulators.config import Config

API_KEY = "SIMULATEDAPIKEY0000000000000000"
SECRET_KEY = "SIMULATEDSECRET000000000000"


class EsmsConfig(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    per_day: dict[str, list[int]] = msgspec.field(default_factory=dict)
    """How many of an Official Account's people came on each day from 2023-03-01 on, unfollowed ones included."""
    unknown_oa_code: Literal["799", "204"] = "799"
    code_key: Literal["CodeResult", "CodeResponse"] = "CodeResult"
    user_key: Literal["User_Id", "User_id", "ZaloUid"] = "User_Id"
    code_as_number: bool = False
    total_as_text: bool = False
    total_drift: int = 0
    """`Total` wanders up to this far around the truth, from request to request."""
