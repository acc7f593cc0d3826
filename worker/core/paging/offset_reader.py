"""Reading a list by row numbers while people come and go, and knowing what that may have missed.

Each request starts at the last row of the one before: that row, the anchor, joins the two (`core/paging/overlap.py` has
the proof). Where it stands at its place, the total is what it was, and nobody comes twice, the join is calm and costs
nothing. Otherwise the stretch is walked again, from further back or further on, until enough known rows stand in one
reading; after WALKS of those the reading goes on where it was. All that it may have missed then stands before the row
at which it goes on: so many people at most, and none of them where it starts at row 0 again.

The list ends where the rows and the total say so, and they must be two: an answer that is full, a total that may only
count the rows beside it, or one that has changed, is followed by one request more. Where they contradict each other the
provider is asked again, then behind the last row; and what is missing can't be told (`core/paging/totals.py`).

A list longer than the provider gives is read by days (`core/paging/day_range.py`), each span a list of its own.
"""

from msgspec.structs import replace
from structlog import get_logger

from schemas.ids import Ids
from worker.core.errors import NotFoundError, UnsupportedError
from worker.core.paging.cursor_reader import Ahead, FetchPage, OpenHold
from worker.core.paging.day_range import Span
from worker.core.paging.offset_plan import Route
from worker.core.paging.overlap import common
from worker.core.paging.position import Position
from worker.core.paging.row_buffer import Pending, Swept
from worker.core.paging.totals import Witness
from worker.core.ports.provider import Offsets, ProviderPage

WALKS = 8
"""So many requests at most to find the way again, before the reading has come further than ever."""
BARREN = 40
"""So many requests for readings that bring nobody new, beside those that go over known ground; then the list ends."""
DISORDER = 2
"""So many readings in which known people stand in another order, and a quarter of all: the list has no order at all."""
_OVERLAPS = (0, 1, 2)
_log = get_logger(__name__)


class Sweep(Ahead):
    """Makes pages of a list that is read by row numbers."""

    def __init__(
        self,
        fetch: FetchPage,
        plan: Offsets,
        start: Position,
        ids: Ids,
        *,
        published: set[str],
        total: int | None,
        open_hold: OpenHold | None = None,
    ) -> None:
        """Take how to fetch, the list's plan, where to go on, and the ids of the pages that are published.

        `published`: ids of the page in hand whose parts are in the log already. `total`: of the list, when a page was
        published last. `open_hold`: what bytes are counted by.
        """
        super().__init__(fetch, open_hold)
        self._plan = plan
        self._days = Span(*plan.days) if plan.days is not None else None
        self._route = Route(plan.count, plan.last)
        self._here = start
        self._known = list(start.anchors)
        self._ids = ids
        self._met: set[str] = set()
        """People who were met out of turn, and whose own place is still to come."""
        self._pending = Pending(published)
        self._total = total
        resumed = start.span is not None or start.at >= plan.count
        self._witness = Witness(
            doubt=start.settled is None, moved=start.moved, largest=plan.count if resumed else 0, most=total or 0
        )
        self._over = False
        self._barren = False
        """Nothing more is to be had, whatever days are left."""
        self._again = bool(start.overlap)
        self._capped = start.day is not None
        self._highest, self._walks = start.at, 0
        self._last: tuple[int, list[str]] = (0, [])
        self._short = 0
        """How many rows the last reading had, where it had fewer than asked for and there may be more."""
        self._placed = start.at >= plan.count - 1
        """A row stood where it was expected: the provider counts rows as we do."""
        self._quiet = 0
        """Readings since the last one that came further."""
        self._beyond = 0
        """How often rows came behind a reading that was taken for the last."""
        self._fruitless = self._readings = self._disorder = 0
        self._stuck = False
        """The total said that rows come, and none came."""

    async def read(self, room: int, wanted: int | None, ahead: int) -> Swept:
        """Return the next page, of `room` followers unless fewer are left or `wanted`.

        `wanted`: so many followers at most will be asked for, with this page; None: all. `ahead`: requests to have
        under way meanwhile. Raises what fetching raises.
        """
        need = room if wanted is None else min(room, wanted)
        while not self._over and (len(self._pending) < self._enough(need, wanted) or self._may_be_the_end):
            await self._read_on(wanted, ahead)
        here = replace(self._here, anchors=tuple(self._known))
        followers, cut = self._pending.take(need)
        done = self._over and not len(self._pending)
        position = self._weighed(here if done or cut is None else cut, done=done)
        return Swept(
            followers=followers,
            next_cursor=None if done else position.write(),
            total=self._total if position.span is not None else position.total,
            capped=done and self._capped,
            requests=0,
            position=position,
        )

    def published(self, left: int = 0) -> None:
        """Let go of what is published by now: rows that were read with it may be left for the next page."""
        super().published(left or len(self._pending))

    def _weighed(self, position: Position, *, done: bool) -> Position:
        """Return `position` with what is known of the provider by now."""
        witness = self._witness
        if done:
            # Whether the days fit together is shown by the whole list's total alone.
            joined = position.span is None
            missed = witness.missed(position.missed, len(self._ids), joined=joined, moved=position.moved)
            position = replace(position, settled=missed, gap=0)
        elif witness.doubt:
            position = replace(position, settled=None)
        return position

    def _enough(self, need: int, wanted: int | None) -> int:
        # Where nobody knows whether more rows come, one is kept in hand: then the last page isn't empty.
        unknown = self._here.span is not None or self._witness.doubt or self._quiet > 0
        return need + (unknown and (wanted is None or wanted > need))

    @property
    def _may_be_the_end(self) -> bool:
        # Whether a page is the last one must be known before it is published, also where a ceiling cuts the list there.
        here = self._here
        return here.span is None and here.at >= 0 and here.at + 1 == here.total

    @property
    def _reach(self) -> int:
        """How many rows the provider gives of a list, or of a span of days; the rest can't be had."""
        return self._plan.last + self._plan.count

    def _exceeds(self, total: int) -> bool:
        """Say whether a list or span of `total` rows has, or may have, more than the provider gives."""
        return total > self._reach or total == self._witness.most == self._reach

    async def _read_on(self, wanted: int | None, ahead: int) -> None:
        before, known, readings = self._here, len(self._ids), self._readings
        probe = self._probe()
        left = None if wanted is None else wanted - len(self._pending)
        offset = self._next_offset(left) if probe is None else probe
        page, ids = await self._ask(offset)
        if not ids and offset <= before.at:
            page, ids = await self._ask(offset)  # somebody stood there
        if before.at < 0 and not offset:
            await self._begin(page, ids)
        elif offset > before.at and probe is not None:
            self._take_beyond(page, ids, offset)
        elif offset > before.at:
            self._go_on_bare(page, ids, offset)
        elif not self._join_calmly(page, ids, offset):
            await self._walk(page, ids, offset)
        await self._judge(before, offset, known, readings)
        await self._end_span()
        self._read_ahead(ahead, None if wanted is None else wanted - len(self._pending))

    def _next_offset(self, left: int | None) -> int:
        here = self._here
        if here.at < 0:
            return 0
        total = None if self._witness.doubt else here.total
        return self._route.offset(here.at, total, left, anchored=bool(self._known))

    def _probe(self) -> int | None:
        """Return where to look whether the list is over, None where it goes on as far as is known."""
        here = self._here
        if here.at < 1 and here.total == here.at + 1:
            # The same request again would tell nothing, unless an empty answer was a slip.
            return None if here.at < 0 and self._quiet < 2 else 1
        if here.at < 0 or not self._quiet:
            return None
        behind = (here.at, here.at + 1, here.at + self._plan.count)[min(self._quiet, 3) - 1]
        return min(behind, self._plan.last)

    async def _ask(self, offset: int) -> tuple[ProviderPage, list[str]]:
        page = await self.get(self._cursor(offset))
        self._readings += 1
        ids = [follower.user_id for follower in page.followers]
        self._witness.hear(offset, ids, page.total, whole=self._here.span is None)
        return page, ids

    def _join_calmly(self, page: ProviderPage, ids: list[str], offset: int) -> bool:
        """Take a reading where nothing moved as far as can be seen; say whether that is so."""
        overlap = self._here.at + 1 - offset
        known, new = self._known[-overlap:], ids[overlap:]
        if page.total != self._here.total or ids[overlap - len(known) : overlap] != known:
            return False
        self._placed = self._placed or (offset > 0 and bool(known))
        if not self._ids.add_new(new):
            if not self._goes_over_known_ground and not all(id in self._met or id not in self._ids for id in new):
                return False
            self._met.difference_update(new)
            self._take(page, ids, offset, gap=self._here.gap)
            return True
        self._arrive(page, ids, new, offset, self._here.gap)
        self._pending.put(self._here, self._known, page.followers[overlap:], range(offset + overlap, offset + len(ids)))
        return True

    async def _begin(self, page: ProviderPage, ids: list[str]) -> None:
        if self._days_mean_nothing(page, ids):
            # Else each day would bring the whole list once more, thousands of times.
            here = self._here
            missed = None if self._total is None or here.moved else max(0, self._total - len(self._ids))
            self._here = replace(here, gap=0, settled=missed, day=None)
            self._capped = self._over = self._barren = True
            return
        if page.total is not None and self._exceeds(page.total) and await self._split(page):
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

    def _take_beyond(self, page: ProviderPage, ids: list[str], offset: int) -> None:
        """Take a reading that starts behind the last row, where nobody is expected."""
        here = self._here
        if not ids or self._all_known(ids):
            self._witness.doubt = self._witness.doubt or (bool(ids) and not self._goes_over_known_ground)
            self._here = replace(here, total=page.total)
        elif self._beyond < 2:
            self._beyond += 1
            self._quiet = 0  # once more from the last row, to join them
            self._here = replace(here, moved=True, total=page.total)
        else:
            self._here = replace(here, moved=True)
            self._take(page, ids, offset, gap=self._stranded(offset))

    def _stranded(self, offset: int) -> int | None:
        """Return how many may have been missed where nothing joins a reading at `offset` to what is known."""
        return offset if self._placed else None

    async def _walk(self, page: ProviderPage, ids: list[str], offset: int) -> None:
        """Find the way again after a reading that doesn't join calmly."""
        here = self._here
        known = sum(id in self._ids and id not in self._met for id in ids)
        twice = 0 if self._goes_over_known_ground else known - (here.at + 1 - offset)
        self._here = replace(here, moved=True, dropped=here.dropped + max(0, twice))
        before, rows = self._last
        if len(ids) > 1 and ids == rows and offset > before and page.total == here.total:
            # The same rows elsewhere: a provider that doesn't look at the row number, and nothing can ever be proven.
            self._witness.doubt = True
            self._take(page, ids, offset, gap=here.gap)
        elif self._joins(ids):
            self._take(page, ids, offset, gap=here.gap)
        else:
            met = [(page, ids)]
            if not await self._found_again(ids, offset, met):
                self._take(page, ids, offset, gap=self._stranded(offset))
            elif offset + len(ids) - 1 > self._here.at >= 0 and self._joins(ids):
                self._take(page, ids, offset, gap=self._here.gap)
            for page, ids in met:
                self._keep(page, ids)

    async def _found_again(self, ids: list[str], offset: int, met: list[tuple[ProviderPage, list[str]]]) -> bool:
        """Read further back, or further on where all was seen before, until a reading joins; take that one.

        Readings that lead nowhere are added to `met`.
        """
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
            page, rows = await self._ask(at)
            if (at == 0 and rows) or self._joins(rows):
                self._take(page, rows, at, gap=0 if at == 0 else self._here.gap)
                return True
            behind, beyond = (at, beyond) if self._all_known(rows) else (behind, at)
            met.append((page, rows))
            step *= 2
        return False

    @property
    def _goes_over_known_ground(self) -> bool:
        """Rows that come next were read before, from a place further on or in another span."""
        return self._again or self._here.at < self._highest

    def _joins(self, ids: list[str]) -> bool:
        shared = common(self._known, ids)
        self._disorder += shared.disordered
        if self._disorder >= DISORDER and 4 * self._disorder > self._readings:
            self._witness.doubt = True  # the list has another order each time, and nothing joins but by chance
        # People who moved to the list's end stand there behind others who were never read.
        return bool(ids) and ids[0] in self._ids and shared.joins

    def _all_known(self, ids: list[str]) -> bool:
        return bool(ids) and all(id in self._ids for id in ids)

    def _take(self, page: ProviderPage, ids: list[str], offset: int, *, gap: int | None, twice: bool = False) -> None:
        """Take what is new of a reading; `twice`: count what isn't."""
        fresh = self._fresh(ids)
        if twice and len(fresh) < len(ids):
            dropped = self._here.dropped + len(ids) - len(fresh)
            self._here = replace(self._here, moved=True, dropped=dropped)
        self._arrive(page, ids, ids, offset, gap)
        rows = [page.followers[number] for number in fresh]
        self._pending.put(self._here, self._known, rows, [offset + number for number in fresh])

    def _keep(self, page: ProviderPage, ids: list[str]) -> None:
        """Keep the new people of a reading that leads nowhere: they are on the list, too."""
        if fresh := self._fresh(ids):
            self._met.update(ids[number] for number in fresh)
            self._pending.put(self._here, self._known, [page.followers[number] for number in fresh], None)

    def _fresh(self, ids: list[str]) -> list[int]:
        fresh = []
        for number, id in enumerate(ids):
            if id not in self._ids:
                self._ids.add((id,))
                fresh.append(number)
        return fresh

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
        short = 1 < len(ids) < self._route.count and page.total != at + 1
        self._short = len(ids) if short else 0

    async def _judge(self, before: Position, offset: int, known: int, readings: int) -> None:
        """After a reading at `offset`: has it come further, and is it the end?

        `known`, `readings`: so many people were known, and so many answers were there before.
        """
        here = self._here
        if self._over or here.span != before.span:
            return
        came_further = here.at > before.at or len(self._ids) > known
        self._quiet = 0 if came_further else self._quiet + 1
        self._fruitless += self._readings - readings if len(self._ids) == known else 0
        self._stuck = not came_further and (self._stuck or (self._quiet > 1 and here.at + 1 < (here.total or 0)))
        if self._is_cut(offset):
            if not await self._split():
                self._over = True
                self._cap()
        elif self._fruitless > self._patience:
            self._end()
            self._barren = self._witness.doubt = True
            self._here = replace(self._here, moved=True)
        elif self._quiet >= self._enough_quiet():
            self._end()

    @property
    def _patience(self) -> int:
        return BARREN + 2 * len(self._ids) // (self._plan.count - 1)  # what is known may have to be read again

    def _is_cut(self, offset: int) -> bool:
        """Say whether the list goes on behind the last row that the provider gives."""
        here, rows = self._here, len(self._last[1])
        if offset < self._plan.last or here.at < self._plan.last:
            return False
        if self._witness.doubt or here.total is None:
            return rows >= self._plan.count
        # A full answer there is not known to be the end where a total may count no more than can be had.
        return here.at + 1 < here.total or (rows >= self._witness.largest and self._witness.most <= self._reach)

    @property
    def _is_agreed(self) -> bool:
        """Whether the last reading came to the end as the total says, and had room for more rows."""
        room = len(self._last[1]) < self._witness.largest or (self._quiet > 0 and self._here.at == 0)
        room = room or self._here.at + 1 >= self._reach  # nothing can be asked behind that
        return self._witness.steady and (room or (self._here.total == 0 and self._quiet > 2))

    def _enough_quiet(self) -> int:
        """Return after how many readings that came no further the list, or the span, is over."""
        reached, total, witness = self._here.at + 1, self._here.total, self._witness
        if witness.doubt or total is None or reached > total:
            return 3
        if reached < total:
            return 4
        if not self._is_agreed or not witness.credible:
            return 5
        return 2 if witness.uneven else 0

    def _end(self) -> None:
        """Note that no more rows come, and what that leaves open."""
        here, witness = self._here, self._witness
        self._over = True
        fits = not self._stuck and self._is_agreed and witness.credible
        if fits and here.total is not None and here.total <= here.at and not witness.doubt:
            # The list is shorter by now than where the reading stands: whoever is on it may have been missed.
            gap = None if here.gap is None else max(here.gap, here.total)
            self._here = replace(here, moved=True, gap=gap)
        elif here.total != here.at + 1 or not fits:
            _log.warning("fetch.list_contradicts_its_total", rows=here.at + 1, total=here.total)
            witness.doubt = True

    async def _split(self, page: ProviderPage | None = None) -> bool:
        """Go on with the first half of the days, if there are any; `page`: the answer that says how many people."""
        here, span = self._here, self._here.span or self._days
        if span is None:
            return False
        total = page.total if page is not None else here.total
        if here.span is None:
            self._total = total
        if not here.overlap and total is not None and not await self._fit_days(span, total):
            return False
        overlap = self._here.overlap
        half = span.half(overlap)
        if half is None:
            return False
        self._again = self._again or here.at >= 0
        if overlap > here.overlap and self._days is not None:
            half = Span(self._days.first, half.last)  # what lies between the spans so far was left out
        self._enter(half, settled=here.settled)
        return True

    async def _fit_days(self, span: Span, total: int) -> bool:
        """Find out whether the list can be read by days, and how far neighbouring spans must overlap.

        The halves come to the whole, of `total` people, where both ends of a span count. Raises what fetching raises.
        """
        half, whole = span.half(), self._here.span is None
        if half is None:
            return True
        try:
            for again in range(2):
                if again:  # somebody may have come or gone in between
                    total = (await self.get(None)).total or 0 if whole else await self._total_of(span)
                first = await self._total_of(half)
                for overlap in _OVERLAPS:
                    rest = half.next(span.last, twice=True, overlap=overlap)
                    last = await self._total_of(rest) if rest is not None else 0
                    if whole and first == last == total:
                        self._days = None  # days make no difference
                        return False
                    if first + last == total:
                        self._here = replace(self._here, overlap=overlap)
                        self._again = self._again or overlap > 0
                        return True
        except (NotFoundError, UnsupportedError):
            # The list can be read, but not by days: as far as the provider gives it, then.
            self._days = None
            return False
        self._witness.doubt = True  # whatever is asked for, somebody is left out
        return True

    async def _total_of(self, span: Span) -> int:
        return (await self.get(f"{span}@0")).total or 0

    def _cap(self) -> None:
        """Note that the provider gives no more of this span, although there is more."""
        here, left = self._here, (self._here.total or 0) - self._here.at - 1
        self._capped = True
        # Of a total that falls, or counts no more than can be had, nothing follows.
        counts = self._witness.most > self._reach or here.total != self._reach
        told = left > 0 and counts and not self._witness.fell and here.settled is not None
        beyond = (here.settled or 0) + left if told else None
        day = here.day or (str(here.span.first) if here.span is not None else None)
        self._here = replace(here, settled=beyond, day=day)

    async def _end_span(self) -> None:
        """After the last row of a span, go on with the next one."""
        here = self._here
        if not self._over or here.span is None or self._barren:
            return
        following = here.span.next(
            self._days.last if self._days is not None else here.span.last,
            twice=here.total is not None and not self._exceeds(2 * here.total),
            overlap=here.overlap,
        )
        if following is None:
            self._total = (await self.get(None)).total
            self._witness.hear(0, (), self._total, whole=True)
            return
        self._over = False
        self._enter(following, settled=here.missed)

    def _enter(self, span: Span, *, settled: int | None) -> None:
        self._here = replace(self._here, span=span, at=-1, total=None, settled=settled)
        self._known, self._highest, self._walks, self._quiet = [], -1, 0, 0
        self._witness.begin()

    def _read_ahead(self, ahead: int, left: int | None) -> None:
        here = self._here
        if self._over or here.at < 0 or self._quiet or here.at + 1 == here.total:
            self.want([])
        else:
            total = None if self._witness.doubt else here.total
            offsets = self._route.following(here.at, total, left, ahead, anchored=bool(self._known))
            self.want([self._cursor(offset) for offset in offsets])

    def _cursor(self, offset: int) -> str | None:
        span = self._here.span
        if span is not None:
            return f"{span}@{offset}"
        return str(offset) if offset else None
