"""What `followers setup` makes, to the letter: each field decides who gets a message, or how long it is kept."""

import pytest

from schemas.subjects import PROVIDERS
from worker.jetstream.topology.assets import Asset, TopologyConfig, expected, nanoseconds

SECOND = 1_000_000_000
WEEK = 7 * 86_400 * SECOND
UNSET = dict.fromkeys(("filter_subject", "backoff", "deliver_subject", "headers_only", "inactive_threshold"))
PLACED = {"storage": "file", "num_replicas": 1}


def assets(**config: object) -> dict[str, Asset]:
    found = expected(TopologyConfig(**config))  # type: ignore[arg-type]
    return {asset.name if asset.kind == "consumer" else asset.stream: asset for asset in found}


def test_events_are_made_before_the_commands_that_need_them_and_buckets_before_consumers() -> None:
    assert [str(asset) for asset in expected(TopologyConfig(readers={"crm": ("followers.page.>",)}))] == [
        "stream FOLLOWERS_EVENTS",
        "stream FOLLOWERS_COMMANDS",
        "stream FOLLOWERS_DEAD",
        "bucket FOLLOWERS_JOBS",
        "bucket FOLLOWERS_LIMITS",
        "bucket FOLLOWERS_SCHEDULES",
        "bucket FOLLOWERS_FEEDS",
        "bucket FOLLOWERS_SNAPSHOTS",
        *(f"consumer worker-{provider}" for provider in PROVIDERS),
        "consumer crm",
    ]


def test_only_features_are_optional() -> None:
    optional = {asset.name for asset in expected(TopologyConfig()) if asset.optional}

    assert optional == {"FOLLOWERS_SCHEDULES", "FOLLOWERS_FEEDS", "FOLLOWERS_SNAPSHOTS"}


def test_the_event_stream_is_read_directly_and_refuses_when_it_is_full() -> None:
    assert assets()["FOLLOWERS_EVENTS"].wanted == PLACED | {
        "name": "FOLLOWERS_EVENTS",
        "subjects": ["followers.page.>", "followers.job.>", "followers.change.>", "followers.id.*"],
        "max_age": WEEK,
        "retention": "limits",
        "discard": "new",
        "duplicate_window": 120 * SECOND,
        "allow_direct": True,
        "max_msgs_per_subject": -1,
    }


def test_the_command_stream_is_a_work_queue_that_refuses_when_it_is_full() -> None:
    assert assets()["FOLLOWERS_COMMANDS"].wanted == PLACED | {
        "name": "FOLLOWERS_COMMANDS",
        "subjects": [f"followers.fetch.{provider}" for provider in PROVIDERS],
        "max_age": WEEK,
        "retention": "workqueue",
        "discard": "new",
        "duplicate_window": 120 * SECOND,
        "allow_direct": True,
    }


def test_dead_letters_stay_a_month_and_the_oldest_gives_way() -> None:
    assert assets()["FOLLOWERS_DEAD"].wanted == PLACED | {
        "name": "FOLLOWERS_DEAD",
        "subjects": [f"followers.dead.{provider}" for provider in PROVIDERS],
        "max_age": 30 * 86_400 * SECOND,
        "retention": "limits",
        "discard": "old",
        "duplicate_window": 120 * SECOND,
        "max_msgs_per_subject": -1,
    }


@pytest.mark.parametrize(
    ("name", "days"),
    [("FOLLOWERS_JOBS", 7), ("FOLLOWERS_LIMITS", 0), ("FOLLOWERS_SCHEDULES", 0), ("FOLLOWERS_FEEDS", 90)],
)
def test_a_bucket_is_what_every_client_takes_for_one(name: str, days: int) -> None:
    asset = assets()[f"KV_{name}"]

    assert (asset.kind, asset.name) == ("bucket", name)
    assert asset.wanted == PLACED | {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "max_age": days * 86_400 * SECOND,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }


def test_an_object_store_is_what_every_client_takes_for_one() -> None:
    asset = assets()["OBJ_FOLLOWERS_SNAPSHOTS"]

    assert (asset.kind, asset.name) == ("bucket", "FOLLOWERS_SNAPSHOTS")
    assert asset.wanted == PLACED | {
        "name": "OBJ_FOLLOWERS_SNAPSHOTS",
        "subjects": ["$O.FOLLOWERS_SNAPSHOTS.C.>", "$O.FOLLOWERS_SNAPSHOTS.M.>"],
        "retention": "limits",
        "max_age": 90 * 86_400 * SECOND,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
    }


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_workers_consumer_delivers_for_ever_and_says_its_filter_in_the_plural(provider: str) -> None:
    asset = assets()[f"worker-{provider}"]

    assert asset.stream == "FOLLOWERS_COMMANDS"
    assert asset.wanted == UNSET | {
        "name": f"worker-{provider}",
        "durable_name": f"worker-{provider}",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": 30 * SECOND,
        "max_deliver": -1,
        "max_ack_pending": 10_000,
        "filter_subjects": [f"followers.fetch.{provider}"],
    }


def test_a_reader_gets_one_message_at_a_time_for_ever() -> None:
    asset = assets(readers={"crm": ("followers.page.>", "followers.job.>")})["crm"]

    assert asset.stream == "FOLLOWERS_EVENTS"
    assert asset.wanted == UNSET | {
        "name": "crm",
        "durable_name": "crm",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": 30 * SECOND,
        "max_ack_pending": 1,
        "max_deliver": -1,
        "filter_subjects": ["followers.page.>", "followers.job.>"],
    }


def test_what_an_operator_chooses_is_wanted() -> None:
    chosen = assets(
        replicas=3, storage="memory", commands_max_age=60, events_max_age=61, dead_max_age=62, jobs_ttl=63,
        feeds_ttl=64, commands_max_bytes=0, events_max_bytes=1, dead_max_bytes=2, duplicate_window=1.5, ack_wait=2.5,
        max_ack_pending=7,
    )  # fmt: skip

    streams = [chosen[f"FOLLOWERS_{name}"].wanted for name in ("COMMANDS", "EVENTS", "DEAD")]
    assert [one["max_age"] for one in streams] == [60 * SECOND, 61 * SECOND, 62 * SECOND]
    assert [one["max_bytes"] for one in streams] == [0, 1, 2]
    assert {one["duplicate_window"] for one in streams} == {1_500_000_000}
    kept = [asset.wanted for asset in chosen.values() if asset.kind != "consumer"]
    assert {(one["storage"], one["num_replicas"]) for one in kept} == {("memory", 3)}
    assert chosen["KV_FOLLOWERS_JOBS"].wanted["max_age"] == 63 * SECOND
    assert chosen["KV_FOLLOWERS_FEEDS"].wanted["max_age"] == 64 * SECOND
    assert chosen["OBJ_FOLLOWERS_SNAPSHOTS"].wanted["max_age"] == 64 * SECOND
    consumer = chosen["worker-esms"].wanted
    assert (consumer["ack_wait"], consumer["max_ack_pending"]) == (2_500_000_000, 7)


def test_events_may_live_exactly_as_long_as_commands() -> None:
    assert TopologyConfig(commands_max_age=60, events_max_age=60).events_max_age == 60
    with pytest.raises(ValueError, match=r"raise streams\.events_max_age"):
        TopologyConfig(commands_max_age=60, events_max_age=59.9)


def test_nanoseconds_are_whole() -> None:
    assert nanoseconds(0.000_000_001_4) == 1
    assert nanoseconds(1.5) == 1_500_000_000
