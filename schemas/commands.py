"""The command `FetchFollowers`: a tagged union on `provider`, published on `followers.fetch.<provider>`."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from schemas.types import (
    DayText,
    FollowState,
    Gender,
    InstantText,
    Labels,
    NumericId,
    Ordinal,
    Provider,
    Text,
    Timestamp,
    Token,
)

__all__ = [
    "MAX_COMMAND_BYTES",
    "EsmsFilter",
    "EtelecomFilter",
    "FetchEsmsFollowers",
    "FetchEtelecomFollowers",
    "FetchFollowers",
    "Provider",
    "too_large",
]

MAX_COMMAND_BYTES = 65_536
"""Of an encoded command: with all that its single fields may have, labels and filter together stay below that."""
_TELLING = 2
"""Fields that are named by their size in a command that is too large."""


class EtelecomFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which rows eTelecom lists; every field reaches the provider unchanged. All given fields must hold."""

    assigned_user_id: Annotated[NumericId, Meta(description="The member of staff in charge.")] | None = None
    date_from: InstantText | None = None
    date_to: InstantText | None = None
    gender: Annotated[Gender, Meta(description="Only this gender.")] | None = None
    has_conversation: Annotated[bool, Meta(description="Only people with, or without, a chat.")] | None = None
    name: Annotated[Text, Meta(description="Matched by the provider.")] | None = None
    phone: Annotated[str, Meta(min_length=1, max_length=32, description="Matched by the provider.")] | None = None
    state: Annotated[FollowState, Meta(description="Only people who follow, or who have left.")] | None = None
    tags: (
        Annotated[
            list[Text],
            Meta(min_length=1, max_length=100, description="Matched by the provider.", examples=[["VIP"]]),
        ]
        | None
    ) = None
    zl_user_id: Annotated[NumericId, Meta(description="Only this Zalo user.")] | None = None
    zl_user_ids: (
        Annotated[list[NumericId], Meta(min_length=1, max_length=1000, description="Only these Zalo users.")] | None
    ) = None


class EsmsFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which rows eSMS lists; any of these needs its `QueryListUID` endpoint."""

    date_from: DayText | None = None
    date_to: DayText | None = None
    state: Annotated[FollowState, Meta(description="Only people who follow, or who have left.")] | None = None
    tag: Annotated[Text, Meta(description="Only people with this tag.")] | None = None


class _Fetch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    oa_id: Annotated[Token, Meta(description="The Zalo Official Account.", examples=["579745863508352884"])]
    id: Annotated[Token, Meta(description="Job id and idempotency key; else the Nats-Msg-Id header.")] | None = None
    account: (
        Annotated[
            Token,
            Meta(description="Configured credentials; optional when the provider has exactly one account."),
        ]
        | None
    ) = None
    max_pages: Annotated[Ordinal, Meta(description="Hard ceiling, in provider pages.")] | None = None
    max_followers: Annotated[Ordinal, Meta(description="Hard ceiling, in followers published.")] | None = None
    not_after: (
        Annotated[
            Timestamp,
            Meta(description="Deadline: past it the job fails with `deadline_exceeded`, also while it waits."),
        ]
        | None
    ) = None
    labels: Labels = {}


class FetchEtelecomFollowers(_Fetch, frozen=True, kw_only=True, tag_field="provider", tag="etelecom"):
    """Fetch the followers of one OA through eTelecom `Zalo/ListFollowers`."""

    filter: Annotated[EtelecomFilter | None, Meta(description="Which followers; left out, all of them.")] = None
    sort: (
        Annotated[
            str,
            Meta(
                pattern=r"^-?[a-z][a-z_]{0,63}$(?!\n)",
                description="One field, `-` before it for descending; eTelecom's default is newest first.",
                examples=["-created_at"],
            ),
        ]
        | None
    ) = None
    page_size: Annotated[int, Meta(ge=1, le=100, description="Rows asked for at once.")] = 100

    @property
    def provider(self) -> Provider:
        """`"etelecom"`."""
        return "etelecom"


class FetchEsmsFollowers(_Fetch, frozen=True, kw_only=True, tag_field="provider", tag="esms"):
    """Fetch the followers of one OA through eSMS `ZNS/GetFollowers` or its successor `QueryListUID`."""

    filter: Annotated[EsmsFilter | None, Meta(description="Which followers; left out, all of them.")] = None
    page_size: Annotated[int, Meta(ge=1, le=50, description="Rows asked for at once.")] = 50

    @property
    def provider(self) -> Provider:
        """`"esms"`."""
        return "esms"


FetchFollowers = FetchEtelecomFollowers | FetchEsmsFollowers


def too_large(size: int, fields: Mapping[str, Any]) -> str | None:
    """Return why a command of `size` encoded bytes is refused, with its largest fields; None: it isn't too large."""
    if size <= MAX_COMMAND_BYTES:
        return None
    sizes = sorted(((len(msgspec.json.encode(value)), name) for name, value in fields.items()), reverse=True)
    shares = ", ".join(f"`{name}` {bytes_:,}" for bytes_, name in sizes[:_TELLING])
    of_which = f" ({shares})" if shares else ""
    return (
        f"the command has {size} bytes{of_which}, more than the {MAX_COMMAND_BYTES} allowed for labels, filter and all"
        " else together: fetch with fewer `zl_user_ids`, tags or labels, or in several commands"
    )
