"""A right that lacks ends the command's task at once, with one line; what it can do without doesn't."""

import asyncio

import pytest
from nats.errors import Error

from worker.cli.failures import USAGE, Stop
from worker.cli.refusals import Refusals, bearing_refusals
from worker.jetstream.client.monitor import refusal
from worker.jetstream.client.secure import GuardedClient

GRANT = "grant it on the server, or use another user in [nats]"


def denied(act: str, subject: str) -> Error:
    return Error(f'nats: Permissions Violation for {act} to "{subject}"')


async def told(*errors: Exception, raises: Exception | None = None) -> str:
    """What a command that would wait for ever ends with."""
    refusals = Refusals()
    for error in errors:
        asyncio.get_running_loop().call_soon(refusals.hear, error)
    with pytest.raises(Stop) as stopped, refusals.ending():
        await _waiting(raises)
    task = asyncio.current_task()
    assert task is not None
    assert (stopped.value.code, task.cancelling()) == (USAGE, 0)
    (line,) = stopped.value.lines
    return line


async def _waiting(raises: Exception | None) -> None:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        if raises is not None:
            raise raises from None
        raise


@pytest.mark.parametrize(
    ("act", "subject", "line"),
    [
        (
            "Publish",
            "$JS.API.STREAM.INFO.S",
            f"NATS does not let this user publish to $JS.API.STREAM.INFO.S: {GRANT}",
        ),
        (
            "Publish",
            f"$JS.API.CONSUMER.CREATE.S.read-{'0a' * 16}",
            f"NATS does not let this user publish to $JS.API.CONSUMER.CREATE.S.*: {GRANT}",
        ),
        (
            "Publish",
            "a.read-me",
            f"NATS does not let this user publish to a.read-me: {GRANT}",
        ),
        ("Subscription", "a.>", f"NATS does not let this user subscribe to a.>: {GRANT}"),
        (
            "Subscription",
            "_INBOX_app.x7Y.*",
            "NATS does not let this user subscribe to _INBOX_app.>: grant it on the server, or set nats.inbox_prefix to"
            " the one that it may use",
        ),
    ],
)
async def test_a_refusal_ends_what_would_wait_for_ever(act: str, subject: str, line: str) -> None:
    assert await told(denied(act, subject)) == line


async def test_the_first_refusal_counts_whatever_the_command_makes_of_it() -> None:
    both = denied("Publish", "a"), denied("Publish", "b")

    assert "publish to a:" in await told(*both)
    assert "publish to a:" in await told(*both, raises=RuntimeError("silent"))


async def test_what_is_no_refusal_or_can_be_borne_ends_nothing() -> None:
    refusals = Refusals()
    refusals.hear(denied("Publish", "early"))
    with refusals.ending():
        refusals.hear(Error("nats: slow consumer"))
        refusals.hear(denied("Publish", "$JS.API.CONSUMER.DELETE.S.read-1"))
        with bearing_refusals(), bearing_refusals():
            refusals.hear(denied("Publish", "a"))
        await asyncio.sleep(0)
    refusals.hear(denied("Publish", "late"))
    await asyncio.sleep(0)


async def test_bearing_is_over_at_its_end() -> None:
    with bearing_refusals():
        pass

    assert "publish to a:" in await told(denied("Publish", "a"))


async def test_without_a_connection_there_is_nothing_to_bear() -> None:
    with bearing_refusals():
        await asyncio.sleep(0)


async def test_other_errors_and_cancellations_pass() -> None:
    refusals = Refusals()
    with pytest.raises(ZeroDivisionError), refusals.ending():
        raise ZeroDivisionError
    task = asyncio.ensure_future(_interrupted())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _interrupted() -> None:
    refusals = Refusals()
    with refusals.ending():
        asyncio.get_running_loop().call_soon(refusals.hear, denied("Publish", "a"))
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(30)


@pytest.mark.parametrize("said", [b"-ERR 'Permissions Violation for Publish to \"$JS.A\"'\r\n", b"+OK\r\n", b""])
async def test_the_subject_is_told_as_the_server_wrote_it(said: bytes) -> None:
    heard: list[Exception] = []

    async def hear(error: Exception) -> None:
        heard.append(error)

    client = GuardedClient()
    client._error_cb = hear
    client._ps.buf = bytearray(said)

    await client._process_err("'permissions violation for publish to \"$js.a\"'")

    (error,) = heard
    found = refusal(error)
    assert found is not None
    assert (found.act, found.subject) == ("publish", "$JS.A" if said.startswith(b"-ERR") else "$js.a")
