"""`Follower`: one follower of an OA, the same for every provider."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.types import FollowState, Gender, Timestamp


class SharedInfo(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the person chose to share with the OA."""

    name: Annotated[str, Meta(description="As shared.")] | None = None
    phone: Annotated[str, Meta(description="E.164 where it can be one, else as received.")] | None = None
    address: Annotated[str, Meta(description="Street and number.")] | None = None
    ward: Annotated[str, Meta(description="Ward, commune or township.")] | None = None
    district: Annotated[str, Meta(description="District or town.")] | None = None
    city: Annotated[str, Meta(description="City or province.")] | None = None


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
    shop_id: Annotated[str, Meta(description="The eTelecom shop that the row belongs to.")] | None = None
    display_name: Annotated[str, Meta(description="Unicode NFC.")] | None = None
    avatar: (
        Annotated[str, Meta(description="URL of the profile picture.", examples=["https://avatar.example/120.jpg"])]
        | None
    ) = None
    avatars: Annotated[dict[str, str], Meta(description="URL by size in pixels.")] = {}
    gender: Annotated[Gender, Meta(description="As the provider says it; `unknown` is its own word.")] | None = None
    state: (
        Annotated[FollowState, Meta(description="`unfollow`: the person has left; eTelecom lists those too.")] | None
    ) = None
    phone: Annotated[str, Meta(description="E.164, or null when it can't be one.")] | None = None
    phone_raw: Annotated[str, Meta(description="As received, when it differs from `phone`.")] | None = None
    shared_info: Annotated[SharedInfo | None, Meta(description="What the person shared with the OA.")] = None
    tags: Annotated[list[str], Meta(description="As the OA's staff set them.", examples=[["VIP"]])] = []
    notes: Annotated[list[str], Meta(description="As the OA's staff wrote them.")] = []
    assigned_user_id: (
        Annotated[str, Meta(description="The member of staff in charge; the provider's `0` becomes null.")] | None
    ) = None
    has_conversation: Annotated[bool, Meta(description="Whether there is a chat with the OA.")] | None = None
    created_at: (
        Annotated[Timestamp, Meta(description="The provider's own time; its zero time becomes null.")] | None
    ) = None
    updated_at: (
        Annotated[Timestamp, Meta(description="The provider's own time; its zero time becomes null.")] | None
    ) = None
