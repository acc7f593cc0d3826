"""What a provider's totals are worth beside its rows: witnesses that may lower a claim, and never raise it."""

from collections.abc import Sequence

STEADY = 3
"""A total that has changed stands once it came so many times in a row."""


class Witness:
    """Hears every answer of a list that is read by row numbers, and notes what does not fit."""

    def __init__(self, *, doubt: bool = False, moved: bool = False, largest: int = 0, most: int = 0) -> None:
        """`doubt`: an answer has not fitted already. `moved`: the list was seen to move, and its total may have, too.

        `largest`: the most rows of an answer before; 0: this is the first one. `most`: the highest total before.
        """
        self.doubt = doubt
        """Totals were absent or below the rows that came, or somebody stood twice in an answer: nothing can be told."""
        self.largest = largest
        """The most rows of one answer."""
        self.most = most
        """The highest total, of the list or of a span."""
        self.fell = False
        """A total of the span was lower than the one before."""
        self._whole: int | None = None
        """The last total of the whole list."""
        self._risen = 0
        """By so much that total has risen, taken together."""
        self._fewest: int | None = None
        """The fewest rows of an answer before others that were to come."""
        self._total: int | None = None
        self._same = 0
        """So many totals of the span in a row were the same."""
        self._constant = not moved
        self._counts_rows = self._counts_reach = not largest

    @property
    def steady(self) -> bool:
        """Whether the total of the span stands: it has never changed, or was the same several times since."""
        return self._same >= (1 if self._constant else STEADY)

    @property
    def credible(self) -> bool:
        """Whether a total says more than its own answer does.

        It may count the rows beside it, or say where they end: nothing is shown by a total that fits both.
        """
        return (not self._counts_rows or not self._total) and (self._constant or not self._counts_reach)

    @property
    def uneven(self) -> bool:
        """Whether an answer had fewer rows than another one, although more were to come."""
        return self._fewest is not None and self._fewest < self.largest

    def begin(self) -> None:
        """Take what comes as answers about other days."""
        self._total, self._same, self.fell = None, 0, False

    def hear(self, offset: int, ids: Sequence[str], total: int | None, *, whole: bool) -> None:
        """Take an answer with `ids` at `offset`; `whole`: about the whole list, not about some of its days."""
        rows = len(ids)
        if rows > self.largest:
            self.largest = rows
        if total is None or (rows and offset + rows > total) or len(set(ids)) < rows:
            self.doubt = True
        if total is None:
            return
        self._counts_rows = self._counts_rows and total == rows
        self._counts_reach = self._counts_reach and total == offset + rows
        if offset + rows < total and (self._fewest is None or rows < self._fewest):
            self._fewest = rows
        self._constant = self._constant and self._total in (None, total)
        self._same = self._same + 1 if total == self._total else 1
        self.fell = self.fell or total < (self._total or 0)
        self._total = total
        if total > self.most:
            self.most = total
        if whole:
            if self._whole is not None and total > self._whole:
                self._risen += total - self._whole
            self._whole = total

    def missed(self, shown: int | None, distinct: int, *, joined: bool, moved: bool) -> int | None:
        """Return how many may be missing where the readings show `shown`, after `distinct` people were found.

        `joined`: one reading leads to the next throughout, so that who came while the list was read need not be found.
        """
        if self.doubt or shown is None:
            return None
        lacking = (self._whole or 0) - distinct - (self._risen if joined else 0)
        if lacking <= shown:
            return shown
        # Of a list that moved, those who were found and have left hide as many who were not found.
        return None if moved else lacking
