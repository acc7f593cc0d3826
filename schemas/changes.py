"""What has changed between two complete lists of a feed: who came, who went, whose profile is another.

A feed is one provider, account, Official Account and filter. Its events are on
`followers.change.<provider>.<oa_id>`, in order, each exactly once. Those of one job are a set, numbered 1 to `of`,
which `baseline`, `compared` or `held` ends.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.follower import Follower
from schemas.types import Count, JobId, Labels, OaId, Ordinal, ProviderName, Timestamp, Token

FilterValue = str | bool | list[str]
FieldValue = str | bool | list[str] | dict[str, str] | None
Filter = Annotated[
    dict[str, FilterValue],
    Meta(description="The feed's filter as the command gave it, lists sorted; empty: everybody."),
]
AccountName = Annotated[Token, Meta(description="The configured credentials.")]
UserId = Annotated[str, Meta(description="The person's Zalo id, scoped to this OA.", examples=["7800378501923859642"])]


class ChangeCounts(Struct, frozen=True, kw_only=True):
    """How many events of each type a set has, or would have had."""

    followed: Annotated[Count, Meta(description="Who is new in the list.")] = 0
    unfollowed: Annotated[Count, Meta(description="Who is no longer in it.")] = 0
    changed: Annotated[Count, Meta(description="Whose profile is another.")] = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.followed + self.unfollowed + self.changed


class FieldChange(Struct, frozen=True, kw_only=True):
    """One field of a follower that has another value."""

    name: Annotated[str, Meta(description="As in `Follower`.", examples=["display_name"])]
    old: (
        Annotated[FieldValue, Meta(description="Null: there was none. Left out: no longer in the log.")] | UnsetType
    ) = UNSET
    new: Annotated[FieldValue, Meta(description="Null: there is none. Left out: no longer in the log.")] | UnsetType = (
        UNSET
    )


class _ChangeEvent(Struct, frozen=True, kw_only=True, tag_field="type"):
    job_id: JobId
    provider: ProviderName
    account: AccountName
    oa_id: OaId
    labels: Labels = {}
    previous_job_id: Annotated[JobId, Meta(description="The job whose list it was compared with.")] | None = None
    filter: Filter = {}
    number: Annotated[Ordinal, Meta(description="1, 2, 3… within the set of this job.")] = 1
    of: Annotated[Ordinal, Meta(description="How many events the set has; it is whole at `number == of`.")] = 1


class FeedBaseline(_ChangeEvent, frozen=True, kw_only=True, tag="baseline"):
    """The feed begins, or begins anew, with this job's list: forget what came before."""

    count: Annotated[Count, Meta(description="Followers in the list.")]


class Followed(_ChangeEvent, frozen=True, kw_only=True, tag="followed"):
    """Somebody follows who did not in the previous list."""

    user_id: UserId
    follower: Annotated[Follower | None, Meta(description="As in the list; null: no longer in the log.")] = None


class Unfollowed(_ChangeEvent, frozen=True, kw_only=True, tag="unfollowed"):
    """Somebody who was in the previous list follows no more."""

    user_id: UserId
    at: (
        Annotated[Timestamp, Meta(description="When, where the list says it: `updated_at` of an `unfollow` row.")]
        | None
    ) = None


class Changed(_ChangeEvent, frozen=True, kw_only=True, tag="changed"):
    """Somebody's profile is another. Not compared: `avatar avatars phone_raw created_at updated_at`."""

    user_id: UserId
    fields: Annotated[list[FieldChange], Meta(description="What has changed, by name.")]


class Compared(_ChangeEvent, frozen=True, kw_only=True, tag="compared"):
    """The end of a set, and all of it where nothing has changed."""

    counts: Annotated[ChangeCounts, Meta(description="The events before this one in the set.")]
    count: Annotated[Count, Meta(description="Followers in the list.")]


class Held(_ChangeEvent, frozen=True, kw_only=True, tag="held"):
    """So many have gone that the list may be wrong: nothing is published until a release or a better list."""

    counts: Annotated[ChangeCounts, Meta(description="What would be published.")]
    count: Annotated[Count, Meta(description="Followers in the list.")]
    previous_count: Annotated[Count, Meta(description="Followers in the previous list.")]
    message: Annotated[str, Meta(description="What to do, for people.")]


ChangeEvent = FeedBaseline | Followed | Unfollowed | Changed | Compared | Held


class FeedJob(Struct, frozen=True, kw_only=True):
    """A job whose complete list is kept as a snapshot."""

    job_id: JobId
    started_at: Annotated[
        Timestamp, Meta(description="When the reading of the list began, by its worker's clock: it orders nothing.")
    ]
    followers: Annotated[Count, Meta(description="People in the list who follow.")]
    labels: Labels = {}


class FeedClaim(Struct, frozen=True, kw_only=True):
    """A job whose changes are being published; any worker may finish that."""

    job: Annotated[FeedJob, Meta(description="Whose list it is.")]
    act: Annotated[Literal["baseline", "changes", "held"], Meta(description="What is being published.")]
    counts: Annotated[ChangeCounts, Meta(description="Of the changes.")]
    after: Annotated[Count, Meta(description="The set lies behind this sequence of FOLLOWERS_EVENTS.")]
    released: Annotated[bool, Meta(description="It was held before.")] = False


class HeldJob(Struct, frozen=True, kw_only=True):
    """A job whose changes wait for `followers changes release`."""

    job: Annotated[FeedJob, Meta(description="Whose list it is.")]
    counts: Annotated[ChangeCounts, Meta(description="What a release publishes.")]


class SetAside(Struct, frozen=True, kw_only=True):
    """A job whose list the feed has not taken: it is compared with nothing, and nothing is compared with it."""

    job_id: JobId
    reason: Annotated[
        Literal["older", "unreadable", "unproven"],
        Meta(
            description="`older`: it began to be read before the feed's own list. `unreadable`: pages of it are gone or"
            " can't be read. `unproven`: somebody may be missing from it."
        ),
    ]
    message: Annotated[str, Meta(description="The reason in a sentence, and what to do, for people.")]


class Feed(Struct, frozen=True, kw_only=True):
    """A feed, in the bucket `FOLLOWERS_FEEDS`, always JSON; also the answer to a request to release a job."""

    provider: ProviderName
    account: AccountName
    oa_id: OaId
    filter: Filter = {}
    current: Annotated[FeedJob | None, Meta(description="The list that the next one is compared with.")] = None
    next: Annotated[FeedClaim | None, Meta(description="Whose changes are being published.")] = None
    held: Annotated[HeldJob | None, Meta(description="Whose changes wait for a release.")] = None
    gone: Annotated[list[Token], Meta(description="Jobs whose snapshots are of no use any more.")] = []
    set_aside: Annotated[
        SetAside | None, Meta(description="The last list that was set aside; null once a later one is taken.")
    ] = None
