"""A forged message that can be read: it may spoil its own job's list, which `verify` tells, and holds up no other."""

import json
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.events import JobCompleted
from schemas.subjects import EVENTS_STREAM, job_subject, page_subject
from schemas.types import Provider
from schemas.wire import decode, encode
from tests.integration import stage
from tests.integration.test_changes import command_line
from tests.integration.test_unreadable import client, js, server
from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.providers.simulators import OA_ID

__all__ = ["client", "js", "server"]
pytestmark = pytest.mark.usefixtures("faults")


def forged(name: str, first: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A message of that name among those of a job that has `first`; what of it differs from a page of the job's own."""
    progress = first["progress"]
    pages: dict[str, dict[str, Any]] = {
        "the same page again": {},
        "a page far ahead": {"page": 10**12},
        "the last page": {"page": 2, "last": True, "next_cursor": None},
        "half a page": {"page": 2, "part": 1, "parts": 9},
        "a part of too many": {"page": 2, "part": 9, "parts": 2},
        "a cursor of nobody's": {"page": 2, "next_cursor": "nobodys-cursor"},
        "no cursor, and not the last": {"page": 2, "next_cursor": None},
        "a number of followers beyond all": {"page": 2, "progress": progress | {"followers": 10**15}},
        "begun in the year 1": {"page": 2, "progress": progress | {"started_at": "0001-01-01T00:00:00Z"}},
        "begun in the year 9999": {"page": 2, "progress": progress | {"started_at": "9999-12-31T23:59:59Z"}},
        "another account": {"page": 2, "account": "nobodys"},
    }
    whose = {key: first[key] for key in ("job_id", "provider", "account", "oa_id")}
    events: dict[str, dict[str, Any]] = {
        "a start of another generation": {"type": "started", "generation": 10**9},
        "a wait for ever": {"type": "waiting", "reason": "rate_limited", "until": "9999-12-31T23:59:59Z"},
        "a cancellation": {"type": "cancelled", "finished_at": "2026-01-01T00:00:00Z"},
    }
    if name in pages:
        return "page", first | pages[name]
    return "job", whose | {"attempt": 1} | events[name]


@pytest.mark.parametrize(
    "name",
    [
        "the same page again", "a page far ahead", "the last page", "half a page", "a part of too many",
        "a cursor of nobody's", "no cursor, and not the last", "a number of followers beyond all",
        "begun in the year 1", "begun in the year 9999", "another account", "a start of another generation",
        "a wait for ever", "a cancellation",
    ],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["etelecom", "esms"])
async def test_a_forged_message_that_can_be_read_stops_no_job_for_ever(
    server: EmbeddedServer, client: Client, js: JetStreamContext, provider: Provider, name: str
) -> None:
    async with stage.providers(followers=60) as providers:
        settings = stage.settings(server.url, providers.accounts, worker={"retry_for": 1.0})
        command = {"provider": provider, "oa_id": OA_ID, "id": "job", "page_size": 20}
        async with Worker(settings):
            await publish_command(js, client, command | {"id": "whole"})
        first = json.loads(
            (await js.get_msg(EVENTS_STREAM, seq=1, subject=page_subject(provider, OA_ID, "whole"), next=True)).data
            or b""
        ) | {"job_id": "job"}  # fmt: skip
        kind, body = forged(name, first)
        await js.publish(page_subject(provider, OA_ID, "job"), json.dumps(first).encode())
        await js.publish(f"followers.{kind}.{provider}.{OA_ID}.job", json.dumps(body).encode())

        async with Worker(settings):
            await publish_command(js, client, command)
            await publish_command(js, client, command | {"id": "another"})

    other = await js.get_last_msg(EVENTS_STREAM, job_subject(provider, OA_ID, "another"))
    assert decode(other.data or b"", JobCompleted).followers == 60
    last = await js.get_last_msg(EVENTS_STREAM, job_subject(provider, OA_ID, "job"))
    assert json.loads(last.data or b"")["type"] in ("completed", "failed", "cancelled")
    verified = await command_line(server, "verify", "job")
    assert verified.exit_code == (0 if name == "a wait for ever" else 1), "a wait says nothing of the list"
    for words in (("pages", "job"), ("status", "job"), ("jobs",)):
        result = await command_line(server, *words)
        assert isinstance(result.exception, SystemExit | None), words


async def publish_command(js: JetStreamContext, client: Client, command: dict[str, Any]) -> None:
    ack = await js.publish(f"followers.fetch.{command['provider']}", encode(command))
    await stage.command_settled(client, ack.seq, timeout=30)
