"""Seeded followers of one Official Account, made on demand from (seed, index): a million cost no memory.

Index 0 is the oldest follower. Ids and creation times rise with the index, so a place in the list is found by
bisection.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from hashlib import blake2b
from itertools import accumulate

from worker.simulators import person

CANARY = "canary-chat-text-that-must-never-leave-the-worker"
"""Stands in every `last_conversation`: whoever finds it downstream has found a leak."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VIETNAM = timezone(timedelta(hours=7))
_SECOND = 1_000_000
_FIRST_DAY = 1_677_603_600 * _SECOND  # 2023-03-01T00:00:00+07:00
_DAY = 86_400 * _SECOND
_TWO_YEARS = 63_072_000
_BLOCK = 64
_ID_STEP = 100_000_007
# 17, 18 and 19 digits, all above 2^53: (lowest id, a prime). Multiplying modulo a prime repeats no id.
_USER_ID_RANGES = ((10**16, 2**56 - 5), (10**17, 2**59 - 55), (10**18, 2**61 - 1))
_AGENTS = ("1149000000000000011", "1149000000000000027", "1149000000000000033")


class People:
    """The followers an account would have, whether in its list yet or not.

    They come 30 s to 10 min apart, by `count`, so that a list spans two years at most.
    """

    def __init__(
        self,
        seed: int,
        oa_id: str,
        count: int,
        *,
        notes_padding: int = 0,
        unknown_state_every: int = 0,
        unfollowed_every: int = 0,
        per_day: Sequence[int] = (),
    ) -> None:
        """`per_day`: how many come on each day, from the first one on; who comes later keeps the usual distance."""
        self.oa_id = oa_id
        self._per_day = per_day
        self._before = list(accumulate(per_day, initial=0))
        self._key = _hash(f"{seed}/{oa_id}")
        self._spacing = max(30, min(600, _TWO_YEARS // max(count, 1))) * _SECOND
        self._first_id = 1_150_000_000_000_000_000 + self._key % 7000 * 10**15
        self._offset = self._key % 1000
        self._lines = {(salt, prime): self._line(salt, prime) for salt in (0, 1) for _, prime in _USER_ID_RANGES}
        filler = "Dòng ghi chú được thêm cho trang lớn. ".encode()
        self._padding = (filler * (notes_padding // len(filler) + 1))[:notes_padding].decode(errors="ignore")
        self._unknown_state_every = unknown_state_every
        self._unfollowed_every = unfollowed_every

    def id(self, index: int) -> int:
        """The provider's own id; rises with the index."""
        return self._first_id + index * _ID_STEP + self._dice(index, 1) % (_ID_STEP // 2)

    def user_id(self, index: int, *, salt: int = 0) -> int:
        """The Zalo user id: 17 to 19 digits, unique within the account and `salt`."""
        kind = (index * 7 + salt + self._offset) % 3
        lowest, prime = _USER_ID_RANGES[kind]
        factor, start = self._lines[salt, prime]
        return lowest + (index * factor + start) % prime

    def index_of(self, user_id: int) -> int | None:
        """The index that has this Zalo user id (any index, also past the end of the list), or None."""
        for lowest, prime in _USER_ID_RANGES:
            if lowest <= user_id < lowest + prime:
                factor, start = self._lines[0, prime]
                index = (user_id - lowest - start) * pow(factor, -1, prime) % prime
                if self.user_id(index) == user_id:
                    return index
        return None

    def created(self, index: int) -> int:
        """When the follower was first seen, microseconds since 1970; rises with the index."""
        if index < self._before[-1]:
            day = bisect_right(self._before, index) - 1
            return _FIRST_DAY + day * _DAY + (index - self._before[day]) * _DAY // self._per_day[day]
        later = index - self._before[-1]
        start = _FIRST_DAY + len(self._per_day) * _DAY
        moment = start + later * self._spacing + self._dice(index, 2) % (self._spacing // 2)
        return moment - moment % _SECOND if index % 5 == 1 else moment

    def updated(self, index: int) -> int:
        """When the follower last changed, never before `created`; in an order of its own."""
        rank = self.rank(index)
        return _FIRST_DAY + (rank + _BLOCK) * self._spacing + self._dice(rank, 3) % (self._spacing // 2)

    @staticmethod
    def rank(index: int) -> int:
        """The place in the order of `updated`: each block of 64 is shuffled."""
        return index - index % _BLOCK + (index * 37 + 11) % _BLOCK

    @staticmethod
    def by_rank(rank: int) -> int:
        """The index at this place in the order of `updated`."""
        return rank - rank % _BLOCK + (rank - 11) * 45 % _BLOCK

    def state(self, index: int) -> str:
        """`follow`, `unfollow`, or, rarely, the zero value `unknown` (PROVIDERS 1.3)."""
        if self._unknown_state_every and index % self._unknown_state_every == 50 % self._unknown_state_every:
            return "unknown"
        if self._unfollowed_every and index % self._unfollowed_every == self._unfollowed_every - 1:
            return "unfollow"
        return "follow"

    @property
    def all_follow(self) -> bool:
        """Whether `state` is `follow` for every index."""
        return not self._unfollowed_every and not self._unknown_state_every

    def tags(self, index: int) -> list[str]:
        """The tag names of one follower."""
        return person.tags(index + self._offset, self._dice(index, 4))

    def row(self, index: int, state: str, updated: int | None) -> dict[str, object]:
        """One follower as eTelecom sends it (PROVIDERS 1.3); `updated` replaces the seeded time."""
        turn, dice = index + self._offset, self._dice(index, 4)
        user_id, changed = self.user_id(index), updated or self.updated(index)
        picture = f"https://avatar.example.invalid/{user_id}"
        row: dict[str, object] = {
            "id": str(self.id(index)),
            "shop_id": "1150000000000000001",
            "oa_id": self.oa_id,
            "zl_user_id": str(user_id),
            "zl_user_id_by_app": "0" if turn % 14 == 9 else str(self.user_id(index, salt=1)),
            "assigned_user_id": _AGENTS[dice % 3] if turn % 6 == 0 else "0",
            "full_name": person.display_name(turn, dice),
            "avatar": "" if turn % 17 == 1 else picture,
            "avatars": {2: None, 5: {}}.get(turn % 8, {"120": f"{picture}/120", "240": f"{picture}/240"}),
            "gender": _gender(turn, dice),
            "phone": person.phone(turn, dice),
            "state": state,
            "has_conversation": dice >> 40 & 1 == 1,
            "shared_info": person.shared_info(turn, dice),
            "tags_and_notes_info": person.tags_and_notes(turn, dice, self._padding),
            "created_at": _wire_time(self.created(index), turn, zero_every=211),
            "updated_at": _wire_time(changed, turn + 5, zero_every=0 if updated else 13),
        }
        if turn % 3 == 0:
            row["last_conversation"] = {
                "attachments": None,
                "direction": "in",
                "message": CANARY,
                "sent_time": _wire_time(self.created(index), 0, zero_every=0),
                "type": "text",
            }
        return row

    def _line(self, salt: int, prime: int) -> tuple[int, int]:
        return _mix(self._key, salt + 100) % (prime - 2) + 1, _mix(self._key, salt + 200) % prime

    def _dice(self, index: int, salt: int) -> int:
        return _mix(self._key + salt, index)


def wire_moment(micros: int) -> datetime:
    """Microseconds since 1970 as a time in UTC, without the rounding of a float."""
    return _EPOCH + timedelta(microseconds=micros)


def vietnam_day(year: int, month: int, day: int) -> int:
    """The first microsecond of a day in Vietnam (+07:00), since 1970. Raises ValueError for no such day."""
    return (datetime(year, month, day, tzinfo=_VIETNAM) - _EPOCH) // timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """A time with an offset as microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _gender(turn: int, dice: int) -> str | None:
    if turn % 97 == 31:
        return "prefer_not_to_say"
    if turn % 41 == 7:
        return None if turn % 2 else ""
    return ("unknown", "unknown", "unknown", "male", "female", "male", "female", "other")[dice >> 50 & 7]


def _wire_time(moment: int, turn: int, *, zero_every: int) -> str | None:
    # A zero time is how the row is shown; in the sort the row keeps its place.
    if zero_every and turn % zero_every == 3:
        return None
    if zero_every and turn % zero_every == 8:
        return "0001-01-01T00:00:00Z"
    when = wire_moment(moment)
    if turn % 11 == 7:
        return when.astimezone(_VIETNAM).isoformat()
    return when.isoformat().removesuffix("+00:00") + "Z"


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def _mix(key: int, number: int) -> int:
    """SplitMix64: a well-spread 64-bit number from two."""
    z = (key + (number + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31
