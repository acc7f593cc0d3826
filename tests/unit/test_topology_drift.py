"""What of a server's configuration is changed, what is left alone, what is refused."""

from typing import Any

import pytest

from worker.jetstream.assets import DAY, Asset, TopologyConfig, expected, nanoseconds
from worker.jetstream.drift import covers, drifts, outlived
from worker.jetstream.topology import ServerTooOldError, check_server


def asset(name: str = "FOLLOWERS_EVENTS", **config: Any) -> Asset:
    return next(asset for asset in expected(TopologyConfig(**config)) if asset.name == name)


def test_what_was_just_made_has_no_drift() -> None:
    for made in expected(TopologyConfig()):
        assert drifts(made, made.wanted) == []


def test_an_age_is_raised_but_never_lowered() -> None:
    wanted = asset(events_max_age=8 * DAY)

    raised = drifts(wanted, wanted.wanted | {"max_age": nanoseconds(7 * DAY)})
    lowered = drifts(wanted, wanted.wanted | {"max_age": nanoseconds(9 * DAY)})
    endless = drifts(wanted, wanted.wanted | {"max_age": 0})

    assert [(drift.refused, drift.detail) for drift in raised] == [(False, "max_age 7 d → 8 d")]
    assert [drift.refused for drift in lowered] == [True]
    assert endless[0].detail.startswith("max_age is forever, wanted 8 d: shrinking it could lose messages")


def test_an_operators_size_limit_is_left_alone_unless_one_is_wanted() -> None:
    live = asset().wanted | {"max_bytes": 1_000}

    assert drifts(asset(), live) == []
    assert [drift.value for drift in drifts(asset(events_max_bytes=2_000), live)] == [2_000]
    assert [drift.refused for drift in drifts(asset(events_max_bytes=500), live)] == [True]


def test_fewer_replicas_are_refused() -> None:
    assert [drift.refused for drift in drifts(asset(), asset().wanted | {"num_replicas": 3})] == [True]


@pytest.mark.parametrize(("field", "value"), [("storage", "memory"), ("retention", "interest")])
def test_what_needs_a_new_stream_is_refused(field: str, value: str) -> None:
    found = drifts(asset(), asset().wanted | {field: value})

    assert [(drift.field, drift.refused) for drift in found] == [(field, True)]


def test_a_longer_duplicate_window_is_as_good() -> None:
    assert drifts(asset(), asset().wanted | {"duplicate_window": nanoseconds(600)}) == []


def test_missing_subjects_are_added_and_others_are_not_removed() -> None:
    found = drifts(asset(), asset().wanted | {"subjects": ["followers.page.>", "orders.>"]})

    assert found[0].value == ["followers.page.>", "orders.>", "followers.job.>", "followers.change.>", "followers.id.*"]
    assert found[1].refused
    assert "orders.>" in found[1].detail


def test_a_narrower_subject_gives_way_to_ours_and_a_wider_one_serves() -> None:
    narrow = drifts(asset(), asset().wanted | {"subjects": ["followers.page.esms.>"]})

    assert narrow[0].value == ["followers.page.>", "followers.job.>", "followers.change.>", "followers.id.*"]
    assert drifts(asset(), asset().wanted | {"subjects": ["followers.>"]}) == []


def test_a_consumers_backoff_is_removed() -> None:
    consumer = asset("worker-esms")

    found = drifts(consumer, consumer.wanted | {"backoff": [1, 2]})

    assert [(drift.field, drift.value, drift.refused) for drift in found] == [("backoff", None, False)]


def test_what_the_server_leaves_out_is_the_same_as_unset() -> None:
    live = {field: value for field, value in asset("worker-esms").wanted.items() if value is not None}

    assert drifts(asset("worker-esms"), live) == []


@pytest.mark.parametrize(
    ("commands", "events", "wrong"),
    [(7, 7, False), (7, 8, False), (8, 7, True), (0, 7, True), (0, 0, False), (7, 0, False)],
)
def test_events_must_outlive_commands(commands: int, events: int, wrong: bool) -> None:
    conflict = outlived({"max_age": nanoseconds(commands * DAY)}, {"max_age": nanoseconds(events * DAY)})

    assert (conflict is not None) is wrong


def test_a_configuration_whose_events_die_before_commands_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise streams\.events_max_age"):
        TopologyConfig(events_max_age=DAY, commands_max_age=2 * DAY)


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        (">", "a", True),
        ("a.b.c", "a.b", False),
    ],
)
def test_a_pattern_covers_a_subject_when_it_takes_all_of_it(pattern: str, subject: str, covered: bool) -> None:
    assert covers(pattern, subject) is covered


@pytest.mark.parametrize("version", ["2.10.25", "2.11.0", "2.12.0-RC.1", "3.0.0", "<nats server v2.15.1>"])
def test_a_server_that_keeps_promises_is_taken(version: str) -> None:
    check_server(version)


@pytest.mark.parametrize("version", ["2.10.24", "2.9.25", "1.4.1", "", "unknown"])
def test_an_old_or_unknown_server_is_refused(version: str) -> None:
    with pytest.raises(ServerTooOldError, match=r"upgrade to 2\.10\.25 or newer"):
        check_server(version)


@pytest.mark.parametrize("nothing", [None, []])
def test_what_a_server_does_not_have_is_said_to_be_unset(nothing: Any) -> None:
    found = drifts(asset(), asset().wanted | {"retention": nothing})

    assert found[0].detail.startswith("retention is unset, wanted limits: ")


def test_nothing_is_limited_in_size_by_default() -> None:
    made = TopologyConfig()

    assert (made.commands_max_bytes, made.events_max_bytes, made.dead_max_bytes) == (-1, -1, -1)
    assert made.commands_max_age == made.events_max_age == made.jobs_ttl == 7 * DAY
    assert (made.dead_max_age, made.feeds_ttl, made.duplicate_window, made.ack_wait) == (30 * DAY, 90 * DAY, 120, 30)
