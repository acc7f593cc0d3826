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

    Raises BadResponseError when a single follower is larger than `limit`.
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
    room = limit - size(msgspec.structs.replace(page, followers=[], part=10_000, parts=10_000))
    chunks: list[list[Follower]] = [[]]
    used = 0
    for follower in page.followers:
        bytes_ = size(follower) + 1
        if bytes_ > room:
            raise BadResponseError(
                f"one follower of page {page.page} takes {bytes_} bytes, more than the {room} that fit into a message: "
                "raise `max_payload` on the NATS server, then retry the dead letter"
            )
        if used + bytes_ > room and chunks[-1]:
            chunks.append([])
            used = 0
        chunks[-1].append(follower)
        used += bytes_
    return list(chunks)
