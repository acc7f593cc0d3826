"""A replica's slots: shared by accounts, and each account's commands in the order of the stream."""

import random
from dataclasses import dataclass, field

import pytest

from worker.core.jobs.shares import FASTEST, GRACE, LATELY, LONGEST, SLOWEST, SOON, WAITING_JOBS, Slots


def slots(count: int = 4, accounts: int = 2, waiting: int = 0) -> Slots:
    return Slots(count, accounts, lambda: waiting)


@pytest.mark.parametrize(
    ("count", "accounts", "share"), [(64, 1, 64), (64, 2, 64), (64, 16, 64), (64, 17, 60), (64, 2000, 1), (1, 2, 1)]
)
def test_an_account_has_all_slots_at_most_and_so_many_that_all_accounts_fit(count: int, accounts: int, share: int):
    assert slots(count, accounts).share == share
    assert share * accounts <= max(count * WAITING_JOBS, accounts)


def test_what_went_back_comes_again_at_a_pace_that_has_bounds():
    idle = slots(1)
    idle.take("a", 0, 0.0)
    delays = [idle.take("a", number, 0.0) for number in range(1, 400)]

    assert delays[:3] == [0.5, 0.7, 0.9], "5 a second, from half a second on"
    assert delays[-1] == 60.0
    busy = slots(1)
    for _ in range(1_000):
        busy.take("a", 0, 0.0)
        busy.done("a", 100.0)
    busy.take("a", 0, 100.0)
    assert busy._returns("a", 100.0) == 64.0, "of the last 32 ends, twice"
    assert (WAITING_JOBS, SOON, SLOWEST, FASTEST, LONGEST, LATELY, GRACE) == (16, 0.5, 5.0, 200.0, 60.0, 32, 2.0)


def test_what_an_account_has_beyond_its_share_goes_back_and_another_accounts_command_is_taken():
    ours = slots(3, waiting=3)

    assert [ours.take("slow", number, 0.0) for number in range(1, 4)] == [None] * 3
    assert [ours.take("slow", number, 0.0) for number in range(4, 7)] == [SOON + k / SLOWEST for k in range(3)]
    assert (ours.take("other", 7, 0.0), ours.held, ours.is_full) == (None, 4, False)


def test_a_later_command_is_not_taken_before_those_that_went_back_have_come_again():
    ours = slots(1, waiting=1)
    ours.take("slow", 1, 0.0)
    ours.take("slow", 2, 0.0)
    ours.take("slow", 3, 0.0)
    ours.done("slow", 0.1)

    assert ours.take("slow", 4, 0.2) == SOON + 2 / SLOWEST
    assert ours.take("slow", 3, 0.7) == SOON + 1 / SLOWEST
    assert ours.take("slow", 2, 0.8) is None
    ours.done("slow", 0.9)
    assert ours.take("slow", 4, 1.1) is not None
    assert ours.take("slow", 3, 1.4) is None


def test_without_anybody_to_give_way_to_nothing_goes_back_and_waiting_jobs_keep_their_slots():
    ours = slots(2, accounts=1, waiting=2)

    assert [ours.take("only", number, 0.0) for number in range(3)] == [None] * 3
    assert (ours.is_full, ours.are_shared, ours.at_once(64)) == (True, False, 1)


def test_commands_of_nobody_are_taken_and_counted():
    ours = slots(2)

    assert [ours.take(None, number, 0.0) for number in range(2)] == [None, None]
    assert (ours.held, ours.is_full, ours.comes_again(None, 5)) == (2, True, False)
    ours.done(None, 0.0)
    assert (ours.held, ours.is_full) == (1, False)


def test_with_all_slots_at_work_only_an_account_that_has_none_may_take_one_more():
    ours = slots(2, accounts=3)
    ours.take("a", 1, 0.0)
    ours.take("b", 2, 0.0)

    assert ours.is_full
    assert ours.take("a", 3, 0.0) is not None
    assert ours.take("c", 4, 0.0) is None
    assert ours.take("c", 5, 0.0) is not None


@pytest.mark.parametrize(("late", "taken"), [(GRACE, False), (GRACE + 0.01, True)])
def test_what_does_not_come_again_in_time_is_with_another_replica_or_settled(late: float, taken: bool):
    ours = slots(1)
    ours.take("slow", 1, 0.0)
    delay = ours.take("slow", 2, 0.0)
    assert delay == SOON
    ours.done("slow", 0.1)

    assert (ours.take("slow", 3, delay + late) is None) == taken


def test_after_a_pause_what_came_earlier_and_what_is_due_later_does_not_count_as_settled():
    ours = slots(1)
    for number in (1, 2, 3):
        ours.take("slow", number, 0.0)
    ours.done("slow", 50.0)

    assert ours.take("slow", 3, 100.0) is not None
    assert ours.take("slow", 2, 100.0) is None


def test_a_command_comes_again_as_fast_as_the_accounts_jobs_end_within_bounds():
    quick, slow = slots(1), slots(1)
    for number in range(LATELY + 8):
        quick.take("a", number, 0.0)
        quick.done("a", 10.0 + number / 10)
    quick.take("a", 100, 14.0)
    slow.take("a", 100, 14.0)

    delays = [quick.take("a", number, 14.0) for number in range(101, 4000)]
    assert delays[10] == pytest.approx(SOON + 10 / (2 * 32 / 3.2))
    assert delays[-1] == LONGEST
    assert [slow.take("a", number, 14.0) for number in range(101, 112)][10] == SOON + 10 / SLOWEST
    for _ in range(LATELY):
        quick.done("a", 14.0)
    assert quick._returns("a", 14.0) == 2 * LATELY <= FASTEST


def test_many_are_asked_for_while_those_that_come_go_back():
    ours = slots(1)
    seen = [ours.at_once(64)]
    for account, number in (("a", 1), ("a", 2), ("b", 3), ("a", 4)):
        ours.take(account, number, 0.0)
        seen.append(ours.at_once(64))

    assert seen == [1, 1, 64, 1, 64]


def test_a_command_that_went_back_is_no_command_that_the_server_forgot():
    ours = slots(1)
    ours.take("a", 1, 0.0)
    ours.take("a", 2, 0.0)

    assert [ours.comes_again(*of) for of in (("a", 2), ("a", 9), ("b", 9))] == [True, True, False]
    ours.done("a", 0.0)
    assert [ours.comes_again(*of) for of in (("a", 2), ("a", 9))] == [True, False]


def test_sixteen_times_the_slots_are_the_most():
    ours = slots(2, accounts=3, waiting=1000)
    for number in range(2 * WAITING_JOBS):
        assert (ours.is_full, ours.is_crammed) == (False, False)
        ours.take(None, number, 0.0)

    assert (ours.is_full, ours.is_crammed) == (True, True)


@dataclass
class Queue:
    """As the server's: due commands first, by when they were due and their sequence, then those nobody has seen."""

    unseen: list[int]
    due: dict[int, float] = field(default_factory=dict)

    def next(self, now: float) -> int | None:
        ready = sorted((round(at, 1), number) for number, at in self.due.items() if at <= now)
        if ready:
            del self.due[ready[0][1]]
            return ready[0][1]
        return self.unseen.pop(0) if self.unseen else None


@pytest.mark.parametrize("seed", range(30))
def test_each_accounts_commands_are_taken_in_order_and_all_of_them(seed: int):
    dice, now = random.Random(seed), 0.0
    accounts = [f"account-{number}" for number in range(dice.randint(2, 4))]
    of = {number: dice.choice(accounts) for number in range(1, 301)}
    queue, ours, in_hand = Queue(list(of)), slots(dice.randint(1, 8), len(accounts)), list[int]()
    taken: dict[str, list[int]] = {account: [] for account in accounts}
    while queue.unseen or queue.due or in_hand:
        now += dice.random() * dice.choice((0.01, 0.3, 5.0))
        for ended in [number for number in in_hand if dice.random() < 0.2]:
            in_hand.remove(ended)
            ours.done(of[ended], now)
        while (number := queue.next(now)) is not None:
            delay = ours.take(of[number], number, now)
            if delay is None:
                in_hand.append(number)
                taken[of[number]].append(number)
            else:
                queue.due[number] = now + delay

    assert taken == {account: [number for number in of if of[number] == account] for account in accounts}
