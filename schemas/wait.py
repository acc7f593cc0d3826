"""`Wait`: why a job doesn't move, who owns that, until when, and what to do."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.types import Count, ErrorCode, Ordinal, StandReason, Timestamp, WaitOwner


class Wait(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job waits for. For people and dashboards: nothing else follows from it. What doesn't apply is left out."""

    owner: Annotated[
        WaitOwner,
        Meta(
            description="`limit`: a rate limit, ours or the provider's. `breaker`: the account's circuit is open."
            " `provider`: a request failed and is tried again. `queue`: other commands come first. `no_worker`: nobody"
            " takes commands. `cancelled`: it was asked to end and has not ended yet. `nats`: NATS doesn't take or give"
            " what the job needs, and it is tried again."
        ),
    ]
    reason: Annotated[StandReason, Meta(description="The same in the words of `waiting` events, and beyond them.")]
    since: Annotated[Timestamp, Meta(description="Since when it doesn't move.")]
    until: Annotated[Timestamp, Meta(description="When it goes on, as far as is known.")] | None = None
    text: Annotated[str, Meta(description="One sentence: what it waits for and what to do. Nobody's data.")]
    rate: Annotated[float, Meta(description="Of `limit`: requests a second over all replicas.")] | None = None
    ahead: (
        Annotated[Count, Meta(description="Of `limit`: requests in line before it. Of `queue`: commands before it.")]
        | None
    ) = None
    blocked_until: (
        Annotated[Timestamp, Meta(description="Of `limit`: until then the provider asked for patience.")] | None
    ) = None
    failures: Annotated[Count, Meta(description="Of `breaker`: requests that failed in a row.")] | None = None
    code: Annotated[ErrorCode, Meta(description="Of `breaker` and `provider`: of the last failure.")] | None = None
    http_status: Annotated[int, Meta(description="Of the provider's last answer.")] | None = None
    attempt: Annotated[Ordinal, Meta(description="Of `provider`: requests made for this page.")] | None = None
    nats_code: Annotated[int, Meta(description="Of `nats`: the server's own error code, where it gave one.")] | None = (
        None
    )
    nats_error: (
        Annotated[str, Meta(description="Of `nats`: the server's own words, or that it gave no answer.")] | None
    ) = None
    position: Annotated[Ordinal, Meta(description="Of `queue`: 1 is taken next.")] | None = None
    in_hand: (
        Annotated[Count, Meta(description="Of `queue` and `no_worker`: commands that workers have in hand.")] | None
    ) = None
    asking: (
        Annotated[Count, Meta(description="Of `queue` and `no_worker`: open requests of workers for a command.")] | None
    ) = None
