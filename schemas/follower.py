"""`Follower`: one follower of an OA, the same for every provider."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.types import FollowState, Gender, Timestamp


class SharedInfo(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the person chose to share with the OA."""

    name: str | None = None
    phone: Annotated[str, Meta(description="E.164 where it can be one, else as received.")] | None = None
    address: str | None = None
    ward: str | None = None
    district: str | None = None
    city: str | None = None


class Follower(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One follower. What a provider doesn't say is null (empty for lists and maps) and left out of the encoding.

    An allow-list: nothing that a provider sends outside these fields is passed on.
    """

    user_id: Annotated[
        str,
        Meta(
            description="The person's Zalo id, scoped to this OA (eTelecom `zl_user_id`, eSMS `User_Id`).",
            examples=["7800378501923859642"],
        ),
    ]
    user_id_by_app: Annotated[str, Meta(description="The Zalo id scoped to the provider's app.")] | None = None
    provider_id: Annotated[str, Meta(description="The provider's own id of this row.")] | None = None
    shop_id: str | None = None
    display_name: Annotated[str, Meta(description="Unicode NFC.")] | None = None
    avatar: str | None = None
    avatars: Annotated[dict[str, str], Meta(description="URL by size in pixels.")] = {}
    gender: Gender | None = None
    state: FollowState | None = None
    phone: Annotated[str, Meta(description="E.164, or null when it can't be one.")] | None = None
    phone_raw: Annotated[str, Meta(description="As received, when it differs from `phone`.")] | None = None
    shared_info: SharedInfo | None = None
    tags: list[str] = []
    notes: list[str] = []
    assigned_user_id: str | None = None
    has_conversation: bool | None = None
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None
