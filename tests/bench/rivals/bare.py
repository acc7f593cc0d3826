"""The least that does the job with the worker's own parts: httpx over aiohttp, typed msgspec, a conditional publish.

No normalising, no retries, no limits, no status, no checks: what it decodes, it encodes. It appends each page on
condition that the page before is the newest, as the worker does. `python -m tests.bench.rivals.bare PROVIDER NATS`
"""

import asyncio
from datetime import UTC, datetime

import httpx
import httpx_aiohttp
import msgspec
import nats
import uvloop
from msgspec import Struct
from nats.js import JetStreamContext

from tests.bench.rivals import ESMS, ETELECOM, Run, obey


class Shared(Struct, gc=False):
    """As documented."""

    name: str | None = None
    phone: str | int | None = None
    address: str | None = None
    ward: str | None = None
    district: str | None = None
    city: str | None = None


class TagsAndNotes(Struct, gc=False):
    """As documented."""

    notes: list[str] | None = None
    tag_names: list[str] | None = None


class Row(Struct, gc=False, omit_defaults=True):
    """One follower as documented, without the chat text."""

    zl_user_id: str
    id: str | None = None
    shop_id: str | None = None
    zl_user_id_by_app: str | None = None
    assigned_user_id: str | None = None
    full_name: str | None = None
    avatar: str | None = None
    avatars: dict[str, str] | None = None
    gender: str | None = None
    phone: str | None = None
    state: str | None = None
    has_conversation: bool | None = None
    shared_info: Shared | None = None
    tags_and_notes_info: TagsAndNotes | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Paging(Struct, gc=False):
    """Where the list goes on."""

    next: str = ""


class Answer(Struct, gc=False):
    """eTelecom's."""

    followers: list[Row]
    paging: Paging


class EsmsRow(Struct, gc=False):
    """One follower."""

    user_id: str = msgspec.field(name="User_Id")


class EsmsAnswer(Struct, gc=False):
    """eSMS's."""

    followers: list[EsmsRow] = msgspec.field(name="Followers")
    total: int = msgspec.field(name="Total")


class Event(Struct):
    """What is published."""

    job_id: str
    page: int
    followers: list[Row] | list[EsmsRow]
    cursor: str
    next_cursor: str
    fetched_at: datetime


etelecom = msgspec.json.Decoder(Answer)
esms = msgspec.json.Decoder(EsmsAnswer)
encoder = msgspec.json.Encoder()


async def fetch(client: httpx.AsyncClient, js: JetStreamContext, run: Run, job: str) -> int:
    """Fetch one list and publish it; return its number of pages."""
    cursor, page, sequence = "", 0, 0
    while True:
        rows: list[Row] | list[EsmsRow]
        if run.provider == "etelecom":
            body = {"filter": {"oa_id": run.oa_id}, "paging": {"limit": 50, "after": cursor}}
            answer = await client.post(ETELECOM, content=encoder.encode(body))
            found = etelecom.decode(answer.content)
            rows, following = found.followers, found.paging.next
        else:
            offset = int(cursor or 0)
            body = {"ApiKey": "k", "SecretKey": "s", "OAID": run.oa_id, "Offset": offset, "Count": 50}
            answer = await client.post(ESMS, content=encoder.encode(body))
            listed = esms.decode(answer.content)
            rows, after = listed.followers, offset + len(listed.followers)
            following = str(after) if after < listed.total else ""
        if not rows:
            return page
        page += 1
        event = Event(job, page, rows, cursor, following, datetime.now(UTC))
        headers = {
            "Content-Type": "application/json",
            "Nats-Msg-Id": f"{job}:{page}",
            "Nats-Expected-Last-Subject-Sequence": str(sequence),
        }
        subject = f"followers.page.{run.provider}.{run.oa_id}.{job}"
        sequence = (await js.publish(subject, encoder.encode(event), headers=headers)).seq
        cursor = following
        if not cursor:
            return page


async def main(provider: str, server: str) -> None:
    """Do each run that is asked for, its jobs at the same time."""
    connection = await nats.connect(server)
    js = connection.jetstream()
    transport = httpx_aiohttp.AiohttpTransport()
    headers = {"Authorization": "Bearer 1:key", "Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url=provider, headers=headers) as client:

        async def do(run: Run) -> int:
            return sum(await asyncio.gather(*(fetch(client, js, run, job) for job in run.jobs)))

        await obey(do)
    await connection.close()


if __name__ == "__main__":
    import sys

    uvloop.run(main(*sys.argv[1:]))
