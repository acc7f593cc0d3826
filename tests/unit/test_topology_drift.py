"""What of a server's configuration is changed, what is left alone, what is refused."""

import dataclasses
from typing import Any

import pytest

from worker.jetstream.topology.assets import DAY, Asset, TopologyConfig, expected, nanoseconds
from worker.jetstream.topology.diff import covers, drifts, outlived
from worker.jetstream.topology.reconcile import ServerTooOldError, check_server


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


def one(field: str, found: Any, wanted: Any) -> list[tuple[str, Any, bool]]:
    """Each difference of a single field in short."""
    made = dataclasses.replace(asset(), wanted={field: wanted})
    differences = drifts(made, {} if found is None else {field: found})
    assert {drift.field for drift in differences} <= {field}
    return [(drift.detail, drift.value, drift.refused) for drift in differences]


AGES = nanoseconds(60), nanoseconds(120)
SHRINKS = "shrinking it could lose messages, which is left to you"
ANEW = "can't be changed without making it anew, which is left to you"


@pytest.mark.parametrize(
    ("field", "less", "more", "texts"),
    [
        ("max_age", *AGES, ("1 min", "2 min")),
        ("max_age", nanoseconds(60), 0, ("1 min", "forever")),
        ("max_bytes", 1_000, 2_000, ("1000", "2000")),
        ("max_bytes", 1, -1, ("1", "-1")),
        ("num_replicas", 1, 3, ("1", "3")),
    ],
)
def test_what_only_grows_is_raised_and_never_lowered(field: str, less: int, more: int, texts: tuple[str, str]) -> None:
    low, high = texts

    assert one(field, less, more) == [(f"{field} {low} → {high}", more, False)]
    assert one(field, more, less) == [(f"{field} is {high}, wanted {low}: {SHRINKS}", None, True)]
    assert one(field, more, more) == []


@pytest.mark.parametrize(
    ("field", "less", "more", "texts"),
    [
        ("duplicate_window", *AGES, ("1 min", "2 min")),
        ("duplicate_window", None, nanoseconds(60), ("0 s", "1 min")),
        ("max_msgs_per_subject", 1, 64, ("1", "64")),
        ("max_msgs_per_subject", 64, -1, ("64", "-1")),
        ("max_msgs_per_subject", None, 1, ("unset", "1")),
    ],
)
def test_what_must_be_at_least_so_much_is_raised_and_more_is_as_good(
    field: str, less: Any, more: int, texts: tuple[str, str]
) -> None:
    assert one(field, less, more) == [(f"{field} {texts[0]} → {texts[1]}", more, False)]
    assert one(field, more, less) == one(field, more, more) == []


@pytest.mark.parametrize("field", ["retention", "storage", "ack_policy", "deliver_policy", "deliver_subject"])
def test_what_the_server_does_not_change_is_refused(field: str) -> None:
    assert one(field, "a", "b") == [(f"{field} is a, wanted b: {ANEW}", None, True)]
    assert one(field, "a", None) == [(f"{field} is a, wanted unset: {ANEW}", None, True)]


@pytest.mark.parametrize(
    ("field", "found", "wanted", "text"),
    [
        ("ack_wait", nanoseconds(30), nanoseconds(90), "ack_wait 30 s → 90 s"),
        ("inactive_threshold", nanoseconds(0.5), None, "inactive_threshold 0.5 s → 0 s"),
        ("headers_only", True, None, "headers_only true → unset"),
        ("allow_direct", False, True, "allow_direct false → true"),
        ("allow_direct", None, True, "allow_direct unset → true"),
        ("max_ack_pending", 5, 10_000, "max_ack_pending 5 → 10000"),
        ("max_ack_pending", 10_000, 5, "max_ack_pending 10000 → 5"),
        ("filter_subjects", [], ["a"], "filter_subjects unset → ['a']"),
    ],
)
def test_all_else_is_set_as_wanted_and_told_with_both_values(field: str, found: Any, wanted: Any, text: str) -> None:
    assert one(field, found, wanted) == [(text, wanted, False)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 s"), (59, "59 s"), (61, "61 s"), (120, "2 min"), (3_599, "3599 s"), (3_600, "1 h"), (5_400, "90 min"),
        (86_400, "1 d"), (129_600, "36 h"), (172_800, "2 d"), (86_460, "1441 min"),
    ],
)  # fmt: skip
def test_a_duration_is_told_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert one("ack_wait", nanoseconds(seconds), None)[0][0] == f"ack_wait {text} → 0 s"


def test_events_that_age_out_before_their_commands_are_refused_with_what_to_raise() -> None:
    conflict = outlived({"max_age": nanoseconds(2 * DAY)}, {"max_age": nanoseconds(DAY)})
    endless = outlived({}, {"max_age": nanoseconds(DAY)})

    why = (
        "a command that outlives its events would fetch everything again; raise streams.events_max_age to at least that"
    )
    assert conflict is not None
    assert endless is not None
    assert (conflict.field, conflict.refused) == ("max_age", True)
    assert conflict.detail == f"events live 1 d, commands 2 d: {why}"
    assert endless.detail == f"events live 1 d, commands forever: {why}"
    assert outlived({"max_age": 1}, {}) is None
    assert outlived({"max_age": 1}, {"max_age": 1}) is None


def test_subjects_that_lack_or_are_too_many_are_named() -> None:
    assert one("subjects", ["a.>", "c.*"], ["a.b", "c.>", "d"]) == [
        ("subjects lack c.>, d", ["a.>", "c.>", "d"], False),
    ]
    assert one("subjects", ["a", "x", "y"], ["a"]) == [
        ("subjects also has x, y: removing it could lose messages, which is left to you", None, True)
    ]
    assert one("subjects", None, ["a"]) == [("subjects lack a", ["a"], False)]
