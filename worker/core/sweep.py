"""Reading a list by row numbers while people come and go, and knowing what that may have missed.

Each request starts at the last row of the one before: that row, the anchor, joins the two (`core/joins.py` has the
proof). Where it stands at its place, the total is what it was, and nobody comes twice, the join is calm and costs
nothing. Otherwise the stretch is walked again, from further back or further on, until enough known rows stand in one
reading; after WALKS of those the reading goes on where it was. All that it may have missed then stands before the row
at which it goes on: so many people at most, and none of them where it starts at row 0 again.

A list longer than the provider gives is read by days (`core/spans.py`), each span a list of its own.
"""

from msgspec.structs import replace

from schemas.ids import Ids
from worker.core.errors import NotFoundError, UnsupportedError
from worker.core.joins import joined
from worker.core.paging import Ahead, FetchPage
from worker.core.pending import Pending, Swept
from worker.core.ports import Offsets, ProviderPage
from worker.core.position import Position
from worker.core.route import Route
from worker.core.spans import Span

WALKS = 8
"""So many requests at most to find the way again, before the reading has come further than ever."""


class Sweep(Ahead):
    """Makes pages of a list that is read by row numbers."""

    def __init__(
        self, fetch: FetchPage, plan: Offsets, start: Position, ids: Ids, *, published: set[str], total: int | None
    ) -> None:
        """Take how to fetch, the list's plan, where to go on, and the ids of the pages that are published.

        `published`: ids of the page in hand whose parts are in the log already. `total`: of the list, when a page was
        published last.
        """
        super().__init__(fetch)
        self._plan = plan
        self._days = Span(*plan.days) if plan.days is not None else None
        self._route = Route(plan.count, plan.last)
        self._here = start
        self._known = list(start.anchors)
        self._ids = ids
        self._pending = Pending(published)
        self._total = total
        self._over = self._again = self._probing = False
        self._barren = False
        """Days make no difference to the provider."""
        self._capped = start.day is not None
        self._highest, self._walks = start.at, 0
        self._last: tuple[int, list[str]] = (0, [])
        self._short = 0
        """How many rows the last reading had, where it had fewer than asked for and there may be more."""

    async def read(self, room: int, wanted: int | None, ahead: int) -> Swept:
        """Return the next page, of `room` followers unless fewer are left or `wanted`.

        `wanted`: so many followers at most will be asked for, with this page; None: all. `ahead`: requests to have
        under way meanwhile. Raises what fetching raises.
        """
        need = room if wanted is None else min(room, wanted)
        while not self._over and len(self._pending) < self._enough(need, wanted):
            await self._read_on(wanted, ahead)
        here = replace(self._here, anchors=tuple(self._known))
        followers, cut = self._pending.take(need)
        done = self._over and not len(self._pending)
        position = here if done or cut is None else cut
        return Swept(
            followers=followers,
            next_cursor=None if done else position.write(),
            total=self._total if position.span is not None else position.total,
            capped=done and self._capped,
            requests=0,
            position=position,
        )

    def _enough(self, need: int, wanted: int | None) -> int:
        # Of several spans the last ones may be empty: with one row in hand, the last page isn't.
        return need + (self._here.span is not None and (wanted is None or wanted > need))

    async def _read_on(self, wanted: int | None, ahead: int) -> None:
        here, left = self._here, None if wanted is None else wanted - len(self._pending)
        offset = self._route.offset(here.at, here.total, left, anchored=bool(self._known))
        try:
            page = await self.get(self._cursor(offset))
        except (NotFoundError, UnsupportedError):
            if not self._probing:
                raise
            # The list can be read, but not by days: as far as the provider gives it, then.
            self._days, self._probing = None, False
            self._here = replace(here, span=None)
            return
        ids = [follower.user_id for follower in page.followers]
        if here.at < 0:
            self._begin(page, ids)
        elif offset > here.at:
            self._go_on_bare(page, ids, offset)
        elif not self._join_calmly(page, ids, offset):
            await self._walk(page, ids, offset)
        await self._look_beyond(here)
        await self._end_span()
        self._read_ahead(ahead, None if wanted is None else wanted - len(self._pending))

    def _join_calmly(self, page: ProviderPage, ids: list[str], offset: int) -> bool:
        """Take a reading where nothing moved as far as can be seen; say whether that is so."""
        overlap = self._here.at + 1 - offset
        known, new = self._known[-overlap:], ids[overlap:]
        if page.total != self._here.total or ids[overlap - len(known) : overlap] != known:
            return False
        if not self._ids.add_new(new):
            if not self._goes_over_known_ground:
                return False
            self._take(page, ids, offset, gap=self._here.gap)
            return True
        self._arrive(page, ids, new, offset, self._here.gap)
        self._pending.put(self._here, self._known, page.followers[overlap:], range(offset + overlap, offset + len(ids)))
        self._finish(page)
        return True

    def _begin(self, page: ProviderPage, ids: list[str]) -> None:
        self._probing = False
        if self._days_mean_nothing(page, ids):
            # Else each day would bring the whole list once more, thousands of times.
            missed = None if self._total is None else max(0, self._total - len(self._ids))
            self._here = replace(self._here, gap=0, settled=missed, day=None)
            self._capped = self._over = self._barren = True
            return
        if page.total is not None and page.total > self._plan.last + self._plan.count and self._split(page):
            return
        self._take(page, ids, 0, gap=0, twice=not self._again)

    def _days_mean_nothing(self, page: ProviderPage, ids: list[str]) -> bool:
        """Say whether the provider gives the same people whatever days are asked for.

        A later span then begins with people who are known, and its total is more than can be left.
        """
        if self._again or self._here.span is None or page.total is None or self._total is None:
            return False
        return self._all_known(ids) and page.total > self._total - len(self._ids) / 2

    def _go_on_bare(self, page: ProviderPage, ids: list[str], offset: int) -> None:
        """Take a reading that nothing joins to the one before: a ceiling allows no more requests, or nothing is known.

        Where it is for a ceiling the list is cut anyway.
        """
        if not self._known or page.total != self._here.total:
            self._here = replace(self._here, moved=True)
        self._take(page, ids, offset, gap=offset, twice=True)

    async def _walk(self, page: ProviderPage, ids: list[str], offset: int) -> None:
        """Find the way again after a reading that doesn't join calmly."""
        here = self._here
        twice = 0 if self._goes_over_known_ground else sum(id in self._ids for id in ids) - (here.at + 1 - offset)
        self._here = replace(here, moved=True, dropped=here.dropped + max(0, twice))
        before, rows = self._last
        if len(ids) > 1 and ids == rows and offset > before and page.total == here.total:
            # The same rows elsewhere: a provider that doesn't look at the row number, and nothing can ever be proven.
            self._here = replace(self._here, settled=None)
            self._take(page, ids, offset, gap=here.gap)
        elif self._joins(ids):
            self._take(page, ids, offset, gap=here.gap)
        elif await self._found_again(ids, offset):
            if not self._over and offset + len(ids) - 1 > self._here.at >= 0 and self._joins(ids):
                self._take(page, ids, offset, gap=self._here.gap)
        else:
            self._take(page, ids, offset, gap=offset)

    async def _found_again(self, ids: list[str], offset: int) -> bool:
        """Read further back, or further on where all was seen before, until a reading joins; take that one."""
        behind, beyond = (offset, None) if self._all_known(ids) else (None, offset)
        step = max(1, self._route.count // 2)
        while self._walks < WALKS:
            self._walks += 1
            if behind is None:
                at = max(0, (beyond or 0) - step)
            else:
                at = behind + step if beyond is None else (behind + beyond) // 2
            at = min(at, self._plan.last)
            if at in (behind, beyond):
                return False
            page = await self.get(self._cursor(at))
            rows = [follower.user_id for follower in page.followers]
            if at == 0 or self._joins(rows):
                self._take(page, rows, at, gap=0 if at == 0 else self._here.gap)
                return True
            behind, beyond = (at, beyond) if self._all_known(rows) else (behind, at)
            step *= 2
        return False

    @property
    def _goes_over_known_ground(self) -> bool:
        """Rows that come next were read before, from a place further on or in another span."""
        return self._again or self._here.at < self._highest

    def _joins(self, ids: list[str]) -> bool:
        # People who moved to the list's end stand there behind others who were never read.
        return bool(ids) and ids[0] in self._ids and joined(self._known, ids)

    def _all_known(self, ids: list[str]) -> bool:
        return bool(ids) and all(id in self._ids for id in ids)

    async def _look_beyond(self, before: Position) -> None:
        """Where a short reading went no further, make sure that nobody comes behind it, whatever the total says."""
        here, rows = self._here, len(self._last[1])
        if self._over or here.at < 0 or (here.span, here.at) != (before.span, before.at) or rows >= self._route.count:
            return
        page = await self.get(self._cursor(min(here.at + 1, self._plan.last)))
        ids = [follower.user_id for follower in page.followers]
        if ids and 1 < rows < self._route.count:
            self._route.count = rows  # people come behind a short reading: the provider gives no more at once
            return
        self._walks += 1
        if not ids or self._walks > WALKS:
            # Nobody stands there any more: who was behind the short reading may have moved up before it.
            shrunk = page.total is not None and page.total <= here.at
            self._here = replace(here, moved=here.moved or bool(ids) or shrunk)
            self._take(page, ids, here.at + 1, gap=here.at + 1 if ids or shrunk else here.gap)
            if not ids:
                self._over = True

    def _take(self, page: ProviderPage, ids: list[str], offset: int, *, gap: int | None, twice: bool = False) -> None:
        """Take what is new of a reading; `twice`: count what isn't."""
        fresh = []
        for number, id in enumerate(ids):
            if id not in self._ids:
                self._ids.add((id,))
                fresh.append(number)
        if twice and len(fresh) < len(ids):
            dropped = self._here.dropped + len(ids) - len(fresh)
            self._here = replace(self._here, moved=True, dropped=dropped)
        self._arrive(page, ids, ids, offset, gap)
        rows = [page.followers[number] for number in fresh]
        self._pending.put(self._here, self._known, rows, [offset + number for number in fresh])
        self._finish(page)

    def _arrive(self, page: ProviderPage, ids: list[str], new: list[str], offset: int, gap: int | None) -> None:
        self._last = offset, ids
        self._known = (self._known + new)[-2 * self._plan.count :]
        before = self._here.at
        at = offset + len(ids) - 1 if ids else min(before, offset - 1)
        if at > self._highest:
            self._highest, self._walks = at, 0
        self._here = replace(self._here, at=at, total=page.total, gap=gap)
        if before < at and self._short:
            self._route.count = self._short  # people came after a short reading: the provider gives no more at once
        self._short = len(ids) if page.next_cursor is not None and 1 < len(ids) < self._route.count else 0

    def _finish(self, page: ProviderPage) -> None:
        """After the rows of a reading are kept, with the place where they stood: is it the end?"""
        if page.next_cursor is None and not (page.capped and self._split(page)):
            self._over = True
            if page.capped:
                self._cap(page.total)

    def _split(self, page: ProviderPage) -> bool:
        """Go on with the first half of the days, if there are any."""
        here, span = self._here, self._here.span or self._days
        if span is None or span.days < 2:
            return False
        if here.span is None:
            self._total, self._probing = page.total, True
        self._again = self._again or here.at >= 0
        self._here = replace(here, span=span.half(), at=-1, total=None, gap=0)
        self._known, self._highest, self._walks = [], -1, 0
        return True

    def _cap(self, total: int | None) -> None:
        """Note that the provider gives no more of this span, although there is more."""
        here = self._here
        self._capped = True
        beyond = None if total is None or here.settled is None else here.settled + max(0, total - here.at - 1)
        day = here.day or (str(here.span.first) if here.span is not None else None)
        self._here = replace(here, settled=beyond, day=day)

    async def _end_span(self) -> None:
        """After the last row of a span, go on with the next one."""
        here = self._here
        if not self._over or here.span is None or self._barren:
            return
        reach = self._plan.last + self._plan.count
        following = here.span.next(
            self._days.last if self._days is not None else here.span.last,
            twice=here.total is not None and 2 * here.total <= reach,
        )
        if following is None:
            self._total = (await self.get(None)).total
            return
        self._over = False
        self._here = replace(here, span=following, at=-1, total=None, gap=0, settled=here.missed)
        self._known, self._highest, self._walks = [], -1, 0

    def _read_ahead(self, ahead: int, left: int | None) -> None:
        here = self._here
        if self._over or here.at < 0:
            self.want([])
        else:
            offsets = self._route.following(here.at, here.total, left, ahead, anchored=bool(self._known))
            self.want([self._cursor(offset) for offset in offsets])

    def _cursor(self, offset: int) -> str | None:
        span = self._here.span
        if span is not None:
            return f"{span}@{offset}"
        return str(offset) if offset else None
