"""Splitting a page that the server would not take whole."""

from collections.abc import Callable, Sequence

import msgspec

from schemas.events import FollowerPage, Progress
from schemas.follower import Follower
from worker.core.errors import BadResponseError

Size = Callable[[object], int]


def split(
    page: FollowerPage, before_page: Progress, limit: int, size: Size, *, done: int = 0, parts: int = 1
) -> list[FollowerPage]:
    """Return `page` as parts of at most `limit` bytes each, by `size`, with the followers in order.

    `done` parts of this page are in the log already and announced `parts` in all: the numbering goes on from there,
    and empty parts fill up what was announced. `progress.followers` counts up to and with each part; only the final
    part of a last page is `last`.

    Raises BadResponseError when a single follower, or the page's cursors, are larger than `limit`.
    """
    chunks = _chunks(page, limit, size)
    chunks += [[]] * (parts - done - len(chunks))
    total = done + len(chunks)
    before = page.progress.followers - len(page.followers)
    result = []
    for index, chunk in enumerate(chunks, start=done + 1):
        before += len(chunk)
        whole = page.progress
        # Whoever goes on behind a part reads the page anew, from its own cursor: what it found must not count yet.
        known = whole if index == total else msgspec.structs.replace(before_page, total_first=whole.total_first)
        progress = msgspec.structs.replace(known, followers=before, requests=whole.requests)
        result.append(
            msgspec.structs.replace(
                page,
                part=index,
                parts=total,
                followers=chunk,
                progress=progress,
                last=page.last and index == total,
            )
        )
    return result


def _chunks(page: FollowerPage, limit: int, size: Size) -> list[Sequence[Follower]]:
    # Room for the envelope with its largest part numbers, and a comma a follower.
    envelope = msgspec.structs.replace(page, followers=[], part=10_000, parts=10_000)
    room = limit - size(envelope)
    sizes = [size(follower) + 1 for follower in page.followers]
    if (largest := max(sizes, default=0)) > room:
        raise _too_big(envelope, largest, room, limit, size)
    chunks: list[list[Follower]] = [[]]
    used = 0
    for follower, bytes_ in zip(page.followers, sizes, strict=True):
        if used + bytes_ > room and chunks[-1]:
            chunks.append([])
            used = 0
        chunks[-1].append(follower)
        used += bytes_
    return list(chunks)


def _too_big(envelope: FollowerPage, largest: int, room: int, limit: int, size: Size) -> BadResponseError:
    """Return the error for a page of which not even one follower fits: its own size or the cursors' is to blame."""
    cursors = size(envelope) - size(msgspec.structs.replace(envelope, cursor="", next_cursor=""))
    remedy = "raise `max_payload` on the NATS server, then retry the dead letter"
    if cursors > largest:
        # Each part says where the page was read and where the list goes on, or nobody could go on behind it.
        return BadResponseError(
            f"the provider's cursors at page {envelope.page} take {cursors} bytes; each message of it has to hold "
            f"them, and no more than {limit} fit into one: {remedy}, and tell the provider that its cursors are so long"
        )
    return BadResponseError(
        f"one follower of page {envelope.page} takes {largest} bytes, more than the {room} that fit into a message: "
        f"{remedy}"
    )
