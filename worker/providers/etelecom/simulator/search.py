"""Keyset paging over one follower list or several merged (PROVIDERS 1.4)."""

import asyncio
from collections.abc import Iterator
from heapq import merge

from worker.providers.etelecom.simulator.query import Filter, Paging, keeps
from worker.simulators.listing import Listing, Place

Found = tuple[Listing, int]
"""A row: its list and its index there."""


async def find(listings: list[Listing], chosen: Filter, paging: Paging) -> list[Found]:
    """The rows of one page, in the order asked for, at most `paging.limit`."""
    # `before` reads away from the cursor, towards the start of the list.
    descending = paging.descending != bool(paging.before)
    beyond: Place | None = None
    if paging.cursor:
        beyond = paging.cursor.items[0][1], paging.cursor.items[-1][1]
    found: list[Found] = []
    for seen, (listing, index) in enumerate(_walk(listings, chosen, paging.field, descending, beyond), 1):
        if keeps(chosen, listing, index):
            found.append((listing, index))
            if len(found) == paging.limit:
                break
        if seen % 500 == 0:
            await asyncio.sleep(0)  # a filter that few pass must not hold up the event loop
    return found[::-1] if paging.before else found


def _walk(
    listings: list[Listing], chosen: Filter, field: str, descending: bool, beyond: Place | None
) -> Iterator[Found]:
    def place(found: Found) -> Place:
        return found[0].place(field, found[1])

    if chosen.user_ids:
        named = [(listing, index) for listing in listings for index in _named(listing, chosen.user_ids)]
        yield from (
            found
            for found in sorted(named, key=place, reverse=descending)
            if beyond is None or (place(found) < beyond if descending else place(found) > beyond)
        )
        return
    walks = [_tagged(each, each.walk(field, descending=descending, beyond=beyond)) for each in listings]
    yield from walks[0] if len(walks) == 1 else merge(*walks, key=place, reverse=descending)


def _named(listing: Listing, user_ids: list[int]) -> set[int]:
    return {index for user_id in user_ids if (index := listing.find(user_id)) is not None}


def _tagged(listing: Listing, walk: Iterator[int]) -> Iterator[Found]:
    return ((listing, index) for index in walk)
