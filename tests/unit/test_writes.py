"""Readiness looks at writes: what fails for some seconds is told, what nobody has tried for long isn't."""

import nats.errors
import nats.js.errors
import pytest

from worker.jetstream.client.writes import FORGOTTEN_AFTER, UNREADY_AFTER, Writes


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


FULL = nats.js.errors.ServiceUnavailableError(code=503, err_code=10077, description="maximum bytes exceeded")
WHY = (
    "writes to FOLLOWERS_EVENTS fail: maximum bytes exceeded (error 10077); make room in FOLLOWERS_EVENTS, or raise"
    " streams.events_max_bytes and run `followers setup`"
)


def test_a_stream_that_has_taken_nothing_for_five_seconds_makes_the_replica_unready() -> None:
    clock = Clock()
    writes = Writes(clock=clock)
    assert (UNREADY_AFTER, FORGOTTEN_AFTER) == (5.0, 30.0)
    assert writes.why is None
    assert writes.refused("FOLLOWERS_EVENTS", FULL) == (10077, "maximum bytes exceeded")
    clock.now += UNREADY_AFTER - 0.01
    writes.refused("FOLLOWERS_EVENTS", FULL)
    assert writes.why is None
    clock.now += 0.01
    assert writes.why == WHY

    writes.stored("KV_FOLLOWERS_JOBS")
    assert writes.why == WHY
    writes.stored("FOLLOWERS_EVENTS")
    assert writes.why is None


def test_what_has_not_been_tried_for_half_a_minute_is_not_known_and_begins_anew() -> None:
    clock = Clock()
    writes = Writes(clock=clock)
    writes.refused("FOLLOWERS_EVENTS", FULL)
    clock.now += FORGOTTEN_AFTER - 0.01
    assert writes.why == WHY
    clock.now += 0.01
    assert writes.why is None
    writes.refused("FOLLOWERS_EVENTS", FULL)
    assert writes.why is None
    clock.now += UNREADY_AFTER
    assert writes.why == WHY


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (nats.errors.TimeoutError(), "no answer"),
        (nats.errors.NoRespondersError(), "no stream takes it"),
        (nats.js.errors.NoStreamResponseError(), "no stream takes it"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_came_in_place_of_an_answer_is_told(error: Exception, words: str) -> None:
    assert Writes().explain(error) == (None, words)
    assert Writes(lambda: "not connected").explain(error) == (None, "not connected")
    assert Writes(lambda: "not connected").explain(FULL) == (10077, "maximum bytes exceeded")


def test_an_outage_without_a_code_is_told_without_one() -> None:
    clock = Clock()
    writes = Writes(clock=clock)
    writes.refused("FOLLOWERS_DEAD", nats.errors.TimeoutError())
    clock.now += UNREADY_AFTER
    assert writes.why == (
        "writes to FOLLOWERS_DEAD fail: no answer; where all else is answered its disk was full; make room there, then"
        " restart nats-server"
    )
